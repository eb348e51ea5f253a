"""DPO mathematics and training loop: objectives, draws, errors, batches, checkpoints."""
