"""Description of the machine on which a result was measured."""

from __future__ import annotations

import platform


def machine(device: str) -> str:
    """Describe the machine of a torch device, given by name."""
    import torch  # imported late: child processes of a memory benchmark inherit the peak memory of their parent

    if device != "cpu":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
