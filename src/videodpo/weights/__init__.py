"""Weights by name: what is published where, fetched once, checked by digest, and read from disk ever after."""
