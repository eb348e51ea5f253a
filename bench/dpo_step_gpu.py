"""Speed of a DPO step and of sampling at the size of real models, relative to the time of their minimal arithmetic.

    python bench/dpo_step_gpu.py --out FILE [--device cuda|cpu] [--size wan1.3b|cogvideox2b|tiny]
        [--method lora full] [--checkpointing off selective full] [--compile off on] [--pairs-per-pass 1]
        [--steps 5] [--warm-up 2]

First, sampling: the family's `sample` with guidance (two forward passes per step), without the text encoder; then the
VAE's decoder on one clip, and the share of denoising in their total time at `--sampling-steps`.
Then the trainer's own step with `train.reference: precomputed`, in every combination of the options. Weights, latents
and texts are random; the reference stage makes its table. The weights are drawn on the device, so that only the
configurations below are needed. `--size tiny --device cpu` runs the same code with a small network.

TFLOP count matrix products (2 per multiply-add), measured on the network itself: a forward pass has 283 for Wan 2.1
1.3B at 81 x 480 x 832, and 120 for CogVideoX-2b at 49 x 480 x 720. The backward pass has twice as many if every weight
is trained. A LoRA needs no gradients of the frozen weights, which saves half of the backward pass in the linear layers
and nothing in attention. Recomputation by checkpointing (everything, or everything but attention) counts in the floor,
but not in TFLOP per second. Peak memory is the GPU's for one combination; on the CPU, it is the process's so far.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from videodpo.config import Config, parse_config
from videodpo.config.loading import read_config as read_yaml
from videodpo.dpo.trainer import Training
from videodpo.models import load_model
from videodpo.models.shared.pipeline_model import PipelineModel, load_scheduler, read_config
from videodpo.models.shared.prompt_embeds import texts_path, write_texts
from videodpo.runtime.device import choose_device
from videodpo.runtime.snapshot import load_snapshot, snapshot_text, write_snapshot
from videodpo.stages.reference import reference_shard
from videodpo.stages.visits import plan_visits
from videodpo.storage.files import write_json
from videodpo.storage.schemas import PAIRS, VIDEOS
from videodpo.storage.tables import commit, shard_path, write_table

ROOT = Path(__file__).resolve().parents[1]
FLOOR_RATE = 790.0  # TFLOP per second that one H200 reaches in bf16 matrix products
NUM_PAIRS = 4
SAMPLED, SAMPLING_STEPS = 2, 2  # clips per batch, timed steps


@dataclass(frozen=True)
class Size:
    """A denoiser, and the size of one clip and of its inputs."""

    family: str
    pipeline: str
    network: str
    config: dict[str, Any]
    vae: dict[str, Any]
    latents: tuple[int, int, int, int]
    """Channels, frames, height, width."""
    text: tuple[int, int]
    """Tokens and channels of the encoded prompt."""
    clip: tuple[int, int, int]
    """Frames, height, width."""

    @property
    def num_tokens(self) -> int:
        """Video tokens per clip."""
        _, frames, height, width = self.latents
        return frames * (height // 2) * (width // 2)


WAN = {"in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "cross_attn_norm": True}
WAN |= {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
COGVIDEOX = {"num_attention_heads": 30, "attention_head_dim": 64, "num_layers": 30, "max_text_seq_length": 226}
COGVIDEOX |= {"sample_width": 90, "sample_height": 60, "sample_frames": 49, "in_channels": 16, "out_channels": 16}
SIZES = {
    "wan1.3b": Size(
        "wan",
        "WanPipeline",
        "WanTransformer3DModel",
        WAN | {"qk_norm": "rms_norm_across_heads"},
        {"_class_name": "AutoencoderKLWan", "z_dim": 16},
        (16, 21, 60, 104),
        (512, 4096),
        (81, 480, 832),
    ),
    "cogvideox2b": Size(
        "cogvideox",
        "CogVideoXPipeline",
        "CogVideoXTransformer3DModel",
        COGVIDEOX,
        {"_class_name": "AutoencoderKLCogVideoX", "latent_channels": 16},
        (16, 13, 60, 90),
        (226, 4096),
        (49, 480, 720),
    ),
    "tiny": Size(
        "wan",
        "WanPipeline",
        "WanTransformer3DModel",
        read_config(ROOT / "demo" / "text_to_video" / "transformer" / "config.json"),
        read_config(ROOT / "demo" / "text_to_video" / "vae" / "config.json"),
        (8, 3, 8, 8),
        (32, 64),
        (9, 32, 32),
    ),
}
SCHEDULERS = {"wan": "FlowMatchEulerDiscreteScheduler", "cogvideox": "CogVideoXDDIMScheduler"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", choices=SIZES, default="wan1.3b")
    parser.add_argument("--method", choices=("lora", "full"), nargs="+", default=["lora", "full"])
    checkpointing = ("off", "selective", "full")
    parser.add_argument("--checkpointing", choices=checkpointing, nargs="+", default=list(checkpointing))
    parser.add_argument("--compile", choices=("off", "on"), nargs="+", default=["off", "on"])
    parser.add_argument("--mixed-precision", action="store_true", help="float32 weights for a LoRA too")
    parser.add_argument("--pairs-per-pass", type=int, default=1, help="pairs per forward pass and per step")
    parser.add_argument("--steps", type=int, default=5, help="steps of each combination that are counted")
    parser.add_argument("--warm-up", type=int, default=2, help="steps of each combination before those")
    parser.add_argument("--sampling-steps", type=int, default=50, help="per clip, for denoising's share of the time")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    device, size = choose_device(arguments.device), SIZES[arguments.size]
    random: dict[str, Any] = {"load_pipeline": _random_pipeline, "load_vae": _random_vae}
    with tempfile.TemporaryDirectory() as temporary, patch.multiple(PipelineModel, **random):
        folder = Path(temporary)
        forward, attention = _forward_tflop(size)
        result: dict[str, Any] = {
            "command": " ".join(["python", *sys.argv]),
            "commit": commit(),
            "machine": f"{torch.cuda.get_device_name() if device != 'cpu' else 'CPU'}, torch {torch.__version__}",
            "forward_tflop_a_clip": _short(forward),
            "share_of_attention": round(attention, 3),
            "tokens_a_clip": size.num_tokens,
            "matmul_tflop_per_second": _matmul_rate(device),
            "runs": [],
        }
        _write_round(folder, size, arguments, device)
        sampling = _sampling(folder, size, arguments, device, forward)
        share = sampling["tflop_per_second"] / result["matmul_tflop_per_second"]
        result["sampling"] = sampling | {"fraction_of_matmul_rate": _short(share)}
        write_json(arguments.out, result)
        print(result["sampling"], file=sys.stderr, flush=True)
        ways = itertools.product(arguments.method, arguments.checkpointing, arguments.compile)
        for method, checkpointing_kind, compiled in ways:
            row = {"method": method, "checkpointing": checkpointing_kind, "compile": compiled}
            choice = [f"train.method={method}", f"train_runtime.gradient_checkpointing={checkpointing_kind}"]
            choice += [f"model.mixed_precision={arguments.mixed_precision or method == 'full'}"]
            config = _config(folder, size, arguments, device, [*choice, f"train_runtime.compile={compiled}"])
            try:
                measured = _measure(config, folder, arguments, device)
            except torch.OutOfMemoryError:
                measured = {"out_of_memory": True}
            else:
                units = 3.0 if method == "full" else 2.0 + attention
                again = {"off": 0.0, "selective": 1.0 - attention, "full": 1.0}[checkpointing_kind]
                clips = 2 * arguments.pairs_per_pass
                measured |= _rates(measured["seconds"], clips, size.num_tokens, forward * units, forward * again)
                share = measured["tflop_per_second"] / result["matmul_tflop_per_second"]
                measured["fraction_of_matmul_rate"] = _short(share)
            result["runs"].append(row | measured)
            write_json(arguments.out, result)
            print(row | measured, file=sys.stderr, flush=True)
            _free(device)


def _sampling(folder: Path, size: Size, arguments: argparse.Namespace, device: str, forward: float) -> dict[str, float]:
    """Measure denoising and decoding; `forward` is the TFLOP of one clip's forward pass."""
    config = _config(folder, size, arguments, device, [])
    model = load_model(config.model, device, parts={"denoiser"})
    assert isinstance(model, PipelineModel)
    draw = torch.Generator().manual_seed(0)
    texts = torch.randn(SAMPLED + 1, *size.text, generator=draw).to(device, model.dtype)
    text, negative = {"prompt_embeds": texts[1:]}, {"prompt_embeds": texts[0]}
    shape = dict(zip(("num_frames", "height", "width"), size.clip, strict=True))
    sampling = config.generate.sampling.model_copy(update=shape | {"num_steps": SAMPLING_STEPS, "guidance_scale": 5.0})
    seconds = []
    for _ in range(2):
        begun = _now(device)
        model.sample(text, range(SAMPLED), sampling, negative)
        seconds.append(_now(device) - begun)
    passes, denoising = 2 * SAMPLED * SAMPLING_STEPS, seconds[-1] / SAMPLING_STEPS / SAMPLED
    latents = torch.randn(1, *size.latents, generator=draw).to(device)
    with model.with_vae():
        for _ in range(2):
            begun = _now(device)
            model.decode(latents)
            decoding = _now(device) - begun
    del model
    _free(device)
    denoising_total = denoising * arguments.sampling_steps
    return {
        "clips_at_once": SAMPLED,
        "seconds_a_step_and_clip": _short(denoising),
        "tflop_per_second": _short(passes * forward / seconds[-1]),
        "decoding_seconds_a_clip": _short(decoding),
        "denoising_share": _short(denoising_total / (denoising_total + decoding)),
    }


def _rates(seconds: float, clips: int, tokens: int, tflop: float, again: float) -> dict[str, float]:
    """Rates from TFLOP per clip: `tflop` for forward and backward, `again` for recomputation by checkpointing."""
    floor = clips * (tflop + again) / FLOOR_RATE
    rates = {"samples_per_second": clips / seconds, "tokens_per_second": clips * tokens / seconds}
    rates |= {"tflop_per_second": clips * tflop / seconds, "floor_seconds": floor, "fraction_of_floor": floor / seconds}
    return {name: _short(value) for name, value in rates.items()}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _measure(config: Config, folder: Path, arguments: argparse.Namespace, device: str) -> dict[str, Any]:
    """Seconds of the trainer's step, and of the policy's forward and backward alone on prepared tensors."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    write_snapshot(snapshot_text(config, "execution"), folder / "run" / "config" / "execution.json")
    write_snapshot(snapshot_text(config, "train"), folder / "run" / "config" / "train.json")
    snapshot = load_snapshot(folder / "run" / "config" / "train.json", "train")
    training = Training(snapshot, folder / "run" / "round1", None, Accelerator(cpu=device == "cpu"))
    rows: list[dict[str, Any]] = []
    seconds = []
    for number in range(arguments.warm_up + arguments.steps):
        begun = _now(device)
        rows.append(training._step(number, rows))
        seconds.append(_now(device) - begun)
    assert not any(row["skipped"] for row in rows)
    bare = _bare_seconds(training, arguments, device)
    middle = float(np.median(seconds[arguments.warm_up :]))
    return {
        "loss_at_step_0": rows[0]["loss"],  # ln 2 up to rounding: the policy is the reference
        "first_step_seconds": round(seconds[0], 3),
        "seconds": _short(middle),
        "bare_seconds": _short(bare),
        "step_over_bare": round(middle / bare, 3),
        "peak_memory_mb": round(rows[-1]["max_memory_mb"]),
    }


def _bare_seconds(training: Training, arguments: argparse.Namespace, device: str) -> float:
    visits = training.passes.plan.training[: arguments.pairs_per_pass]
    batch, schedule = training.passes.data.batch(visits), training.model.noise_schedule
    noisy = schedule.add_noise(batch.latents, batch.noise, batch.noise_level)
    target = schedule.target(batch.latents, batch.noise, batch.noise_level)
    seconds = []
    for _ in range(arguments.steps):
        begun = _now(device)
        with training.model.precision():
            prediction = training.model.predict(noisy, batch.noise_level, batch.text)
        torch.nn.functional.mse_loss(prediction.float(), target).backward()
        seconds.append(_now(device) - begun)
        training.optimizer.zero_grad(set_to_none=True)
    return float(np.median(seconds))


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def _free(device: str) -> None:
    gc.collect()
    torch.compiler.reset()
    if device != "cpu":
        torch.cuda.empty_cache()


def _random_pipeline(model: PipelineModel, folder: Path, **components: Any) -> Any:
    """Replace loading by random weights, the same at every call; modules that diffusers keeps in float32 stay so."""
    assert not components
    index = read_config(folder / "model_index.json")
    torch.manual_seed(0)
    with model.device:
        network = getattr(diffusers, index["network"])(**read_config(folder / "transformer" / "config.json"))
    exact = set(network._keep_in_fp32_modules or ())
    for name, weight in network.named_parameters():
        if not exact & set(name.split(".")):
            weight.data = weight.data.to(model.weights_dtype)
    parts = dict.fromkeys(("tokenizer", "text_encoder", "vae"))
    return getattr(diffusers, model.pipeline)(**parts, transformer=network, scheduler=load_scheduler(folder))


def _random_vae(model: PipelineModel, folder: Path) -> Any:
    config = read_config(folder / "vae" / "config.json")
    with model.device:
        return getattr(diffusers, config["_class_name"]).from_config(config)


def _forward_tflop(size: Size) -> tuple[float, float]:
    """TFLOP of one clip's forward pass, and attention's share of them, counted without computing it."""
    counter = FlopCounterMode(display=False)
    channels, *sides = size.latents
    shape = (1, channels, *sides) if size.family == "wan" else (1, sides[0], channels, *sides[1:])
    with torch.device("meta"), torch.no_grad():
        network = getattr(diffusers, size.network)(**size.config)
        text = torch.empty(1, *size.text)
        with counter:
            network(torch.empty(shape), encoder_hidden_states=text, timestep=torch.ones(1))
    by_kind = {str(kind): flop for kind, flop in counter.get_flop_counts()["Global"].items()}
    attention = sum(flop for kind, flop in by_kind.items() if "bmm" in kind or "attention" in kind)
    return counter.get_total_flops() / 1e12, attention / counter.get_total_flops()


def _matmul_rate(device: str) -> float:
    """TFLOP per second of large matrix products, in the type of the step's products."""
    side, count = (1024, 10) if device == "cpu" else (8192, 50)
    factor = torch.randn(side, side, device=device, dtype=_dtype(device))
    for _ in range(5):
        factor @ factor
    begun = _now(device)
    for _ in range(count):
        factor @ factor
    return _short(2 * side**3 * count / (_now(device) - begun) / 1e12)


def _dtype(device: str) -> torch.dtype:
    return torch.float32 if device == "cpu" else torch.bfloat16


def _config(folder: Path, size: Size, arguments: argparse.Namespace, device: str, more: Sequence[str]) -> Config:
    tokens, _ = size.text
    pairs = arguments.pairs_per_pass
    settings = [
        "run=run",
        f"results={folder}",
        f"device={device}",
        f"model.family={size.family}",
        f"model.weights={folder / 'model'}",
        f"model.dtype={str(_dtype(device)).removeprefix('torch.')}",
        "model.mixed_precision=false",
        f"model.max_sequence_length={tokens}",
        f"schedule.num_steps={arguments.warm_up + arguments.steps}",
        f"schedule.global_batch_size={pairs}",
        f"schedule.micro_batch_size={pairs}",
        "schedule.validation.num_prompts=0",
        "reference.shards=1",
        "train.reference=precomputed",
        "train.beta=100.0",
        "train.skip_above_median=null",
        "train.warmup_steps=0",
        "train_runtime.trackers=[]",
    ]
    return parse_config(read_yaml(ROOT / "config.yaml", settings=[*settings, *more]))


def _write_round(folder: Path, size: Size, arguments: argparse.Namespace, device: str) -> None:
    """Write a model's folder without weights, and a round of random latents, texts and pairs with a reference table."""
    index: dict[str, Any] = {"_class_name": size.pipeline, "network": size.network}
    index["scheduler"] = ["diffusers", SCHEDULERS[size.family]]
    write_json(folder / "model" / "model_index.json", index)
    getattr(diffusers, SCHEDULERS[size.family])().save_pretrained(folder / "model" / "scheduler")
    write_json(folder / "model" / "vae" / "config.json", size.vae)
    write_json(folder / "model" / "transformer" / "config.json", size.config)
    round_folder = folder / "run" / "round1"
    draw = torch.Generator().manual_seed(0)
    latents: dict[str, torch.Tensor] = {}
    texts, videos, pairs = {}, [], []
    file = round_folder / "videos" / "latents" / "shard-00000.safetensors"
    for number in range(NUM_PAIRS):
        prompt_id = f"{number:016x}"
        texts[prompt_id] = {"prompt_embeds": (torch.randn(size.text, generator=draw), size.text[0])}
        for sample in range(2):
            video = dict.fromkeys(VIDEOS.names) | {"video_id": f"{prompt_id}-{sample}", "prompt_id": prompt_id}
            video |= {"sample": sample, "seed": 0, "status": "ok", "sha256": "", "model": "random"}
            video["latents"] = f"{file.relative_to(folder / 'run')}#{len(latents)}"
            latents[str(len(latents))] = torch.randn(size.latents, generator=draw)
            videos.append(video)
        pair = {"pair_id": number, "prompt_id": prompt_id, "winner_id": f"{prompt_id}-0", "loser_id": f"{prompt_id}-1"}
        scores = {"score_winner": 1.0, "score_loser": 0.0, "gap": 1.0, "probability": 1.0, "weight": 1.0}
        pairs.append(pair | scores | {"policy": "all", "label_source": "random"})
    file.parent.mkdir(parents=True)
    save_file(latents, file)
    write_texts(texts_path(round_folder / "videos", 0), texts)
    made: dict[str, Any] = {"digest": "", "seed": 0}
    extra = {"num_shards": "1", "shard": "0", "num_videos": str(len(videos)), "block": "1"}
    write_table(shard_path(round_folder / "videos", 0), videos, VIDEOS, stage="generate", extra=extra, **made)
    write_table(round_folder / "pairs.parquet", pairs, PAIRS, stage="pairs", **made)
    config = _config(folder, size, arguments, device, [])
    configs = folder / "run" / "config"
    for name in ("execution", "visits", "reference"):
        write_snapshot(snapshot_text(config, name), configs / f"{name}.json")
    plan_visits(load_snapshot(configs / "visits.json", "visits"), round_folder)
    reference_shard(load_snapshot(configs / "reference.json", "reference"), round_folder, 0)
    _free(device)


if __name__ == "__main__":
    main()
