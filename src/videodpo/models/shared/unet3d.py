"""diffusers' 3-D U-Net with adapters and gradient checkpointing, which diffusers provides only for transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from diffusers.loaders import PeftAdapterMixin
from torch.utils.checkpoint import checkpoint


class UNet3DConditionModel(diffusers.UNet3DConditionModel, PeftAdapterMixin):  # type: ignore[misc]
    """The same network. It keeps the class name so that diffusers can load what it saves."""

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any] | None = None) -> None:
        """Save only the inputs of each block, and recompute its activations in the backward pass."""
        again = gradient_checkpointing_func or partial(checkpoint, use_reentrant=False)
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            block.forward = partial(again, block.forward)
