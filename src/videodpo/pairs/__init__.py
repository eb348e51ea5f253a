"""OmniScores to preference pairs with weights."""

from videodpo.pairs.weights import pair_weights

__all__ = ["pair_weights"]
