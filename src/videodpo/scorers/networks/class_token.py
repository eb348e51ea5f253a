"""What a vision transformer makes of its class token: all that the scorers read of one.

Legend: P sequences, L tokens with the class token first, Q of them that ask, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videodpo.scorers.networks.products import Linear, split


class Block(NamedTuple):
    """A layer that norms, attends and adds, then norms, transforms and adds."""

    norm_1: nn.Module
    queries: Linear
    keys_values: Linear
    num_heads: int
    out: Linear
    norm_2: nn.Module
    widen: Linear
    activation: nn.Module
    narrow: Linear

    @classmethod
    def of_open_clip(cls, block: Any) -> Block:
        """From an open_clip `ResidualAttentionBlock`, whose QuickGELU is replaced by one that needs less memory."""
        attention, mlp = block.attn, block.mlp
        asking = _queries_and_rest(attention.in_proj_weight, attention.in_proj_bias)
        widen, narrow = (Linear(layer.weight, layer.bias) for layer in (mlp.c_fc, mlp.c_proj))
        out = Linear(attention.out_proj.weight, attention.out_proj.bias)
        return cls(block.ln_1, *asking, attention.num_heads, out, block.ln_2, widen, _QuickGelu(), narrow)

    @classmethod
    def of_timm(cls, block: Any) -> Block:
        """From a timm `Block` without scales and norms of its own for queries and keys."""
        attention, mlp = block.attn, block.mlp
        asking = _queries_and_rest(attention.qkv.weight, attention.qkv.bias)
        widen, narrow = (Linear(layer.weight, layer.bias) for layer in (mlp.fc1, mlp.fc2))
        out = Linear(attention.proj.weight, attention.proj.bias)
        return cls(block.norm1, *asking, attention.num_heads, out, block.norm2, widen, mlp.act, narrow)


def _queries_and_rest(weight_3DD: torch.Tensor, bias_3D: torch.Tensor) -> tuple[Linear, Linear]:
    width = weight_3DD.shape[1]
    return Linear(weight_3DD[:width], bias_3D[:width]), Linear(weight_3DD[width:], bias_3D[width:])


def class_token(states_PLD: torch.Tensor, blocks: Iterable[Block]) -> torch.Tensor:
    """The first token after all blocks, [P, D]; `states_PLD` is written over.

    The same arithmetic as the blocks' own, but the last one is computed for the first token alone, which is all that
    its result is read for, and attention takes the fused kernel: of 2,049 tokens torch's own is 1.4 times slower.
    """
    *earlier, last = blocks
    for block in earlier:
        _advance(block, states_PLD, states_PLD.shape[1])
    return _advance(last, states_PLD, 1)[:, 0]


def _advance(block: Block, states_PLD: torch.Tensor, num_asking: int) -> torch.Tensor:
    """The first tokens after the block, in place; [P, Q, D]."""
    normed = split(block.norm_1(states_PLD))
    asking = states_PLD[:, :num_asking]
    asking += block.out(split(_attention(block, normed, num_asking)))
    asking += block.narrow(split(block.activation(block.widen(split(block.norm_2(asking))))))
    return asking


def _attention(block: Block, normed: torch.Tensor, num_asking: int) -> torch.Tensor:
    found = block.queries(normed[:, :num_asking]), *block.keys_values(normed).chunk(2, dim=2)
    query, key, value = (states.unflatten(2, (block.num_heads, -1)).transpose(1, 2) for states in found)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class _QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x.mul_(1.702), inplace=True).div_(1.702)
