"""VideoReward's motion quality: steadiness, naturalness and amount of the motion (arXiv 2501.13918)."""

from __future__ import annotations

from videodpo.scorers.shared.videoreward import VideoRewardScorer


class VideoRewardMotionQuality(VideoRewardScorer):
    """The predicted human rating, about -3 to 3, 0 on the authors' average clip.

    Independent of the prompt, which follows after this answer.
    """

    version = "1"
    index, mean, std = 1, 1.1646, 1.3811
