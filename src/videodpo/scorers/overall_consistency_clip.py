"""Agreement of a clip with its prompt by an open_clip model. VBench asks ViCLIP, which looks at all frames at once."""

from __future__ import annotations

import numpy as np

from videodpo.scorers.base import Clip
from videodpo.scorers.open_clip_backbone import OpenClipScorer

NUM_FRAMES = 8


class OverallConsistencyClip(OpenClipScorer):
    """Cosine of the prompt's embedding and the normalised mean embedding of 8 frames; -1..1.

    The frames are the middles of 8 equal intervals; of a shorter clip all frames, the last one repeated. A
    frame model sees no motion, only what each frame shows. Text beyond the model's context is cut.
    """

    version = "1"

    def score(self, clip: Clip) -> float:
        """Raises ValueError for an empty prompt."""
        if not clip.prompt.strip():
            raise ValueError("overall_consistency_clip needs a prompt")
        frames = clip.frames_THWC[middle_frames(len(clip.frames_THWC))]
        video_D = self._clip.image_features(self._clip.crops(frames)).mean(dim=0)
        return float((video_D / video_D.norm()).double() @ self._clip.text_features(clip.prompt).double())


def middle_frames(num_frames: int) -> np.ndarray:
    """Indices [8] of the frames that stand for a clip."""
    if num_frames < NUM_FRAMES:
        return np.minimum(np.arange(NUM_FRAMES), num_frames - 1)
    edges = np.linspace(0, num_frames, NUM_FRAMES + 1).astype(int)
    return np.asarray((edges[:-1] + edges[1:] - 1) // 2)
