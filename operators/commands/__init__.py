"""The commands by noun. Each reads its options, calls the core, and prints; none decides."""
