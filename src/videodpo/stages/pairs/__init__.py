"""Stage: preference pairs and their weights, from OmniScores, or the user's own."""
