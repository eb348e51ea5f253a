"""PickScore: predicted human preference for the frames as images of the prompt (Pick-a-Pic, arXiv 2305.01569)."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.folder_weights import FolderWeightsScorer
from videodpo.scorers.shared.prompt_frames import PromptFramesScorer


class PickScore(FolderWeightsScorer, PromptFramesScorer):
    """Mean over `num_frames` frames of the logit scale (100) times the cosine between frame and prompt: about 16 to 26.

    The folder's own CLIPProcessor prepares frames and prompt. Frames are resized to a shorter edge of 224, bicubic with
    antialias in 8 bits, then cropped at the centre. Text beyond 77 tokens is truncated. Weights: the folder of
    PickScore_v1, together with the processor and tokenizer files that its card names (those of
    laion/CLIP-ViT-H-14-laion2B-s32B-b79K). An empty prompt is refused.
    """

    version = "1"
    model_type = "clip"

    class Options(FolderWeightsScorer.Options, PromptFramesScorer.Options):
        """Weights and number of frames."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.pickscore import PickScoreFrames

        assert isinstance(options, PickScore.Options)
        self.backbone = PickScoreFrames.shared(self.folder(options), choose_device(device), options.num_frames)
