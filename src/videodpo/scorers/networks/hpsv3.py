"""HPSv3: a reward model on Qwen2-VL-7B that predicts how much people would prefer a frame as an image of the prompt.

Legend: P frames, C channel, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from videodpo.scorers.base import Clip
from videodpo.scorers.networks.qwen2_vl import MAX_PIXELS, RewardModel, target_size
from videodpo.scorers.shared.backbone import FrameBackbone, Part
from videodpo.scorers.shared.middle_frames import distinct_frames
from videodpo.scorers.shared.reward_model import RewardFiles
from videodpo.scorers.shared.reward_text import HPSV3


class Hpsv3Frames(FrameBackbone):
    """Answers about some frames of a clip: (mean, log of the standard deviation) of the predicted preference."""

    def __init__(self, files: RewardFiles, device: str, dtype: str, num_frames: int | None, prompt: str | None) -> None:
        """Load the model.

        Args:
            files: checkpoint, folder of Qwen2-VL, and text.
            device: name of the torch device.
            dtype: torch's name of the data type.
            num_frames: number of frames as for `distinct_frames`.
            prompt: text in place of the clips' prompts; None is the clip's own.
        """
        super().__init__(device, frames_per_batch=1)
        self._model: Hpsv3Model = Hpsv3Model.shared(files.checkpoint, files.base, device, dtype)
        self._text, self._num_frames, self._prompt = files.text, num_frames, prompt

    def num_parts(self, clip: Clip) -> int:
        return len(self._numbers(clip))

    def refuse(self, clip: Clip) -> None:
        self._model.refuse(self._asked(clip))

    def outputs(self, parts: Sequence[Part]) -> list[tuple[float, float]]:
        frames = [resized(clip.frames_THWC[self._numbers(clip)[part]]) for clip, part in parts]
        found_PKO = self._model.answers(self._text, [self._asked(clip) for clip, _ in parts], frames)
        return [(mean, log_sigma) for ((mean, log_sigma),) in found_PKO.tolist()]

    def _numbers(self, clip: Clip) -> list[int]:
        return distinct_frames(len(clip.frames_THWC), self._num_frames)

    def _asked(self, clip: Clip) -> str:
        return clip.prompt if self._prompt is None else self._prompt


class Hpsv3Model(RewardModel):
    """The network, whose checkpoint holds all of Qwen2-VL-7B and the head."""

    text = HPSV3

    def head(self, width: int) -> torch.nn.Module:
        # The dropout does nothing here, but the published names count it.
        return torch.nn.Sequential(
            torch.nn.Linear(width, 1024),
            torch.nn.ReLU(),
            torch.nn.Dropout(),
            torch.nn.Linear(1024, 16),
            torch.nn.ReLU(),
            torch.nn.Linear(16, 2),
        )


def resized(frame_HWC: np.ndarray) -> torch.Tensor:
    """Resize a uint8 frame to about 448 x 448 pixels in its own aspect ratio, [1, C, H, W], on the CPU."""
    height, width = target_size(frame_HWC.shape[0], frame_HWC.shape[1], min_pixels=MAX_PIXELS)
    # PIL's resize and not torchvision's: they differ by up to 12 of 255.
    image = Image.fromarray(frame_HWC).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
