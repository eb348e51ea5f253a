"""GRiT's detector: a ViTDet trunk with a feature pyramid, CenterNet's proposals, and a cascade of box heads.

GRiT is arXiv 2212.00280; ViTDet is 2203.16527, CenterNet2 is 2103.07461. Boxes are (x0, y0, x1, y1) in pixels.

Legend: P frames, C channel, H, W pixels, h, w cells of a feature map; R boxes of all frames, 4 sides of a box, S side.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import box_area, clip_boxes_to_image, nms, roi_align
from transformers import VitDetBackbone, VitDetConfig

from videodpo.config.errors import InputError

STRIDES = (8, 16, 32, 64, 128)  # pixels per cell, of the pyramid's levels
MULTIPLE = 32  # sides of the frames
LEAST_HEAT, PER_LEVEL, SMALLEST_SIDE, PROPOSAL_OVERLAP = 1e-4, 1000, 0.01, 0.9
LEAST_SCORE, OVERLAP = 0.5, 0.5
MOST_BOXES = 256  # proposals of a frame, and boxes of a frame
STAGES = (10.0, 5.0), (20.0, 10.0), (30.0, 15.0)  # divisors of each stage's shifts and scales
LARGEST_SCALE = math.log(1000 / 16)


@dataclass(frozen=True)
class GritSizes:
    """Sizes of the networks; the defaults are those of GRiT-B."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    image_side: int = 1024
    """Pixels; decides the size of the trunk's tables of relative positions."""
    channels: int = 256
    box_width: int = 1024
    text_width: int = 768
    text_depth: int = 6
    text_heads: int = 12
    text_inner: int = 3072
    num_words: int = 30522
    num_positions: int = 1024


class FeaturePyramid(nn.Module):
    """Feature maps of five strides, from the ViTDet trunk's only one."""

    def __init__(self, sizes: GritSizes) -> None:
        super().__init__()
        width, channels = sizes.width, sizes.channels
        self.bottom_up = VitDetBackbone(
            VitDetConfig(
                hidden_size=width,
                num_hidden_layers=sizes.depth,
                num_attention_heads=sizes.heads,
                image_size=sizes.image_side,
                pretrain_image_size=224,
                window_size=14,
                window_block_indices=[block for block in range(sizes.depth) if block % 3 != 2],
                use_absolute_position_embeddings=True,
                use_relative_position_embeddings=True,
            )
        )
        self.fpn_stride_16_8 = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)
        self.levels = nn.ModuleDict({str(stride): _level(width, channels) for stride in STRIDES[:3]})
        self.top_block = nn.ModuleDict(
            {name: nn.Conv2d(channels, channels, 3, stride=2, padding=1) for name in ("p6", "p7")}
        )

    def forward(self, frames_PCHW: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps [P, C, h, w], finest first, of normalised frames whose sides are multiples of 32."""
        trunk = self.bottom_up(frames_PCHW).feature_maps[-1]
        inputs = self.fpn_stride_16_8(trunk), trunk, F.max_pool2d(trunk, 2)
        maps = [level(x) for level, x in zip(self.levels.values(), inputs, strict=True)]
        coarse = self.top_block["p6"](maps[-1])
        return [*maps, coarse, self.top_block["p7"](F.relu(coarse))]


class _ChannelNorm(nn.LayerNorm):
    """Layer norm of each cell's channels, of maps [P, C, h, w]."""

    def forward(self, maps_PChw: torch.Tensor) -> torch.Tensor:
        return super().forward(maps_PChw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _level(width: int, channels: int) -> nn.Sequential:
    layers = {
        "conv1": nn.Conv2d(width, channels, 1, bias=False),
        "norm1": _ChannelNorm(channels),
        "conv2": nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        "norm2": _ChannelNorm(channels),
    }
    return nn.Sequential(OrderedDict(layers))


class Proposals(nn.Module):
    """CenterNet's head: one proposal per cell of the pyramid, and the most likely of them per frame."""

    def __init__(self, sizes: GritSizes) -> None:
        super().__init__()
        channels = sizes.channels
        layers = [
            (nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(32, channels), nn.ReLU()) for _ in range(4)
        ]
        self.bbox_tower = nn.Sequential(*(layer for group in layers for layer in group))
        self.agn_hm = nn.Conv2d(channels, 1, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(nn.ParameterDict({"scale": torch.ones(1)}) for _ in STRIDES)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return boxes [R, 4] and scores [R] for each frame, best first; boxes may extend beyond the frame."""
        levels = [
            self._candidates(features, stride, scale)
            for features, stride, scale in zip(maps, STRIDES, self.scales, strict=True)
        ]
        refuse_not_finite(*(heat for _, heat in levels))
        found = []
        for frame in range(len(maps[0])):
            boxes_R4 = torch.cat([boxes[frame][_hottest(heat[frame])] for boxes, heat in levels])
            scores_R = torch.cat([heat[frame][_hottest(heat[frame])] for _, heat in levels]).sqrt()
            kept = nms(boxes_R4, scores_R, PROPOSAL_OVERLAP)[:MOST_BOXES]
            found.append((boxes_R4[kept], scores_R[kept]))
        return found

    def _candidates(self, features: torch.Tensor, stride: int, scale: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the box [P, h w, 4] and the heat [P, h w] of every cell."""
        tower = self.bbox_tower(features)
        reach = F.relu(self.bbox_pred(tower) * scale["scale"]) * stride  # left, top, right, bottom of the cell's centre
        height, width = features.shape[-2:]
        y, x = ((torch.arange(length, device=tower.device) + 0.5) * stride for length in (height, width))
        centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
        first = centres - reach[:, :2]
        last = torch.maximum(centres + reach[:, 2:], first + SMALLEST_SIDE)
        boxes_P4hw = torch.cat([first, last], dim=1)
        return boxes_P4hw.flatten(2).transpose(1, 2), self.agn_hm(tower).sigmoid().flatten(1)


def _hottest(heat: torch.Tensor) -> torch.Tensor:
    values, cells = heat.topk(min(PER_LEVEL, len(heat)))
    return cells[values > LEAST_HEAT]


class Cascade(nn.Module):
    """Three box heads, each of which refines the boxes of the one before."""

    def __init__(self, sizes: GritSizes) -> None:
        super().__init__()
        width = sizes.box_width
        self.box_head: Any = nn.ModuleList(
            nn.ModuleDict({"fc1": nn.Linear(sizes.channels * 7 * 7, width), "fc2": nn.Linear(width, width)})
            for _ in STAGES
        )
        self.box_predictor: Any = nn.ModuleList(
            nn.ModuleDict(
                {
                    "cls_score": nn.Linear(width, 2),
                    "bbox_pred": nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)),
                }
            )
            for _ in STAGES
        )

    def forward(
        self, maps: Sequence[torch.Tensor], boxes_R4: torch.Tensor, frame_R: torch.Tensor, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Refine the proposals of all frames.

        Args:
            maps: the pyramid.
            boxes_R4: proposals.
            frame_R: number of each proposal's frame.
            size: (height, width) of the frames before padding.

        Returns:
            Boxes [R, 4], which may extend beyond the frame, and the mean probability of an object over the stages [R].
        """
        probability_R = boxes_R4.new_zeros(len(boxes_R4))
        for head, predictor, divisors in zip(self.box_head, self.box_predictor, STAGES, strict=True):
            if divisors != STAGES[0]:
                boxes_R4 = clip_boxes_to_image(boxes_R4, size)
            features = pooled(maps, boxes_R4, frame_R, 7).flatten(1)
            features = F.relu(head["fc2"](F.relu(head["fc1"](features))))
            probability_R = probability_R + predictor["cls_score"](features).softmax(dim=1)[:, 0]
            boxes_R4 = _refined(boxes_R4, predictor["bbox_pred"](features), *divisors)
        return boxes_R4, probability_R / len(STAGES)


def _refined(boxes_R4: torch.Tensor, changes_R4: torch.Tensor, shift: float, scale: float) -> torch.Tensor:
    sides = boxes_R4[:, 2:] - boxes_R4[:, :2]
    centres = boxes_R4[:, :2] + 0.5 * sides + changes_R4[:, :2] / shift * sides
    half = 0.5 * (changes_R4[:, 2:] / scale).clamp(max=LARGEST_SCALE).exp() * sides
    return torch.cat([centres - half, centres + half], dim=1)


def pooled(maps: Sequence[torch.Tensor], boxes_R4: torch.Tensor, frame_R: torch.Tensor, side: int) -> torch.Tensor:
    """Return features [R, C, S, S] of the boxes, each from the level of the pyramid that suits its size."""
    level_R = torch.floor(4 + torch.log2(box_area(boxes_R4).sqrt() / 224 + 1e-8)).clamp(3, 5) - 3
    regions = torch.cat([frame_R[:, None].to(boxes_R4.dtype), boxes_R4], dim=1)
    found = boxes_R4.new_zeros(len(boxes_R4), maps[0].shape[1], side, side)
    for level, stride in enumerate(STRIDES[:3]):
        here = level_R == level
        found[here] = roi_align(maps[level], regions[here], side, 1 / stride, aligned=True)
    return found


class Detector(nn.Module):
    """Pyramid, proposals and cascade."""

    def __init__(self, sizes: GritSizes) -> None:
        super().__init__()
        self.backbone, self.proposals, self.cascade = FeaturePyramid(sizes), Proposals(sizes), Cascade(sizes)

    def forward(self, frames_PCHW: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Detect objects in frames of one size.

        Args:
            frames_PCHW: normalised frames.

        Returns:
            The pyramid's maps; boxes [R, 4] within the frame, by frame and then best first; the number of each box's
            frame [R].
        """
        height, width = frames_PCHW.shape[-2:]
        maps = self.backbone(F.pad(frames_PCHW, (0, -width % MULTIPLE, 0, -height % MULTIPLE)))
        proposals = self.proposals(maps)
        boxes_R4, heat_R = (torch.cat(parts) for parts in zip(*proposals, strict=True))
        counts = torch.tensor([len(scores) for _, scores in proposals])
        frame_R = torch.arange(len(proposals)).repeat_interleave(counts).to(boxes_R4.device)
        boxes_R4, probability_R = self.cascade(maps, boxes_R4, frame_R, (height, width))
        scores_R = (probability_R * heat_R).sqrt()
        refuse_not_finite(boxes_R4, scores_R)
        kept = torch.cat(
            [chosen(boxes_R4, scores_R, frame_R == frame, (height, width)) for frame in range(len(proposals))]
        )
        return maps, clip_boxes_to_image(boxes_R4[kept], (height, width)), frame_R[kept]


def refuse_not_finite(*outputs: torch.Tensor) -> None:
    """Raise InputError if a network's output has NaN or infinity, which would read as a frame without objects."""
    if not all(output.isfinite().all() for output in outputs):
        raise InputError("GRiT's output is not finite")


def chosen(boxes_R4: torch.Tensor, scores_R: torch.Tensor, here_R: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the numbers of a frame's final boxes, best first; `here_R` marks the boxes of the frame."""
    boxes_R4 = clip_boxes_to_image(boxes_R4, size)
    good = (here_R & (scores_R > LEAST_SCORE)).nonzero()[:, 0]
    kept = good[nms(boxes_R4[good], scores_R[good], OVERLAP)[:MOST_BOXES]]
    return kept[box_area(boxes_R4[kept]) > 0]
