"""The configuration's device name to a torch device name."""

from __future__ import annotations


def choose_device(name: str) -> str:
    """`auto` is CUDA where there is a GPU, else the CPU.

    Raises:
        ValueError: CUDA is asked for and there is none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device: {name!r}, but this machine has no CUDA GPU; use auto or cpu")
    return name
