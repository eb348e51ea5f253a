"""Cache of prompt embeddings in files next to the videos, so that fine-tuning needs no text encoder.

Legend: L text token, N bytes per token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from videodpo.config.errors import InputError
from videodpo.storage.tables import count_shards, read_table
from videodpo.storage.tensors import TensorFile, write_tensors

if TYPE_CHECKING:
    import torch

    from videodpo.models.base import PromptEmbeds, VideoModel

EMPTY, NEGATIVE = "empty", "negative"
"""Ids of the empty and the negative prompt, in addition to prompt ids, which are 16 hex digits."""

StrippedEmbeds: TypeAlias = "Mapping[str, tuple[torch.Tensor, int]]"
"""Named tensors on the CPU without padding, each with its padded length."""

# One metadata entry, because the library writes several in an order that differs between processes.
_LENGTHS = "lengths"
MAX_TOKENS = 2**16  # per encoded prompt, with padding


def without_padding(full: torch.Tensor) -> torch.Tensor:
    """Remove trailing zeros along L from a tensor [L, ...]; the result is on the CPU."""
    import torch

    bytes_LN = full.cpu().reshape(len(full), math.prod(full.shape[1:])).contiguous().view(torch.uint8)  # keeps -0.0
    is_used = bytes_LN.any(dim=1)
    length = int(is_used.nonzero().max()) + 1 if is_used.any() else 0
    return full[:length].cpu().clone()


def padded(short: torch.Tensor, length: int) -> torch.Tensor:
    """Append zeros up to [length, ...]."""
    import torch

    return torch.cat([short, short.new_zeros(length - len(short), *short.shape[1:])])


def strip_padding(text: PromptEmbeds) -> StrippedEmbeds:
    """Remove the padding of one prompt's tensors. For 10,000 prompts, padding would take 40 GB."""
    return {name: (without_padding(full), len(full)) for name, full in text.items()}


def restore_padding(text: StrippedEmbeds) -> PromptEmbeds:
    """Undo `strip_padding`; the result is on the CPU."""
    return {name: padded(short, length) for name, (short, length) in text.items()}


def encode_prompts(
    model: VideoModel, prompts: Mapping[str, str], known: Mapping[str, PromptEmbeds]
) -> dict[str, PromptEmbeds]:
    """Encode prompts, except those in `known`; return embeddings by id.

    Args:
        prompts: id to text.
        known: embeddings to reuse, by id.
    """
    return {key: known[key] if key in known else model.encode_prompt(words) for key, words in prompts.items()}


def write_texts(path: Path, texts: Mapping[str, StrippedEmbeds]) -> None:
    """Write embeddings by id. The same embeddings give the same bytes."""
    tensors = {f"{key}/{name}": short.contiguous() for key, text in texts.items() for name, (short, _) in text.items()}
    lengths = {f"{key}/{name}": length for key, text in texts.items() for name, (_, length) in text.items()}
    write_tensors(path, tensors, {_LENGTHS: json.dumps(lengths, sort_keys=True)})


def read_texts(path: Path) -> dict[str, StrippedEmbeds]:
    """Read what `write_texts` wrote."""
    file = _File(path)
    return {key: file.text(key) for key in file.ids}


class CachedTexts:
    """Embeddings stored next to a round's videos."""

    def __init__(self, round_folder: Path) -> None:
        """Open the files that belong to the round's videos tables. Tensors are read on demand.

        Raises:
            InputError: a file is missing; the message names the stage to re-run.
        """
        self._folder = round_folder / "videos" / "texts"
        self._files: dict[str, _File] = {}
        for shard in range(count_shards(round_folder / "videos")):
            file = _File(texts_path(round_folder / "videos", shard))
            self._files |= dict.fromkeys(file.ids, file)

    def of(self, prompt_id: str) -> PromptEmbeds:
        """Return a prompt's embeddings as returned by `encode_prompt`, on the CPU. Ids include `EMPTY` and `NEGATIVE`.

        Raises:
            InputError: the prompt has no videos in this round; the message names the stage to re-run.
        """
        if prompt_id not in self._files:
            raise InputError(f"prompt {prompt_id}: no encoded text in {self._folder}; re-run the stage generate")
        return restore_padding(self._files[prompt_id].text(prompt_id))


class OnlineTexts:
    """Embeddings computed by the model on demand, and cached in memory."""

    def __init__(self, folder: Path, model: VideoModel) -> None:
        """Read the prompts from a run's folder."""
        self._model = model
        prompts = read_table(folder / "prompts.parquet")
        self._prompts = {EMPTY: "", **dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))}
        self._texts: dict[str, StrippedEmbeds] = {}

    def of(self, prompt_id: str) -> PromptEmbeds:
        """Return the embeddings of one prompt or of `EMPTY`, as `CachedTexts` does.

        Raises:
            InputError: no such prompt; the message names the stage to re-run.
        """
        if prompt_id not in self._texts:
            if prompt_id not in self._prompts:
                raise InputError(f"prompt {prompt_id}: not in prompts.parquet; re-run the stage prompts")
            self._texts[prompt_id] = strip_padding(self._model.encode_prompt(self._prompts[prompt_id]))
        return restore_padding(self._texts[prompt_id])


def texts_path(videos: Path, shard: int) -> Path:
    """Return the path of one shard's embeddings."""
    return videos / "texts" / f"shard-{shard:05d}.safetensors"


class _File:
    def __init__(self, path: Path) -> None:
        self._file = TensorFile(path)
        self._lengths = _read_lengths(self._file, path)
        self.ids: dict[str, list[str]] = {}
        """Prompt id to the names of its tensors."""
        for entry in sorted(self._file.names):
            key, _, name = entry.partition("/")
            self.ids.setdefault(key, []).append(name)

    def text(self, key: str) -> StrippedEmbeds:
        entries = {name: f"{key}/{name}" for name in self.ids[key]}
        return {name: (self._file.get(entry), self._lengths[entry]) for name, entry in entries.items()}


def _read_lengths(file: TensorFile, path: Path) -> dict[str, int]:
    try:
        lengths = json.loads(file.metadata.get(_LENGTHS, "{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {_LENGTHS}: {error}; re-run the stage generate") from error
    for name in sorted(file.names):
        shape = file.shape(name)
        length = lengths.get(name) if isinstance(lengths, dict) else None
        if not isinstance(length, int) or not shape or not shape[0] <= length <= MAX_TOKENS:
            reason = f"{name!r} has {length!r}, its tensor is {shape}"
            raise InputError(f"{path}: {_LENGTHS}: {reason}; re-run the stage generate")
    return dict(lengths)
