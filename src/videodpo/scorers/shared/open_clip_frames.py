"""Frame and text features of an open_clip model, loaded once per process for all scorers.

Legend: P frames, C channel, H, W pixels; D embedding, E width of the tower; h, w patches.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from videodpo.config import HUB_PREFIX, Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.backbone import FrameBackbone, NetworkScorer, Part
from videodpo.scorers.shared.crops import normalized, square_crops
from videodpo.weights.contents import refuse_downloads, refuse_fault
from videodpo.weights.locations import resolve

if TYPE_CHECKING:
    import torch


class FrameFeatures(NamedTuple):
    """Features of a frame by an open_clip model."""

    image_D: torch.Tensor
    """Embedding of length 1 in the space shared with the text."""
    patches_Ehw: torch.Tensor | None
    """The vision tower's last patch tokens after the final norm, not of length 1. None if no scorer reads them."""


class OpenClipFrames(FrameBackbone):
    """`FrameFeatures` of every frame, in float32."""

    keeps_patches = False

    def __init__(self, weights: str, device: str) -> None:
        import open_clip

        super().__init__(device, frames_per_batch=16)
        check_weights(weights)
        name = f"local-dir:{resolve(weights)}"
        self._model = open_clip.create_model(name, precision="fp32", device=device, require_pretrained=True)
        self._model.eval().requires_grad_(False)
        self._tokenize = open_clip.get_tokenizer(name)
        settings = self._model.visual.preprocess_cfg
        size = settings["size"]
        self._side = size if isinstance(size, int) else size[0]
        self._mean, self._std = settings["mean"], settings["std"]

    def crops(self, frames_PCHW: torch.Tensor) -> torch.Tensor:
        """Return `square_crops` at the model's input size."""
        return square_crops(frames_PCHW, self._side)

    def outputs(self, parts: Sequence[Part]) -> list[FrameFeatures]:
        import torch
        import torch.nn.functional as F

        crops = self.crops(self.frames(parts))
        with torch.no_grad():
            found = self._model.visual.forward_intermediates(
                normalized(crops, self._mean, self._std), indices=1, normalize_intermediates=True, output_fmt="NCHW"
            )
        images = F.normalize(found["image_features"], dim=-1).cpu()
        if not self.keeps_patches:
            return [FrameFeatures(image, None) for image in images]
        patches = found["image_intermediates"][-1].cpu()
        return [FrameFeatures(*features) for features in zip(images, patches, strict=True)]

    @functools.lru_cache(maxsize=64)  # noqa: B019 (networks live as long as the process)
    def text(self, text: str) -> torch.Tensor:
        """Embed a text with length 1, [D], on the CPU. The tokenizer truncates text beyond the model's context."""
        import torch

        with torch.no_grad():
            features: torch.Tensor = self._model.encode_text(self._tokenize([text]).to(self.device), normalize=True)
        return features[0].cpu()


def check_weights(weights: str) -> None:
    """Raise InputError if the weights are neither a hub name nor a folder in open_clip's format."""
    if weights.startswith(HUB_PREFIX):
        return
    if not (Path(weights) / "open_clip_config.json").is_file():
        raise InputError(f"weights: {weights!r} is neither a folder with an open_clip_config.json nor a hub: name")
    refuse_downloads(Path(weights), OpenClipScorer.hub_files, "weights")
    files = [file for ending in ("safetensors", "bin", "pth") for file in sorted(Path(weights).glob(f"*.{ending}"))]
    if not files:
        raise InputError(f"weights: {weights!r} has no open_clip_model.safetensors")
    refuse_fault(files[0])


class OpenClipScorer(NetworkScorer):
    """Base of scorers with an open_clip model, `self._clip`."""

    hub_files = ("open_clip_config.json", "open_clip_model.safetensors", "*token*", "vocab*", "merges.txt", "spiece*")

    class Options(NetworkScorer.Options):
        """Weights of the model."""

        weights: str
        """Folder with open_clip_config.json and open_clip_model.safetensors, or `hub:<org>/<name>@<commit>`."""

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, OpenClipScorer.Options)
        check_weights(options.weights)

    def __init__(self, options: Section, device: str) -> None:
        assert isinstance(options, OpenClipScorer.Options)
        self._clip: OpenClipFrames = OpenClipFrames.shared(options.weights, choose_device(device))
        self.backbone = self._clip
