"""Elementwise functions as one kernel each on a GPU, and float32 attention on its matrix units: `compile_scorers`."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from videodpo.scorers.networks.products import has_matrix_units

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
_asked_for = False


def compile_networks(asked_for: bool) -> None:
    """Whether networks of this process are compiled where they can be; by default they are not."""
    global _asked_for
    _asked_for = asked_for
    compiles.cache_clear()


@functools.cache
def compiles(device: torch.device) -> bool:
    """Whether networks there are compiled: asked for, on a GPU with matrix units, beside Triton and a C compiler."""
    if not _asked_for or not has_matrix_units(device):
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    able = compiler is not None and importlib.util.find_spec("triton") is not None
    if not able:
        log.warning("compile_scorers: there is no C compiler here, or no Triton: nothing is compiled")
    return able


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """The function, compiled for all sizes at once where `compiles`, by its first argument's device."""
    compiled = functools.cache(lambda: torch.compile(function, dynamic=True))

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        first = arguments[0]
        assert isinstance(first, torch.Tensor)
        return (compiled() if compiles(first.device) else function)(*arguments, **options)

    return call


@functools.cache
def compiled_attention() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Softmax attention of float32 queries, keys and values [P, heads, L, channels].

    Its products are three of bfloat16, like those of `products.Linear`: a relative error of 6e-6 (torch's own float32
    attention: 6e-7) in less than half the time, on an H100.
    """
    from torch.nn.attention.flex_attention import flex_attention

    options = {"FLOAT32_PRECISION": "'bf16x3'"}
    return torch.compile(functools.partial(flex_attention, kernel_options=options), dynamic=True)
