"""Agreement of clip and prompt by an open_clip model. VBench uses ViCLIP, which sees all frames at once."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.scorers.shared.open_clip_frames import FrameFeatures, OpenClipScorer


class OverallConsistencyClip(OpenClipScorer):
    """Cosine between the prompt's embedding and the normalised mean embedding of 8 frames; -1..1.

    The frames are the middles of 8 equal intervals. A shorter clip uses all frames, the last one repeated. The model
    sees single frames, so it sees no motion. Text beyond the model's context is truncated. An empty prompt is refused.
    """

    version = "2"

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("overall_consistency_clip needs a prompt; the clip's prompt is empty")

    def value(self, clip: Clip, outputs: Mapping[int, FrameFeatures]) -> float:
        import torch

        frames = middle_frames(len(clip.frames_THWC))
        video_D = torch.stack([outputs[number].image_D for number in frames]).mean(dim=0)
        return float((video_D / video_D.norm()).double() @ self._clip.text(clip.prompt).double())
