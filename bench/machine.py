"""What a result was measured on, in words."""

from __future__ import annotations

import platform


def machine(device: str) -> str:
    """device: a torch device's name."""
    import torch  # not before it is needed: a bench of memory starts processes, and they begin with their parent's peak

    if device != "cpu":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
