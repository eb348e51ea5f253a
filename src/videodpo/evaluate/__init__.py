"""Scores of base and aligned clips to a paired comparison on the held-out prompts."""

from videodpo.evaluate.compare import evaluate
from videodpo.evaluate.terminal import format_table

__all__ = ["evaluate", "format_table"]
