"""Trains the tiny open_clip model on single frames and captions of the demo world."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_model

from demo.recipe import tokenizer as bpe
from demo.recipe.common import SEED, WEIGHTS, Average, draw_clip, learning_rate, log
from videodpo.demo_world.render import SIZE

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIZE, "layers": 4, "width": 96, "head_width": 24, "patch_size": 4, "mlp_ratio": 2.0},
    "text_cfg": {
        "context_length": bpe.CONTEXT_LENGTH,
        "vocab_size": 512,
        "hf_tokenizer_name": "local",
        "width": 64,
        "heads": 4,
        "layers": 2,
        "pad_id": bpe.PAD,
        "eos_id": bpe.EOS,
        "pool_type": "eos",
    },
}
MEAN, STD = (0.35, 0.35, 0.35), (0.25, 0.25, 0.25)
STEPS, BATCH, PEAK_RATE = 1500, 96, 1.5e-3


def train(out: Path = WEIGHTS / "clip", steps: int = STEPS) -> None:
    """Train contrastively from scratch; save a folder that open_clip loads as `local-dir:<out>`."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = bpe.build()
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": len(tokenizer)}}
    model = open_clip.CLIP(**config)
    model.train()
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, PEAK_RATE)
        images, captions = _batch(rng, BATCH, defect_share=0.3)
        texts = tokenizer(captions, padding="max_length", max_length=bpe.CONTEXT_LENGTH, return_tensors="pt").input_ids
        image_features, text_features, scale = model(_normalise(images), texts)
        logits = scale.clamp(max=50) * image_features @ text_features.T
        # Captions that differ only in the motion describe the same still frame, so they are positives too.
        same = torch.tensor([[_still(a) == _still(b) for b in captions] for a in captions], dtype=torch.float32)
        target = same / same.sum(dim=1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0:
            log.info("clip %d/%d loss %.4f, %.0f s", step, steps, loss.item(), time.monotonic() - start)
    average.apply()
    out.mkdir(parents=True, exist_ok=True)
    save_model(model, str(out / "open_clip_model.safetensors"))
    settings = {"model_cfg": config, "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"}}
    (out / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tokenizer.save_pretrained(out)


def _batch(rng: random.Random, size: int, *, defect_share: float) -> tuple[torch.Tensor, list[str]]:
    images, captions = [], []
    for _ in range(size):
        clip, scene = draw_clip(rng, defect_share=defect_share)
        noise = rng.choice((0.0, 0.0, 4.0, 10.0))  # generated samples are never as clean as rendered clips
        frame = clip[rng.randrange(len(clip))].astype(np.float32)
        frame += noise * np.random.default_rng(rng.randrange(2**32)).standard_normal(frame.shape)
        images.append(frame)
        captions.append(scene.caption)
    return torch.from_numpy(np.stack(images).astype(np.float32)).permute(0, 3, 1, 2) / 255, captions


def _normalise(images: torch.Tensor) -> torch.Tensor:
    shape = (1, 3, 1, 1)
    return (images - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)


def _still(caption: str) -> str:
    """The caption without its motion."""
    for verb in (" moves left", " moves right", " moves up", " moves down", " grows", " shrinks"):
        caption = caption.replace(verb, "")
    return caption


@torch.no_grad()
def figures(folder: Path = WEIGHTS / "clip", num_clips: int = 512) -> dict[str, float]:
    """Retrieval of the right caption for a new frame, among 32 random scenes, ignoring motion."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    rng = random.Random(SEED + 3)
    hits = 0
    for _ in range(num_clips // 32):
        images, captions = _batch(rng, 32, defect_share=0.0)
        image_features = model.encode_image(_normalise(images), normalize=True)
        best = (image_features @ model.encode_text(tokenize(captions), normalize=True).T).argmax(dim=1)
        hits += sum(_still(captions[i]) == _still(captions[j]) for i, j in enumerate(best.tolist()))
    return {"clip_retrieval_at_1_of_32": hits / num_clips}


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train()
    print(json.dumps(figures()))
