"""HPS v2.1 on open_clip's ViT-H/14, with the preprocessing of the authors' package hpsv2.

Legend: P frames, C channel, H, W pixels; D embedding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.clip import SIDE, standard
from videodpo.scorers.shared.backbone import Part
from videodpo.scorers.shared.prompt_frames import PromptFrames
from videodpo.weights.checkpoints import load_weights, read_checkpoint


class HpsFrames(PromptFrames):
    """HPS embeddings in float32. The authors' package computes in half precision on a GPU."""

    # Not "-quickgelu": LAION trained this tower with the exact GELU.
    architecture = "ViT-H-14"

    def __init__(self, weights: Path, device: str, num_frames: int | None, antialias: bool) -> None:
        super().__init__(device, frames_per_batch=2, num_frames=num_frames)
        self._network = open_clip.CLIP(**open_clip.get_model_config(self.architecture))
        load_weights(self._network, read_checkpoint(weights), weights)
        self._network.to(device)
        self._tokenize = open_clip.SimpleTokenizer()
        self._antialias = antialias

    def refuse(self, clip: Clip) -> None:
        height, width = clip.frames_THWC.shape[1:3]
        if 2 * SIDE * min(height, width) <= max(height, width):
            raise InputError(f"HPS resizes frames to 224 x 224: {width} x {height} is too narrow")

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        squares = padded_squares(self.frames(parts), SIDE, antialias=self._antialias)
        return list(self._network.encode_image(standard(squares), normalize=True).cpu())

    @functools.lru_cache(maxsize=64)  # noqa: B019 (networks live as long as the process)
    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        """Embed a text with length 1, [D], on the CPU. Text beyond 77 tokens is truncated."""
        features: torch.Tensor = self._network.encode_text(self._tokenize([text]).to(self.device), normalize=True)
        return features[0].cpu()


def padded_squares(frames_PCHW: torch.Tensor, side: int, *, antialias: bool) -> torch.Tensor:
    """Centre uint8 frames on black squares, without cropping: [P, 3, side, side], float32, on the frames' device.

    The longer side is resized to `side`, bicubic on values in 0..1 that may overshoot, as in hpsv2 1.2.0. That package
    uses torchvision's default for antialias, without requiring a version. It was off before 0.17 (January 2024, after
    the network was trained), and is on since. One difference: hpsv2 does not pad a frame whose longer side is
    already 224, so its network refuses such a frame if it is not square.

    Args:
        frames_PCHW: uint8.
        side: side of the squares in pixels.
        antialias: resize with antialias.
    """
    height, width = frames_PCHW.shape[-2:]
    scale = side / max(height, width)
    frames = frames_PCHW.float() / 255
    if scale == 1:
        new_height, new_width = height, width
    else:
        new_height, new_width = round(height * scale), round(width * scale)
        frames = F.interpolate(frames, (new_height, new_width), mode="bicubic", antialias=antialias)
    top, left = (side - new_height) // 2, (side - new_width) // 2
    return F.pad(frames, (left, side - new_width - left, top, side - new_height - top))
