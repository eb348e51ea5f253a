"""Benchmarks: how each reads its prompt list, chooses the clips that count, and combines its dimensions."""
