"""Share of a demo-world caption that its clip shows, by an independent classifier trained only for this purpose."""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.demo_world.captions import parse_caption
from videodpo.demo_world.render import NUM_FRAMES, SIZE
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.file_weights import FileWeights, file_of


class CaptionAccuracy(FileWeights):
    """Share of the attributes named in the caption that the judge sees in the clip; 0..1.

    One object has four attributes (shape, color, motion, background), two have six (other_shape, other_color). The
    network shares nothing with CLIP. Clips are resized to 9 frames of 32 x 32 first. Weights: safetensors of
    `videodpo.demo_world.judge_network.JudgeNetwork`, for example demo/judge/judge.safetensors.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from safetensors.torch import load_file

        from videodpo.demo_world.judge_network import JudgeNetwork

        path = file_of(options)
        self._device = choose_device(device)
        self._network = JudgeNetwork()
        stored = load_file(path)  # half precision on disk
        self._network.load_state_dict({name: value.float() for name, value in stored.items()})
        self._network.eval().requires_grad_(False).to(self._device)

    def score(self, clip: Clip) -> float:
        """Score a clip; raise InputError if its prompt is not a caption of the demo world."""
        scene = parse_caption(clip.prompt)
        if scene is None:
            raise InputError(f"caption_accuracy: {clip.prompt[:80]!r} is not a caption of the demo world")
        seen = self.look(clip.frames_THWC)
        right = [seen[name] == getattr(scene, name) for name in seen if getattr(scene, name) is not None]
        return float(np.mean(right))

    def look(self, frames_THWC: np.ndarray) -> dict[str, str]:
        """Return the judge's value of each attribute; `none` if it sees no second object."""
        import torch

        from videodpo.demo_world.judge_network import ANSWERS

        clip_CTHW = torch.from_numpy(_standard(frames_THWC)).permute(3, 0, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            logits = self._network(clip_CTHW[None].to(self._device))
        return {name: ANSWERS[name][int(row[0].argmax())] for name, row in logits.items()}


def _standard(frames_THWC: np.ndarray) -> np.ndarray:
    """Take the nearest frames in time, and resize each by area."""
    import cv2

    frames: np.ndarray = frames_THWC[np.rint(np.linspace(0, len(frames_THWC) - 1, NUM_FRAMES)).astype(int)]
    if frames.shape[1:3] == (SIZE, SIZE):
        return frames
    return np.stack([cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for frame in frames])
