"""Subcommands for the stages of a run, which Snakemake calls one by one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from videodpo.cli.options import (
    Add,
    Command,
    add_config,
    add_round,
    load,
    read_workflow,
    require_benchmark,
    reserve,
    write_settings,
)
from videodpo.config import InputError
from videodpo.runtime import registry
from videodpo.runtime.giving_up import mark
from videodpo.runtime.rounds import adapter_after, round_folder
from videodpo.runtime.snapshot import load_snapshot


def add_stages(add: Add) -> None:
    def add_stage(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = add(name, command, text)
        sub.set_defaults(is_stage=True)
        add_config(sub, several=command in (_score, _collect_scores))
        add_round(sub)
        return sub

    add_stage("prompts", _prompts, "collect, clean and split the prompts")
    generate = add_stage("generate", _generate, "sample one shard of videos")
    score = add_stage("score", _score, "score one shard of videos in all dimensions")
    collect = add_stage("collect-scores", _collect_scores, "write one table per dimension; score what is missing")
    add_stage("omniscore", _omniscore, "combine all dimensions into the OmniScore")
    add_stage("pairs", _pairs, "choose and weight the preference pairs")
    add_stage("visits", _visits, "plan the training: pair, noise level and seed of each forward pass")
    reference = add_stage("reference", _reference, "compute one shard of the reference model's errors")
    doctor = add_stage(
        "doctor", _doctor, "check a round before its training, or a training log; exit code 3 on an alarm"
    )
    train = add_stage("train", _train, "fine-tune with DPO")
    train.add_argument("--launched", action="store_true", help=argparse.SUPPRESS)  # one of several processes
    appearance = add_stage("appearance", _appearance, "measure the pixels of one model's held-out clips")
    appearance.add_argument("--arm", choices=("base", "aligned"), required=True, help="model that made the clips")
    add_stage("evaluate", _evaluate, "compare the base and the aligned model on held-out prompts")
    benchmark_prompts = add_stage("benchmark-prompts", _benchmark_prompts, "read the prompts of a benchmark's group")
    benchmark_prompts.add_argument("--group", required=True, help="group of the benchmark's prompts")
    folder = add_stage("benchmark-folder", _benchmark_folder, "write a benchmark's clips as its own program reads them")
    official = add_stage(
        "benchmark-official", _benchmark_official, "score these clips with the benchmark's own program"
    )
    for sub in (folder, official):
        sub.add_argument("--arm", choices=("base", "aligned"), required=True, help="model that made the clips")
    add_stage("benchmark", _benchmark, "write a benchmark's table of the base and the aligned model")
    add_stage("report", _report, "write the HTML report")
    for sub in (generate, score, reference):
        sub.add_argument("--shard", type=int, default=0, help="number of the shard, from 0")
    collect.add_argument("--shard", type=int, help="number of one shard, from 0; without it, all shards")
    for sub in (score, collect):
        sub.add_argument("--dimension", action="append", help="only this scorer (repeatable)")
    for sub in (generate, score, collect):
        sub.add_argument("--arm", choices=("base", "aligned"), help="use the held-out clips of this model instead")
        sub.add_argument("--group", help="with --arm: use the clips of this group of the benchmark")
    doctor.add_argument("train_log", type=Path, nargs="?", help="check this train_log.parquet instead of a round")
    doctor.add_argument("--json", action="store_true", help="print one JSON object per line")
    doctor.add_argument("--out", type=Path, help="also write these lines to this file")


def _prompts(arguments: argparse.Namespace) -> None:
    from videodpo.stages.prompts.stage import make_prompts

    make_prompts(load(arguments, "prompts")[0])


def _generate(arguments: argparse.Namespace) -> None:
    if arguments.group:
        return _generate_group(arguments)
    if arguments.arm:
        heldout, _ = load(arguments, "evaluate_generate")
        reserve(heldout)
        adapter = adapter_after(heldout.folder, arguments.round if arguments.arm == "aligned" else 0)
        from videodpo.stages.generate.sample import generate_heldout_shard

        return generate_heldout_shard(heldout, arguments.round, arguments.shard, arguments.arm, adapter)
    snapshot, _ = load(arguments, "generate")
    reserve(snapshot)
    if snapshot.settings.from_clips:
        from videodpo.stages.generate.import_clips import import_shard

        return import_shard(snapshot, arguments.round, arguments.shard)
    from videodpo.stages.generate.sample import generate_shard

    return generate_shard(
        snapshot, arguments.round, arguments.shard, adapter_after(snapshot.folder, arguments.round - 1)
    )


def _generate_group(arguments: argparse.Namespace) -> None:
    """Sample or copy clips of a benchmark."""
    _check_group(arguments)
    from videodpo.stages.generate.sample import copy_benchmark_shard, generate_benchmark_shard

    where = arguments.round, arguments.group, arguments.shard, arguments.arm
    if _copies(arguments):
        copied, _ = load(arguments, "benchmark_copy", arguments.group)
        return copy_benchmark_shard(copied, *where)
    sampled, _ = load(arguments, "benchmark_generate", arguments.group)
    reserve(sampled)
    adapter = adapter_after(sampled.folder, arguments.round if arguments.arm == "aligned" else 0)
    return generate_benchmark_shard(sampled, *where, adapter)


def _copies(arguments: argparse.Namespace) -> bool:
    """True if the user has clips of this model: the settings are those of the copy."""
    if arguments.config.suffix == ".json":
        return bool(arguments.config.parent.name == "benchmark_copy")
    return read_workflow(arguments).benchmark.copies(arguments.arm)


def _check_group(arguments: argparse.Namespace) -> None:
    if arguments.group and not arguments.arm:
        raise InputError("--group: needs --arm base or --arm aligned")


def _score(arguments: argparse.Namespace) -> None:
    snapshots, videos, scores, prompts = _scorers(arguments)
    if any(registry.load("videodpo.scorers", snapshot.settings.scorer_name).uses_gpu for snapshot in snapshots):
        reserve(snapshots[0])
    from videodpo.stages.score import score_shard
    from videodpo.storage.tables import shard_path

    score_shard(snapshots, shard_path(videos, arguments.shard), scores, prompts)


def _collect_scores(arguments: argparse.Namespace) -> None:
    from videodpo.stages.score import collect_all_shards, collect_shard
    from videodpo.storage.tables import shard_path

    snapshots, videos, scores, prompts = _scorers(arguments)
    if arguments.shard is None:
        return collect_all_shards(snapshots, videos, scores, prompts)
    return collect_shard(snapshots, shard_path(videos, arguments.shard), scores, prompts)


def _scorers(arguments: argparse.Namespace) -> tuple[list[Any], Path, Path, Path | None]:
    """Settings snapshots of the scorers, the folders of the videos and of the scores, and a benchmark's prompts."""
    _check_group(arguments)
    snapshots = _scorer_snapshots(arguments)
    folder = snapshots[0].folder
    above, prompts = round_folder(folder, arguments.round), None
    if arguments.group:
        above = above / "benchmark" / arguments.group
        prompts = folder / "benchmark_prompts" / f"{arguments.group}.parquet"
    elif arguments.arm:
        above /= "evaluation"
    arm = arguments.arm or ""
    return snapshots, above / "videos" / arm, above / "scores" / arm, prompts


def _scorer_snapshots(arguments: argparse.Namespace) -> list[Any]:
    """Load the settings snapshots of the scorers, from JSON files or from the dimensions of config.yaml."""
    if all(path.suffix == ".json" for path in arguments.config):
        if arguments.preset or arguments.set:
            raise InputError("--preset and --set have no effect on snapshot files; leave them out")
        found = [load_snapshot(path, "score") for path in arguments.config]
        snapshots = [one for one in found if not arguments.dimension or one.settings.dimension in arguments.dimension]
        if not snapshots:
            raise InputError(f"--dimension: {arguments.dimension} is in none of {list(map(str, arguments.config))}")
        return snapshots
    if len(arguments.config) > 1:
        raise InputError(f"--config: {list(map(str, arguments.config))}; give one config.yaml, or snapshot files only")
    (arguments.config,) = arguments.config
    run = read_workflow(arguments)
    if arguments.group:
        require_benchmark(run, arguments.group)
        stage, default = "benchmark_score", run.benchmark.dimensions(arguments.group)
        known = default
    else:
        stage, default = "score", run.scorers + run.judges * (arguments.arm is not None)
        known = run.scorers + run.judges
    if unknown := [name for name in arguments.dimension or [] if name not in known]:
        raise InputError(f"--dimension: {unknown[0]!r} is not among {', '.join(known)}")
    names = arguments.dimension or default
    return [load_snapshot(write_settings(run, f"{stage}/{name}"), "score") for name in names]


def _omniscore(arguments: argparse.Namespace) -> None:
    from videodpo.stages.omniscore import aggregate

    aggregate(*load(arguments, "omniscore"))


def _pairs(arguments: argparse.Namespace) -> None:
    from videodpo.stages.pairs.stage import select_pairs

    select_pairs(*load(arguments, "pairs"))


def _visits(arguments: argparse.Namespace) -> None:
    from videodpo.stages.visits import plan_visits

    plan_visits(*load(arguments, "visits"))


def _reference(arguments: argparse.Namespace) -> None:
    snapshot, folder = load(arguments, "reference")
    reserve(snapshot)
    from videodpo.stages.reference import reference_shard

    reference_shard(snapshot, folder, arguments.shard)


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.train_log:
        from videodpo.stages.doctor import diagnose_log, report

        return report(diagnose_log(arguments.train_log), as_json=arguments.json, out=arguments.out)
    snapshot, folder = load(arguments, "train")
    reserve(snapshot)
    from videodpo.stages.doctor import diagnose, report

    code = report(diagnose(snapshot, folder), as_json=arguments.json, out=arguments.out)
    if code:
        mark(folder, "doctor")
    return code


def _train(arguments: argparse.Namespace) -> None:
    from videodpo.stages.train.launch import drop_foreign_variables, launch_command, launch_environment

    drop_foreign_variables(os.environ, launched=arguments.launched)
    snapshot, folder = load(arguments, "train")
    runtime = snapshot.execution.train_runtime
    reserve(snapshot, runtime.processes)
    path = arguments.config if arguments.config.suffix == ".json" else snapshot.folder / "config" / "train.json"
    again = ["train", "--config", str(path), "--round", str(arguments.round)]
    if not arguments.launched and (command := launch_command(runtime, again, os.environ)):
        os.execvpe(command[0], command, launch_environment(runtime, os.environ))
    from videodpo.stages.train.stage import train

    train(snapshot, folder, adapter_after(snapshot.folder, arguments.round - 1))


def _appearance(arguments: argparse.Namespace) -> None:
    snapshot, folder = load(arguments, "appearance")
    embedder = snapshot.settings.embedder
    if embedder and registry.load("videodpo.scorers", embedder).uses_gpu:
        reserve(snapshot)
    from videodpo.stages.appearance import measure_appearance

    measure_appearance(snapshot, folder, arguments.arm)


def _evaluate(arguments: argparse.Namespace) -> None:
    from videodpo.stages.evaluate import evaluate

    evaluate(*load(arguments, "evaluate"))


def _benchmark_prompts(arguments: argparse.Namespace) -> None:
    from videodpo.stages.benchmark import make_benchmark_prompts

    make_benchmark_prompts(load(arguments, "benchmark_prompts", arguments.group)[0])


def _benchmark_folder(arguments: argparse.Namespace) -> None:
    from videodpo.stages.benchmark import make_folder

    make_folder(*load(arguments, "benchmark_official"), arguments.arm)


def _benchmark_official(arguments: argparse.Namespace) -> None:
    snapshot, folder = load(arguments, "benchmark_official")
    reserve(snapshot)
    from videodpo.stages.benchmark import run_official

    run_official(snapshot, folder, arguments.arm)


def _benchmark(arguments: argparse.Namespace) -> None:
    from videodpo.stages.benchmark import benchmark

    benchmark(*load(arguments, "benchmark"))


def _report(arguments: argparse.Namespace) -> None:
    from videodpo.stages.report import make_report

    make_report(*load(arguments, "report"))
