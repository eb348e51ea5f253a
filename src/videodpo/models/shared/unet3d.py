"""diffusers' 3-D U-Net with what its transformers have: adapters and gradient checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from diffusers.loaders import PeftAdapterMixin
from torch.utils.checkpoint import checkpoint


class UNet3DConditionModel(diffusers.UNet3DConditionModel, PeftAdapterMixin):  # type: ignore[misc]
    """The same network; it keeps the name so that diffusers loads what it saves."""

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any] | None = None) -> None:
        """Keep each block's inputs alone, and compute its inside again for the backward pass."""
        again = gradient_checkpointing_func or partial(checkpoint, use_reentrant=False)
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            block.forward = partial(again, block.forward)
