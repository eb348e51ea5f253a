"""Networks of VBench's sixteen dimensions for the benchmarks: our scorers, a plain loop's networks, random weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import open_clip
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from plain_amt import PlainAmtS
from pyiqa.archs.musiq_arch import MUSIQ
from random_weights import make
from safetensors.torch import load_file, save_file
from torchvision.models.optical_flow import raft_large

from videodpo.runtime import registry
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.networks.amt import AmtS
from videodpo.scorers.networks.clip import standard
from videodpo.scorers.networks.grit_text import END, Memory, TextDecoder
from videodpo.scorers.networks.umt import Umt, crops, default_positions
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.crops import square_crops
from videodpo.scorers.shared.flow_steps import MULTIPLE, UPDATES
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.scorers.shared.padding import pad_to_multiples

# Files of each dimension, as `write_weights` names them.
FILES: dict[str, Sequence[str]] = {
    "temporal_flickering": (),
    "subject_consistency": ("dino",),
    "background_consistency": ("clip_b",),
    "motion_smoothness": ("amt",),
    "dynamic_degree": ("raft",),
    "aesthetic_quality": ("clip_l", "head"),
    "imaging_quality": ("musiq",),
    "overall_consistency": ("viclip",),
    "temporal_style": ("viclip",),
    "appearance_style": ("clip_b",),
    "human_action": ("umt", "actions"),
    "object_class": ("grit", "vocabulary"),
    "multiple_objects": ("grit", "vocabulary"),
    "color": ("grit", "vocabulary"),
    "spatial_relationship": ("grit", "vocabulary"),
    "scene": ("tag2text", "vocabulary", "tags"),
}
DIMENSIONS = [name for name in FILES if name in registry.names("videodpo.scorers")]
CLIPS = {"clip_b": "ViT-B-32-quickgelu", "clip_l": "ViT-L-14-quickgelu"}
PROMPT = "A person is riding a bike"
INFO = {
    "appearance_style": "Van Gogh style",
    "object": "cat and dog",
    "object_a": "cat",
    "object_b": "dog",
    "relationship": "on the left of",
    "color": "red",
    "scene": "alley",
}
NUM_WORDS_OF_TEXT = 5  # of every name and caption by GRiT; with random weights most texts would never end
Network = Callable[[Clip], Any]


def make_scorers(files: Mapping[str, Path], device: str, names: Iterable[str] = DIMENSIONS) -> dict[str, Scorer]:
    """The scorers whose files are all there, from the files of each network as `write_weights` names them."""
    return {name: _scorer(name, files, device) for name in names if all(file in files for file in FILES[name])}


def _scorer(name: str, files: Mapping[str, Path], device: str, like: str = "") -> Scorer:
    kind = registry.load("videodpo.scorers", name)
    paths = [str(files[file]) for file in FILES[like or name]]
    options = {} if not paths else {"weights": paths if len(paths) > 1 else paths[0]}
    return kind(kind.Options(**options), device)


def plain_network(name: str, files: Mapping[str, Path], device: str) -> Network:
    """The libraries' unchanged networks for a dimension, called for one clip at a time.

    No library has AMT-S, GRiT or Tag2Text. The loop uses our AMT-S with torchvision's correlations, our GRiT for one
    frame at a time with the boxes encoded again for each word, and our Tag2Text for all frames of a clip. UMT is made
    of timm's blocks, which compute all attention weights at once here, as in the benchmark.
    """
    return torch.no_grad()(_plain(name, files, device))


def _plain(name: str, files: Mapping[str, Path], device: str) -> Network:
    def network(name: str, made: torch.nn.Module) -> Any:
        made.load_state_dict(load_file(files[name]))
        return made.to(device).eval().requires_grad_(False)

    match name:
        case "temporal_flickering":
            return _flickering
        case "subject_consistency":
            dino = timm.create_model("vit_base_patch16_224.dino", num_classes=0, dynamic_img_size=True)
            return partial(_subject, network("dino", dino), device)
        case "background_consistency" | "aesthetic_quality":
            kind = "clip_b" if name == "background_consistency" else "clip_l"
            return partial(_embeddings, network(kind, _clip(CLIPS[kind])), device)
        case "motion_smoothness":
            return partial(_smoothness, network("amt", PlainAmtS()), device)
        case "dynamic_degree":
            return partial(_flow, network("raft", raft_large(weights=None)), device)
        case "imaging_quality":
            musiq = network("musiq", MUSIQ(pretrained=False))
            return lambda clip: [musiq(frame[None] / 255).item() for frame in _frames(clip, device)]
        case "overall_consistency" | "temporal_style":
            places_1TD = torch.randn(1, 8, 1024, device=device)
            return partial(_video, network("clip_l", _clip(CLIPS["clip_l"])), places_1TD, device)
        case "appearance_style":
            return partial(_style, network("clip_b", _clip(CLIPS["clip_b"])), device)
        case "human_action":
            umt = network("umt", Umt(400))
            for block in umt.blocks:
                block.attn.fused_attn = False
            return partial(_action, umt, device)
        case "scene":
            return partial(_alone, _scorer("scene_all_frames", files, device, like="scene"))
        case _:
            return partial(_objects, _scorer(name, files, device))


def _frames(clip: Clip, device: str) -> torch.Tensor:
    return torch.from_numpy(clip.frames_THWC).to(device).permute(0, 3, 1, 2)


def _flickering(clip: Clip) -> float:
    floats = clip.frames_THWC.astype(np.float32)
    return float(np.mean([np.mean(np.abs(after - before)) for before, after in pairwise(floats)]))


def _subject(dino: Any, device: str, clip: Clip) -> list[torch.Tensor]:
    height, width = clip.frames_THWC.shape[1:3]
    size = [int(224 * side / min(height, width)) // 16 * 16 for side in (height, width)]
    pixels = standard(F.interpolate(_frames(clip, device).float(), size, mode="bilinear") / 255)
    return [dino(frame[None]).cpu() for frame in pixels]


def _embeddings(tower: Any, device: str, clip: Clip) -> torch.Tensor:
    return tower.encode_image(standard(square_crops(_frames(clip, device), 224)), normalize=True).cpu()


def _smoothness(amt: Any, device: str, clip: Clip) -> list[torch.Tensor]:
    padded, _ = pad_to_multiples(_frames(clip, device)[::2].float() / 255, 16)
    return [amt(before[None], after[None]).cpu() for before, after in pairwise(padded)]


def _flow(raft: Any, device: str, clip: Clip) -> list[torch.Tensor]:
    padded, _ = pad_to_multiples(_frames(clip, device)[:: max(1, round(clip.fps / 8))].float(), MULTIPLE)
    scaled = 2 * (padded / 255) - 1
    return [raft(before[None], after[None], num_flow_updates=UPDATES)[-1].cpu() for before, after in pairwise(scaled)]


def _video(viclip: Any, places_1TD: torch.Tensor, device: str, clip: Clip) -> torch.Tensor:
    tower = viclip.visual
    crops = square_crops(_frames(clip, device)[middle_frames(len(clip.frames_THWC))], 224, rounded=True)
    patches = tower.conv1(standard(crops)).flatten(2).transpose(1, 2) + tower.positional_embedding[1:]
    patches = patches.transpose(0, 1) + places_1TD
    first = tower.class_embedding + tower.positional_embedding[0]
    states = tower.transformer(tower.ln_pre(torch.cat([first[None], patches.flatten(0, 1)])[None]))
    viclip.encode_text(open_clip.tokenize([clip.prompt]).to(device))
    return (tower.ln_post(states[:, 0]) @ tower.proj).cpu()


def _style(network: Any, device: str, clip: Clip) -> list[float]:
    prepare = open_clip.image_transform(224, is_train=False)
    text = open_clip.tokenize([clip.info["appearance_style"]]).to(device)
    found = []
    for frame in clip.frames_THWC:
        image = network.encode_image(prepare(Image.fromarray(frame))[None].to(device), normalize=True)
        found.append(float(image @ network.encode_text(text, normalize=True).T))
    return found


def _action(umt: Any, device: str, clip: Clip) -> torch.Tensor:
    inputs = crops(clip.frames_THWC[middle_frames(len(clip.frames_THWC), 16)])[None].to(device)
    states = umt.patch_embed["proj"](inputs).flatten(2).transpose(1, 2) + umt.pos_embed
    for block in umt.blocks:
        states = block(states)
    return umt.head(umt.fc_norm(states.mean(dim=1))).cpu()


def _alone(scorer: Scorer, clip: Clip) -> list[Any]:
    assert isinstance(scorer, NetworkScorer)
    return [scorer.backbone.outputs([(clip, part)]) for part in scorer.wanted(clip, {})]


_memory, _logits = TextDecoder.memory, TextDecoder.logits
boxes_per_frame: list[int] = []  # of the plain loop's calls


def _objects(scorer: Scorer, clip: Clip) -> list[Any]:
    """Call GRiT as the benchmark does, which encodes a box again for each word of its text."""
    features: torch.Tensor
    encoded = False

    def memory(decoder: TextDecoder, features_RCSS: torch.Tensor) -> Memory:
        nonlocal features, encoded
        features, encoded = features_RCSS, True
        boxes_per_frame.append(len(features_RCSS))
        return _memory(decoder, features_RCSS)

    def logits(decoder: TextDecoder, known: Memory, tokens_RL: torch.Tensor) -> torch.Tensor:
        nonlocal encoded
        if not encoded:
            _memory(decoder, features)
        encoded = False
        return _ended(decoder, known, tokens_RL)

    with patch.object(TextDecoder, "memory", memory), patch.object(TextDecoder, "logits", logits):
        return _alone(scorer, clip)


def _ended(decoder: TextDecoder, known: Memory, tokens_RL: torch.Tensor) -> torch.Tensor:
    """Compute the logits of the next word, and make the text end after NUM_WORDS_OF_TEXT words."""
    logits = _logits(decoder, known, tokens_RL)
    logits[:, END] = 1e4 if tokens_RL.shape[1] > NUM_WORDS_OF_TEXT else -1e4
    return logits


TextDecoder.logits = _ended  # type: ignore[assignment, method-assign]


def _clip(architecture: str) -> torch.nn.Module:
    return open_clip.CLIP(**open_clip.get_model_config(architecture))


BUILDS: dict[str, Callable[[], torch.nn.Module]] = {
    "dino": lambda: timm.create_model("vit_base_patch16_224.dino", num_classes=0),
    "amt": AmtS,
    "raft": lambda: raft_large(weights=None),
    "musiq": lambda: MUSIQ(pretrained=False),
    "head": lambda: torch.nn.Linear(768, 1),
    **{name: partial(_clip, architecture) for name, architecture in CLIPS.items()},
}
NUM_WORDS, NUM_TAGS = 30522, 3429
_SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}


def write_weights(folder: Path, device: str, names: Iterable[str] = DIMENSIONS) -> dict[str, Path]:
    """Write random weights, drawn on the device, and lists of words; return the file of each network."""
    torch.manual_seed(0)
    wanted = {file for name in names for file in FILES[name]}
    wanted |= {"clip_l"} if "viclip" in wanted else set()  # the plain loop's tower
    with torch.device(device):
        networks = {name: build() for name, build in BUILDS.items() if name in wanted}
    for name, network in networks.items():
        _save(folder / f"{name}.safetensors", network.state_dict())
    if "viclip" in wanted:
        _save(folder / "viclip.safetensors", _viclip(networks["clip_l"].state_dict()))
    if "umt" in wanted:
        umt = make(lambda: Umt(400)).state_dict() | {"pos_embed": default_positions(1024)}
        _save(folder / "umt.safetensors", umt)
    if "grit" in wanted:
        _save(folder / "grit.safetensors", _grit())
    if "tag2text" in wanted:
        _save(folder / "tag2text.safetensors", _tag2text())
    lists = {"actions": [f"action {number}\t{number}" for number in range(399)] + ["riding a bike\t399"]}
    lists |= {"vocabulary": _vocabulary(), "tags": [f"tag {number}" for number in range(NUM_TAGS)]}
    for name in wanted & set(lists):
        (folder / f"{name}.txt").write_text("\n".join(lists[name]), encoding="utf-8")
    return weight_files(folder)


def weight_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir() if path.suffix in (".safetensors", ".txt")}


def _viclip(clip: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {"vision_encoder.temporal_positional_embedding": torch.randn(1, 8, 1024)}
    for key, value in clip.items():
        if key.startswith("visual."):
            found[key.replace("visual.", "vision_encoder.", 1)] = value
        elif key != "logit_scale":
            found[f"text_encoder.{key}"] = value
    found["text_encoder.positional_embedding"] = found["text_encoder.positional_embedding"][:32]
    return found


def _grit() -> dict[str, torch.Tensor]:
    """Weights with which about ten boxes pass the threshold in every frame of 320 x 512."""
    from videodpo.scorers.networks.grit import GritNetwork
    from videodpo.scorers.networks.grit_detector import GritSizes

    tensors = make(lambda: GritNetwork(GritSizes())).state_dict()
    for name, value in tensors.items():
        if name.endswith("cls_score.bias"):
            value[0] = -1.8  # objects; the other number is that of the background
    return tensors


def _tag2text() -> dict[str, torch.Tensor]:
    from videodpo.scorers.networks.tag2text import Sizes, Tag2TextNetwork

    tensors = make(lambda: Tag2TextNetwork(Sizes(), NUM_TAGS, NUM_WORDS + 2)).state_dict()
    # The authors' stages end with the downsampling with which timm's begin.
    return {
        re.sub(r"layers\.(\d)\.down", lambda k: f"layers.{int(k[1]) - 1}.down", name): t for name, t in tensors.items()
    }


def _vocabulary() -> list[str]:
    return [_SPECIAL.get(number, f"word{number}") for number in range(NUM_WORDS)]


def _save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
