"""Load a model or a processor from a local folder in transformers' format, without running code from the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from videodpo.config.errors import InputError


def load_model(kind: Any, folder: Path, device: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load the model in eval mode on the device.

    Args:
        kind: class of transformers with `from_pretrained`.

    Raises:
        InputError: the folder is not readable, or it lacks tensors, which transformers would initialise at random.
    """
    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, RuntimeError) as error:
        raise InputError(f"weights: {folder}: {error}") from error
    if info["missing_keys"]:
        first, count = sorted(info["missing_keys"])[0], len(info["missing_keys"])
        raise InputError(f"weights: {folder}: not those of {type(model).__name__}: no {first} ({count} are missing)")
    return model.eval().requires_grad_(False).to(device)


def load_processor(kind: Any, folder: Path) -> Any:
    """Load the processor that prepares the model's inputs.

    Raises:
        InputError: a file is missing or not readable, or a required package is not installed.
    """
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except OSError as error:
        raise InputError(f"weights: {folder}: no processor ({error})") from error
    except ImportError as error:
        raise InputError(f"weights: {folder}: {error} (pip install 'videodpo[judge]')") from error
