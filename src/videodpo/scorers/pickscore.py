"""PickScore: how much people would prefer the frames as pictures of the prompt (Pick-a-Pic, arXiv 2305.01569)."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer, folder_of, refuse_folder
from videodpo.scorers.shared.prompt_frames import PromptFramesScorer


class PickScore(FolderWeightsScorer, PromptFramesScorer):
    """Mean over frames of the logit scale (100) times the cosine of frame and prompt: about 16 to 26.

    Frames and prompt go through the folder's own CLIPProcessor: shorter edge to 224 by bicubic with antialias in 8
    bits, centre crop; text beyond 77 tokens is cut. `num_frames` frames are looked at. Weights: the folder of
    PickScore_v1, and in the same folder the processor's and tokenizer's files that its card names (those of
    laion/CLIP-ViT-H-14-laion2B-s32B-b79K). An empty prompt is refused.
    """

    version = "1"

    class Options(FolderWeightsScorer.Options, PromptFramesScorer.Options):
        """Weights and frames."""

    @staticmethod
    def check(options: Section) -> None:
        refuse_folder(options, "clip")

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.pickscore import load_pickscore

        assert isinstance(options, PickScore.Options)
        self.num_frames = options.num_frames
        self.backbone = load_pickscore(folder_of(options, "clip"), choose_device(device))
