"""Rendered clips from real MP4 files, and an open_clip folder with random weights."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import FPS, render
from videodpo.scorers.base import Clip
from videodpo.storage.video import read_mp4, write_mp4

NUM_SCENES = 20


@pytest.fixture(scope="session")
def clips_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], list[Clip]]:
    """The same 20 scenes for every defect, decoded from MP4."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[str | None, list[Clip]] = {}

    def clips(defect: str | None) -> list[Clip]:
        if defect not in made:
            made[defect] = []
            for seed in range(NUM_SCENES):
                scene = random_scene(random.Random(seed))
                path = folder / f"{defect}-{seed}.mp4"
                write_mp4(path, render(scene, random.Random(seed), defect=defect), FPS)
                made[defect].append(Clip(*read_mp4(path), scene.caption))
        return made[defect]

    return clips


@pytest.fixture
def matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulate a GPU's products of bfloat16 with float32 sums, which a CPU does not have."""
    import torch

    from videodpo.scorers.networks import products

    addmm = torch.addmm
    monkeypatch.setattr(products, "has_matrix_units", lambda device: True)
    monkeypatch.setattr(torch, "addmm", lambda bias, a, b, out_dtype: addmm(bias, a.to(out_dtype), b.to(out_dtype)))


@pytest.fixture
def still_clip() -> Clip:
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    return Clip(np.repeat(frame[None], 5, axis=0), 8.0, "A red circle moves left on a black background.")
