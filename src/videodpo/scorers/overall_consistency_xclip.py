"""Agreement of a clip with its prompt by X-CLIP, in the place of overall_consistency's ViCLIP."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer, folder_of, refuse_folder


class OverallConsistencyXclip(FolderWeightsScorer):
    """Cosine of clip and prompt as X-CLIP embeds them (arXiv 2208.02816); -1..1.

    As many frames as the model takes (microsoft/xclip-base-patch32: 8), the middles of equal intervals, of a shorter
    clip all, the last one repeated; prepared by the folder's own processor. What the model makes of the prompt depends
    on the clip, so it sees both together. Text beyond 77 tokens is cut. An empty prompt is refused.
    """

    version = "1"

    @staticmethod
    def check(options: Section) -> None:
        refuse_folder(options, "xclip")

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.xclip import load_xclip

        self.backbone = load_xclip(folder_of(options, "xclip"), choose_device(device))

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("overall_consistency_xclip needs a prompt, this one is empty")

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return answers[0]
