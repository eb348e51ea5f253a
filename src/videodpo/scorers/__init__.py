"""Scorers, one file per dimension, named after it."""
