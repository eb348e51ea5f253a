"""Score the clips of one shard into its store; each clip is decoded once, for all scorers that lack it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import validate
from videodpo.config.errors import InputError, RunError
from videodpo.runtime import registry
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.failures import refuse_too_many
from videodpo.runtime.locks import exclusive
from videodpo.runtime.settings import ScoreSettings
from videodpo.runtime.signals import Interrupts
from videodpo.runtime.snapshot import Snapshot
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.backbone import Result, Unavailable, score_clips
from videodpo.stages.score.read_ahead import Wanted, read_ahead
from videodpo.stages.score.store import Column, Measured, Store, store_path
from videodpo.storage.manifests import read_json, record_json
from videodpo.storage.tables import read_metadata, read_rows

log = logging.getLogger(__name__)

MAX_BYTES = 2**30  # bytes of decoded frames that are scored together
Video = dict[str, Any]
Snapshots = Sequence[Snapshot[ScoreSettings]]


def score_shard(snapshots: Snapshots, videos: Path, scores: Path, prompts: Path | None = None) -> None:
    """Score the clips that the shard's store lacks, and list failed clips in `<scores>/shard-<number>.json`.

    A clip shares batches only with clips of its block, and a scorer that lacks one clip of a block scores all of it. A
    score therefore depends neither on the shard, nor on where a killed job resumed, nor on which other scorers run.

    Args:
        snapshots: settings of all dimensions; their folder has the clips and prompts.parquet.
        videos: the shard's videos table.
        scores: folder of all dimensions' scores.
        prompts: table of a benchmark's prompts; None is the run's table.

    Raises:
        RunError: more than `max_failed_fraction` of all clips failed in a dimension other than a judge; finished scores
            are kept for the next try. Or another process works on this shard.
        InputError: the options are wrong, or the prompts table lacks a video's prompt.
        Interrupted: a signal asked to stop; finished scores are saved.
    """
    metadata = read_metadata(videos)
    shard, num_shards = int(metadata["shard"]), int(metadata["num_shards"])
    columns = [Column(snapshot) for snapshot in snapshots]
    with exclusive(snapshots[0].folder, store_path(scores, shard)):
        table = read_videos(videos, prompts)
        made = [video for video in table if video["status"] == "ok"]
        store = Store(store_path(scores, shard))
        texts = prompts or snapshots[0].folder / "prompts.parquet"
        _measure(columns, _blocks(table, int(metadata["block"])), store, texts)
        done = {column.dimension: _done(column, made, store) for column in columns}
        others = [read_done(scores, other) for other in range(num_shards) if other != shard]
        problems = [_problem(column, done[column.dimension], others, int(metadata["num_videos"])) for column in columns]
        if found := [problem for problem in problems if problem]:
            raise RunError("\n".join(found))
        record_json(_done_path(scores, shard), read_done(scores, shard) | done)


def read_videos(videos: Path, prompts: Path | None) -> list[Video]:
    """Rows of a videos table; with a benchmark's prompts, each has what the benchmark says about it as `info`."""
    rows = read_rows(videos)
    if prompts is None:
        return rows
    info = {row["prompt_id"]: row["info"] for row in read_rows(prompts)}
    return [row | {"info": info.get(row["prompt_id"])} for row in rows]


def _done(column: Column, videos: Sequence[Video], store: Store) -> dict[str, Any]:
    keys = {video["video_id"]: column.key(video) for video in videos}
    found = {video_id: store.get(key) for video_id, key in keys.items()}
    failed = {video_id: measured.error for video_id, measured in found.items() if measured and measured.value is None}
    # The workflow's planning reads this: a table in which one of these clips failed may be older than the store.
    temporary = [video_id for video_id, key in keys.items() if key in store.temporary]
    return {"scorer_digest": column.digest, "num_clips": len(videos), "failed": failed, "temporary": temporary}


def _problem(column: Column, done: dict[str, Any], others: Sequence[dict[str, Any]], num_videos: int) -> str | None:
    """Error of `refuse_too_many` for the failures of this shard and of the other finished shards, or None."""
    failed = dict(done["failed"])
    if not failed or column.snapshot.settings.is_judge:
        return None
    for other in (other[column.dimension] for other in others if column.dimension in other):
        if other["scorer_digest"] == column.digest:
            failed |= other["failed"]
    try:
        refuse_too_many(column.dimension, failed, num_videos, column.snapshot.execution.max_failed_fraction)
    except RuntimeError as error:
        return str(error)
    return None


def _done_path(scores: Path, shard: int) -> Path:
    return scores / f"shard-{shard:05d}.json"


def read_done(scores: Path, shard: int) -> dict[str, Any]:
    """Known failures of one shard, by dimension; empty if none of its clips was scored.

    Raises:
        InputError: not what `score_shard` wrote; the message names the file.
    """
    path = _done_path(scores, shard)
    known = read_json(path) if path.exists() else {}
    if not isinstance(known, dict) or not all(_is_done(done) for done in known.values()):
        raise InputError(f"{path}: not a shard's list of failures; remove it and score again")
    return known


def _is_done(done: Any) -> bool:
    return (
        isinstance(done, dict)
        and done.keys() == {"scorer_digest", "num_clips", "failed", "temporary"}
        and isinstance(done["failed"], dict)
        and isinstance(done["temporary"], list)
        and isinstance(done["scorer_digest"], str)
    )


def _measure(columns: Sequence[Column], blocks: Sequence[Sequence[Video]], store: Store, prompts_table: Path) -> None:
    todo = [
        (number, block, lacking)
        for number, block in enumerate(blocks, start=1)
        if (lacking := [column for column in columns if any(store.lacks(column.key(video)) for video in block)])
    ]
    if not todo:
        log.info("%s: all scores exist", store.path.name)
        return
    folder = columns[0].snapshot.folder
    prompts = {row["prompt_id"]: row["prompt"] for row in read_rows(prompts_table, ["prompt_id", "prompt"])}
    for video in (video for _, block, _ in todo for video in block if video["prompt_id"] not in prompts):
        raise InputError(f"{prompts_table}: no prompt {video['prompt_id']}; re-run the stage generate")
    needed = {column.dimension: column for _, _, lacking in todo for column in lacking}
    wanted = (_wanted(video, folder, prompts) for _, block, _ in todo for video in block)
    total = sum(map(len, blocks))
    done = total - sum(len(block) for _, block, _ in todo)
    with (
        Countdown(log, store.path.name, total, "clips", done=done) as countdown,
        read_ahead(wanted) as clips,
        Interrupts() as interrupts,
    ):
        scorers = {dimension: _make_scorer(column.snapshot) for dimension, column in needed.items()}
        for number, block, lacking in todo:
            _measure_block(block, lacking, scorers, clips, store)
            store.save()
            countdown.add(len(block), item=f"block {number}")
            interrupts.stop_here(f"block {number} of {len(blocks)}")


def _measure_block(
    block: Sequence[Video],
    lacking: Sequence[Column],
    scorers: Mapping[str, Scorer],
    clips: Iterator[Clip | ValueError],
    store: Store,
) -> None:
    """Score one block of clips into the store.

    Args:
        block: videos of the block.
        lacking: columns of the scorers that lack a score in this block.
        scorers: scorers by dimension.
        clips: iterator over the clips of all blocks; this block's are next.
        store: store of the shard.
    """
    for videos, read in _in_memory(block, clips):
        found = [clip for clip in read if isinstance(clip, Clip)]
        results = score_clips([scorers[column.dimension] for column in lacking], found)
        for column, values in zip(lacking, results, strict=True):
            rest = iter(values)
            for video, clip in zip(videos, read, strict=True):
                store.put(column.key(video), _measured(next(rest) if isinstance(clip, Clip) else clip))


def _measured(result: Result) -> Measured:
    if isinstance(result, ValueError):
        return Measured(None, str(result) or type(result).__name__, isinstance(result, Unavailable))
    return Measured(result, None, retry=False)


def _make_scorer(snapshot: Snapshot[ScoreSettings]) -> Scorer:
    """Build a scorer; raise InputError if its options or weights are wrong."""
    dimension = snapshot.settings.dimension
    kind = registry.load("videodpo.scorers", snapshot.settings.scorer_name)
    options = validate(kind.Options, snapshot.settings.options, f"dimensions.{dimension}.options")
    scorer: Scorer = kind(options, snapshot.execution.device)
    return scorer


def _blocks(videos: Sequence[Video], size: int) -> list[list[Video]]:
    """Rows of the table in blocks of `size`, without the videos that failed."""
    blocks = [videos[start : start + size] for start in range(0, len(videos), size)]
    return [[video for video in block if video["status"] == "ok"] for block in blocks]


def _wanted(video: Video, folder: Path, prompts: Mapping[str, str]) -> Wanted:
    num_bytes = 3 * video["num_frames"] * video["height"] * video["width"]
    info = json.loads(video.get("info") or "{}")
    return Wanted(folder / video["path"], prompts[video["prompt_id"]], num_bytes, video["sha256"], info)


def _in_memory(
    block: Sequence[Video], clips: Iterator[Clip | ValueError]
) -> Iterator[tuple[list[Video], list[Clip | ValueError]]]:
    """Yield the block's clips as they are read, in several parts if they are too large to be scored together."""
    videos: list[Video] = []
    read: list[Clip | ValueError] = []
    num_bytes = 0
    for video in block:
        clip = next(clips)
        num_bytes += clip.frames_THWC.nbytes if isinstance(clip, Clip) else 0
        if num_bytes > MAX_BYTES and read:
            yield videos, read
            videos, read, num_bytes = [], [], clip.frames_THWC.nbytes if isinstance(clip, Clip) else 0
        videos.append(video)
        read.append(clip)
    if read:
        yield videos, read
