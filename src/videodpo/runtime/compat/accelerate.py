"""Options of accelerate that can be set at the start only. Works with accelerate 1.15.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def allow_unused_weights(accelerator: Accelerator) -> None:
    """Let data parallelism accept weights that a backward pass does not reach.

    Public API is `Accelerator(kwargs_handlers=...)`, but the model is loaded onto the accelerator's device, and only
    the loaded model knows whether it leaves weights out.
    """
    from accelerate.utils import DistributedDataParallelKwargs

    accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
