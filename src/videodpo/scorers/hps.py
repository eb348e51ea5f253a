"""HPS v2.1: how much people would prefer the frames as pictures of the prompt (HPS v2, arXiv 2306.09341)."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.shared.prompt_frames import PromptFramesScorer


class Hps(FileWeightsScorer, PromptFramesScorer):
    """Mean over frames of the cosine of frame and prompt: about 0.2 to 0.35.

    A frame is scaled until its longer side is 224 and padded with black, never cropped; text beyond 77 tokens is cut.
    `num_frames` frames are looked at. Weights: `HPS_v2.1_compressed.pt`. An empty prompt is refused.
    """

    version = "1"

    class Options(FileWeightsScorer.Options, PromptFramesScorer.Options):
        """Weights, frames, and how they are scaled."""

        weights: str = "public:HPS_v2.1_compressed.pt"
        """File, as its authors publish it or safetensors; or `public:<file>`."""
        antialias: bool = True
        """As the package hpsv2 does with torchvision 0.17 or later; false: as before, when the network was trained."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.hps import load_hps

        assert isinstance(options, Hps.Options)
        self.num_frames = options.num_frames
        self.backbone = load_hps(file_of(options), choose_device(device), options.antialias)
