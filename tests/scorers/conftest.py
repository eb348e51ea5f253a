"""Rendered clips through real MP4 files, and an open_clip folder with random weights."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from videodpo.scorers.base import Clip
from videodpo.video import read_mp4, write_mp4
from videodpo.world.captions import random_scene
from videodpo.world.render import FPS, render

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
def still_clip() -> Clip:
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    return Clip(np.repeat(frame[None], 5, axis=0), 8.0, "A red circle moves left on a black background.")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What open_clip loads as `local-dir:`; random, so that no test leans on trained weights."""
    import open_clip
    import torch
    from safetensors.torch import save_model
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("open_clip")
    words = ["a", "red", "blue", "circle", "square", "moves", "left", "on", "black", "background", "."]
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=12
    ).save_pretrained(folder)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": 12,
            "vocab_size": len(vocabulary),
            "hf_tokenizer_name": "local",
            "width": 32,
            "heads": 2,
            "layers": 1,
            "pad_id": 0,
            "eos_id": 1,
            "pool_type": "eos",
        },
    }
    torch.manual_seed(0)
    save_model(open_clip.CLIP(**config), str(folder / "open_clip_model.safetensors"))
    settings = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder
