"""Write the clips of a benchmark as its own program reads them: one file per clip, named after its prompt."""

from __future__ import annotations

import os
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.runtime.benchmark_settings import BenchmarkOfficialSettings
from videodpo.runtime.locks import exclusive
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.benchmark.prompts import prompts_path
from videodpo.storage.clips import read_clip
from videodpo.storage.manifests import product_folder
from videodpo.storage.tables import read_rows, read_table, shard_paths


def make_folder(snapshot: Snapshot[BenchmarkOfficialSettings], round_folder: Path, arm: str) -> None:
    """Write `benchmark/official/videos/<arm>` with hard links, or with copies where links are not possible.

    Clips that could not be sampled are left out.

    Args:
        snapshot: settings of the stage.
        round_folder: folder of the round.
        arm: "base" or "aligned".

    Raises:
        InputError: a table or a clip is missing or damaged, or the disk does not distinguish upper and lower case.
    """
    settings, benchmark = snapshot.settings, round_folder / "benchmark"
    out = videos_path(benchmark, arm)
    written: set[Path] = set()
    with exclusive(snapshot.folder, out), product_folder(out) as partial:
        for group in settings.groups:
            folder = partial / subfolder(settings, group)
            folder.mkdir(parents=True, exist_ok=True)
            own = read_table(prompts_path(snapshot.folder, group))
            texts = dict(zip(own["prompt_id"], own["prompt"], strict=True))
            shards = shard_paths(benchmark / group / "videos" / arm)
            for clip in (row for shard in shards for row in read_rows(shard) if row["status"] == "ok"):
                target = folder / f"{texts[clip['prompt_id']]}-{clip['sample']}.mp4"
                if target not in written:  # a prompt may belong to two groups, with the same clips
                    _link(snapshot.folder / clip["path"], clip["sha256"], target)
                    written.add(target)


def videos_path(benchmark: Path, arm: str) -> Path:
    """Folder of a model's clips for the benchmark's own program, in `round<r>/benchmark`."""
    return benchmark / "official" / "videos" / arm


def subfolder(settings: BenchmarkOfficialSettings, group: str) -> str:
    """Name of the folder of a group's clips: of its own where a filter has to choose them, else one for all groups."""
    return group if group in settings.filtered.values() else "videos"


def _link(source: Path, sha256: str, target: Path) -> None:
    try:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # another disk, or a member of a tar file
            with target.open("xb") as file:
                file.write(read_clip(source, sha256))
    except FileExistsError:
        raise InputError(f"{target}: two prompts differ in case only; use a case-sensitive file system") from None
