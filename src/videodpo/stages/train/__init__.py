"""The DPO fine-tune."""
