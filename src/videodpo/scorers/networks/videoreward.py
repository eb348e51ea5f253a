"""VideoReward: a reward model on Qwen2-VL-2B that rates visual quality, motion quality and text alignment at once.

Legend: P clips, T frames, C channel, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision.transforms.functional as tvf

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.qwen2_vl import RewardModel, target_size
from videodpo.scorers.shared.backbone import ClipBackbone, Part
from videodpo.scorers.shared.reward_model import RewardFiles
from videodpo.scorers.shared.reward_text import VIDEOREWARD

RATE = 2.0  # frames per second; with another rate, the numbers are not comparable with the authors'
MIN_FRAMES, MAX_FRAMES = 4, 768
MIN_PIXELS = 128 * 28 * 28
LORA_SCALE = 2.0  # alpha 128 over rank 64
_WRAPPER = "base_model.model."  # added by peft


class VideoRewardClips(ClipBackbone):
    """Answers about a clip and its prompt: (visual quality, motion quality, text alignment), as the head gives them."""

    def __init__(self, files: RewardFiles, device: str, dtype: str) -> None:
        super().__init__(device, clips_per_batch=8)
        self._model: VideoRewardModel = VideoRewardModel.shared(files.checkpoint, files.base, device, dtype)
        self._text = files.text

    def refuse(self, clip: Clip) -> None:
        if not clip.fps:
            raise InputError("VideoReward needs a frame rate; the file has none")
        self._model.refuse(clip.prompt)

    def outputs(self, parts: Sequence[Part]) -> list[tuple[float, ...]]:
        frames = [sampled_frames(clip) for clip, _ in parts]
        found_PKO = self._model.answers(self._text, [clip.prompt for clip, _ in parts], frames)
        return [tuple(one) for one in found_PKO.squeeze(-1).tolist()]


class VideoRewardModel(RewardModel):
    """The network, whose checkpoint holds Qwen2-VL-2B, its LoRA and the head under the names of peft."""

    text = VIDEOREWARD

    def head(self, width: int) -> torch.nn.Module:
        return torch.nn.Linear(width, 1, bias=False)

    def tensors(self, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return merged({name.removeprefix(_WRAPPER): value for name, value in found.items()})


def merged(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Merge each LoRA into its layer, W + 2 B A in float32, and give the layer its own name.

    Names of an incomplete LoRA are kept, so that the network refuses them.
    """
    found = dict(tensors)
    for layer in [name.removesuffix(".base_layer.weight") for name in tensors if name.endswith(".base_layer.weight")]:
        names = [f"{layer}.{part}.weight" for part in ("base_layer", "lora_A.default", "lora_B.default")]
        if all(name in found for name in names):
            weight, down, up = (found.pop(name) for name in names)
            found[f"{layer}.weight"] = weight.float() + LORA_SCALE * (up.float() @ down.float())
        if (bias := f"{layer}.base_layer.bias") in found:
            found[f"{layer}.bias"] = found.pop(bias)
    return found


def sampled_frames(clip: Clip) -> torch.Tensor:
    """Return resized uint8 frames [T, C, H, W] at 2 per second, from the first frame to the last, on the CPU."""
    frames_THWC = clip.frames_THWC[frame_numbers(len(clip.frames_THWC), clip.fps)]
    height, width = frames_THWC.shape[1:3]
    size = target_size(height, width, MIN_PIXELS)
    frames_TCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)
    # torchvision's resize and not PIL's: they differ by up to 12 of 255.
    resized: torch.Tensor = tvf.resize(frames_TCHW, list(size), tvf.InterpolationMode.BICUBIC, antialias=True)
    return resized


def frame_numbers(total: int, fps: float) -> list[int]:
    """Return the numbers of the sampled frames: an even count, from 4 to 768, of a shorter clip as many as it has."""
    most = min(MAX_FRAMES, total) // 2 * 2
    count = 2 * round(min(max(total / fps * RATE, MIN_FRAMES), most) / 2)
    numbers: list[int] = torch.linspace(0, total - 1, max(1, count)).round().long().tolist()
    return numbers
