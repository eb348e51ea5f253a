"""Aesthetic quality, as VBench defines it: LAION's linear head on CLIP ViT-L/14, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import check_file
from videodpo.weights.locations import resolve

if TYPE_CHECKING:
    import torch


class AestheticQuality(NetworkScorer):
    """Mean over frames of the head's output divided by 10: about 0..1, not clipped.

    Weights: OpenAI's `ViT-L-14.pt` and LAION's `sa_0_4_vit_l_14_linear.pth`.
    """

    version = "3"
    architecture: ClassVar[str] = "ViT-L-14"

    class Options(NetworkScorer.Options):
        """Weights of the networks."""

        weights: list[str] = Field(
            ["public:ViT-L-14.pt", "public:sa_0_4_vit_l_14_linear.pth"], min_length=2, max_length=2
        )
        """Two files, CLIP's and then the head's; each a path or `public:<file>`."""

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, AestheticQuality.Options)
        for location in options.weights:
            check_file(location)

    def __init__(self, options: Section, device: str) -> None:
        import torch

        from videodpo.scorers.networks.clip import ClipFrames
        from videodpo.weights.checkpoints import load_weights, read_checkpoint

        assert isinstance(options, AestheticQuality.Options)
        self.check(options)
        clip, head = map(resolve, options.weights)
        self.backbone = ClipFrames.shared(self.architecture, clip, choose_device(device))
        self._head = torch.nn.Linear(768, 1)
        load_weights(self._head, read_checkpoint(head), head)

    def value(self, clip: Clip, outputs: Mapping[int, torch.Tensor]) -> float:
        import torch

        features_TD = torch.stack([outputs[number] for number in range(len(clip.frames_THWC))])
        return float(self._head(features_TD).double().mean() / 10)
