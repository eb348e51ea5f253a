"""Random weights of VBench's scorers, in the formats and under the names that their authors publish.

OpenAI's two archives are state dicts here: published ones are TorchScript, accepted only with the published digests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from pyiqa.archs.musiq_arch import MUSIQ
from random_weights import make
from torchvision.models.optical_flow import raft_large

from videodpo.scorers.networks.amt import AmtS

CLIPS = {"ViT-B-32.pt": "ViT-B-32-quickgelu", "ViT-L-14.pt": "ViT-L-14-quickgelu"}
# torchvision's names of RAFT's tensors and its authors' names, in the order of replacement.
RAFT_NAMES = (
    ("feature_encoder.", "fnet."),
    ("context_encoder.", "cnet."),
    ("net.convnormrelu.0.", "net.conv1."),
    ("net.convnormrelu.1.", "net.norm1."),
    ("net.conv.", "net.conv2."),
    ("convnormrelu1.0.", "conv1."),
    ("convnormrelu1.1.", "norm1."),
    ("convnormrelu2.0.", "conv2."),
    ("convnormrelu2.1.", "norm2."),
    ("motion_encoder.convcorr1.0.", "encoder.convc1."),
    ("motion_encoder.convcorr2.0.", "encoder.convc2."),
    ("motion_encoder.convflow1.0.", "encoder.convf1."),
    ("motion_encoder.convflow2.0.", "encoder.convf2."),
    ("motion_encoder.conv.0.", "encoder.conv."),
    ("recurrent_block.convgru1.convz.", "gru.convz1."),
    ("recurrent_block.convgru1.convr.", "gru.convr1."),
    ("recurrent_block.convgru1.convq.", "gru.convq1."),
    ("recurrent_block.convgru2.convz.", "gru.convz2."),
    ("recurrent_block.convgru2.convr.", "gru.convr2."),
    ("recurrent_block.convgru2.convq.", "gru.convq2."),
    ("mask_predictor.convrelu.0.", "update_block.mask.0."),
    ("mask_predictor.conv.", "update_block.mask.2."),
)


def write_scorers(folder: Path) -> None:
    torch.manual_seed(0)
    clips = {name: _clip(kind) for name, kind in CLIPS.items()}
    files: dict[str, Any] = {name: {key: value.half() for key, value in found.items()} for name, found in clips.items()}
    files["dino_vitbase16_pretrain.pth"] = make(_dino).state_dict()
    files["sa_0_4_vit_l_14_linear.pth"] = torch.nn.Linear(768, 1).state_dict()
    files["musiq_spaq_ckpt-358bb6af.pth"] = {"params": MUSIQ(pretrained=False).state_dict()}
    files["amt-s.pth"] = {"state_dict": AmtS().state_dict()}
    files["raft-things.pth"] = _raft()
    files["ViClip-InternVid-10M-FLT.pth"] = {"model": _viclip(clips["ViT-L-14.pt"])}
    for name, content in files.items():
        torch.save(content, folder / name)


def _clip(kind: str) -> dict[str, torch.Tensor]:
    return make(lambda: open_clip.CLIP(**open_clip.get_model_config(kind))).state_dict()


def _dino() -> torch.nn.Module:
    return timm.create_model("vit_base_patch16_224.dino", num_classes=0)


def _raft() -> dict[str, torch.Tensor]:
    found = {}
    for name, value in raft_large(weights=None).state_dict().items():
        for ours, theirs in RAFT_NAMES:
            name = name.replace(ours, theirs)
        found[f"module.{name}"] = value
    return found


def _viclip(clip: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {"temp": torch.ones(()), "vision_encoder.temporal_positional_embedding": torch.randn(1, 8, 1024)}
    for name, value in clip.items():
        if name.startswith("visual."):
            found[f"vision_encoder.{name.removeprefix('visual.')}"] = value
        elif name != "logit_scale":
            found[f"text_encoder.{name}"] = value
    found["text_encoder.positional_embedding"] = found["text_encoder.positional_embedding"][:32]
    patches = found["vision_encoder.conv1.weight"]
    return found | {"vision_encoder.conv1.weight": patches[:, :, None]}  # a convolution over one frame
