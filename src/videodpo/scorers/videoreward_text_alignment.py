"""VideoReward's text alignment: agreement of clip and prompt (arXiv 2501.13918)."""

from __future__ import annotations

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.videoreward import VideoRewardScorer


class VideoRewardTextAlignment(VideoRewardScorer):
    """The predicted human rating, about -3 to 3, 0 on the authors' average clip. An empty prompt is refused."""

    version = "1"
    index, mean, std = 2, 2.8105, 2.5121

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("videoreward_text_alignment needs a prompt, this one is empty")
