"""Two experts as one network; the noise level selects the expert (Wan 2.2 A14B).

Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Experts(nn.Module):
    """Call `transformer` for timesteps of at least `boundary`, `transformer_2` below. A mixed batch is split."""

    def __init__(self, transformer: Any, transformer_2: Any, boundary: float) -> None:
        super().__init__()
        self.transformer, self.transformer_2, self._boundary = transformer, transformer_2, boundary

    @property
    def config(self) -> Any:
        return self.transformer.config

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any] | None = None) -> None:
        for network in (self.transformer, self.transformer_2):
            network.enable_gradient_checkpointing(gradient_checkpointing_func)

    def compile_repeated_blocks(self, **options: Any) -> None:
        for network in (self.transformer, self.transformer_2):
            network.compile_repeated_blocks(**options)

    def forward(self, timestep: torch.Tensor, return_dict: bool = False, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """Run each expert on its part of the batch.

        Args:
            timestep: [B].
            return_dict: ignored; the result is always a tuple.
            inputs: other arguments of the networks, [B, ...] each.
        """
        noisy_B = timestep >= self._boundary
        shares = [(self.transformer, noisy_B), (self.transformer_2, ~noisy_B)]
        answers = []
        for network, chosen_B in shares:
            if chosen_B.any():
                own = {name: value[chosen_B] for name, value in inputs.items()}
                answers.append((network(timestep=timestep[chosen_B], return_dict=return_dict, **own)[0], chosen_B))
        if len(answers) == 1:
            return (answers[0][0],)
        (first, first_B), (second, second_B) = answers
        order = torch.cat([first_B.nonzero(), second_B.nonzero()]).flatten().argsort()
        return (torch.cat([first, second])[order],)
