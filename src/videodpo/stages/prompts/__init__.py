"""Stage: read, clean and de-duplicate prompts, and split them into training and held-out prompts."""
