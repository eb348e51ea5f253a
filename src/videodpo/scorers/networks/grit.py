"""GRiT-B, which finds the objects in a frame and describes each, with the authors' published weights.

Legend: P frames, C channel, H, W pixels; R boxes of all frames, 4 sides of a box.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
import torchvision.transforms.functional as tvf
from accelerate import init_empty_weights
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.bert_vocabulary import bert_tokenizer
from videodpo.scorers.networks.grit_detector import Detector, GritSizes, pooled
from videodpo.scorers.networks.grit_text import CAPTION, CELLS_PER_SIDE, NAME, Memory, TextDecoder
from videodpo.scorers.shared.backbone import FrameBackbone, Part, Shared
from videodpo.scorers.shared.crops import normalized
from videodpo.scorers.shared.grit import CAPTIONS_ASKED, NAMES_ASKED, Detection
from videodpo.weights.checkpoints import fitting_tensors, read_checkpoint

MEAN, STD = ([255 * value for value in values] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
# Pixels. Frames with a shorter side above the first are resized to the second.
LARGEST_SHORTER_SIDE, RESIZED_SHORTER_SIDE = 768, 720
_ATTENTION = 2**30  # bytes of the trunk's attention in a batch on a GPU
_RENAMED = (
    (r"^backbone\.fpn_stride(\d+)_", r"backbone.levels.\1."),
    (r"\.patch_embed\.proj\.", ".embeddings.projection."),
    (r"\.pos_embed$", ".embeddings.position_embeddings"),
    (r"\.blocks\.(\d+)\.", r".encoder.layer.\1."),
    (r"\.attn\.", ".attention."),
    (r"^proposal_generator\.centernet_head\.", "proposals."),
    (r"^roi_heads\.text_decoder\.textual\.", "decoder."),
    (r"^decoder\.transformer\.encoder\.layer\.", "decoder.layers."),
    (r"^roi_heads\.", "cascade."),
)


class GritNetwork(Detector):
    """The detector with the text decoder."""

    def __init__(self, sizes: GritSizes) -> None:
        super().__init__(sizes)
        self.decoder = TextDecoder(sizes)


class Grit(Shared):
    """Network and vocabulary, on a device."""

    sizes: ClassVar[GritSizes] = GritSizes()

    def __init__(self, weights: Path, vocabulary: Path, device: str) -> None:
        """Load the network.

        Args:
            weights: `grit_b_densecap_objectdet.pth`. Its mask head is not read.
            vocabulary: `vocab.txt` of BERT-uncased, one word per line.
            device: name of the torch device.

        Raises:
            InputError: the tensors or the number of words are not those of GRiT-B.
        """
        tensors = {
            _own_name(name): value.float()
            for name, value in read_checkpoint(weights).items()
            if not name.startswith("roi_heads.mask_head.")
        }
        with init_empty_weights():
            self.network = GritNetwork(self.sizes)
        self.network.load_state_dict(fitting_tensors(self.network, tensors, weights), assign=True)
        self.network.eval().requires_grad_(False).to(device)
        self._tokenizer = bert_tokenizer(vocabulary)
        if len(self._tokenizer) != self.sizes.num_words:
            raise InputError(
                f"weights: {vocabulary}: it has {len(self._tokenizer)} words, GRiT was trained with the "
                f"{self.sizes.num_words} of BERT-uncased"
            )
        self._boxes_per_batch = 32 if device == "cpu" else 256  # 9 MB each

    @torch.no_grad()
    def found(self, frames_PCHW: torch.Tensor, *, captions: bool) -> list[list[Detection]]:
        """Return the objects in each frame, best first.

        Args:
            frames_PCHW: RGB frames in 0..255, on the device.
            captions: False leaves the captions empty.
        """
        maps, boxes_R4, frame_R = self.network(normalized(frames_PCHW, MEAN, STD))
        objects: list[list[Detection]] = [[] for _ in frames_PCHW]
        for boxes, frames in zip(*(x.split(self._boxes_per_batch) for x in (boxes_R4, frame_R)), strict=True):
            memory = self.network.decoder.memory(pooled(maps, boxes, frames, CELLS_PER_SIDE))
            names = self._texts(memory, NAME)
            described = self._texts(memory, CAPTION) if captions else [""] * len(boxes)
            for frame, box, name, caption in zip(frames.tolist(), boxes.tolist(), names, described, strict=True):
                x0, y0, x1, y1 = map(int, box)
                objects[frame].append(Detection((x0, y0, x1, y1), name, caption))
        return objects

    def _texts(self, memory: Memory, first: int) -> list[str]:
        return [
            self._tokenizer.decode(tokens[1:], skip_special_tokens=True, clean_up_tokenization_spaces=True)
            for tokens in self.network.decoder.texts(memory, first).tolist()
        ]


def _own_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


class GritFrames(FrameBackbone):
    """The objects in each frame: their names, and with `captions` also what a caption says of them.

    A clip that nothing is asked about is refused, so that clips of other dimensions cost nothing. VBench asks for the
    names in some clips and for the captions in others, so the two kinds share the network but no pass.
    """

    def __init__(self, weights: Path, vocabulary: Path, device: str, captions: bool) -> None:
        super().__init__(device, frames_per_batch=1)
        self._grit: Grit = Grit.shared(weights, vocabulary, device)
        self._captions = captions

    def batch_size(self, height: int, width: int) -> int:
        rows, columns = (-(-side // 16) for side in seen_size(height, width))
        attention = 4 * self._grit.sizes.heads * (rows * columns) ** 2  # bytes
        return max(1, min(super().batch_size(height, width), _ATTENTION // attention))

    def refuse(self, clip: Clip) -> None:
        if not any(key in clip.info for key in (CAPTIONS_ASKED if self._captions else NAMES_ASKED)):
            raise InputError("the clip's info asks for nothing that GRiT finds")

    def outputs(self, parts: Sequence[Part]) -> list[list[Detection]]:
        return self._grit.found(self.seen(parts), captions=self._captions)

    def seen(self, parts: Sequence[Part]) -> torch.Tensor:
        """Return the frames that the network sees, RGB in 0..255, [P, 3, H, W] on the device.

        As in VBench, large frames are resized as floats with antialias for the names, and in 8 bits without for the
        captions.
        """
        height, width = parts[0][0].frames_THWC.shape[1:3]
        if (size := seen_size(height, width)) == (height, width):
            return self.frames(parts).float()
        if not self._captions:
            resized: torch.Tensor = tvf.resize(self.frames(parts).float(), list(size), antialias=True)
            return resized
        frames = [cv2.resize(clip.frames_THWC[number], size[::-1]) for clip, number in parts]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).to(self.device).float()


def seen_size(height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) to which frames are resized."""
    if min(height, width) <= LARGEST_SHORTER_SIDE:
        return height, width
    scale = RESIZED_SHORTER_SIDE / min(height, width)
    return int(scale * height), int(scale * width)
