"""VideoReward's visual quality: sharpness, detail, plausibility and aesthetics of the frames (arXiv 2501.13918)."""

from __future__ import annotations

from videodpo.scorers.shared.videoreward import VideoRewardScorer


class VideoRewardVisualQuality(VideoRewardScorer):
    """The predicted human rating, about -3 to 3, 0 on the authors' average clip.

    Independent of the prompt, which follows after this answer.
    """

    version = "1"
    index, mean, std = 0, 3.6757, 2.2476
