"""Temporal style, as VBench defines it: similarity of ViCLIP's embeddings of clip and prompt."""

from __future__ import annotations

from videodpo.scorers.overall_consistency import OverallConsistency


class TemporalStyle(OverallConsistency):
    """The number of `overall_consistency`, which VBench reports for prompts that name a style over time."""

    version = "1"
