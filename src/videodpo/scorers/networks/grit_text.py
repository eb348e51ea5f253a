"""GRiT's text decoder: describes a box by a name or a caption.

Legend: R boxes, C channel, S cells per side; N attention heads, L tokens, E channels of a head, D hidden state.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from videodpo.scorers.networks.grit_detector import GritSizes, refuse_not_finite

NAME, CAPTION, END = 101, 104, 102  # tokens: the first decides what the text is
LIMIT = 40  # tokens of a text, with the first
CELLS_PER_SIDE = 14  # cells of a box's features
_FORBIDDEN = -10000.0

Memory = list[tuple[torch.Tensor, torch.Tensor]]


class TextDecoder(nn.Module):
    """A BERT whose first tokens are the cells of a box: they see each other, and words see them and earlier words."""

    def __init__(self, sizes: GritSizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.object_feature_projection = nn.Sequential(nn.Linear(sizes.channels, width), nn.LayerNorm(width))
        self.embedding: Any = nn.ModuleDict(
            {
                "words": nn.Embedding(sizes.num_words, width),
                "positions": nn.Embedding(sizes.num_positions, width),
                "layer_norm": nn.LayerNorm(width, eps=1e-8),
            }
        )
        self.layers: Any = nn.ModuleList(
            _Layer(width, sizes.text_heads, sizes.text_inner) for _ in range(sizes.text_depth)
        )
        self.output = nn.Linear(width, sizes.num_words)

    def memory(self, features_RCSS: torch.Tensor) -> Memory:
        """Return keys and values [R, N, L, E] of the cells for each layer, with room for the tokens of a text.

        The cells do not see the words, so all steps and all texts of a box share them.
        """
        states_RLD = self.object_feature_projection(features_RCSS.flatten(2).transpose(1, 2))
        found: Memory = [self.layers[0].keys_values(states_RLD)]
        for layer, following in pairwise(self.layers):
            states_RLD = layer(states_RLD, *found[-1])
            found.append(following.keys_values(states_RLD))
        return [(_with_room(keys), _with_room(values)) for keys, values in found]

    def texts(self, memory: Memory, first: int) -> torch.Tensor:
        """Return the most likely token at each step, [R, L], with `first`; texts that ended are filled up with END.

        Args:
            memory: of the boxes; its room for a text is overwritten.
            first: NAME or CAPTION.
        """
        tokens_RL = torch.full((len(memory[0][0]), 1), first, device=memory[0][0].device)
        while tokens_RL.shape[1] < LIMIT and not (tokens_RL[:, -1] == END).all():
            last_R = tokens_RL[:, -1]
            logits = self.logits(memory, tokens_RL)
            if tokens_RL.shape[1] > 1:  # a word does not follow itself
                logits.scatter_(1, last_R[:, None], _FORBIDDEN)
            best_R1 = logits.argmax(dim=1, keepdim=True)  # that of a NaN, if there is one
            refuse_not_finite(logits.gather(1, best_R1))
            tokens_RL = torch.cat([tokens_RL, best_R1.masked_fill(last_R[:, None] == END, END)], dim=1)
        return tokens_RL

    def logits(self, memory: Memory, tokens_RL: torch.Tensor) -> torch.Tensor:
        """Return the next token's logits [R, words]; the memory must hold all tokens but the last, and then has it."""
        position = tokens_RL.shape[1] - 1
        words = self.embedding["words"](tokens_RL[:, -1:]) + self.embedding["positions"].weight[position]
        states_RLD = self.embedding["layer_norm"](words)
        for layer, (keys, values) in zip(self.layers, memory, strict=True):
            index = keys.shape[2] - LIMIT + position
            keys[:, :, index : index + 1], values[:, :, index : index + 1] = layer.keys_values(states_RLD)
            states_RLD = layer(states_RLD, keys[:, :, : index + 1], values[:, :, : index + 1])
        logits: torch.Tensor = self.output(states_RLD[:, 0])
        return logits


def _with_room(states_RNLE: torch.Tensor) -> torch.Tensor:
    return F.pad(states_RNLE, (0, 0, 0, LIMIT))


class _Layer(nn.Module):
    """BERT's layer, with its names of tensors."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self._heads = heads
        queries = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention: Any = nn.ModuleDict({"self": queries, "output": _output(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _output(inner, width)

    def forward(self, states_RLD: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        attended = F.scaled_dot_product_attention(self._projected("query", states_RLD), keys, values)
        found = self.attention["output"]["dense"](attended.transpose(1, 2).flatten(2))
        states_RLD = self.attention["output"]["LayerNorm"](states_RLD + found)
        found = self.output["dense"](F.gelu(self.intermediate["dense"](states_RLD)))
        result: torch.Tensor = self.output["LayerNorm"](states_RLD + found)
        return result

    def keys_values(self, states_RLD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values [R, N, L, E]."""
        return self._projected("key", states_RLD), self._projected("value", states_RLD)

    def _projected(self, name: str, states_RLD: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.attention["self"][name](states_RLD)
        return found.view(*found.shape[:2], self._heads, found.shape[2] // self._heads).transpose(1, 2)


def _output(inner: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})
