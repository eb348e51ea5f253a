"""OpenAI's CLIP, and ViCLIP on its towers, built from open_clip with the authors' published weights.

Legend: P frames or clips, T frames per clip, C channel, H, W pixels; L patches per frame, D embedding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.vision_blocks import Block, class_token
from videodpo.scorers.shared.backbone import ClipBackbone, FrameBackbone, Part
from videodpo.scorers.shared.crops import normalized, square_crops
from videodpo.scorers.shared.middle_frames import NUM_FRAMES, middle_frames
from videodpo.weights.checkpoints import load_weights, names_of, read_checkpoint

SIDE = 224
# Entries of the published archives that are not weights.
_SETTINGS = ("input_resolution", "context_length", "vocab_size")


class ClipFrames(FrameBackbone):
    """CLIP's image embeddings of length 1, [D] per frame; `architecture` is ViT-B-32 or ViT-L-14.

    The "-quickgelu" variants of open_clip are used. The plain names have a different GELU than OpenAI's training: they
    load without a warning, but embeddings are off by 1e-3.
    """

    def __init__(self, architecture: str, weights: Path, device: str) -> None:
        super().__init__(device, frames_per_batch=8 if "L-14" in architecture else 16)
        self._network = _network(architecture)
        tensors = {name: value for name, value in read_checkpoint(weights).items() if name not in _SETTINGS}
        load_weights(self._network, tensors, weights)
        self._network.to(device)
        self._blocks = _take_blocks(self._network)

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        return list(self.encode(square_crops(self.frames(parts), SIDE)).cpu())

    @torch.no_grad()
    def encode(self, crops_PCHW: torch.Tensor) -> torch.Tensor:
        """Encode 224 x 224 crops in 0..1 to embeddings of length 1, [P, D], on the device."""
        return self.encode_standard(standard(crops_PCHW))

    @torch.no_grad()
    def encode_standard(self, crops_PCHW: torch.Tensor) -> torch.Tensor:
        """As `encode`, for crops that are normalised already."""
        tower = self._network.visual
        patches = tower.conv1(crops_PCHW).flatten(2).transpose(1, 2)
        states = torch.cat([tower.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        return _embedding(tower, self._blocks, states.add_(tower.positional_embedding))

    @functools.lru_cache(maxsize=64)  # noqa: B019 (networks live as long as the process)
    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        """Embed a text, [D], on the CPU. Its length is the network's scale of logits. Cut after 77 tokens."""
        features = self._network.encode_text(open_clip.tokenize([text]).to(self.device), normalize=True)
        scaled: torch.Tensor = self._network.logit_scale.exp() * features[0]
        return scaled.cpu()


class ClipImages(FrameBackbone):
    """CLIP's image embeddings of length 1, [D] per frame, with the preprocessing of OpenAI's own package.

    Frames are resized by PIL, which rounds to 8 bits and has antialias. `square_crops` does neither. A clip without an
    `appearance_style` is refused, so that clips of other dimensions cost nothing.
    """

    def __init__(self, architecture: str, weights: Path, device: str) -> None:
        super().__init__(device, frames_per_batch=16)
        self._clip: ClipFrames = ClipFrames.shared(architecture, weights, device)
        self._preprocess = open_clip.image_transform(SIDE, is_train=False)

    def refuse(self, clip: Clip) -> None:
        if not clip.info.get("appearance_style", "").strip():
            raise InputError('appearance_style needs the style: --info \'{"appearance_style": "Van Gogh style"}\'')

    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        crops = [self._preprocess(Image.fromarray(clip.frames_THWC[number])) for clip, number in parts]
        return list(self._clip.encode_standard(torch.stack(crops).to(self.device)).cpu())

    def text(self, text: str) -> torch.Tensor:
        """Embed a text as `ClipFrames.text` does."""
        return self._clip.text(text)


class ViClip(ClipBackbone):
    """InternVid's ViCLIP-L/14: CLIP's towers with temporal position embeddings; 8 frames, texts of 32 tokens.

    A clip has one part: its embedding [D] of length 1, from the middles of 8 equal intervals.
    """

    CONTEXT = 32
    architecture = "ViT-L-14"

    def __init__(self, weights: Path, device: str) -> None:
        super().__init__(device, clips_per_batch=16)
        network = _network(self.architecture)
        network.positional_embedding = torch.nn.Parameter(network.positional_embedding[: self.CONTEXT].detach())
        network.register_buffer("attn_mask", network.attn_mask[: self.CONTEXT, : self.CONTEXT], persistent=False)
        tensors = {_open_clip_name(name): value for name, value in read_checkpoint(weights).items()}
        times_1TD = tensors.pop("visual.temporal_positional_embedding", None)
        if times_1TD is None:
            raise InputError(
                f"weights: {weights}: not those of ViCLIP: no temporal_positional_embedding; "
                f"the file has {names_of(tensors)}"
            )
        tensors.pop("temp", None)
        if times_1TD.shape != (wanted := (1, NUM_FRAMES, network.visual.conv1.out_channels)):
            raise InputError(
                f"weights: {weights}: temporal_positional_embedding is {tuple(times_1TD.shape)}, not {wanted}"
            )
        tensors["logit_scale"] = torch.zeros(())  # a cosine does not use it
        patches = tensors.get("visual.conv1.weight")
        if patches is not None and patches.ndim == 5:
            tensors["visual.conv1.weight"] = patches.squeeze(2)
        load_weights(network, tensors, weights)
        self._network, self._times_1TD = network.to(device), times_1TD.float().to(device)
        self._blocks = _take_blocks(network)
        self._tokenize = open_clip.SimpleTokenizer(context_length=self.CONTEXT)

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        frames = [clip.pixels(self.device)[middle_frames(len(clip.frames_THWC))] for clip, _ in parts]
        crops = square_crops(torch.cat(frames), SIDE, rounded=True)
        return list(self.video(crops.view(len(parts), NUM_FRAMES, 3, SIDE, SIDE)).cpu())

    @torch.no_grad()
    def video(self, crops_PTCHW: torch.Tensor) -> torch.Tensor:
        """Encode eight 224 x 224 crops per clip, in 0..1, to embeddings of length 1, [P, D], on the device."""
        tower, num_clips = self._network.visual, len(crops_PTCHW)
        patches = tower.conv1(standard(crops_PTCHW.flatten(0, 1))).flatten(2).transpose(1, 2)
        patches_PTLD = (patches + tower.positional_embedding[1:]).unflatten(0, (num_clips, NUM_FRAMES))
        # One sequence: all frames of the first patch, then of the second, and so on, with temporal positions added.
        patches_PLTD = patches_PTLD.transpose(1, 2) + self._times_1TD
        first = tower.class_embedding + tower.positional_embedding[0]
        states = torch.cat([first.expand(num_clips, 1, -1), patches_PLTD.flatten(1, 2)], dim=1)
        return _embedding(tower, self._blocks, states)

    @functools.lru_cache(maxsize=64)  # noqa: B019 (networks live as long as the process)
    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        """Embed a text with length 1, [D], on the CPU. Text beyond 32 tokens is truncated."""
        tokens = self._tokenize([text]).to(self.device)
        features: torch.Tensor = self._network.encode_text(tokens, normalize=True)
        return features[0].cpu()


def standard(crops_PCHW: torch.Tensor) -> torch.Tensor:
    """Apply CLIP's normalisation."""
    return normalized(crops_PCHW, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def _network(architecture: str) -> Any:
    # Not create_model: it warns about missing weights.
    return open_clip.CLIP(**open_clip.get_model_config(f"{architecture}-quickgelu"))


def _take_blocks(network: Any) -> list[Block]:
    """Take the layers out of the vision tower, so that their memory is not held twice."""
    tower = network.visual
    blocks = [Block.of_open_clip(block) for block in tower.transformer.resblocks]
    tower.transformer = torch.nn.Identity()
    return blocks


def _embedding(tower: Any, blocks: Sequence[Block], states_PLD: torch.Tensor) -> torch.Tensor:
    """Return embeddings of length 1, [P, D], from the input sequences of the transformer."""
    found = class_token(tower.ln_pre(states_PLD), blocks)
    return F.normalize(tower.ln_post(found) @ tower.proj, dim=-1)


def _open_clip_name(name: str) -> str:
    if name.startswith("vision_encoder."):
        return f"visual.{name.removeprefix('vision_encoder.')}"
    return name.removeprefix("text_encoder.")
