"""From what a source sends to canonical worker events: the canonical form, and declared mappings."""
