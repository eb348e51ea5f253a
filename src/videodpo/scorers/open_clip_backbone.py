"""An open_clip model as frame and text features, loaded once a process for all the scorers that share it.

Legend: T frames, C channel, H height, W width, D embedding; h, w patches.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videodpo.config import HUB_PREFIX, Section
from videodpo.device import choose_device
from videodpo.scorers.base import Scorer

if TYPE_CHECKING:
    import torch

FRAMES_AT_ONCE = 32  # fixed, so that a clip's numbers depend on nothing but the clip


def check_weights(weights: str) -> None:
    """Raises ValueError where the weights are neither on the hub nor a folder as open_clip writes it."""
    if not weights.startswith(HUB_PREFIX) and not (Path(weights) / "open_clip_config.json").is_file():
        raise ValueError(f"weights: {weights!r} is no folder with an open_clip_config.json, nor hub:<org>/<name>")


def square_crops(frames_THWC: np.ndarray, side: int, *, rounded: bool = False) -> torch.Tensor:
    """The middle square of every frame [T, 3, side, side], float32 on the scale 0..1.

    Shorter side to `side`, bicubic without antialias, then the centre. Resized values may overshoot the scale, as in
    VBench's image CLIP; `rounded` brings them back to 8 bits, as in its ViCLIP.
    """
    import torch
    import torch.nn.functional as F

    height, width = frames_THWC.shape[1:3]
    shorter = min(height, width)
    size = (side * height // shorter, side * width // shorter)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    parts = []
    for start in range(0, len(frames_THWC), FRAMES_AT_ONCE):
        part = torch.from_numpy(frames_THWC[start : start + FRAMES_AT_ONCE]).permute(0, 3, 1, 2).float()
        if (height, width) != size:
            part = F.interpolate(part, size, mode="bicubic", antialias=False)
        part = part[:, :, top : top + side, left : left + side]
        parts.append((part.round().clamp(0, 255) if rounded else part) / 255)
    return torch.cat(parts)


class OpenClipBackbone:
    """Float32, in eval mode; features are L2-normalised and lie on the CPU."""

    def __init__(self, weights: str, device: str) -> None:
        import open_clip
        import torch

        check_weights(weights)
        on_hub = weights.startswith(HUB_PREFIX)
        name = "hf-hub:" + weights.removeprefix(HUB_PREFIX) if on_hub else f"local-dir:{weights}"
        self._model = open_clip.create_model(name, precision="fp32", device=device, require_pretrained=True)
        self._model.eval().requires_grad_(False)
        self._tokenize = open_clip.get_tokenizer(name)
        self._device = device
        settings = self._model.visual.preprocess_cfg
        size = settings["size"]
        self._side = size if isinstance(size, int) else size[0]
        self._mean = torch.tensor(settings["mean"]).view(1, 3, 1, 1)
        self._std = torch.tensor(settings["std"]).view(1, 3, 1, 1)

    def crops(self, frames_THWC: np.ndarray) -> torch.Tensor:
        """`square_crops` of the model's size."""
        return square_crops(frames_THWC, self._side)

    def image_features(self, crops_TCHW: torch.Tensor) -> torch.Tensor:
        """Image embeddings [T, D] in the space shared with the text."""
        import torch

        with torch.no_grad():
            return torch.cat([self._model.encode_image(x, normalize=True).cpu() for x in self._inputs(crops_TCHW)])

    def patch_features(self, crops_TCHW: torch.Tensor) -> torch.Tensor:
        """The vision tower's last patch tokens [T, D, h, w], after its final norm; not normalised to length 1."""
        import torch

        with torch.no_grad():
            return torch.cat(
                [
                    self._model.visual.forward_intermediates(
                        x, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NCHW"
                    )["image_intermediates"][-1].cpu()
                    for x in self._inputs(crops_TCHW)
                ]
            )

    def text_features(self, text: str) -> torch.Tensor:
        """Text embedding [D]; text beyond the model's context is cut by its tokenizer."""
        import torch

        with torch.no_grad():
            features: torch.Tensor = self._model.encode_text(self._tokenize([text]).to(self._device), normalize=True)
        return features[0].cpu()

    def _inputs(self, crops_TCHW: torch.Tensor) -> list[torch.Tensor]:
        import torch

        return [((part - self._mean) / self._std).to(self._device) for part in torch.split(crops_TCHW, FRAMES_AT_ONCE)]


@functools.cache
def load_backbone(weights: str, device: str) -> OpenClipBackbone:
    """The backbone for these weights on this torch device, loaded at the first call."""
    return OpenClipBackbone(weights, device)


class OpenClipScorer(Scorer):
    """Common to the scorers that ask an open_clip model: `self._clip`."""

    uses_gpu = True

    class Options(Scorer.Options):
        """The model's weights."""

        weights: str
        """Folder with open_clip_config.json and open_clip_model.safetensors, or `hub:<org>/<name>`."""

    @staticmethod
    def weights(options: Section) -> list[str]:
        assert isinstance(options, OpenClipScorer.Options)
        return [options.weights]

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, OpenClipScorer.Options)
        check_weights(options.weights)

    def __init__(self, options: Section, device: str) -> None:
        assert isinstance(options, OpenClipScorer.Options)
        self._clip = load_backbone(options.weights, choose_device(device))
