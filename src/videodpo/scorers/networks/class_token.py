"""What a vision transformer makes of its class token: all that the scorers read of one.

Legend: P sequences, L tokens with the class token first, Q of them that ask, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Block(NamedTuple):
    """A layer that norms, attends and adds, then norms, transforms and adds."""

    norm_1: nn.Module
    weight_3DD: torch.Tensor
    """Of queries, keys and values, in this order."""
    bias_3D: torch.Tensor
    num_heads: int
    out: nn.Module
    norm_2: nn.Module
    mlp: nn.Module

    @classmethod
    def of_open_clip(cls, block: Any) -> Block:
        """From an open_clip `ResidualAttentionBlock`, whose QuickGELU is replaced by one that needs less memory."""
        block.mlp.gelu = _QuickGelu()
        attention = block.attn
        weights = (attention.in_proj_weight, attention.in_proj_bias, attention.num_heads, attention.out_proj)
        return cls(block.ln_1, *weights, block.ln_2, block.mlp)

    @classmethod
    def of_timm(cls, block: Any) -> Block:
        """From a timm `Block` without scales and norms of its own for queries and keys."""
        attention = block.attn
        weights = (attention.qkv.weight, attention.qkv.bias, attention.num_heads, attention.proj)
        return cls(block.norm1, *weights, block.norm2, block.mlp)


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
    normed = block.norm_1(states_PLD)
    asking = states_PLD[:, :num_asking]
    asking += block.out(_attention(block, normed, num_asking))
    asking += block.mlp(block.norm_2(asking))
    return asking


def _attention(block: Block, normed_PLD: torch.Tensor, num_asking: int) -> torch.Tensor:
    width, weight, bias = normed_PLD.shape[2], block.weight_3DD, block.bias_3D
    if num_asking == normed_PLD.shape[1]:
        found = F.linear(normed_PLD, weight, bias).chunk(3, dim=2)
    else:
        queries = F.linear(normed_PLD[:, :num_asking], weight[:width], bias[:width])
        found = queries, *F.linear(normed_PLD, weight[width:], bias[width:]).chunk(2, dim=2)
    query, key, value = (states.view(*states.shape[:2], block.num_heads, -1).transpose(1, 2) for states in found)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class _QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x.mul_(1.702), inplace=True).div_(1.702)
