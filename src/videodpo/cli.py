"""The command line `videodpo`: one subcommand per stage, and tools to inspect the results."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from videodpo import __version__
from videodpo.config import ConfigError, InputError, RunError, VideodpoError
from videodpo.config.benchmark import Suite
from videodpo.config.loading import read_config, with_settings
from videodpo.runtime import registry
from videodpo.runtime.exit_codes import is_refusal
from videodpo.runtime.giving_up import mark
from videodpo.runtime.gpus import reserve_gpus
from videodpo.runtime.logs import log_start, set_up_logs
from videodpo.runtime.output import tolerant_output
from videodpo.runtime.rounds import adapter_after, round_folder
from videodpo.runtime.snapshot import load_snapshot, snapshot_text, write_planned, write_snapshot
from videodpo.storage.files import refuse_full_disk
from videodpo.workflow.run import Workflow

Command: TypeAlias = Callable[[argparse.Namespace], int | None]
Add: TypeAlias = Callable[[str, Command, str], argparse.ArgumentParser]  # name, command and help of a subcommand


@tolerant_output()
def main(argv: list[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        0 on success, 1 on a user's error (one line on stderr), 2 on wrong usage, 3 if the doctor has an alarm or a file
        differs from what was written, 75 after a signal to stop, 130 after Ctrl-C if nothing had to be saved, 141 if
        the reader of the output is gone.
    """
    arguments = _parser().parse_args(argv)
    # Idle threads that spin stall a training with two threads if two other jobs share the cores: it finished no step in
    # the time of 140. torch reads this variable on import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    set_up_logs(is_stage=arguments.is_stage)
    try:
        if arguments.is_stage:
            log_start(sys.argv[1:] if argv is None else argv)
        with refuse_full_disk():
            code: int | None = arguments.command(arguments)
    except (VideodpoError, OSError) as error:
        if arguments.traceback or (isinstance(error, OSError) and not is_refusal(error)):
            raise
        print(f"videodpo {arguments.name}: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, VideodpoError) else 1
    except KeyboardInterrupt:
        print(f"videodpo {arguments.name}: stopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT
    return code or 0


def _prompts(arguments: argparse.Namespace) -> None:
    from videodpo.stages.prompts.stage import make_prompts

    make_prompts(_load(arguments, "prompts")[0])


def _benchmark_prompts(arguments: argparse.Namespace) -> None:
    from videodpo.stages.benchmark import make_benchmark_prompts

    make_benchmark_prompts(_load(arguments, "benchmark_prompts", arguments.group)[0])


def _generate(arguments: argparse.Namespace) -> None:
    if arguments.group:
        return _generate_group(arguments)
    if arguments.arm:
        heldout, _ = _load(arguments, "evaluate_generate")
        _reserve(heldout)
        adapter = adapter_after(heldout.folder, arguments.round if arguments.arm == "aligned" else 0)
        from videodpo.stages.generate.sample import generate_heldout_shard

        return generate_heldout_shard(heldout, arguments.round, arguments.shard, arguments.arm, adapter)
    snapshot, _ = _load(arguments, "generate")
    _reserve(snapshot)
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
        copied, _ = _load(arguments, "benchmark_copy", arguments.group)
        return copy_benchmark_shard(copied, *where)
    sampled, _ = _load(arguments, "benchmark_generate", arguments.group)
    _reserve(sampled)
    adapter = adapter_after(sampled.folder, arguments.round if arguments.arm == "aligned" else 0)
    return generate_benchmark_shard(sampled, *where, adapter)


def _copies(arguments: argparse.Namespace) -> bool:
    """True if the user has clips of this model: the settings are those of the copy."""
    if arguments.config.suffix == ".json":
        return bool(arguments.config.parent.name == "benchmark_copy")
    benchmark = _workflow(arguments).config.evaluate.benchmark
    return benchmark is not None and arguments.arm in benchmark.folders


def _check_group(arguments: argparse.Namespace) -> None:
    if arguments.group and not arguments.arm:
        raise InputError("--group: needs --arm base or --arm aligned")


def _score(arguments: argparse.Namespace) -> None:
    snapshots, videos, scores, prompts = _scorers(arguments)
    if any(registry.load("videodpo.scorers", snapshot.settings.scorer_name).uses_gpu for snapshot in snapshots):
        _reserve(snapshots[0])
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
    run = _workflow(arguments)
    if arguments.group:
        names = arguments.dimension or _suite(run, arguments.group).scored(arguments.group)
        return [load_snapshot(_written(run, f"benchmark_score/{name}"), "score") for name in names]
    names = arguments.dimension or run.scorers + run.judges * (arguments.arm is not None)
    return [load_snapshot(_written(run, f"score/{name}"), "score") for name in names]


def _omniscore(arguments: argparse.Namespace) -> None:
    from videodpo.stages.omniscore import aggregate

    aggregate(*_load(arguments, "omniscore"))


def _pairs(arguments: argparse.Namespace) -> None:
    from videodpo.stages.pairs.stage import select_pairs

    select_pairs(*_load(arguments, "pairs"))


def _visits(arguments: argparse.Namespace) -> None:
    from videodpo.stages.visits import plan_visits

    plan_visits(*_load(arguments, "visits"))


def _reference(arguments: argparse.Namespace) -> None:
    snapshot, folder = _load(arguments, "reference")
    _reserve(snapshot)
    from videodpo.stages.reference import reference_shard

    reference_shard(snapshot, folder, arguments.shard)


def _train(arguments: argparse.Namespace) -> None:
    from videodpo.stages.train.launch import drop_foreign_variables, launch_command, launch_environment

    drop_foreign_variables(os.environ, launched=arguments.launched)
    snapshot, folder = _load(arguments, "train")
    runtime = snapshot.execution.train_runtime
    _reserve(snapshot, runtime.processes)
    path = arguments.config if arguments.config.suffix == ".json" else snapshot.folder / "config" / "train.json"
    again = ["train", "--config", str(path), "--round", str(arguments.round)]
    if not arguments.launched and (command := launch_command(runtime, again, os.environ)):
        os.execvpe(command[0], command, launch_environment(runtime, os.environ))
    from videodpo.stages.train.stage import train

    train(snapshot, folder, adapter_after(snapshot.folder, arguments.round - 1))


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.train_log:
        from videodpo.stages.doctor import diagnose_log, report

        return report(diagnose_log(arguments.train_log), as_json=arguments.json, out=arguments.out)
    snapshot, folder = _load(arguments, "train")
    _reserve(snapshot)
    from videodpo.stages.doctor import diagnose, report

    code = report(diagnose(snapshot, folder), as_json=arguments.json, out=arguments.out)
    if code:
        mark(folder, "doctor")
    return code


def _appearance(arguments: argparse.Namespace) -> None:
    snapshot, folder = _load(arguments, "appearance")
    embedder = snapshot.settings.embedder
    if embedder and registry.load("videodpo.scorers", embedder).uses_gpu:
        _reserve(snapshot)
    from videodpo.stages.appearance import measure_appearance

    measure_appearance(snapshot, folder, arguments.arm)


def _evaluate(arguments: argparse.Namespace) -> None:
    from videodpo.stages.evaluate import evaluate

    evaluate(*_load(arguments, "evaluate"))


def _benchmark(arguments: argparse.Namespace) -> None:
    from videodpo.stages.benchmark import benchmark

    benchmark(*_load(arguments, "benchmark"))


def _benchmark_folder(arguments: argparse.Namespace) -> None:
    from videodpo.stages.benchmark import make_folder

    make_folder(*_load(arguments, "benchmark_official"), arguments.arm)


def _benchmark_official(arguments: argparse.Namespace) -> None:
    snapshot, folder = _load(arguments, "benchmark_official")
    _reserve(snapshot)
    from videodpo.stages.benchmark import run_official

    run_official(snapshot, folder, arguments.arm)


def _report(arguments: argparse.Namespace) -> None:
    from videodpo.stages.report import make_report

    make_report(*_load(arguments, "report"))


def _snapshot(arguments: argparse.Namespace) -> None:
    write_planned(arguments.settings, arguments.sha256, arguments.out)


def _list_shards(arguments: argparse.Namespace) -> None:
    from videodpo.storage.shard_list import write_shard_list

    write_shard_list(arguments.out)


def _check(arguments: argparse.Namespace) -> None:
    run = _workflow(arguments)
    print(f"{arguments.config}: valid; run {run.config.run!r} writes to {run.folder}")
    try:
        run.require_weights()
    except ConfigError as error:
        print(f"Before the run can start: {error}")


def _weights(arguments: argparse.Namespace) -> None:
    from videodpo.weights.fetch import fetch_all, verify_all
    from videodpo.weights.locations import is_published
    from videodpo.weights.needed import describe

    needed = _workflow(arguments).weights
    published = [one for one in needed if is_published(one.location)]
    if arguments.what == "verify":
        verify_all(published)
        return
    if arguments.what == "fetch":
        fetch_all(published)
    print(describe(needed))


def _score_files(arguments: argparse.Namespace) -> None:
    from videodpo.stages.score import score_files

    failed = 0
    for answer in score_files(
        arguments.clips,
        arguments.dimension,
        arguments.prompt or "",
        arguments.weights,
        arguments.device,
        with_settings({}, arguments.set),
        arguments.info,
    ):
        failed += answer["value"] is None
        if arguments.json:
            print(json.dumps(answer, allow_nan=False))
        else:
            print(f"{answer['file']}\t{answer['error'] if answer['value'] is None else answer['value']}")
    if failed:
        raise RunError(f"{failed} of {len(arguments.clips)} files could not be scored")


def _inspect(arguments: argparse.Namespace) -> None:
    from videodpo.tools.inspect import inspect

    inspect(arguments.path, arguments.rows)


def _sql(arguments: argparse.Namespace) -> None:
    from videodpo.tools.sql import print_tables, query

    if arguments.query is None:
        print_tables(arguments.run_folder, arguments.round)
    else:
        query(arguments.run_folder, arguments.query, arguments.round, out=arguments.out, to=arguments.to)


def _what_if(arguments: argparse.Namespace) -> None:
    from videodpo.tools.what_if import format_comparison, what_if

    print(f"{arguments.run}, round {arguments.round}: {', '.join(arguments.set)}")
    print(format_comparison(what_if(arguments.run, arguments.round, arguments.set)))


def _verify(arguments: argparse.Namespace) -> int:
    from videodpo.tools.verify import runs_in, verify

    code = 0
    for run in runs_in(arguments.run_folder):
        if run != arguments.run_folder:
            print(f"{run}:")
        report = verify(run, discard_damaged=arguments.discard_damaged)
        print("\n".join(report.lines()))
        code = max(code, report.exit_code)
    return code


def _summary(arguments: argparse.Namespace) -> None:
    from videodpo.tools.summary import summary

    print(summary(arguments.run_folder))


def _export(arguments: argparse.Namespace) -> None:
    from videodpo.tools.export import export_pairs

    count = export_pairs(arguments.run_folder, arguments.round, arguments.format, arguments.out)
    print(f"{arguments.out}: {count} pairs in the format {arguments.format}")


def _export_adapter(arguments: argparse.Namespace) -> None:
    from videodpo.tools.adapter import export_adapter

    print(export_adapter(arguments.run_folder, arguments.format, arguments.out, arguments.round) / "README.md")


def _status(arguments: argparse.Namespace) -> None:
    from videodpo.tools.status import status
    from videodpo.tools.verify import runs_in

    print("\n\n".join(status(run, shards=arguments.shards) for run in runs_in(arguments.run_folder)))


def _compare(arguments: argparse.Namespace) -> None:
    from videodpo.tools.compare import compare

    print(compare(arguments.run_folders, arguments.out, arguments.clips))


def _study(arguments: argparse.Namespace) -> None:
    from videodpo.tools.study import write_study

    print(write_study(arguments.study_folder))


def _label(arguments: argparse.Namespace) -> None:
    from videodpo.tools.labels.page import write_page

    print(
        write_page(
            arguments.run_folder,
            arguments.out,
            round_number=arguments.round,
            subject=arguments.of,
            count=arguments.pairs,
            repeats=arguments.repeats,
            dimensions=arguments.ask,
            seed=arguments.seed,
        )
    )


def _import_labels(arguments: argparse.Namespace) -> None:
    from videodpo.tools.labels.votes import import_votes

    print(import_votes(arguments.votes, arguments.run))


def _label_agreement(arguments: argparse.Namespace) -> None:
    from videodpo.tools.labels.terminal import format_agreement

    print(format_agreement(arguments.run_folder, arguments.round))


def _schema(arguments: argparse.Namespace) -> None:
    from videodpo.config.docs import markdown_text, schema_text

    print(markdown_text() if arguments.markdown else schema_text(), end="")


def _load(arguments: argparse.Namespace, stage: str, group: str | None = None) -> tuple[Any, Path]:
    """Load the settings snapshot of a stage, and return it with the folder of its round.

    If --config is a config.yaml and not a snapshot, write the snapshot first.

    Args:
        group: group of a benchmark, for a stage that has settings for each of them.
    """
    path: Path = arguments.config
    if path.suffix != ".json":
        run = _workflow(arguments)
        if group:
            _suite(run, group)
        path = _written(run, f"{stage}/{group}" if group else stage)
    snapshot = load_snapshot(path, stage)
    return snapshot, round_folder(snapshot.folder, arguments.round)


def _suite(run: Workflow, group: str) -> Suite:
    """Benchmark of a run; raise InputError if it has no such group."""
    groups = run.suite.groups if run.suite else {}
    if run.suite is None or group not in groups:
        known = ", ".join(groups) or "none, because evaluate.benchmark is null"
        raise InputError(f"--group: {group!r} is not a group of the benchmark (known: {known})")
    return run.suite


def _written(run: Workflow, name: str) -> Path:
    """Write a settings snapshot of a run and its execution.json; return the path of the snapshot."""
    folder = Path(run.folder) / "config"
    for part in (name, "execution"):
        write_snapshot(snapshot_text(run.config, part), folder / f"{part}.json")
    return folder / f"{name}.json"


def _workflow(arguments: argparse.Namespace) -> Workflow:
    return Workflow(read_config(arguments.config, arguments.preset, arguments.set))


def _reserve(snapshot: Any, num_gpus: int = 1) -> None:
    """Reserve GPUs. Call this before torch is imported, because torch reads only once which GPUs it may use."""
    reserve_gpus(snapshot.execution.device, num_gpus)


def round_number(text: str) -> int:
    """Parse the value of --round, or another number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def clip_info(text: str) -> dict[str, str]:
    """Parse the value of --info."""
    try:
        info = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON ({error})") from error
    if not isinstance(info, dict) or not all(isinstance(value, str) for value in info.values()):
        raise argparse.ArgumentTypeError(f"{text} is not an object of texts")
    return info


def share(text: str) -> float:
    """Parse the value of --repeats."""
    number = float(text)
    if not 0 <= number <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 0.5")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="videodpo",
        description="Align a text-to-video model to a preference score. Snakemake calls the stages one by one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"videodpo {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", help="one of the commands below")
    groups: dict[str, list[str]] = {}

    def add(group: str, name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command, is_stage=False)
        sub.add_argument("--traceback", action="store_true", help="show the traceback of an error")
        groups.setdefault(group, []).append(f"  {name:20}{text}")
        return sub

    _add_stages(partial(add, "stages, in the order of a run"))
    _add_run_tools(partial(add, "look at a run"))
    _add_labels(partial(add, "look at a run"))
    _add_own_files(partial(add, "before a run, and your own files"))
    _add_workflow_tools(partial(add, "called by the workflow only"))
    parser.epilog = "\n\n".join("\n".join([f"{group}:", *lines]) for group, lines in groups.items())
    return parser


def _add_stages(add: Add) -> None:
    def add_stage(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = add(name, command, text)
        sub.set_defaults(is_stage=True)
        _add_config(sub, several=command in (_score, _collect_scores))
        _add_round(sub)
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


def _add_run_tools(add: Add) -> None:
    summary = add("summary", _summary, "print base against aligned, and the path of the report")
    summary.add_argument("run_folder", type=Path, help="for example results/demo")
    status = add("status", _status, "show what is done, running, failed and left of a run, and when it will end")
    status.add_argument("run_folder", type=Path, help="for example results/demo")
    status.add_argument("--shards", action="store_true", help="also list every job")
    inspect = add("inspect", _inspect, "print a table's origin, columns, ranges, first rows and histograms")
    inspect.add_argument("path", type=Path, help="a table, a folder of shards, or the folder of a run")
    inspect.add_argument("--rows", type=int, default=5, help="number of rows to print")
    sql = add("sql", _sql, "query the tables of a run; without a query, list them")
    sql.add_argument("run_folder", type=Path, help="for example results/demo")
    sql.add_argument("query", nargs="?", help="one SELECT statement")
    sql.add_argument("--round", type=round_number, help="use the tables of this round; by default, of the last one")
    form = sql.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_const", dest="to", const="csv", default="table", help="print CSV")
    form.add_argument("--json", action="store_const", dest="to", const="json", help="print one JSON object per line")
    form.add_argument("--out", type=Path, metavar="FILE.parquet", help="write a Parquet file, outside of the run")
    verify = add("verify", _verify, "compare every file of a run with its SHA-256; exit code 3 if one differs")
    verify.add_argument("run_folder", type=Path, help="for example results/demo")
    verify.add_argument(
        "--discard-damaged", action="store_true", help="remove damaged files; the next run re-creates them"
    )
    what_if = add("what-if", _what_if, "show which pairs other OmniScore or pair settings would choose; needs no GPU")
    what_if.add_argument("--run", type=Path, required=True, help="folder of the run, for example results/demo")
    _add_round(what_if)
    what_if.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="KEY=VALUE",
        help="a key of omniscore, dimensions or pairs (repeatable)",
    )
    export = add("export", _export, "write the pairs of a round and their clips, for others to train on")
    export.add_argument("run_folder", type=Path, metavar="RUN", help="for example results/demo")
    _add_round(export)
    export.add_argument("--format", choices=("videodpo", "datasets", "webdataset"), required=True)
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder to write")
    adapter = add("export-adapter", _export_adapter, "write the adapter in another tool's format, with a model card")
    adapter.add_argument("run_folder", type=Path, metavar="RUN", help="for example results/demo")
    adapter.add_argument(
        "--format",
        choices=("diffusers", "comfyui", "original", "merged"),
        required=True,
        help="original: names of the model's own code; merged: the base model with the change added",
    )
    adapter.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder to write")
    adapter.add_argument("--round", type=round_number, help="round to export, from 1; default: the last trained one")
    compare = add("compare", _compare, "write a page with the held-out clips of several runs or rounds side by side")
    compare.add_argument(
        "run_folders", type=Path, nargs="+", metavar="RUN", help="results/demo, or results/demo/round1"
    )
    compare.add_argument(
        "--out", type=Path, required=True, help="folder of the page; an earlier comparison is replaced"
    )
    compare.add_argument("--clips", type=int, default=200, help="rows with clips, at most; the list shows all")
    study = add("study", _study, "compare the finished arms of a study: tables, page and verdicts")
    study.add_argument("study_folder", type=Path, help="for example results/core")


def _add_labels(add: Add) -> None:
    label = add("label", _label, "write a page on which people compare clips without knowing which is which")
    label.add_argument("run_folder", type=Path, help="for example results/demo")
    label.add_argument("--out", type=Path, required=True, help="the page, for example labels.html")
    _add_round(label)
    label.add_argument(
        "--of",
        choices=("pairs", "random", "evaluation"),
        default="pairs",
        help="compare pairs of the training, random clips of its prompts, or the base with the aligned model",
    )
    label.add_argument("--pairs", type=round_number, default=100, help="number of pairs (default: 100)")
    label.add_argument(
        "--repeats", type=share, default=0.1, help="share of the pairs shown twice, from 0 to 0.5 (default: 0.1)"
    )
    label.add_argument(
        "--ask", action="append", default=[], metavar="DIMENSION", help="also ask about this dimension (repeatable)"
    )
    label.add_argument("--seed", type=int, default=0, help="another seed draws other pairs and sides (default: 0)")
    labels = add("labels", _import_labels, "import votes from such pages, or compare them with the scores")
    what = labels.add_subparsers(required=True, metavar="COMMAND")
    imported = what.add_parser("import", help="add files of votes to the run's labels.parquet")
    imported.add_argument("votes", type=Path, nargs="+", metavar="VOTES", help="JSON file that a page saved")
    imported.add_argument("--run", type=Path, required=True, help="folder of the run, for example results/demo")
    agreement = what.add_parser(
        "agreement", help="print the agreement with each score and between raters, and the weights that fit best"
    )
    agreement.set_defaults(command=_label_agreement)
    agreement.add_argument("run_folder", type=Path, help="for example results/demo")
    _add_round(agreement)


def _add_own_files(add: Add) -> None:
    _add_config(add("check", _check, "check a configuration and every file that it names"))
    weights = add("weights", _weights, "list, fetch or verify the weights that a configuration needs")
    weights.add_argument("what", choices=("list", "fetch", "verify"))
    _add_config(weights)
    files = add("score-files", _score_files, "score video files outside of a run")
    files.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    files.add_argument("--dimension", required=True, help="name of the scorer")
    files.add_argument("--prompt", help="the prompt, for scorers that need one")
    files.add_argument(
        "--info",
        type=clip_info,
        default={},
        help='JSON object of a benchmark\'s prompt list, like \'{"object": "cat"}\'',
    )
    files.add_argument("--weights", action="append", default=[], help="weights, for scorers that need some")
    files.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the scorer")
    files.add_argument("--device", default="auto", help="auto, cpu or cuda")
    files.add_argument("--json", action="store_true", help="print one JSON object per line")
    schema = add("schema", _schema, "print the JSON schema of the configuration, for editors")
    schema.add_argument("--markdown", action="store_true", help="print the page docs/configuration.md instead")


def _add_workflow_tools(add: Add) -> None:
    snapshot = add("snapshot", _snapshot, "write the settings snapshot of one stage, with the digests of its weights")
    snapshot.add_argument("out", type=Path)
    snapshot.add_argument("--settings", type=Path, required=True, help="JSON file that the workflow wrote")
    snapshot.add_argument("--sha256", required=True, help="SHA-256 of that file")
    shards = add("list-shards", _list_shards, "write a manifest of all shards and their SHA-256")
    shards.add_argument("out", type=Path)


def _add_round(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--round", type=round_number, default=1, help="round of sampling and alignment, from 1")


def _add_config(sub: argparse.ArgumentParser, *, several: bool = False) -> None:
    if several:
        text = "config.yaml, or snapshot files, one per dimension"
        sub.add_argument("--config", type=Path, nargs="+", default=[Path("config.yaml")], help=text)
    else:
        sub.add_argument("--config", type=Path, default=Path("config.yaml"), help="config.yaml, or a snapshot file")
    sub.add_argument(
        "--preset",
        type=Path,
        action="append",
        default=[],
        help="YAML file that overrides keys of --config (repeatable)",
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one key that overrides all files (repeatable)"
    )
