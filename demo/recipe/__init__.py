"""Recipe of the bundled weights: one module per model, each seeded and trained from scratch."""
