"""Overall consistency, as VBench defines it: similarity of ViCLIP's embeddings of clip and prompt."""

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
    """Cosine between clip and prompt; can be negative.

    ViCLIP sees 8 frames, the middles of 8 equal intervals, resized in 8 bits. A shorter clip uses all frames, the last
    one repeated. The prompt is truncated to 32 tokens. Weights: `ViClip-InternVid-10M-FLT.pth`. An empty prompt is
    refused.
    """

    version = "3"

    class Options(FileWeightsScorer.Options):
        """Weights of ViCLIP."""

        weights: str = "public:ViClip-InternVid-10M-FLT.pth"
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.clip import ViClip

        self._viclip = ViClip.shared(file_of(options), choose_device(device))
        self.backbone = self._viclip

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("ViCLIP needs a prompt; the clip's prompt is empty")

    def value(self, clip: Clip, outputs: Mapping[int, torch.Tensor]) -> float:
        return float(outputs[0] @ self._viclip.text(clip.prompt))
