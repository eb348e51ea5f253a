"""Samples videos, or imports the clips of the user."""
