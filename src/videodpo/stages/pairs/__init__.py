"""Stage: preference pairs and their weights, from OmniScores."""
