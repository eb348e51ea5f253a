"""Copy the user's own clips of a benchmark, which are named after their prompts, without changing them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from videodpo.runtime.benchmark_settings import BenchmarkCopySettings, Folder
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.generate.shards import IMPORTED, Files, Part, Request, Row, empty_row, open_shard
from videodpo.storage.files import atomic_path, sha256_of
from videodpo.storage.video import UnreadableVideo, read_mp4

BATCH = 8  # clips per save point


def copy_shard(
    snapshot: Snapshot[BenchmarkCopySettings],
    folder: Folder,
    videos: Path,
    index: int,
    num_shards: int,
    requests: Sequence[Request],
) -> None:
    """Copy the clips of one shard, named `<prompt>-<sample>.mp4`; one that is missing or unreadable is a failed row.

    Args:
        snapshot: settings of the stage.
        folder: folder of the user's clips.
        videos: folder of the videos table.
        index: index of the shard, from 0.
        num_shards: number of shards.
        requests: all clips of all shards.
    """
    with open_shard(
        snapshot,
        videos,
        index,
        num_shards,
        requests,
        BATCH,
        identity=f"{folder.path} {folder.listing_sha256}",
        common={"model": IMPORTED, "adapter": None},
        with_texts=False,
        with_latents=False,
        may_fail=True,
    ) as shard:
        for batch in shard.unfinished():
            shard.save(batch, Part([_copy(request, Path(folder.path), shard.files) for request in batch.requests], {}))


def _copy(request: Request, folder: Path, files: Files) -> Row:
    row, source = empty_row(request), folder / f"{request.prompt}-{request.sample}.mp4"
    try:
        frames_THWC, fps = read_mp4(source)
    except UnreadableVideo as error:
        return row | {"status": "failed", "error": str(error)}
    copy = files.clips / f"{request.video_id}.mp4"
    with atomic_path(copy) as partial:
        shutil.copyfile(source, partial)
    num_frames, height, width, _ = frames_THWC.shape
    row |= {"path": files.relative(copy), "sha256": sha256_of(copy)}
    return row | {"num_frames": num_frames, "height": height, "width": width, "fps": fps}
