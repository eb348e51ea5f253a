"""Score a benchmark's clips with the benchmark's own program, which has an environment of its own."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

from videodpo.config.errors import InputError, RunError
from videodpo.runtime.benchmark_settings import BenchmarkOfficialSettings
from videodpo.runtime.locks import exclusive
from videodpo.runtime.registry import suite_rules
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.benchmark.folder import subfolder, videos_path
from videodpo.storage.files import read_json
from videodpo.storage.manifests import read_manifest, record_json
from videodpo.storage.progress import Progress

log = logging.getLogger(__name__)
_KEPT = ("video_path", "video_results")


def run_official(snapshot: Snapshot[BenchmarkOfficialSettings], round_folder: Path, arm: str) -> None:
    """Write `benchmark/official/<arm>.json` in the program's own form: {dimension: [mean, [clip, ...]]}.

    A dimension that the program cannot score is left out with a warning. A re-run keeps the finished dimensions.

    Args:
        snapshot: settings of the stage.
        round_folder: folder of the round.
        arm: "base" or "aligned".

    Raises:
        InputError: there is no such program.
        RunError: it scored no dimension.
    """
    settings, benchmark = snapshot.settings, round_folder / "benchmark"
    rules = suite_rules(settings.module)
    command = rules.official_program
    if not (program := shutil.which(command)):
        raise InputError(f"{command}: no such command in this environment; docs/benchmark.md says how to install it")
    videos, out = videos_path(benchmark, arm), benchmark / "official" / f"{arm}.json"
    with exclusive(snapshot.folder, out):
        progress = Progress(out.with_name(f".{arm}.finished"), [snapshot.digest, read_manifest(videos)])
        finished = {name for name, _ in progress.finished}
        # The filter comes last: its network's weights are downloaded by the evaluation of dynamic_degree only.
        for name in sorted(settings.official_groups, key=settings.filtered.__contains__):
            if (group := settings.official_groups[name]) is None or name in finished:
                continue
            folder = subfolder(settings, group)
            work, needs_filter = out.with_name(f".{arm}.work"), name in settings.filtered
            found = _evaluate(program, videos, folder, name, work, needs_filter)
            if found is None:
                log.warning("%s: left out, %s wrote no result; its messages above say why", name, command)
                continue
            try:
                rules.read_official(found, [name])
            except InputError as error:
                log.warning("%s: left out, %s", name, error)
                continue
            mean, clips = read_json(found)[name]
            progress.append([name, [mean, [{key: clip[key] for key in _KEPT} for clip in clips]]])
        if not progress.finished:
            raise RunError(f"{command} scored no dimension; its messages above say why")
        record_json(out, dict(progress.finished))
        shutil.rmtree(out.with_name(f".{arm}.work"), ignore_errors=True)


def _evaluate(program: str, videos: Path, folder: str, dimension: str, work: Path, needs_filter: bool) -> Path | None:
    """Call the program, and return the path of its results; None if it failed, because it exits with 0 then too.

    It passes its arguments through a shell without quotes, so they are names below the working directory.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "clips").symlink_to(videos.resolve(), target_is_directory=True)
    source = f"clips/{folder}"
    # It calls the first `python` on PATH.
    environment = os.environ | {"PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"}

    def call(*arguments: str) -> None:
        log.info("%s %s", program, " ".join(arguments))
        subprocess.run([program, *arguments], cwd=work, env=environment, check=False)

    if needs_filter:
        call("static_filter", "--videos_path", source, "--result_path", "filter")
        source = "filter/filtered_videos"
    call("evaluate", "--videos_path", source, "--dimension", dimension, "--output_path", "results")
    return next(iter(work.glob("results/*_eval_results.json")), None)
