"""Arithmetic on tables in memory: OmniScore formula, pair policies, re-weighting, and bootstrap statistics."""

from videodpo.preference.formula import omniscore
from videodpo.preference.weights import pair_weights

__all__ = ["omniscore", "pair_weights"]
