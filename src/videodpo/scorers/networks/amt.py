"""AMT-S, which interpolates the frame between two frames (Li et al. 2023, arXiv 2304.09790).

Written from the paper, with the keys of the published checkpoint. At each of three scales, the all-pairs correlation of
both directions is looked up along the flows. Flows and a feature of the middle frame are refined together. Finally,
three flow pairs are merged into one image.

Legend: B pairs of frames, C channel, H, W pixels; h, w at an eighth of the size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from videodpo.runtime.compat.torchvision import make_coords_grid
from videodpo.scorers.networks.all_pairs import LEVELS, CorrelationPyramid

RADIUS, NUM_FLOWS = 3, 3
_SIDE_CHANNELS = 20  # channels of a residual block that have separate convolutions
_MIDDLE = 0.5  # time of the interpolated frame


class AmtS(nn.Module):
    """Interpolate the frame between two frames; 2.99 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.feat_encoder = _CorrelationEncoder(84)
        self.encoder = _FeatureEncoder((20, 32, 44, 56))
        self.decoder4 = _Decoder(113, 112, 4 + 44)
        self.decoder3 = _Decoder(136, 132, 4 + 32)
        self.decoder2 = _Decoder(100, 96, 4 + 20)
        self.decoder1 = _Decoder(64, 60, 8 * NUM_FLOWS)
        self.update4 = _Update(44, 1)
        self.update3 = _Update(32, 2)
        self.update2 = _Update(20, 4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * NUM_FLOWS, 6 * NUM_FLOWS, 3, padding=1),
            nn.PReLU(6 * NUM_FLOWS),
            nn.Conv2d(6 * NUM_FLOWS, 3, 3, padding=1),
        )

    def forward(self, first_BCHW: torch.Tensor, second_BCHW: torch.Tensor) -> torch.Tensor:
        """Map two frames in [0, 1], with sides that are multiples of 16, to the middle frame in [0, 1]."""
        mean = torch.cat([first_BCHW, second_BCHW], dim=2).mean(dim=(1, 2, 3), keepdim=True)
        frames = (first_BCHW - mean, second_BCHW - mean)
        lookup = _Correlation(*(self.feat_encoder(frame) for frame in frames))
        pyramids = [self.encoder(frame) for frame in frames]

        coarse = [pyramid[3] for pyramid in pyramids]
        moment = torch.full_like(coarse[0][:, :1], _MIDDLE)
        out = self.decoder4.convblock(torch.cat([*coarse, moment], dim=1))
        flows, feature = out[:, :4], out[:, 4:]
        flows, feature = self.update4(flows, feature, lookup)
        for decoder, update, level in ((self.decoder3, self.update3, 2), (self.decoder2, self.update2, 1)):
            out = decoder(feature, flows, *(pyramid[level] for pyramid in pyramids))
            flows, feature = out[:, :4] + _enlarge_flow(flows, 2), out[:, 4:]
            flows, feature = update(flows, feature, lookup)
        out = self.decoder1(feature, flows, pyramids[0][0], pyramids[1][0])
        return self._merge(out, _enlarge_flow(flows, 2), frames, mean).clamp(0, 1)

    def _merge(
        self, out: torch.Tensor, flows: torch.Tensor, frames: tuple[torch.Tensor, torch.Tensor], mean: torch.Tensor
    ) -> torch.Tensor:
        """Blend both warped frames to three candidates, and merge these by their mean and the last convolutions."""
        batch, _, height, width = out.shape
        deltas, masks, rests = out[:, : 4 * NUM_FLOWS], out[:, 4 * NUM_FLOWS : 5 * NUM_FLOWS], out[:, 5 * NUM_FLOWS :]
        deltas = deltas.reshape(batch, 2, NUM_FLOWS, 2, height, width)
        candidates = []
        for number in range(NUM_FLOWS):
            warped = [
                warp(frame, flow + deltas[:, side, number])
                for side, (frame, flow) in enumerate(zip(frames, flows.chunk(2, dim=1), strict=True))
            ]
            mask = masks[:, number : number + 1].sigmoid()
            rest = rests[:, 3 * number : 3 * number + 3]
            candidates.append(mask * warped[0] + (1 - mask) * warped[1] + mean + rest)
        merged: torch.Tensor = torch.stack(candidates).mean(dim=0) + self.comb_block(torch.cat(candidates, dim=1))
        return merged


def warp(image_BCHW: torch.Tensor, flow_B2HW: torch.Tensor) -> torch.Tensor:
    """Sample the image bilinearly at every pixel plus its flow (x, y; in pixels); edges repeat."""
    _, _, height, width = flow_B2HW.shape
    x, y = (torch.linspace(-1, 1, side, device=flow_B2HW.device, dtype=flow_B2HW.dtype) for side in (width, height))
    # grid_sample's scale: -1..1 from the centre of the first pixel to that of the last.
    positions_BHW2 = torch.stack(
        [x + flow_B2HW[:, 0] * (2 / (width - 1)), y[:, None] + flow_B2HW[:, 1] * (2 / (height - 1))], dim=-1
    )
    return F.grid_sample(image_BCHW, positions_BHW2, mode="bilinear", padding_mode="border", align_corners=True)


class _Correlation:
    """RAFT's all-pairs correlation of two feature maps in both directions."""

    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> None:
        self.coordinates = make_coords_grid(1, *first_BChw.shape[-2:], device=str(first_BChw.device))
        # The second is the transpose of the first, but computing it is cheaper than transposing.
        self._pyramids = [
            CorrelationPyramid(first_BChw, second_BChw, RADIUS),
            CorrelationPyramid(second_BChw, first_BChw, RADIUS),
        ]

    def __call__(self, flows_B4hw: torch.Tensor) -> torch.Tensor:
        """Look up correlations where the flows point, extended from the middle to the other frame; [B, 392, h, w]."""
        to_first, to_second = flows_B4hw.chunk(2, dim=1)
        ends = (self.coordinates + to_second / (1 - _MIDDLE), self.coordinates + to_first / _MIDDLE)
        return torch.cat([pyramid.around(end) for pyramid, end in zip(self._pyramids, ends, strict=True)], dim=1)


class _Update(nn.Module):
    """Refine flows and feature by the correlation along the flows, at an eighth of the frame's size."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convc1 = nn.Conv2d(2 * LEVELS * (2 * RADIUS + 1) ** 2, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, padding=3)
        self.convf2 = nn.Conv2d(40, 20, 3, padding=1)
        self.conv = nn.Conv2d(84, 68, 3, padding=1)
        self.gru = _two_convolutions(68 + 4 + channels, 76)
        self.feat_head = _two_convolutions(76, channels)
        self.flow_head = _two_convolutions(76, 4)

    def forward(
        self, flows: torch.Tensor, feature: torch.Tensor, lookup: _Correlation
    ) -> tuple[torch.Tensor, torch.Tensor]:
        small_flows = _resize(flows, 1 / self.scale) / self.scale
        small_feature = _resize(feature, 1 / self.scale)
        found = _leaky(self.convc1(lookup(small_flows)))
        moved = _leaky(self.convf2(_leaky(self.convf1(small_flows))))
        both = _leaky(self.conv(torch.cat([found, moved], dim=1)))
        state = self.gru(torch.cat([both, small_flows, small_feature], dim=1))
        return (
            flows + _enlarge_flow(self.flow_head(state), self.scale),
            feature + _resize(self.feat_head(state), self.scale),
        )


class _Decoder(nn.Module):
    """Compute the next finer flows and feature from both frames' features, warped to the middle."""

    def __init__(self, channels_in: int, channels: int, channels_out: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _convolution(channels_in, channels),
            _ResidualBlock(channels),
            nn.ConvTranspose2d(channels, channels_out, 4, stride=2, padding=1),
        )

    def forward(
        self, feature: torch.Tensor, flows: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        to_first, to_second = flows.chunk(2, dim=1)
        out: torch.Tensor = self.convblock(
            torch.cat([feature, warp(first, to_first), warp(second, to_second), flows], dim=1)
        )
        return out


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels)
        self.conv2 = _convolution(_SIDE_CHANNELS, _SIDE_CHANNELS)
        self.conv3 = _convolution(channels, channels)
        self.conv4 = _convolution(_SIDE_CHANNELS, _SIDE_CHANNELS)
        self.conv5 = nn.Conv2d(channels, channels, 3, padding=1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x
        for full, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            out = full(out)
            out[:, -_SIDE_CHANNELS:] = side(out[:, -_SIDE_CHANNELS:])
        refined: torch.Tensor = self.prelu(x + self.conv5(out))
        return refined


class _FeatureEncoder(nn.Module):
    """Features at 1/2, 1/4, 1/8 and 1/16 of the size."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        before = 3
        for level, count in enumerate(channels, start=1):
            self.add_module(
                f"pyramid{level}", nn.Sequential(_convolution(before, count, 2), _convolution(count, count))
            )
            before = count

    def forward(self, frame: torch.Tensor) -> list[torch.Tensor]:
        levels = []
        for part in self.children():
            frame = part(frame)
            levels.append(frame)
        return levels


class _CorrelationEncoder(nn.Module):
    """RAFT's small encoder with instance norm; output at 1/8 of the size."""

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, stride=2, padding=3)
        self.norm1 = nn.InstanceNorm2d(32)
        self.layer1 = nn.Sequential(_Bottleneck(32, 32, 1), _Bottleneck(32, 32, 1))
        self.layer2 = nn.Sequential(_Bottleneck(32, 64, 2), _Bottleneck(64, 64, 1))
        self.layer3 = nn.Sequential(_Bottleneck(64, 96, 2), _Bottleneck(96, 96, 1))
        self.conv2 = nn.Conv2d(96, channels_out, 1)

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.conv1(frame)).relu()
        out: torch.Tensor = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return out


class _Bottleneck(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1 = nn.Conv2d(channels_in, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1)
        self.conv3 = nn.Conv2d(inner, channels, 1)
        self.norm1, self.norm2, self.norm3 = (
            nn.InstanceNorm2d(inner),
            nn.InstanceNorm2d(inner),
            nn.InstanceNorm2d(channels),
        )
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride), nn.InstanceNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        y = self.norm3(self.conv3(y)).relu()
        short: torch.Tensor = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = (short + y).relu()
        return out


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1), nn.PReLU(channels_out))


def _two_convolutions(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, 76, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(76, channels_out, 3, padding=1)
    )


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.1)


def _resize(x: torch.Tensor, scale: float) -> torch.Tensor:
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _enlarge_flow(flow: torch.Tensor, scale: int) -> torch.Tensor:
    """Resize a flow to a larger image: more pixels, and flow vectors scaled accordingly."""
    return scale * _resize(flow, scale)
