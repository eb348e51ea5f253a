"""Stage: one omni preference score per video, from its raw scores in all dimensions."""

from videodpo.stages.omniscore.stage import aggregate

__all__ = ["aggregate"]
