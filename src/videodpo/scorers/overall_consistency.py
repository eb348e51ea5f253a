"""Overall consistency, as VBench defines it: how near ViCLIP's embeddings of clip and prompt are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of

if TYPE_CHECKING:
    import torch


class OverallConsistency(FileWeightsScorer):
    """Cosine of clip and prompt; can be negative.

    Eight frames, the middles of 8 equal intervals (of a shorter clip all, the last one repeated), resized in 8 bits; of
    the prompt the first 32 tokens. Weights: `ViClip-InternVid-10M-FLT.pth`. An empty prompt is refused.
    """

    version = "3"

    class Options(FileWeightsScorer.Options):
        """ViCLIP's weights."""

        weights: str = "public:ViClip-InternVid-10M-FLT.pth"
        """File, as its authors publish it or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.clip import load_viclip

        self._viclip = load_viclip(file_of(options), choose_device(device))
        self.backbone = self._viclip

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("overall_consistency needs a prompt, this one is empty")

    def value(self, clip: Clip, answers: Mapping[int, torch.Tensor]) -> float:
        return float(answers[0] @ self._viclip.text(clip.prompt))
