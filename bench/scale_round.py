"""Fabricates the tables of a scored round with any number of videos, in the format of the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from videodpo.config import Config, parse_config
from videodpo.config.loading import read_config
from videodpo.runtime.sharding import block_size, shard_batches
from videodpo.runtime.snapshot import snapshot_text, write_snapshot
from videodpo.storage.schemas import PROMPTS, SCORES, VIDEOS
from videodpo.storage.tables import shard_path, write_table

ROOT = Path(__file__).parents[1]
SAMPLES = 4
ALL_DIGESTS = (
    20_000_000  # videos; larger tables leave out the clips' sha256, half of their bytes, which nothing here reads
)
FAILED = 1e-5  # share of failed scores
DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
# Mean and standard deviation of raw scores, on the scale of each scorer; a deviation of 0 marks scores of 0 or 1.
RAW = {
    "subject_consistency": (0.93, 0.03),
    "background_consistency": (0.95, 0.02),
    "temporal_flickering": (0.97, 0.01),
    "motion_smoothness": (0.97, 0.01),
    "dynamic_degree": (0.45, 0.0),
    "aesthetic_quality": (0.55, 0.06),
    "imaging_quality": (62.0, 7.0),
    "overall_consistency": (0.25, 0.02),
}


def configuration(results: Path, num_videos: int) -> Config:
    """The repository's default configuration, for the given number of videos."""
    raw = read_config(ROOT / "config.yaml", [], [])
    raw |= {"run": "scale", "results": str(results)}
    raw["prompts"] |= {"num_train": num_videos // SAMPLES, "num_heldout": 0}
    return parse_config(raw)


def make_round(results: Path, num_videos: int) -> Path:
    """Write prompts, videos and scores; return the folder of the run."""
    config = configuration(results, num_videos)
    run = results / config.run
    for stage in ("omniscore", "pairs", "execution"):
        write_snapshot(snapshot_text(config, stage), run / "config" / f"{stage}.json")
    prompts = _hex_ids(np.random.default_rng(0), num_videos // SAMPLES)
    _write_prompts(run, prompts)
    batch, num_shards = config.generate.sampling.batch_size, config.generate.shards
    for shard in range(num_shards):
        batches = shard_batches(num_videos, batch, shard, num_shards, block=block_size(batch))
        if batches:
            _write_shard(run, prompts, range(batches[0][1].start, batches[-1][1].stop), shard, num_shards, config)
    return run


def _write_prompts(run: Path, prompts: NDArray[np.uint8]) -> None:
    ids = _strings(prompts)
    columns = [ids, ids, _same("bench", len(ids)), _same("train", len(ids)), np.arange(len(ids))]
    table = pa.table(columns, schema=PROMPTS)
    write_table(run / "prompts.parquet", table, PROMPTS, stage="prompts", digest="", seed=0)


def _write_shard(
    run: Path, prompts: NDArray[np.uint8], rows: range, shard: int, num_shards: int, config: Config
) -> None:
    rng, count, places = np.random.default_rng(shard + 1), len(rows), np.arange(rows.start, rows.stop)
    samples = places % SAMPLES
    owners = prompts[places // SAMPLES]
    dashes, numbers = np.full((count, 1), ord("-"), np.uint8), (ord("0") + samples).astype(np.uint8)[:, None]
    video_ids, prompt_ids = _strings(np.hstack([owners, dashes, numbers])), _strings(owners)
    extra = {"shard": str(shard), "num_shards": str(num_shards), "num_videos": str(len(prompts) * SAMPLES)}

    def write(file: Path, schema: pa.Schema, **columns: Any) -> None:
        ids = {"video_id": video_ids, "prompt_id": prompt_ids, "status": _same("ok", count)}
        nothing = {name: pa.nulls(count, schema.field(name).type) for name in schema.names}
        table = pa.table({**nothing, **ids, **columns}, schema=schema)
        write_table(file, table, schema, stage="bench", digest="", seed=0, extra=extra)

    sampling = config.generate.sampling
    sizes = {name: np.full(count, getattr(sampling, name), np.int32) for name in ("num_frames", "height", "width")}
    names = [f"round1/videos/clips/shard-{shard:05d}/{name}.mp4" for name in video_ids.to_pylist()]
    digests = {"sha256": _strings(_hex_ids(rng, count, 64))} if len(prompts) * SAMPLES <= ALL_DIGESTS else {}
    latents = [f"round1/videos/latents/shard-{shard:05d}.safetensors#{row}" for row in range(count)]
    write(
        shard_path(run / "round1" / "videos", shard),
        VIDEOS,
        sample=samples.astype(np.int32),
        seed=rng.integers(2**62, size=count),
        path=names,
        fps=np.full(count, float(sampling.fps)),
        latents=latents,
        model=_same(f"{config.model.family} {config.model.weights}", count),
        **sizes,
        **digests,
    )
    for name in config.formula.dimensions:
        failed = rng.random(count) < FAILED
        write(
            shard_path(run / "round1" / "scores" / name, shard),
            SCORES,
            dimension=_same(name, count),
            value=pa.array(_raw(rng, name, count), mask=failed),
            status=pa.array(np.where(failed, "failed", "ok")),
            error=pa.array(np.full(count, "no frames"), mask=~failed),
            scorer=_same(f"{name} v1 0123456789ab", count),
        )


def _raw(rng: np.random.Generator, dimension: str, count: int) -> NDArray[np.float64]:
    """Raw scores, rounded to float32 as those of networks are."""
    mean, spread = RAW[dimension]
    values = rng.normal(mean, spread, count) if spread else rng.random(count) < mean
    return values.astype(np.float32).astype(np.float64)


def _hex_ids(rng: np.random.Generator, count: int, length: int = 16) -> NDArray[np.uint8]:
    """Hex digits as ASCII, [count, length]."""
    octets = rng.integers(0, 256, size=(count, length // 2), dtype=np.uint8)
    return np.stack([DIGITS[octets >> 4], DIGITS[octets & 15]], axis=2).reshape(count, length)


def _strings(ascii_codes: NDArray[np.uint8]) -> pa.Array:
    count, length = ascii_codes.shape
    ends = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * length)
    return pa.StringArray.from_buffers(count, ends, pa.py_buffer(np.ascontiguousarray(ascii_codes)))


def _same(value: str, count: int) -> pa.Array:
    return pa.repeat(value, count)
