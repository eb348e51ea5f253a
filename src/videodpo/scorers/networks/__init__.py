"""Networks that no library has, or has under other keys, and the reading of published checkpoints."""
