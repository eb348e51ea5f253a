"""Stage: DPO training."""
