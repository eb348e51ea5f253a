"""Trains the judge of the demo world: a network that shares nothing with the scorers that it checks."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from demo.recipe.common import SEED, WEIGHTS, Average, learning_rate, log, to_tensor
from demo.recipe.degrade import degrade
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.judge_network import ANSWERS, STILL, JudgeNetwork, answers
from videodpo.demo_world.render import DEFECTS, render

STEPS, BATCH, PEAK_RATE = 1100, 64, 3e-3
DEFECT_SHARE = 0.4


def train(out: Path = WEIGHTS / "judge", steps: int = STEPS) -> None:
    """Train from scratch with cross-entropy over all attributes; save `out`/judge.safetensors in half precision."""
    torch.manual_seed(SEED + 4)
    rng = random.Random(SEED + 4)
    generator = torch.Generator().manual_seed(SEED + 4)
    network = JudgeNetwork().to(memory_format=torch.channels_last_3d)
    average = Average(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, PEAK_RATE)
        clips, labels = draw_batch(rng, generator, BATCH)
        logits = network(clips.contiguous(memory_format=torch.channels_last_3d))
        loss = torch.stack([F.cross_entropy(logits[name], labels[name]) for name in ANSWERS]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 0:
            log.info("judge %d/%d loss %.4f, %.0f s", step, steps, loss.item(), time.monotonic() - start)
    average.apply()
    out.mkdir(parents=True, exist_ok=True)
    half = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(half, str(out / "judge.safetensors"))


def draw_batch(
    rng: random.Random, generator: torch.Generator, size: int, *, clean: bool = False
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Clips [B, 3, T, H, W] in [-1, 1] of any scenes, including unseen triples, and indices of the right answers."""
    clips, labels = [], []
    for _ in range(size):
        scene = random_scene(rng, two_object_share=0.4)
        defect = rng.choice(DEFECTS) if not clean and rng.random() < DEFECT_SHARE else None
        if defect == "freeze" and scene.other_shape:
            defect = None  # with two still objects, nothing would show which one is the mover
        right = answers(scene) | ({"motion": STILL} if defect == "freeze" else {})
        clips.append(render(scene, rng, defect=defect))
        labels.append([ANSWERS[name].index(right[name]) for name in ANSWERS])
    tensor = to_tensor(clips)
    if not clean:
        tensor = degrade((tensor + 1) * 127.5, generator) / 127.5 - 1
    columns = torch.tensor(labels).T
    return tensor, dict(zip(ANSWERS, columns, strict=True))


@torch.no_grad()
def figures(folder: Path = WEIGHTS / "judge", num_clips: int = 2048) -> dict[str, float]:
    """Accuracy on new clips: of each attribute and of all together on degraded clips, of all together on clean ones."""
    network = JudgeNetwork()
    network.load_state_dict({k: v.float() for k, v in load_file(str(folder / "judge.safetensors")).items()})
    network.eval()
    rng, generator = random.Random(SEED + 5), torch.Generator().manual_seed(SEED + 5)
    result = {}
    for kind in ("clean", "degraded"):
        right: dict[str, list[float]] = {name: [] for name in ANSWERS}
        for _ in range(num_clips // 64):
            clips, labels = draw_batch(rng, generator, 64, clean=kind == "clean")
            for name, logits in network(clips).items():
                right[name] += (logits.argmax(dim=1) == labels[name]).float().tolist()
        shares = {name: sum(values) / len(values) for name, values in right.items()}
        result[f"judge_{kind}"] = sum(shares.values()) / len(shares)
        result |= {f"judge_{kind}_{name}": share for name, share in shares.items()}
    return result


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train()
    print(json.dumps(figures()))
