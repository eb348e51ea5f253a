"""How the bundled weights are made: one module a model, each seeded and trained from nothing."""
