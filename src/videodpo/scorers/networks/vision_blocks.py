"""Vision transformers: the class token after all blocks, or all tokens.

Legend: P sequences, L tokens with the class token first, Q query tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videodpo.scorers.networks.products import Linear, split

aten = torch.ops.aten
QUICK_GELU = 1.702


class Block(NamedTuple):
    """A pre-norm transformer block: residual attention, then a residual MLP."""

    norm_1: nn.Module
    queries_keys_values: Linear
    num_heads: int
    out: Linear
    norm_2: nn.Module
    widen: Linear
    activation: Callable[[torch.Tensor], torch.Tensor]
    """In-place activation: on a CPU, allocating the result costs more time than computing it."""
    narrow: Linear

    @classmethod
    def of_open_clip(cls, block: Any) -> Block:
        """Convert an open_clip `ResidualAttentionBlock` with QuickGELU. Its weights are changed in place."""
        attention, mlp = block.attn, block.mlp
        # x sigmoid(1.702 x) = SiLU(1.702 x) / 1.702: fold the factors into the layers on both sides.
        for parameter in (mlp.c_fc.weight, mlp.c_fc.bias):
            parameter.data.mul_(QUICK_GELU)
        mlp.c_proj.weight.data.div_(QUICK_GELU)
        qkv = Linear(attention.in_proj_weight, attention.in_proj_bias)
        out, widen, narrow = map(_linear, (attention.out_proj, mlp.c_fc, mlp.c_proj))
        return cls(block.ln_1, qkv, attention.num_heads, out, block.ln_2, widen, aten.silu_, narrow)

    @classmethod
    def of_timm(cls, block: Any) -> Block:
        """Convert a timm `Block` with exact GELU, without layer scale and without norms of queries and keys."""
        attention, mlp = block.attn, block.mlp
        qkv, out, widen, narrow = map(_linear, (attention.qkv, attention.proj, mlp.fc1, mlp.fc2))
        return cls(block.norm1, qkv, attention.num_heads, out, block.norm2, widen, aten.gelu_, narrow)

    @classmethod
    def of_beit(cls, block: Any) -> Block:
        """Convert a block of timm's `Beit`, which has no bias of keys. It must have neither layer scale nor windows."""
        attention, mlp = block.attn, block.mlp
        bias = torch.cat([attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias])
        out, widen, narrow = map(_linear, (attention.proj, mlp.fc1, mlp.fc2))
        qkv = Linear(attention.qkv.weight, bias)
        return cls(block.norm1, qkv, attention.num_heads, out, block.norm2, widen, aten.gelu_, narrow)

    @classmethod
    def of_musiq(cls, block: Any) -> Block:
        """Convert a `TransformerBlock` of pyiqa's MUSIQ, with exact GELU."""
        attention, mlp = block.attention, block.mlp
        layers = (attention.query, attention.key, attention.value)
        qkv = Linear(*(torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias")))
        out, widen, narrow = map(_linear, (attention.out, mlp.fc1, mlp.fc2))
        return cls(block.norm1, qkv, attention.num_heads, out, block.norm2, widen, aten.gelu_, narrow)


def class_token(states_PLD: torch.Tensor, blocks: Iterable[Block]) -> torch.Tensor:
    """Return the first token after all blocks, [P, D]; `states_PLD` is overwritten.

    The arithmetic is that of the original blocks, with two savings. The last block is computed for the first token
    only. Attention uses the fused kernel: at 2,049 tokens, torch's own attention is 1.4 times slower.
    """
    *earlier, last = blocks
    return _advance(last, all_tokens(states_PLD, earlier), 1)[:, 0]


def all_tokens(states_PLD: torch.Tensor, blocks: Iterable[Block]) -> torch.Tensor:
    """Return all tokens after all blocks, [P, L, D]; `states_PLD` is overwritten."""
    for block in blocks:
        _advance(block, states_PLD, states_PLD.shape[1])
    return states_PLD


def _advance(block: Block, states_PLD: torch.Tensor, num_queries: int) -> torch.Tensor:
    """Apply the block to the first `num_queries` tokens, in place; [P, Q, D]."""
    attended = _attention(block, split(block.norm_1(states_PLD)), num_queries, states_PLD.shape)
    query_states = states_PLD[:, :num_queries]
    query_states += block.out(split(attended))
    query_states += block.narrow(split(block.activation(block.widen(split(block.norm_2(query_states))))))
    return query_states


def _attention(block: Block, normed: torch.Tensor, num_queries: int, shape: Sequence[int]) -> torch.Tensor:
    """Compute attention for the first `num_queries` tokens, [P, Q, D].

    Args:
        block: the block.
        normed: `split` of the normed states.
        num_queries: number of query tokens.
        shape: (P, L, D).
    """
    _, length, width = shape
    project = block.queries_keys_values
    if num_queries == length:
        found = project(normed).chunk(3, dim=2)
    else:
        queries = project(normed[:, :num_queries], slice(width))
        found = queries, *project(normed, slice(width, None)).chunk(2, dim=2)
    query, key, value = (states.view(*states.shape[:2], block.num_heads, -1).transpose(1, 2) for states in found)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _linear(layer: Any) -> Linear:
    return Linear(layer.weight, layer.bias)
