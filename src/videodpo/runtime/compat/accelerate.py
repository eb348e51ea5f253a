"""Options that accelerate accepts only at its start. Works with accelerate 1.15.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def allow_unused_weights(accelerator: Accelerator) -> None:
    """Let data parallelism accept weights that a backward pass does not reach.

    Public API is `Accelerator(kwargs_handlers=...)`. But the model is loaded onto the accelerator's device, and only
    the loaded model knows whether some of its weights are unused.
    """
    from accelerate.utils import DistributedDataParallelKwargs

    accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
