"""PickScore's CLIP from transformers, with the processor stored in its folder.

Legend: P frames, D embedding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPProcessor

from videodpo.scorers.networks.transformers_folder import load_model, load_processor
from videodpo.scorers.shared.backbone import Part
from videodpo.scorers.shared.prompt_frames import PromptFrames

CONTEXT = 77


class PickScoreFrames(PromptFrames):
    """PickScore in float32. The processor runs on the CPU, where 8-bit resizing is the same on every machine."""

    def __init__(self, folder: Path, device: str, num_frames: int | None) -> None:
        super().__init__(device, frames_per_batch=2, num_frames=num_frames)
        self._model = load_model(CLIPModel, folder, device)
        self._processor = load_processor(CLIPProcessor, folder)

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        frames = [clip.frames_THWC[number] for clip, number in parts]
        pixels = self._processor.image_processor(frames, input_data_format="channels_last", return_tensors="pt")
        found_PD = self._model.get_image_features(**pixels.to(self.device)).pooler_output
        return list(F.normalize(found_PD, dim=-1).cpu())

    @functools.lru_cache(maxsize=64)  # noqa: B019 (networks live as long as the process)
    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        """Return the prompt's embedding times the logit scale, [D], on the CPU."""
        tokens = self._processor.tokenizer([text], truncation=True, max_length=CONTEXT, return_tensors="pt")
        found_1D = self._model.get_text_features(**tokens.to(self.device)).pooler_output
        scaled: torch.Tensor = self._model.logit_scale.exp() * F.normalize(found_1D, dim=-1)[0]
        return scaled.cpu()
