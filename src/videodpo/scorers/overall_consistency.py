"""Overall consistency, as VBench defines it: how near ViCLIP's embeddings of clip and prompt are."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.open_clip_backbone import square_crops
from videodpo.scorers.overall_consistency_clip import middle_frames


class OverallConsistency(FileWeightsScorer):
    """Cosine of clip and prompt; can be negative.

    Eight frames, the middles of 8 equal intervals (of a shorter clip all, the last one repeated), resized in 8 bits; of
    the prompt the first 32 tokens. Weights: `ViClip-InternVid-10M-FLT.pth`.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.clip import ViClip

        self._viclip = ViClip(file_of(options), choose_device(device))

    def score(self, clip: Clip) -> float:
        """Raises ValueError for an empty prompt."""
        from videodpo.scorers.networks.clip import SIDE

        if not clip.prompt.strip():
            raise ValueError("overall_consistency needs a prompt, this one is empty")
        frames = clip.frames_THWC[middle_frames(len(clip.frames_THWC))]
        return float(self._viclip.video(square_crops(frames, SIDE, rounded=True)) @ self._viclip.text(clip.prompt))
