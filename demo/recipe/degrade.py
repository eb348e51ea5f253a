"""Degrades clean clips as a generator, a codec or a resize would, so that the judge is accurate on such clips too.

Legend: B batch, C channel, T frame, H height, W width; clips are float32 [B, 3, T, H, W] in [0, 255].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

# RGB to luma and two colour differences (BT.601), rows are Y, Cb, Cr.
_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


def degrade(clips_BCTHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Apply each degradation with random strength to about half of the clips."""

    def strength(largest: float, share: float = 0.5) -> torch.Tensor:
        on = torch.rand(len(clips_BCTHW), generator=generator) < share
        return (on * torch.rand(len(clips_BCTHW), generator=generator) * largest).view(-1, 1, 1, 1, 1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(len(clips_BCTHW), *shape, generator=generator)

    clips = clips_BCTHW
    _, _, frames, height, width = clips.shape
    ghosts = (clips.roll(1, 2) + clips.roll(-1, 2)) / 2
    ghosts[:, :, 0], ghosts[:, :, -1] = clips[:, :, 1], clips[:, :, -2]
    clips = torch.lerp(clips, ghosts, strength(0.3))
    scale = 0.55 + 0.4 * torch.rand((), generator=generator).item()
    clips = torch.lerp(clips, _down_up(clips, scale), strength(1.0))
    clips = torch.lerp(clips, F.avg_pool3d(clips, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False), strength(0.7))
    clips = (clips - 110) * (1 + 0.12 * noise(3, 1, 1, 1).clamp(-2, 2)) + 110 + 6 * noise(3, 1, 1, 1)
    blotches = F.interpolate(
        noise(3, frames, height // 4 * width // 4).view(-1, 3 * frames, height // 4, width // 4),
        (height, width),
        mode="bilinear",
    )
    clips = clips + strength(14) * blotches.view_as(clips) + strength(16) * noise(*clips.shape[1:])
    clips = torch.lerp(
        clips, _codec(clips, 4 + 20 * torch.rand((), generator=generator).item()), (strength(1.0) > 0).float()
    )
    return clips.round().clamp(0, 255)


def _down_up(clips: torch.Tensor, scale: float) -> torch.Tensor:
    """Resize bilinearly to a smaller size and back."""
    flat = clips.flatten(1, 2)
    small = F.interpolate(flat, scale_factor=scale, mode="bilinear", antialias=True)
    return F.interpolate(small, flat.shape[-2:], mode="bilinear").view_as(clips)


def _codec(clips: torch.Tensor, step: float) -> torch.Tensor:
    """Imitate H.264 on each frame: halved colour planes, 4 x 4 cosine blocks rounded to multiples of `step`."""
    planes = torch.einsum("yc,bcthw->bythw", _YCC, clips)
    colour = planes[:, 1:].flatten(1, 2)
    planes[:, 1:] = F.interpolate(F.avg_pool2d(colour, 2), scale_factor=2.0).view_as(planes[:, 1:])
    k = torch.arange(4)
    basis = torch.cos(math.pi * (k + 0.5) * k[:, None] / 4) * math.sqrt(0.5)
    basis[0] *= math.sqrt(0.5)
    blocks = planes.unflatten(4, (-1, 4)).unflatten(3, (-1, 4))
    blocks = torch.einsum("ki,bcthiwj,lj->bcthkwl", basis, blocks, basis)
    blocks = (blocks / step).round() * step
    planes = torch.einsum("ki,bcthkwl,lj->bcthiwj", basis, blocks, basis).flatten(5, 6).flatten(3, 4)
    return torch.einsum("cy,bythw->bcthw", torch.linalg.inv(_YCC), planes)
