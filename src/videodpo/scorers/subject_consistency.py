"""Subject consistency, as VBench defines it: similarity of all frames' DINO class tokens."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.consistency import ConsistencyScorer
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of


class SubjectConsistency(ConsistencyScorer, FileWeightsScorer):
    """Mean over frames i >= 1 of the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)); 0..1.

    Frames are not cropped. Weights: `dino_vitbase16_pretrain.pth`. A one-frame clip is refused.
    """

    version = "3"

    class Options(FileWeightsScorer.Options):
        """Weights of DINO ViT-B/16."""

        weights: str = "public:dino_vitbase16_pretrain.pth"
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.dino import DinoFrames

        self.backbone = DinoFrames.shared(file_of(options), choose_device(device))
