"""Security Event Tokens (RFC 8417): what they say of outcomes, who signs them, how they are pushed."""
