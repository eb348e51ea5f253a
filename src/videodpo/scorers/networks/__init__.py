"""Networks that no library has, or has under other keys, loaded from published checkpoints."""
