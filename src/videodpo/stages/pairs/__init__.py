"""OmniScores to preference pairs with weights."""
