"""Base of the scorers on OpenAI's CLIP ViT-B/32."""

from __future__ import annotations

from typing import ClassVar

from videodpo.scorers.shared.file_weights import FileWeightsScorer


class ClipB32Scorer(FileWeightsScorer):
    """A scorer on CLIP ViT-B/32, with the weights `ViT-B-32.pt`."""

    architecture: ClassVar[str] = "ViT-B-32"

    class Options(FileWeightsScorer.Options):
        """Weights of CLIP ViT-B/32."""

        weights: str = "public:ViT-B-32.pt"
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""
