"""Qwen2-VL with a reward head: the answers are read at special tokens of a text that follows the frames.

Legend: P clips or frames, T frames of one part, C channel, H, W pixels; N patches, L tokens, D hidden state, K reward
tokens, O outputs of the head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from accelerate import init_empty_weights
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from videodpo.config.errors import InputError
from videodpo.scorers.networks.clip import standard
from videodpo.scorers.networks.transformers_folder import load_processor
from videodpo.scorers.shared.backbone import Shared
from videodpo.scorers.shared.reward_text import RewardText
from videodpo.weights.checkpoints import fitting_tensors, read_checkpoint

PATCH, MERGE = 14, 2  # pixels per side of a patch; patches per side of a token
MAX_PIXELS = 448 * 448  # both reward models were trained with frames of at most this size


class RewardNetwork(torch.nn.Module):
    """Vision tower, language model and head, with the published names: `visual.*`, `model.*`, `rm_head.*`."""

    def __init__(self, config: Qwen2VLConfig, head: torch.nn.Module) -> None:
        super().__init__()
        both = Qwen2VLModel(config)
        self.visual, self.model, self.rm_head = both.visual, both.language_model, head

    def forward(
        self, ids_PL: torch.Tensor, mask_PL: torch.Tensor, pixels_N: torch.Tensor, grid_P3: torch.Tensor, media: int
    ) -> torch.Tensor:
        """Return the last hidden state [P, L, D].

        Args:
            ids_PL: token ids, with the id `media` once per token of the frames.
            pixels_N: patches of all parts, [N, C * 2 * 14 * 14].
            grid_P3: number of patches along time, height and width.
        """
        frames = self.visual(pixels_N.to(self.visual.dtype), grid_thw=grid_P3).pooler_output
        states_PLD = self.model.embed_tokens(ids_PL)
        states_PLD = states_PLD.masked_scatter((ids_PL == media).unsqueeze(-1), frames.to(states_PLD.dtype))
        # The authors call the language model without positions, in training too: it then counts tokens, and does not
        # use Qwen2-VL's positions in time, height and width.
        positions_PL = torch.arange(ids_PL.shape[1], device=ids_PL.device).expand_as(ids_PL)
        found = self.model(inputs_embeds=states_PLD, attention_mask=mask_PL, position_ids=positions_PL, use_cache=False)
        states: torch.Tensor = found.last_hidden_state
        return states


class RewardModel(Shared, ABC):
    """A published reward model: network, tokenizer and its format of text and tensors."""

    text: ClassVar[RewardText]

    def __init__(self, checkpoint: Path, base: Path, device: str, dtype: str) -> None:
        """Load the network.

        Args:
            checkpoint: the authors' file.
            base: folder with config and tokenizer of the Qwen2-VL that the network was trained from.
            device: name of the torch device.
            dtype: torch's name of the data type; the head is in float32.

        Raises:
            InputError: the tensors are not those of this network, or the tokenizer has other numbers.
        """
        self._device = device
        tensors = self.tensors(read_checkpoint(checkpoint))
        tensors.pop("lm_head.weight", None)  # scores do not use it
        config = Qwen2VLConfig.from_pretrained(base, local_files_only=True)
        if "model.embed_tokens.weight" in tensors:  # the authors added rows for their tokens
            config.text_config.vocab_size = len(tensors["model.embed_tokens.weight"])
        with init_empty_weights(include_buffers=False):
            self._network = RewardNetwork(config, self.head(config.text_config.hidden_size))
        tensors = {
            name: value.to(torch.float32 if name.startswith("rm_head.") else getattr(torch, dtype))
            for name, value in fitting_tensors(self._network, tensors, checkpoint).items()
        }
        self._network.load_state_dict(tensors, assign=True)
        # No `.to(dtype)`: it would round the frequencies of the rotary embeddings.
        self._network.eval().requires_grad_(False).to(device)
        self._tokenizer = load_processor(AutoTokenizer, base)
        self._tokenizer.add_tokens(list(self.text.tokens), special_tokens=True)
        self._tokens: list[int] = self._tokenizer.convert_tokens_to_ids(list(self.text.tokens))
        rows = config.text_config.vocab_size
        if self._tokens != list(range(rows - len(self._tokens), rows)):
            raise InputError(
                f"weights: {base}: its tokenizer gives {self.text.tokens[0]} the number {self._tokens[0]}, "
                f"{checkpoint} has it at {rows - len(self._tokens)}; name the Qwen2-VL that the checkpoint "
                "was trained from"
            )
        self._media: int = self._tokenizer.convert_tokens_to_ids(self.text.media)

    @abstractmethod
    def head(self, width: int) -> torch.nn.Module:
        """Build the head for a hidden state of this width."""

    def tensors(self, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convert the checkpoint's tensors to those of `RewardNetwork`."""
        return found

    def refuse(self, prompt: str) -> None:
        """Raise InputError for a prompt with a special token: the network would read it as one."""
        special = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        if found := [token for token in special if token in prompt]:
            raise InputError(f"the prompt has {found[0]!r}, a special token of the reward model; remove it")

    @torch.no_grad()
    def answers(self, text: str, prompts: Sequence[str], frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the head's outputs at the reward tokens, float32 [P, K, O], on the CPU.

        Args:
            text: text after the frames, with `{text_prompt}`.
            prompts: prompt of each part, which replaces `{text_prompt}`.
            frames: resized uint8 frames of each part, [T, C, H, W], on the CPU.
        """
        found = [patches(frames_TCHW) for frames_TCHW in frames]
        grids = [grid for _, grid in found]
        ids = [self.token_ids(self.text.chat(text, prompt), grid) for prompt, grid in zip(prompts, grids, strict=True)]
        lengths = torch.tensor([len(one) for one in ids])
        ids_PL = pad_sequence(ids, batch_first=True)  # padding is last, and no earlier token sees it
        mask_PL = (torch.arange(ids_PL.shape[1]) < lengths[:, None]).long()
        states_PLD = self._network(
            ids_PL.to(self._device),
            mask_PL.to(self._device),
            torch.cat([pixels_N for pixels_N, _ in found]).to(self._device),
            torch.tensor(grids, device=self._device),
            self._media,
        )
        positions_PK = torch.tensor([[one.tolist().index(token) for token in self._tokens] for one in ids])
        states_PKD = states_PLD[torch.arange(len(ids))[:, None], positions_PK]
        head = self._network.rm_head
        outputs: torch.Tensor = head(states_PKD.float()).cpu()
        return outputs

    def token_ids(self, chat: str, grid: tuple[int, int, int]) -> torch.Tensor:
        """Return the conversation's token ids [L], with the placeholder repeated once per token of the frames."""
        ids: list[int] = self._tokenizer(chat, add_special_tokens=False)["input_ids"]
        index, count = ids.index(self._media), grid[0] * grid[1] * grid[2] // MERGE**2
        return torch.tensor([*ids[:index], *[self._media] * count, *ids[index + 1 :]])


def target_size(height: int, width: int, min_pixels: int) -> tuple[int, int]:
    """Return the (height, width) to which frames are resized, multiples of 28 with about the same aspect ratio."""
    size: tuple[int, int] = smart_resize(height, width, PATCH * MERGE, min_pixels, MAX_PIXELS)
    return size


def patches(frames_TCHW: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Cut uint8 frames into normalised patches [N, C * 2 * 14 * 14], the patches of one token next to each other.

    Frames are taken in pairs; if their number is odd, the last one is repeated.

    Returns:
        The patches, and their number along time, height and width.
    """
    if len(frames_TCHW) % 2:
        frames_TCHW = torch.cat([frames_TCHW, frames_TCHW[-1:]])
    length, channels, height, width = frames_TCHW.shape
    grid = length // 2, height // PATCH, width // PATCH
    rows, columns = (number // MERGE for number in grid[1:])
    pixels = standard(frames_TCHW / 255).view(grid[0], 2, channels, rows, MERGE, PATCH, columns, MERGE, PATCH)
    return pixels.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(grid[0] * grid[1] * grid[2], -1), grid
