"""Published weights by name: downloaded once, checked by SHA-256, and then read from disk."""
