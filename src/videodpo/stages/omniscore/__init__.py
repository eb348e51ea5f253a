"""Raw scores of every dimension to one omni preference score a video."""

from videodpo.stages.omniscore.stage import aggregate

__all__ = ["aggregate"]
