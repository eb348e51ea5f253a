"""Tag2Text at its published size, with random weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.swin_transformer import checkpoint_filter_fn

from tests.support.tag2text import authors_name, is_gain
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.tag2text import Sizes, Tag2TextNetwork
from videodpo.scorers.scene import Scene
from videodpo.storage.video import read_mp4, write_mp4

NUM_TAGS, NUM_WORDS = 3429, 30522


@pytest.fixture(scope="module")
def shapes() -> dict[str, list[int]]:
    """Shapes of the network's tensors, under the authors' names."""
    tensors = Tag2TextNetwork(Sizes(), NUM_TAGS, NUM_WORDS + 2).state_dict()
    return {authors_name(name): list(value.shape) for name, value in tensors.items()}


@pytest.fixture(scope="module")
def weights(shapes, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("tag2text")
    torch.manual_seed(0)
    tensors = {
        name: 1 + 0.1 * torch.randn(shape) if is_gain(name) else 0.03 * torch.randn(shape)
        for name, shape in shapes.items()
    }
    torch.save({"model": tensors}, folder / "tag2text.pth")
    words = ["[PAD]", *(f"[unused{number}]" for number in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"w{number}" for number in range(len(words), NUM_WORDS)]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tags.txt").write_text("\n".join(f"w{number + 200}" for number in range(NUM_TAGS)))
    return [str(folder / name) for name in ("tag2text.pth", "vocab.txt", "tags.txt")]


def test_names_and_shapes_are_those_of_the_authors_network(shapes):
    """The digest is that of the tensors of the authors' network as VBench 0.1.5 builds it, without computed tables."""
    assert len(shapes) == 1001
    digest = hashlib.sha256(json.dumps(sorted(map(list, shapes.items()))).encode()).hexdigest()
    assert digest == "a15e826d447197ab8096c9f1a6e878784d74eb8c92eb8c824fca09d2471e3705"


@torch.no_grad()
def test_image_tokens_are_those_of_timm_with_its_own_names(weights):
    scene = Scene(Scene.Options(weights=weights), "cpu")
    tensors = torch.load(weights[0], weights_only=True, mmap=True)["model"]
    swin = timm.create_model("swin_base_patch4_window12_384", num_classes=0).eval()
    own = {name.removeprefix("visual_encoder."): value for name, value in tensors.items() if "visual_encoder." in name}
    swin.load_state_dict(checkpoint_filter_fn(own, swin))
    frames = torch.randint(0, 256, (1, 3, 384, 384), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = swin.forward_features((frames / 255 - mean) / std).flatten(1, 2)
    found = scene.backbone.network.image_tokens(frames)
    torch.testing.assert_close(found[:, 1:], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 0], expected.mean(dim=1), rtol=0, atol=1e-5)


def test_clip_has_a_score(weights, tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    write_mp4(tmp_path / "clip.mp4", frames, 8.0)
    clip = Clip(*read_mp4(tmp_path / "clip.mp4"), "", tmp_path / "clip.mp4", {"scene": "w"})
    assert Scene(Scene.Options(weights=weights), "cpu").score(clip) in (0.0, 3 / 16, 13 / 16, 1.0)
