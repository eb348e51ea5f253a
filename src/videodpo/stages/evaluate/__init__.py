"""Paired comparison of base and aligned clips by their scores on the held-out prompts."""

from videodpo.stages.evaluate.compare import evaluate
from videodpo.stages.evaluate.terminal import format_table

__all__ = ["evaluate", "format_table"]
