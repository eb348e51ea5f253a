"""Prompts: sources, cleaning, de-duplication, and the split into training and held-out prompts."""
