"""Networks that libraries lack or define with other keys, loaded from published checkpoints."""
