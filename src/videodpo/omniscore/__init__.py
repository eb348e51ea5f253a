"""Raw scores of every dimension to one omni preference score a video."""

from videodpo.omniscore.formula import omniscore
from videodpo.omniscore.frames import in_prompt_order, read_scores, scored_videos, wide_table
from videodpo.omniscore.stage import aggregate

__all__ = ["aggregate", "in_prompt_order", "omniscore", "read_scores", "scored_videos", "wide_table"]
