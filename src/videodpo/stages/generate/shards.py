"""One shard of videos in progress: clips, latents, encoded prompts and table. It resumes after its last batch."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from videodpo.config import InputError
from videodpo.models.shared.prompt_embeds import (
    EMPTY,
    NEGATIVE,
    StrippedEmbeds,
    read_texts,
    restore_padding,
    texts_path,
    write_texts,
)
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.failures import failed_so_far, refuse_too_many
from videodpo.runtime.locks import exclusive
from videodpo.runtime.sharding import block_size, shard_batches
from videodpo.runtime.signals import Interrupts
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.clips import file_of, is_intact, read_clip, write_tar
from videodpo.storage.files import atomic_path
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.progress import Progress
from videodpo.storage.schemas import VIDEOS
from videodpo.storage.tables import shard_path, write_table
from videodpo.storage.tensors import TensorFile, write_tensors

if TYPE_CHECKING:
    import torch

    from videodpo.models.base import PromptEmbeds

log = logging.getLogger(__name__)
IMPORTED = "import"  # column `model` of the user's own clips
Row = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One video to sample or import."""

    prompt_id: str
    prompt: str
    sample: int
    seed: int

    @property
    def video_id(self) -> str:
        return f"{self.prompt_id}-{self.sample}"


class Batch(NamedTuple):
    """Requests that are sampled or imported together, and the batch's number in the global plan."""

    number: int
    requests: Sequence[Request]


@dataclass(frozen=True)
class Part:
    """Result of one batch.

    Attributes:
        rows: rows of the videos table, without the columns that are the same in every row.
        latents: by video_id, on the CPU.
    """

    rows: list[Row]
    latents: Mapping[str, torch.Tensor]


class Files:
    """Paths of one shard's files."""

    def __init__(self, run: Path, videos: Path, index: int) -> None:
        name = f"shard-{index:05d}"
        self.run, self.table = run, shard_path(videos, index)
        self.clips = videos / "clips" / name
        self.tar = videos / "clips" / f"{name}.tar"
        self.latents = videos / "latents" / f"{name}.safetensors"
        self.texts = texts_path(videos, index)
        # This folder is not an output of the rule, so Snakemake deletes nothing in it before a retry. Hard links keep
        # the finished latents and texts here.
        self.work = videos / "work" / name
        self.kept_latents, self.kept_texts = self.work / "latents.safetensors", self.work / "texts.safetensors"

    def of_batch(self, number: int) -> tuple[Path, Path]:
        """Paths of a batch's latents and texts while the shard is unfinished."""
        return self.work / f"batch-{number:06d}.safetensors", self.work / f"batch-{number:06d}.texts.safetensors"

    def relative(self, path: Path) -> str:
        """Path of a file as the videos table stores it: relative to the run's folder."""
        return path.relative_to(self.run).as_posix()


@contextmanager
def open_shard(
    snapshot: Snapshot[Any],
    videos: Path,
    index: int,
    num_shards: int,
    requests: Sequence[Request],
    batch_size: int,
    *,
    identity: str,
    common: Row,
    with_texts: bool,
    with_latents: bool = True,
    may_fail: bool = False,
) -> Iterator[Shard]:
    """Open a shard, yield it so that the block can complete it, then write its table, latents and texts.

    Args:
        snapshot: settings of the stage.
        videos: folder of the videos table.
        index: index of the shard, from 0.
        requests: all videos of all shards.
        identity: settings and adapter that finished batches must have been made with.
        common: columns that are the same in every row, except those that a row sets itself.
        with_texts: keep the encoded prompts with the finished shard; a training needs them.
        with_latents: keep the latents, as for a training.
        may_fail: any number of clips may fail.

    Raises:
        Interrupted: a signal asked to stop; the batches in progress are saved.
        RunError: more than `max_failed_fraction` of all clips failed; finished clips are kept for the next try.
    """
    files = Files(snapshot.folder, videos, index)
    block = block_size(batch_size)
    plan = shard_batches(len(requests), batch_size, index, num_shards, block=block)
    batches = [Batch(number, [requests[position] for position in positions]) for number, positions in plan]
    with exclusive(snapshot.folder, files.table), Interrupts() as interrupts, ThreadPoolExecutor(1) as background:
        shard = Shard(files, batches, interrupts, background, identity, common, with_texts, with_latents)
        with shard.countdown:
            try:
                yield shard
            finally:
                shard.wait()  # save finished work, also after an error or an interrupt
        extra = {"shard": str(index), "num_shards": str(num_shards), "num_videos": str(len(requests))}
        extra["block"] = str(block)  # rows per block, from the first row; a block is scored together
        if not may_fail:
            shard.refuse_too_many(snapshot, len(requests))
        shard.finish(snapshot, extra | edited_inputs(snapshot.folder / "prompts.parquet"))


class Shard:
    """Batches of one shard: which are unfinished, and where finished ones are saved.

    A batch is finished once its rows are in the progress log and its clips and tensors exist. The log is kept when the
    shard is finished, so that a re-run after a table was deleted or a clip was damaged repeats only what is missing.
    The prompts of all batches are encoded before the first batch starts. They have a separate log.
    """

    def __init__(
        self,
        files: Files,
        batches: Sequence[Batch],
        interrupts: Interrupts,
        background: ThreadPoolExecutor,
        identity: str,
        common: Row,
        with_texts: bool,
        with_latents: bool,
    ) -> None:
        self.files, self._with_latents = files, with_latents
        self._batches, self._interrupts, self._background = batches, interrupts, background
        self._common, self._with_texts = common, with_texts
        self._progress = Progress(files.work / "progress.jsonl", identity)
        self._encoded = Progress(files.work / "texts.jsonl", identity)
        self._rows: dict[str, Row] = {row["video_id"]: row for rows in self._progress.finished for row in rows}
        self._kept_latents = _names(files.kept_latents)
        self._kept_texts = _texts(files.kept_texts) if with_texts else {}
        self._saving: Future[None] | None = None
        self._todo = [batch for batch in batches if not self._is_finished(batch)]
        done = len(batches) - len(self._todo)
        self.countdown = Countdown(log, files.work.name, len(batches), "batches", done=done)

    def unfinished(self) -> Iterator[Batch]:
        """Yield the batches without a result, in order.

        Raises:
            Interrupted: a signal asked to stop; everything before this batch is saved.
        """
        for done, batch in enumerate(self._todo, start=len(self._batches) - len(self._todo)):
            self._interrupts.stop_here(f"{done} batches")
            yield batch

    def without_texts(self) -> Iterator[Batch]:
        """Yield the unfinished batches whose prompts have to be encoded, in order.

        Raises:
            Interrupted: as `unfinished`.
        """
        encoded = set(self._encoded.finished)
        for batch in self._todo:
            if batch.number not in encoded or not self.files.of_batch(batch.number)[1].exists():
                self._interrupts.stop_here(f"the prompts of {len(self._encoded.finished)} batches")
                yield batch

    def save_texts(self, batch: Batch, texts: Mapping[str, StrippedEmbeds]) -> None:
        """Save the encoded prompts of one batch, by id."""
        write_texts(self.files.of_batch(batch.number)[1], texts)
        self._encoded.append(batch.number)

    def texts(self, batch: Batch) -> dict[str, PromptEmbeds]:
        """Encoded prompts that were saved for this batch, by id, with their padding, on the CPU."""
        stripped = read_texts(self.files.of_batch(batch.number)[1])
        return {key: restore_padding(text) for key, text in stripped.items()}

    def save(self, batch: Batch, part: Part) -> None:
        """Save the result of one batch. The rows come last, because a batch without rows is not finished."""
        write_tensors(self.files.of_batch(batch.number)[0], part.latents if self._with_latents else {})
        rows = [self._common | row for row in part.rows]
        self._progress.append(rows)
        self._rows |= {row["video_id"]: row for row in rows}
        self.countdown.add(item=f"batch {batch.number}")

    def save_in_background(self, batch: Batch, make: Callable[..., Part], *args: Any) -> None:
        """Compute `make(*args)` and save it in a thread, one batch at a time, while the next batch is sampled."""
        self.wait()
        self._saving = self._background.submit(lambda: self.save(batch, make(*args)))

    def wait(self) -> None:
        """Wait until the last batch is saved; raise what its thread raised."""
        if self._saving:
            saving, self._saving = self._saving, None
            saving.result()

    def _all_rows(self) -> list[Row]:
        return [self._rows[request.video_id] for batch in self._batches for request in batch.requests]

    def refuse_too_many(self, snapshot: Snapshot[Any], num_videos: int) -> None:
        """Raise RunError if more than `max_failed_fraction` of the videos of all shards failed."""
        failed = failed_so_far(self._all_rows(), self.files.table, snapshot.digest)
        refuse_too_many(snapshot.stage, failed, num_videos, snapshot.execution.max_failed_fraction)

    def finish(self, snapshot: Snapshot[Any], extra: Mapping[str, str]) -> None:
        """Write latents, texts and table of the finished shard, and keep its progress for a re-run."""
        files, rows = self.files, self._all_rows()
        tensors, texts = self._collect()
        if self._with_latents:
            write_tensors(files.latents, tensors)
            names = {row["video_id"]: str(index) for index, row in enumerate(rows)}
            latents = files.relative(files.latents)
            rows = [row | {"latents": f"{latents}#{names[row['video_id']]}" if row["path"] else None} for row in rows]
        if self._with_texts:
            write_texts(files.texts, texts)
        rows = (_in_one_file if snapshot.execution.clip_storage == "tar" else _in_files)(files, rows)
        alongside = [*[files.latents] * self._with_latents, *[files.texts] * self._with_texts]
        alongside += [files.tar] * any(file_of(files.run / row["path"]) == files.tar for row in rows if row["path"])
        write_table(files.table, rows, VIDEOS, **snapshot.provenance, extra=extra, alongside=alongside)
        self._keep(rows)
        _remove_other_clips(files, rows)

    def _is_finished(self, batch: Batch) -> bool:
        """True if the log has these requests, none failed, and their clips and tensors exist."""
        for request in batch.requests:
            row = self._rows.get(request.video_id)
            if row is None or row["seed"] != request.seed or row["status"] != "ok":
                return False
            if not is_intact(self.files.run / row["path"], row["sha256"]):
                return False
        return self._has_tensors(batch)

    def _has_tensors(self, batch: Batch) -> bool:
        latents, texts = self.files.of_batch(batch.number)
        if latents.exists():  # the texts were written before the latents, and the rows after both
            return texts.exists() or not self._with_texts
        clips = batch.requests if self._with_latents else []
        names = {_row_of(self._rows[request.video_id]) for request in clips}
        ids = {EMPTY, NEGATIVE, *(request.prompt_id for request in batch.requests)} if self._with_texts else set()
        return names <= self._kept_latents and ids <= self._kept_texts.keys()

    def _collect(self) -> tuple[dict[str, torch.Tensor], dict[str, StrippedEmbeds]]:
        """All latents by position in the shard, and all texts by prompt_id."""
        tensors: dict[str, torch.Tensor] = {}
        texts: dict[str, StrippedEmbeds] = {}
        kept = TensorFile(self.files.kept_latents) if self._kept_latents else None
        position = 0
        for batch in self._batches:
            own_latents, own_texts = self.files.of_batch(batch.number)
            made = TensorFile(own_latents) if own_latents.exists() else None
            if self._with_texts:
                ids = {EMPTY, NEGATIVE, *(request.prompt_id for request in batch.requests)}
                texts |= read_texts(own_texts) if made else {key: self._kept_texts[key] for key in ids}
            for request in batch.requests:
                row = self._rows[request.video_id]
                if row["status"] == "ok" and self._with_latents:
                    source, name = (made, request.video_id) if made else (kept, _row_of(row))
                    assert source is not None
                    tensors[str(position)] = source.get(name)
                position += 1
        return tensors, texts

    def _keep(self, rows: list[Row]) -> None:
        """Replace the batches' files by hard links to the finished ones."""
        files = self.files
        try:
            for kept, finished in ((files.kept_latents, files.latents), (files.kept_texts, files.texts)):
                kept.unlink(missing_ok=True)
                if finished.exists():
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    os.link(finished, kept)
            self._progress.append(rows)
        except OSError as error:
            log.warning("%s: no hard links on this file system (%s); a re-run cannot reuse it", files.work, error)
        for file in files.work.glob("batch-*"):
            file.unlink()


def empty_row(request: Request) -> Row:
    """Row of the videos table with everything that is known before the clip exists, without the common columns."""
    row: Row = dict.fromkeys(name for name in VIDEOS.names if name not in ("model", "adapter"))
    row |= {"video_id": request.video_id, "prompt_id": request.prompt_id, "sample": request.sample}
    return row | {"seed": request.seed, "status": "ok"}


def _names(path: Path) -> set[str]:
    """Names of the tensors in a kept file; none if it is missing or damaged."""
    try:
        return set(TensorFile(path).names)
    except InputError:
        return set()


def _texts(path: Path) -> dict[str, StrippedEmbeds]:
    """Encoded prompts in a kept file; none if it is missing or damaged."""
    try:
        return read_texts(path)
    except InputError:
        return {}


def _row_of(row: Row) -> str:
    """Name of a clip's tensor in the latents file of the finished shard."""
    return str(row["latents"]).partition("#")[2]


def _in_one_file(files: Files, rows: Sequence[Row]) -> list[Row]:
    """Pack the clips of a finished shard into its tar file; return the rows with the new paths."""
    made = [row for row in rows if row["status"] == "ok"]
    clips = ((f"{row['video_id']}.mp4", read_clip(files.run / row["path"], row["sha256"])) for row in made)
    tar = files.relative(files.tar)
    paths = {row["video_id"]: tar + member for row, member in zip(made, write_tar(files.tar, clips), strict=True)}
    return [{**row, "path": paths.get(row["video_id"])} for row in rows]


def _in_files(files: Files, rows: Sequence[Row]) -> list[Row]:
    """Unpack clips from a tar file into separate files; return the rows with the new paths."""
    found = []
    for row in rows:
        stored = files.run / row["path"] if row["path"] else None
        if stored and file_of(stored) != stored:
            path = files.clips / f"{row['video_id']}.mp4"
            with atomic_path(path) as partial:
                partial.write_bytes(read_clip(stored, row["sha256"]))
            row = row | {"path": files.relative(path)}
        found.append(row)
    return found


def _remove_other_clips(files: Files, rows: Sequence[Row]) -> None:
    """Remove clips that the shard's table does not name: leftovers of an earlier plan, or clips now in the tar file."""
    named = {file_of(files.run / row["path"]) for row in rows if row["path"]}
    if files.tar in named:
        shutil.rmtree(files.clips, ignore_errors=True)
        return
    files.tar.unlink(missing_ok=True)
    for file in set(files.clips.glob("*.mp4")) - named:
        file.unlink()
