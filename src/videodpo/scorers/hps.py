"""HPS v2.1: predicted human preference for the frames as images of the prompt (HPS v2, arXiv 2306.09341)."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.shared.prompt_frames import PromptFramesScorer


class Hps(FileWeightsScorer, PromptFramesScorer):
    """Mean over `num_frames` frames of the cosine between frame and prompt: about 0.2 to 0.35.

    Frames are scaled to a longer side of 224 and padded with black, never cropped. Text beyond 77 tokens is truncated.
    Weights: `HPS_v2.1_compressed.pt`. An empty prompt is refused.
    """

    version = "1"

    class Options(FileWeightsScorer.Options, PromptFramesScorer.Options):
        """Weights, number of frames, and scaling."""

        weights: str = "public:HPS_v2.1_compressed.pt"
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""
        antialias: bool = True
        """True matches the package hpsv2 with torchvision 0.17 or later; false matches the network's training."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.hps import HpsFrames

        assert isinstance(options, Hps.Options)
        self.backbone = HpsFrames.shared(file_of(options), choose_device(device), options.num_frames, options.antialias)
