"""Work on videos in batches: one shard's clips, latents, texts and table, resumable after every batch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from videodpo.config import Sampling
from videodpo.models.shared.prompt_embeds import (
    EMPTY,
    NEGATIVE,
    StrippedEmbeds,
    intact_texts,
    read_texts,
    texts_path,
    write_texts,
)
from videodpo.runtime.failures import failed_so_far, refuse_too_many
from videodpo.runtime.locks import exclusive
from videodpo.runtime.sharding import block_size, shard_batches
from videodpo.runtime.signals import Interrupts
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.clips import file_of, is_intact, read_clip, write_tar
from videodpo.storage.digests import digest_path, fault, link_product
from videodpo.storage.files import atomic_path
from videodpo.storage.schemas import VIDEOS
from videodpo.storage.tables import read_metadata, read_rows, shard_path, write_table
from videodpo.storage.tensors import TensorFile, intact_tensors, write_tensors

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


class Kept(NamedTuple):
    """Files of a finished shard."""

    table: Path
    latents: Path
    texts: Path


@dataclass(frozen=True)
class Shard:
    """Where one shard lies, and what a finished batch of it must have been made with."""

    snapshot: Snapshot[Any]
    videos: Path
    index: int
    num_shards: int
    made_with: str
    with_texts: bool
    """Whether the encoded prompts are stored, as a fine-tune needs them."""

    @property
    def table(self) -> Path:
        return shard_path(self.videos, self.index)

    @property
    def clips(self) -> Path:
        """Folder of the clips' files."""
        return self.videos / "clips" / f"shard-{self.index:05d}"

    @property
    def tar(self) -> Path:
        """The finished shard's clips, where the run keeps them in one file."""
        return self.clips.with_suffix(".tar")

    @property
    def latents(self) -> Path:
        return self.videos / "latents" / f"shard-{self.index:05d}.safetensors"

    @property
    def texts(self) -> Path:
        return texts_path(self.videos, self.index)

    @property
    def work(self) -> Path:
        return self.videos / "work" / f"shard-{self.index:05d}"

    @property
    def kept(self) -> Kept:
        """The finished shard in the work folder."""
        return Kept(
            self.work / f"{self.work.name}.parquet",
            self.work / "latents" / self.latents.name,
            self.work / "texts" / self.texts.name,
        )

    def relative(self, path: Path) -> str:
        return path.relative_to(self.snapshot.folder).as_posix()


@dataclass(frozen=True)
class Part:
    """What came of one batch.

    Attributes:
        rows: of the videos table, but for the columns that all have in common. latents: by video_id, on the CPU.
        texts: by prompt_id; stored only where the shard is `with_texts`.
    """

    rows: list[dict[str, Any]]
    latents: Mapping[str, torch.Tensor]
    texts: Mapping[str, StrippedEmbeds]


def run_batches(
    shard: Shard,
    requests: Sequence[Request],
    batch_size: int,
    make: Callable[[Sequence[Request]], Callable[[], Part]],
    common: dict[str, Any],
) -> None:
    """Make what a shard lacks, batch by batch, then write its table, latents and texts.

    A batch is done once its part table is in the work folder; a killed job goes on after the last one. A finished shard
    stays there too: a job that is run again makes the batches of which something is damaged or gone.

    Args:
        make: does of one batch what the next has to wait for. What it gives back does the rest in the background, one
            batch at a time and in their order, while the next is made.
        common: columns that are the same in every row.

    Raises:
        Interrupted: a signal asked to stop; the batches that were begun are saved.
    """
    with exclusive(shard.snapshot.folder, shard.table):
        block = block_size(batch_size)
        plan = shard_batches(len(requests), batch_size, shard.index, shard.num_shards, block=block)
        batches = [
            (shard.work / f"batch-{number:06d}.parquet", [requests[position] for position in positions])
            for number, positions in plan
        ]
        _unpack(shard, batches)
        behind: Future[None] | None = None
        # On an error or an interrupt, what was made is still saved.
        with Interrupts() as interrupts, ThreadPoolExecutor(1) as background:
            for done, (path, batch) in enumerate(batches):
                if _is_done(path, shard, batch):
                    continue
                interrupts.stop_here(f"{done} batches")
                finish = make(batch)
                if behind:
                    behind.result()
                behind = background.submit(_finish_part, path, finish, common, shard)
            if behind:
                behind.result()
        _finish(shard, [path for path, _ in batches], len(requests), block)


def wanted_prompts(batch: Sequence[Request], sampling: Sampling) -> dict[str, str]:
    """What a batch's part has encodings of, id to words: its prompts, and what every shard has beside them."""
    return {EMPTY: "", NEGATIVE: sampling.negative_prompt} | {request.prompt_id: request.prompt for request in batch}


def empty_row(request: Request) -> dict[str, Any]:
    """A videos row with everything that is known before the clip is made."""
    row: dict[str, Any] = dict.fromkeys(VIDEOS.names)
    row |= {"video_id": request.video_id, "prompt_id": request.prompt_id, "sample": request.sample}
    return row | {"seed": request.seed, "status": "ok"}


def _is_done(part: Path, shard: Shard, requests: Sequence[Request]) -> bool:
    """A part counts if it was made of the same requests with the same settings, nothing failed, and all is intact."""
    files = _part_files(part, shard)
    if not all(file.exists() and fault(file) is None for file in files):
        return False
    return read_metadata(part).get("made_with") == shard.made_with and _are_made(read_rows(part), shard, requests)


def _are_made(rows: Sequence[Mapping[str, Any]], shard: Shard, requests: Sequence[Request]) -> bool:
    """Whether these are the requested videos, and their clips are what they were."""
    if [(row["video_id"], row["seed"]) for row in rows] != [(one.video_id, one.seed) for one in requests]:
        return False
    for row in rows:
        if row["status"] != "ok" or not is_intact(shard.snapshot.folder / row["path"], row["sha256"]):
            return False
    return True


def _part_files(part: Path, shard: Shard) -> list[Path]:
    return [part, part.with_suffix(".safetensors"), *[_part_texts(part)] * shard.with_texts]


def _part_texts(part: Path) -> Path:
    return part.with_suffix(".texts.safetensors")


def _finish_part(path: Path, finish: Callable[[], Part], common: dict[str, Any], shard: Shard) -> None:
    part = finish()
    _write_part(path, [row | common for row in part.rows], part.latents, part.texts, shard)
    log.info("%s: %s done", shard.work.name, path.stem)


def _write_part(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    latents: Mapping[str, torch.Tensor],
    texts: Mapping[str, StrippedEmbeds],
    shard: Shard,
) -> None:
    """The table last: a part without it is not done."""
    write_tensors(path.with_suffix(".safetensors"), latents)
    if shard.with_texts:
        write_texts(_part_texts(path), texts)
    _write_table(path, rows, shard, {"made_with": shard.made_with})


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], shard: Shard, extra: Mapping[str, str]) -> None:
    snapshot = shard.snapshot
    write_table(path, rows, VIDEOS, stage=snapshot.stage, digest=snapshot.digest, seed=snapshot.seed, extra=extra)


def _unpack(shard: Shard, batches: Sequence[tuple[Path, Sequence[Request]]]) -> None:
    """Parts of the batches that the finished shard in the work folder has whole: so only the others are made again.

    Whoever takes away a shard's published files, a workflow engine before it runs the job again or a user because they
    are damaged, need not have its clips sampled a second time.
    """
    kept = shard.kept
    if not kept.table.exists() or fault(kept.table) or read_metadata(kept.table).get("made_with") != shard.made_with:
        return
    rows = {row["video_id"]: row for row in read_rows(kept.table)}
    latents = intact_tensors(kept.latents)
    texts = intact_texts(kept.texts) if shard.with_texts else {}
    for path, requests in batches:
        own = [rows[request.video_id] for request in requests if request.video_id in rows]
        names = {row["video_id"]: str(row["latents"]).partition("#")[2] for row in own}
        words = {EMPTY, NEGATIVE, *(request.prompt_id for request in requests)} if shard.with_texts else set()
        if not _are_made(own, shard, requests) or set(names.values()) - latents.keys() or words - texts.keys():
            continue
        if not _is_done(path, shard, requests):
            own = [row | {"latents": None, "path": _as_file(row, shard)} for row in own]
            tensors = {video_id: latents[name] for video_id, name in names.items()}
            _write_part(path, own, tensors, {key: texts[key] for key in words}, shard)
            log.info("%s: %s was made before", shard.work.name, path.stem)


def _as_file(row: Mapping[str, Any], shard: Shard) -> str:
    """Path of a clip as a file of its own, which it becomes if it is none."""
    stored = shard.snapshot.folder / row["path"]
    if file_of(stored) != stored:
        content = read_clip(stored, row["sha256"])
        stored = shard.clips / f"{row['video_id']}.mp4"
        with atomic_path(stored) as partial:
            partial.write_bytes(content)
    return shard.relative(stored)


def _in_one_file(shard: Shard, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a finished shard, after its clips were put into its tar file."""
    folder = shard.snapshot.folder
    made = [row for row in rows if row["status"] == "ok"]
    clips = ((f"{row['video_id']}.mp4", read_clip(folder / row["path"], row["sha256"])) for row in made)
    tar = shard.relative(shard.tar)
    paths = {row["video_id"]: tar + member for row, member in zip(made, write_tar(shard.tar, clips), strict=True)}
    return [{**row, "path": paths.get(row["video_id"])} for row in rows]


def _remove_other_clips(shard: Shard, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remove files that the shard's table does not name: of an earlier plan, or with a copy in the tar file."""
    named = {file_of(shard.snapshot.folder / row["path"]) for row in rows if row["path"]}
    if shard.tar not in named:
        shard.tar.unlink(missing_ok=True)
        digest_path(shard.tar).unlink(missing_ok=True)
    for file in set(shard.clips.glob("*.mp4")) - named:
        file.unlink()
    if shard.tar in named and shard.clips.is_dir():
        shutil.rmtree(shard.clips)


def _keep(shard: Shard, rows: Sequence[Mapping[str, Any]], parts: Sequence[Path]) -> None:
    """The finished shard into the work folder, its large files as hard links, instead of its parts."""
    kept = shard.kept
    for file in kept:  # the table first: without it the others are not believed
        file.unlink(missing_ok=True)
        digest_path(file).unlink(missing_ok=True)
    try:
        link_product(shard.latents, kept.latents)
        if shard.with_texts:
            link_product(shard.texts, kept.texts)
    except OSError as error:
        log.warning("%s: not kept for another run, this file system has no hard links (%s)", shard.work, error)
    else:
        _write_table(kept.table, rows, shard, {"made_with": shard.made_with})
    for file in (file for part in parts for file in _part_files(part, shard)):
        digest_path(file).unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def _finish(shard: Shard, parts: Sequence[Path], num_videos: int, block: int) -> None:
    rows: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    texts: dict[str, StrippedEmbeds] = {}
    for part in parts:
        if shard.with_texts:
            texts |= read_texts(_part_texts(part))
        latents = TensorFile(part.with_suffix(".safetensors"))
        for row in read_rows(part):
            if row["video_id"] in latents.names:
                name = str(len(rows))
                tensors[name] = latents.get(row["video_id"])
                row["latents"] = f"{shard.relative(shard.latents)}#{name}"
            rows.append(row)
    snapshot = shard.snapshot
    failed = failed_so_far(rows, shard.table, snapshot.digest)
    refuse_too_many(snapshot.stage, failed, num_videos, snapshot.execution.max_failed_fraction)
    write_tensors(shard.latents, tensors)
    if shard.with_texts:
        write_texts(shard.texts, texts)
    if snapshot.execution.clip_storage == "tar":
        rows = _in_one_file(shard, rows)
    extra = {"shard": str(shard.index), "num_shards": str(shard.num_shards), "num_videos": str(num_videos)}
    extra["block"] = str(block)  # rows that are scored together, from the first on
    _write_table(shard.table, rows, shard, extra)
    _keep(shard, rows, parts)
    _remove_other_clips(shard, rows)
