"""The user's own clips to a videos table: nothing is sampled, the clips are copied and encoded once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo import registry
from videodpo.config import Sampling
from videodpo.device import choose_device
from videodpo.files import atomic_path, sha256_of
from videodpo.frozen import Frozen, GenerateSettings
from videodpo.shards import Request, Shard, empty_row, run_batches
from videodpo.tables import read_table
from videodpo.video import UnreadableVideo, read_mp4

if TYPE_CHECKING:
    import torch

    from videodpo.models.base import VideoModel

BATCH = 8  # clips between two save points


def intake_shard(frozen: Frozen[GenerateSettings], round_number: int, shard: int) -> None:
    """Take in one shard of the clips in `clips.parquet` as `round<r>/videos`.

    A clip that cannot be read, or has another size or length than `generate.sampling`, is a failed row.

    Raises:
        ValueError: a round after the first, where videos come from the aligned model.
        RuntimeError: more than `max_failed_fraction` of the clips failed.
    """
    if round_number != 1:
        raise ValueError("rounds: clips of your own are for round 1; later rounds sample from the model")
    settings = frozen.settings
    positions = {name: row for row, name in enumerate(read_table(frozen.folder / "prompts.parquet")["prompt_id"])}
    table = read_table(frozen.folder / "clips.parquet")
    table = table.assign(position=table["prompt_id"].map(positions)).sort_values(["position", "sample"])
    requests = [
        Request(prompt_id, "", int(sample), 0)
        for prompt_id, sample in zip(table["prompt_id"], table["sample"], strict=True)
    ]
    sources = {request.video_id: Path(path) for request, path in zip(requests, table["path"], strict=True)}
    place = Shard(frozen, frozen.folder / "round1" / "videos", shard, settings.generate.shards, frozen.digest)
    model: VideoModel | None = None

    def make(batch: Sequence[Request]) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        nonlocal model
        if model is None:
            model = registry.load("videodpo.models", settings.model.family)(
                settings.model, choose_device(settings.device)
            )
        rows, latents = [], {}
        for request in batch:
            row = empty_row(request)
            try:
                copy, frames, fps = _take(sources[request.video_id], request, settings.generate.sampling, place)
            except UnreadableVideo as error:
                row |= {"status": "failed", "error": str(error)}
            else:
                num_frames, height, width, _ = frames.shape
                row |= {"path": place.relative(copy), "sha256": sha256_of(copy)}
                row |= {"num_frames": num_frames, "height": height, "width": width, "fps": fps}
                latents[request.video_id] = model.encode(frames).cpu().contiguous()
            rows.append(row)
        return rows, latents

    run_batches(place, requests, BATCH, make, {"model": "import", "adapter": None})


def _take(source: Path, request: Request, sampling: Sampling, place: Shard) -> tuple[Path, Any, float]:
    frames, fps = read_mp4(source)
    wanted = (sampling.num_frames, sampling.height, sampling.width)
    if frames.shape[:3] != wanted:
        raise UnreadableVideo(
            f"{source.name}: {frames.shape[0]} frames of {frames.shape[1]} x {frames.shape[2]}, generate.sampling "
            f"asks for {wanted[0]} of {wanted[1]} x {wanted[2]}"
        )
    copy = place.clips / f"{request.video_id}.mp4"
    with atomic_path(copy) as partial:
        shutil.copyfile(source, partial)
    return copy, frames, fps
