"""Agreement of clip and prompt by X-CLIP, instead of overall_consistency's ViCLIP."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer


class OverallConsistencyXclip(FolderWeightsScorer):
    """Cosine between X-CLIP's embeddings of clip and prompt (arXiv 2208.02816); -1..1.

    The model sees its own number of frames (8 for microsoft/xclip-base-patch32), the middles of equal intervals,
    preprocessed by the folder's own processor. A shorter clip uses all frames, the last one repeated. The embedding of
    the prompt depends on the clip, so the model sees both together. Text beyond 77 tokens is truncated. An empty prompt
    is refused.
    """

    version = "1"
    model_type = "xclip"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.xclip import XClip

        self.backbone = XClip.shared(self.folder(options), choose_device(device))

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("overall_consistency_xclip needs a prompt; the clip's prompt is empty")

    def value(self, clip: Clip, outputs: Mapping[int, float]) -> float:
        return outputs[0]
