"""The DPO mathematics: objective, draws, errors, batches, checkpoints."""
