"""X-CLIP from transformers, with the processor stored in its folder. The model sees clip and prompt together.

Legend: P clips, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import XCLIPModel, XCLIPProcessor

from videodpo.scorers.networks.transformers_folder import load_model, load_processor
from videodpo.scorers.shared.backbone import ClipBackbone, Part
from videodpo.scorers.shared.middle_frames import middle_frames

CONTEXT = 77


class XClip(ClipBackbone):
    """X-CLIP in float32. A clip has one part, the clip with its prompt; the answer is their cosine."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(device, clips_per_batch=16)
        self._model = load_model(XCLIPModel, folder, device)
        self._processor = load_processor(XCLIPProcessor, folder)
        self._num_frames: int = self._model.config.vision_config.num_frames

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[float]:
        clips = [clip for clip, _ in parts]
        frames = [
            clip.frames_THWC[number]
            for clip in clips
            for number in middle_frames(len(clip.frames_THWC), self._num_frames)
        ]
        pixels = self._processor.image_processor(frames, input_data_format="channels_last", return_tensors="pt")
        pixels_PTCHW = pixels["pixel_values"].reshape(len(clips), self._num_frames, *pixels["pixel_values"].shape[-3:])
        tokens = self._processor.tokenizer(
            [clip.prompt for clip in clips], padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt"
        )
        found = self._model(**tokens.to(self.device), pixel_values=pixels_PTCHW.to(self.device))
        # The logits compare all clips with all prompts. Each text embedding depends on its own clip: use the diagonal.
        cosines_P = found.logits_per_video.diagonal() / self._model.logit_scale.exp()
        return [float(cosine) for cosine in cosines_P.cpu()]
