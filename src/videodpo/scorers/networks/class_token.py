"""What a vision transformer makes of its class token: all that the scorers read of one.

Legend: P sequences, L tokens with the class token first, Q of them that ask, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from videodpo.scorers.networks.fused import compiled_attention, compiles, fused
from videodpo.scorers.networks.products import Linear, split


class Norm(NamedTuple):
    """A layer norm."""

    weight_D: torch.Tensor
    bias_D: torch.Tensor
    eps: float

    @classmethod
    def of(cls, norm: Any) -> Norm:
        return cls(norm.weight.detach(), norm.bias.detach(), norm.eps)


class Block(NamedTuple):
    """A layer that norms, attends and adds, then norms, transforms and adds."""

    norm_1: Norm
    queries: Linear
    keys_values: Linear
    num_heads: int
    out: Linear
    norm_2: Norm
    widen: Linear
    narrow: Linear
    quick_gelu: bool
    """x sigmoid(1.702 x) in place of GELU."""

    @classmethod
    def of_open_clip(cls, block: Any) -> Block:
        """From an open_clip `ResidualAttentionBlock` with QuickGELU."""
        attended, mlp = block.attn, block.mlp
        asking = *_queries_and_rest(attended.in_proj_weight, attended.in_proj_bias), attended.num_heads
        norms = Norm.of(block.ln_1), Norm.of(block.ln_2)
        return cls(
            norms[0], *asking, _linear(attended.out_proj), norms[1], _linear(mlp.c_fc), _linear(mlp.c_proj), True
        )

    @classmethod
    def of_timm(cls, block: Any) -> Block:
        """From a timm `Block` without scales and norms of its own for queries and keys."""
        attended, mlp = block.attn, block.mlp
        asking = *_queries_and_rest(attended.qkv.weight, attended.qkv.bias), attended.num_heads
        norms = Norm.of(block.norm1), Norm.of(block.norm2)
        return cls(norms[0], *asking, _linear(attended.proj), norms[1], _linear(mlp.fc1), _linear(mlp.fc2), False)

    @classmethod
    def of_musiq(cls, block: Any) -> Block:
        """From a `TransformerBlock` of pyiqa's MUSIQ."""
        attended, mlp = block.attention, block.mlp
        layers = (attended.key, attended.value)
        keys_values = Linear(*(torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias")))
        norms = Norm.of(block.norm1), Norm.of(block.norm2)
        asking = _linear(attended.query), keys_values, attended.num_heads
        return cls(norms[0], *asking, _linear(attended.out), norms[1], _linear(mlp.fc1), _linear(mlp.fc2), False)


def class_token(states_PLD: torch.Tensor, blocks: Iterable[Block]) -> torch.Tensor:
    """The first token after all blocks, [P, D].

    The same arithmetic as the blocks' own, but the last one is computed for the first token alone, which is all that
    its result is read for, and attention takes a fused kernel: of 2,049 tokens torch's own is 1.4 times slower.
    """
    advance = _advance_compiled if compiles(states_PLD.device) else _advance
    *earlier, last = blocks
    for block in earlier:
        states_PLD = advance(block, states_PLD)
    return _advance(last, states_PLD, 1)[:, 0]


def _advance(block: Block, states_PLD: torch.Tensor, num_asking: int | None = None) -> torch.Tensor:
    """The first tokens after the block, or all; [P, Q, D]."""
    normed = split(F.layer_norm(states_PLD, states_PLD.shape[2:], *block.norm_1))
    query, key, value = _heads(block, normed[:, :num_asking], normed)
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    asking = states_PLD[:, :num_asking] + block.out(split(attended))
    wide = block.widen(split(F.layer_norm(asking, asking.shape[2:], *block.norm_2)))
    wide = F.silu(wide.mul_(1.702), inplace=True).div_(1.702) if block.quick_gelu else F.gelu(wide)
    return asking.add_(block.narrow(split(wide)))


def _advance_compiled(block: Block, states_PLD: torch.Tensor) -> torch.Tensor:
    """All tokens after the block, in fewer passes over the memory."""
    normed = _normed(states_PLD, *block.norm_1)
    attended = compiled_attention()(*_heads(block, normed, normed))
    found = block.out.product(_joined(attended))
    states_PLD, normed = _added_and_normed(states_PLD, found, block.out.bias_O, *block.norm_2)
    activated = _quick_gelu if block.quick_gelu else _gelu
    wide = activated(block.widen.product(normed), block.widen.bias_O)
    return _added(states_PLD, block.narrow.product(wide), block.narrow.bias_O)


def _heads(block: Block, asking: torch.Tensor, normed: torch.Tensor) -> Iterator[torch.Tensor]:
    """Queries, keys and values [P, heads, Q or L, D / heads] of what `split` made of normed states."""
    found = block.queries(asking), *block.keys_values(normed).chunk(2, dim=2)
    return (states.view(*states.shape[:2], block.num_heads, -1).transpose(1, 2) for states in found)


@fused
def _normed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    return split(F.layer_norm(x, x.shape[-1:], weight, bias, eps))


@fused
def _joined(heads: torch.Tensor) -> torch.Tensor:
    return split(heads.transpose(1, 2).flatten(2))


@fused
def _added_and_normed(
    x: torch.Tensor, more: torch.Tensor, more_bias: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    found = x + (more + more_bias)
    return found, split(F.layer_norm(found, x.shape[-1:], weight, bias, eps))


@fused
def _added(x: torch.Tensor, more: torch.Tensor, more_bias: torch.Tensor) -> torch.Tensor:
    return x + (more + more_bias)


@fused
def _quick_gelu(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    x = x + bias
    return split(x * torch.sigmoid(1.702 * x))


@fused
def _gelu(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return split(F.gelu(x + bias))


def _linear(layer: Any) -> Linear:
    return Linear(layer.weight, layer.bias)


def _queries_and_rest(weight_3DD: torch.Tensor, bias_3D: torch.Tensor) -> tuple[Linear, Linear]:
    width = weight_3DD.shape[1]
    return Linear(weight_3DD[:width], bias_3D[:width]), Linear(weight_3DD[width:], bias_3D[width:])
