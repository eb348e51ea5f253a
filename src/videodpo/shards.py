"""Work on videos in batches: one shard's clips, latents, texts and table, resumable after every batch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config import Sampling
from videodpo.failures import failed_so_far, refuse_too_many
from videodpo.files import atomic_path, exclusive, sha256_of
from videodpo.frozen import Frozen
from videodpo.plan import block_size, shard_batches
from videodpo.tables import VIDEOS, read_metadata, read_rows, read_table, shard_path, write_table
from videodpo.texts import EMPTY, NEGATIVE, ShortText, Tensors, read_texts, texts_path, write_texts

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One video to be made."""

    prompt_id: str
    prompt: str
    sample: int
    seed: int

    @property
    def video_id(self) -> str:
        return f"{self.prompt_id}-{self.sample}"


@dataclass(frozen=True)
class Shard:
    """Where one shard lies, and what a finished batch of it must have been made with."""

    frozen: Frozen[Any]
    videos: Path
    shard: int
    num_shards: int
    made_with: str
    with_texts: bool
    """Whether the encoded prompts are stored, as a fine-tune needs them."""

    @property
    def clips(self) -> Path:
        return self.videos / "clips" / f"shard-{self.shard:05d}"

    @property
    def latents(self) -> Path:
        return self.videos / "latents" / f"shard-{self.shard:05d}.safetensors"

    @property
    def texts(self) -> Path:
        return texts_path(self.videos, self.shard)

    @property
    def work(self) -> Path:
        return self.videos / "work" / f"shard-{self.shard:05d}"

    def relative(self, path: Path) -> str:
        return path.relative_to(self.frozen.folder).as_posix()


@dataclass(frozen=True)
class Part:
    """What came of one batch.

    Attributes:
        rows: of the videos table, but for the columns that all have in common. latents: by video_id, on the CPU.
        texts: by prompt_id; stored only where the shard is `with_texts`.
    """

    rows: list[dict[str, Any]]
    latents: Mapping[str, torch.Tensor]
    texts: Mapping[str, ShortText]


def run_batches(
    place: Shard,
    requests: Sequence[Request],
    batch_size: int,
    make: Callable[[Sequence[Request]], Callable[[], Part]],
    common: dict[str, Any],
) -> None:
    """Make what a shard lacks, batch by batch, then write its table, latents and texts.

    A batch is done once its part table is in the work folder; a killed job goes on after the last one.

    Args:
        make: does of one batch what the next has to wait for. What it gives back does the rest in the background, one
            batch at a time and in their order, while the next is made.
        common: columns that are the same in every row.
    """
    with exclusive(place.videos / "work" / f"shard-{place.shard:05d}.lock"):
        paths = []
        block = block_size(batch_size)
        behind: Future[None] | None = None
        with ThreadPoolExecutor(1) as background:  # on an error or an interrupt, what was made is still saved
            for number, positions in shard_batches(
                len(requests), batch_size, place.shard, place.num_shards, block=block
            ):
                path = place.work / f"batch-{number:06d}.parquet"
                paths.append(path)
                if _is_done(path, place):
                    continue
                finish = make([requests[position] for position in positions])
                if behind:
                    behind.result()
                behind = background.submit(_finish_part, path, finish, common, place)
            if behind:
                behind.result()
        _finish(place, paths, len(requests), block)


def wanted_prompts(batch: Sequence[Request], sampling: Sampling) -> dict[str, str]:
    """What a batch's part has encodings of, id to words: its prompts, and what every shard has beside them."""
    return {EMPTY: "", NEGATIVE: sampling.negative_prompt} | {request.prompt_id: request.prompt for request in batch}


def empty_row(request: Request) -> dict[str, Any]:
    """A videos row with everything that is known before the clip is made."""
    row: dict[str, Any] = dict.fromkeys(VIDEOS.names)
    row |= {"video_id": request.video_id, "prompt_id": request.prompt_id, "sample": request.sample}
    return row | {"seed": request.seed, "status": "ok"}


def _is_done(part: Path, place: Shard) -> bool:
    """A part counts if it was made with the same settings, nothing in it failed, and its clips are what they were."""
    if not part.exists() or read_metadata(part).get("made_with") != place.made_with:
        return False
    rows = read_table(part)
    if (rows["status"] != "ok").any():
        return False
    for path, digest in rows[["path", "sha256"]].itertuples(index=False):
        clip = place.frozen.folder / path
        if not clip.exists() or sha256_of(clip) != digest:
            return False
    return part.with_suffix(".safetensors").exists() and (not place.with_texts or _part_texts(part).exists())


def _part_texts(part: Path) -> Path:
    return part.with_suffix(".texts.safetensors")


def _finish_part(path: Path, finish: Callable[[], Part], common: dict[str, Any], place: Shard) -> None:
    from safetensors.torch import save_file

    part = finish()
    with atomic_path(path.with_suffix(".safetensors")) as partial:
        save_file(dict(part.latents), partial)
    if place.with_texts:
        write_texts(_part_texts(path), part.texts)
    frozen = place.frozen
    rows = [row | common for row in part.rows]
    extra = {"made_with": place.made_with}
    write_table(path, rows, VIDEOS, stage=frozen.stage, digest=frozen.digest, seed=frozen.seed, extra=extra)
    log.info("%s: %s done", place.work.name, path.stem)


def _finish(place: Shard, parts: Sequence[Path], num_videos: int, block: int) -> None:
    from safetensors.torch import save_file

    rows: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    texts: dict[str, ShortText] = {}
    for part in parts:
        if place.with_texts:
            texts |= read_texts(_part_texts(part))
        latents = Tensors(part.with_suffix(".safetensors"))
        for row in read_rows(part):
            if row["video_id"] in latents.names:
                name = str(len(rows))
                tensors[name] = latents.tensor(row["video_id"])
                row["latents"] = f"{place.relative(place.latents)}#{name}"
            rows.append(row)
    frozen = place.frozen
    table = shard_path(place.videos, place.shard)
    failed = failed_so_far(rows, table, frozen.digest)
    refuse_too_many(frozen.stage, failed, num_videos, frozen.execution.max_failed_fraction)
    with atomic_path(place.latents) as partial:
        save_file(tensors, partial)
    if place.with_texts:
        write_texts(place.texts, texts)
    kept = {f"{row['video_id']}.mp4" for row in rows if row["status"] == "ok"}
    for stale in place.clips.glob("*.mp4"):  # of an earlier plan
        if stale.name not in kept:
            stale.unlink()
    write_table(
        table,
        rows,
        VIDEOS,
        stage=frozen.stage,
        digest=frozen.digest,
        seed=frozen.seed,
        extra={
            "shard": str(place.shard),
            "num_shards": str(place.num_shards),
            "num_videos": str(num_videos),
            "block": str(block),  # rows that are scored together, from the first on
        },
    )
    if place.work.exists():
        shutil.rmtree(place.work)
