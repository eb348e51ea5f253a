"""UMT at the width, heads and tokens of ViT-L/16, with 2 of its 24 blocks, against timm's blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from videodpo.scorers.base import Clip
from videodpo.scorers.networks import umt
from videodpo.scorers.networks.umt import UmtActions, crops, default_positions


@torch.no_grad()
def test_logits_are_those_of_timms_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(UmtActions, "sizes", {"depth": 2})
    torch.manual_seed(0)
    network = umt.Umt(400, depth=2).eval()
    network.pos_embed.copy_(default_positions(1024))
    for block in network.blocks:
        for bias in (block.attn.q_bias, block.attn.v_bias):
            bias.copy_(0.3 * torch.randn_like(bias))
    tensors = {name: value for name, value in network.state_dict().items() if name != "pos_embed"}
    torch.save(tensors, tmp_path / "umt.pth")
    clip = Clip(np.random.default_rng(0).integers(0, 256, (16, 240, 320, 3), dtype=np.uint8), 8.0, "")
    inputs = crops(clip.frames_THWC)[None]
    states = network.patch_embed["proj"](inputs).flatten(2).transpose(1, 2) + network.pos_embed
    for block in network.blocks:
        states = block(states)
    expected = network.head(network.fc_norm(states.mean(dim=1)))
    ours = UmtActions(tmp_path / "umt.pth", "cpu", tuple(f"action {number}" for number in range(400)))
    torch.testing.assert_close(ours.logits(ours.features(inputs)), expected, rtol=0, atol=1e-4)
    (probabilities,) = ours.outputs([(clip, 0)])
    assert probabilities.numpy() == pytest.approx(expected[0].sigmoid().numpy(), abs=1e-5)
