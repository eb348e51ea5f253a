"""OpenAI's CLIP, and ViCLIP on its towers, from open_clip with the weights that their authors publish.

Legend: T frames, C channel, H, W pixels; P patches of a frame, D embedding, B texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F

from videodpo.scorers.networks.checkpoints import load_weights, read_checkpoint

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDE = 224
FRAMES_AT_ONCE = 16  # fixed, so that a clip's numbers depend on nothing but the clip
# What the published archives keep beside the tensors.
_SETTINGS = ("input_resolution", "context_length", "vocab_size")


class ClipFrames:
    """Image embeddings of CLIP; `architecture` is ViT-B-32 or ViT-L-14.

    open_clip's plain names have another GELU than OpenAI trained with: they load in silence and are off by 1e-3.
    """

    def __init__(self, architecture: str, weights: Path, device: str) -> None:
        self._network: Any = open_clip.create_model(f"{architecture}-quickgelu", precision="fp32")
        tensors = {name: value for name, value in read_checkpoint(weights).items() if name not in _SETTINGS}
        load_weights(self._network, tensors, weights)
        self._network.to(device)
        self._device = device

    @torch.no_grad()
    def __call__(self, crops_TCHW: torch.Tensor) -> torch.Tensor:
        """Crops of 224 on the scale 0..1 to embeddings of length 1, on the CPU; [T, D]."""
        parts = torch.split(crops_TCHW, FRAMES_AT_ONCE)
        return torch.cat([self._network.encode_image(standard(p, self._device), normalize=True).cpu() for p in parts])


class ViClip:
    """InternVid's ViCLIP-L/14: CLIP's towers with an embedding of the frame's place; 8 frames, texts of 32 tokens."""

    CONTEXT = 32
    architecture = "ViT-L-14"

    def __init__(self, weights: Path, device: str) -> None:
        network: Any = open_clip.create_model(f"{self.architecture}-quickgelu", precision="fp32")
        network.positional_embedding = torch.nn.Parameter(network.positional_embedding[: self.CONTEXT].detach())
        network.register_buffer("attn_mask", network.attn_mask[: self.CONTEXT, : self.CONTEXT], persistent=False)
        tensors = {_open_clip_name(name): value for name, value in read_checkpoint(weights).items()}
        places = tensors.pop("visual.temporal_positional_embedding", None)
        if places is None:
            raise ValueError(f"weights: {weights}: not those of ViCLIP: no temporal_positional_embedding")
        tensors.pop("temp", None)
        tensors["logit_scale"] = torch.zeros(())  # not used for a cosine
        if tensors["visual.conv1.weight"].ndim == 5:
            tensors["visual.conv1.weight"] = tensors["visual.conv1.weight"].squeeze(2)
        load_weights(network, tensors, weights)
        self._network, self._places_1TD = network.to(device), places.float().to(device)
        self._tokenize = open_clip.SimpleTokenizer(context_length=self.CONTEXT)
        self._device = device

    @torch.no_grad()
    def video(self, crops_TCHW: torch.Tensor) -> torch.Tensor:
        """Eight crops of 224 on the scale 0..1 to the clip's embedding of length 1, on the CPU; [D]."""
        tower = self._network.visual
        patches_TPD = tower.conv1(standard(crops_TCHW, self._device)).flatten(2).transpose(1, 2)
        patches_TPD = patches_TPD + tower.positional_embedding[1:]
        # One sequence: all frames of the first patch, then all of the second, each marked by its place in time.
        patches_PTD = patches_TPD.transpose(0, 1) + self._places_1TD
        first = tower.class_embedding + tower.positional_embedding[0]
        sequence = torch.cat([first[None], patches_PTD.flatten(0, 1)])[None]
        states = tower.transformer(tower.ln_pre(sequence))
        return F.normalize(tower.ln_post(states[:, 0]) @ tower.proj, dim=-1)[0].cpu()

    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        """Embedding of length 1, on the CPU, [D]; beyond 32 tokens the text is cut."""
        tokens = self._tokenize([text]).to(self._device)
        features: torch.Tensor = self._network.encode_text(tokens, normalize=True)
        return features[0].cpu()


def standard(crops_TCHW: torch.Tensor, device: str) -> torch.Tensor:
    """CLIP's normalisation, on the device."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (crops_TCHW.to(device) - mean) / std


def _open_clip_name(name: str) -> str:
    if name.startswith("vision_encoder."):
        return f"visual.{name.removeprefix('vision_encoder.')}"
    return name.removeprefix("text_encoder.")
