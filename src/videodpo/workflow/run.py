"""Configuration as the Snakefile needs it: checked names, shard numbers, snapshot texts. Never imports torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from videodpo.config import Config, ConfigError, InputError, parse_config, validate
from videodpo.config.shard_counts import shard_numbers
from videodpo.runtime import registry
from videodpo.runtime.giving_up import clear_marks
from videodpo.runtime.locks import driver, take_run
from videodpo.runtime.settings import scorer_of, scorer_options
from videodpo.runtime.snapshot import differs, snapshot_text, stage_names, write_snapshot
from videodpo.storage.files import read_json, write_text
from videodpo.storage.manifests import EDITABLE, keep_edited
from videodpo.weights.locations import NotFetched, resolve, root
from videodpo.weights.needed import Needed, merge
from videodpo.workflow.benchmark_files import BenchmarkFiles
from videodpo.workflow.check import BENCHMARK, check, options_key
from videodpo.workflow.plan import Job, write_plan

_SCORING = {"score", "collect_scores", "evaluate_score", "evaluate_collect_scores"}
_BENCHMARK = {"benchmark_prompts", "benchmark_score", "benchmark_collect_scores"}
_WITH_THE_MODEL = {"generate", "evaluate_generate", "benchmark_generate", "visits", "reference", "doctor", "train"}


class Workflow:
    """Validated run, as used by the rules."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        """Validate everything that can be checked before a job starts.

        Raises:
            ConfigError: some keys are wrong; the message names each of them, with its value and what is allowed.
        """
        self.config: Config = parse_config(raw)
        check(self.config)
        self.folder = str(Path(self.config.results) / self.config.run)
        self.scorers = list(self.config.dimensions)
        self.judges = list(self.config.evaluate.judges)
        self.has_clips = self.config.prompts.source.has_clips
        self.has_pairs = self.config.prompts.source.has_pairs
        self.benchmark = BenchmarkFiles(self.config.evaluate.benchmark)

    @cached_property
    def shards(self) -> list[str]:
        """Numbers of the sampling shards, formatted as in file names."""
        return shard_numbers(self.config.generate.shards)

    @cached_property
    def reference_shards(self) -> list[str]:
        """Numbers of the shards of reference errors; none if the reference is online."""
        return shard_numbers(self.config.reference.shards) if self.config.train.reference == "precomputed" else []

    @cached_property
    def heldout_shards(self) -> list[str]:
        """Numbers of the shards of held-out clips."""
        return shard_numbers(self.config.evaluate.shards)

    @cached_property
    def headroom_tables(self) -> list[str]:
        """Tables of the first round with the scores of the base model's samples; none if the user brings clips."""
        outside = [name for name in self.scorers if name not in self.config.formula.dimensions]
        tables = ["omniscore.parquet", *(f"scores/{name}/shards.json" for name in outside)]
        return [] if self.has_clips else tables

    @cached_property
    def sources_of_pairs(self) -> list[str]:
        """Tables that the pairs are chosen from, relative to the run's folder."""
        return ["imported_pairs.parquet"] if self.has_pairs else self.scored

    @cached_property
    def scored(self) -> list[str]:
        """Table of the training clips' scores, relative to the run's folder; none if the pairs are the user's own."""
        return [] if self.has_pairs else ["round{round}/omniscore.parquet"]

    @cached_property
    def page(self) -> list[str]:
        """Folder of the last round's report; none if no prompts are held out."""
        return [f"{self.folder}/round{self.config.rounds}/report"] if self.config.prompts.num_heldout else []

    @cached_property
    def targets(self) -> list[str]:
        """Final output of a run: the last round's report, or its adapter if no prompts are held out; the benchmark."""
        summary = [f"{self.folder}/{file.format(round=self.config.rounds)}" for file in self.benchmark.summary]
        return (self.page or [f"{self.folder}/round{self.config.rounds}/adapter"]) + summary

    def num_gpus(self, dimensions: Iterable[str]) -> int:
        """Number of GPUs that a job for these dimensions requests."""
        return int(any(self._scorer(name).uses_gpu for name in dimensions))

    def _scorer(self, name: str) -> Any:
        """Class of the scorer of a dimension or judge."""
        return registry.load("videodpo.scorers", scorer_of(self.config, name))

    @cached_property
    def train_resources(self) -> dict[str, int | str]:
        """Resources that the fine-tune requests from SLURM.

        On several nodes, the job has one task per node, in which torch's launcher starts the processes. It is an MPI
        job, because Snakemake's plugin puts every other job into one srun task. It requests `gres`, because `gpu` would
        count over all nodes.
        """
        train_runtime = self.config.train_runtime
        if train_runtime.nodes == 1:
            return {"gpu": train_runtime.processes, "nodes": 1}
        nodes = train_runtime.nodes
        # For a job with GPUs, the plugin uses `tasks` as the tasks per GPU, unless `tasks_per_gpu` is 0.
        gres = f"gpu:{train_runtime.processes}"
        return {"mpi": "srun", "nodes": nodes, "tasks": nodes, "tasks_per_gpu": 0, "gres": gres}

    @cached_property
    def snapshots(self) -> dict[str, str]:
        """Snapshot text of each stage and each `score/<dimension>`."""
        return {name: snapshot_text(self.config, name) for name in stage_names(self.config)}

    @cached_property
    def weights(self) -> list[Needed]:
        """All weights that the run reads, without duplicates."""
        model = registry.load("videodpo.models", self.config.model.family)
        needed = [Needed(self.config.model.weights, ("model",), model.hub_files)]
        for name, options in scorer_options(self.config).items():
            scorer, key = self._scorer(name), options_key(self.config, name)
            locations = scorer.weights(validate(scorer.Options, options, key))
            needed += [Needed(location, (key,), scorer.hub_files) for location in locations]
        if suite := self.benchmark.suite:
            needed.append(Needed(suite.prompts, (BENCHMARK,), ()))
            for name, dimension in suite.dimensions.items():
                scorer = registry.load("videodpo.scorers", dimension.scorer or name)
                locations = scorer.weights(validate(scorer.Options, dimension.options, name))
                needed += [Needed(location, (f"{BENCHMARK}, {name}",), scorer.hub_files) for location in locations]
        return merge(needed)

    def planned_file(self, name: str) -> str:
        """Path at which the driver stores a snapshot's text, for the job that writes the snapshot."""
        return f"{self.folder}/config/planned/{name}.json"

    def planned_sha256(self, name: str) -> str:
        """SHA-256 of that text.

        Raises:
            ConfigError: the configuration has no such settings.
        """
        if name not in self.snapshots:
            raise ConfigError(f"{name}: this configuration has no such stage; did you forget a preset?")
        return hashlib.sha256(self.snapshots[name].encode()).hexdigest()

    def start(self, jobs: Sequence[Job], kept: Set[str]) -> None:
        """Check weights and snapshots, take the run's lock, write `config/execution.json` and the plan, before any job.

        The texts of the snapshots that jobs will write are stored in `config/planned`.

        execution.json is deliberately not an input of any rule: changing it must not re-run anything. As an `ancient`
        input, it would be rewritten after an edit, and Snakemake would leave missing files out of its plan.

        Args:
            jobs: all jobs of the run.
            kept: settings snapshots that jobs will read as they are.

        Raises:
            ConfigError: the run cannot start; the message gives the reason.
        """
        rules = {job.rule for job in jobs if job.will_run}
        self.require_weights(rules)
        self.refuse_edits(kept)
        # Snakemake deletes a rule's outputs before the rule runs, so a stage never sees the table that it replaces.
        for name in EDITABLE:
            if name.removesuffix(".parquet") in rules:
                for table in Path(self.folder).rglob(name):
                    if not table.is_symlink():  # another run of the study makes that table
                        keep_edited(table)
        try:
            take_run(Path(self.folder))
            clear_marks(Path(self.folder))
            write_snapshot(self.snapshots["execution"], self._snapshot_file("execution"))
            if "snapshot" in rules:
                for name in self.snapshots.keys() - kept:
                    write_text(Path(self.planned_file(name)), self.snapshots[name])
            write_plan(Path(self.folder), jobs)
        except (RuntimeError, OSError) as error:
            raise ConfigError(str(error)) from error

    def edited(self) -> list[str]:
        """Names of the settings snapshots on disk that differ from this configuration.

        Raises:
            ConfigError: a snapshot cannot be read.
        """
        names = [name for name in self.snapshots if name != "execution"]
        try:
            return [name for name in names if differs(self._snapshot_file(name), self.snapshots[name])]
        except OSError as error:
            raise ConfigError(str(error)) from error

    def refuse_edits(self, kept: Set[str]) -> None:
        """Raise ConfigError if a settings snapshot of these names differs from the configuration."""
        if other := [str(self._snapshot_file(name)) for name in self.edited() if name in kept]:
            raise ConfigError(
                f"these settings snapshots differ from the configuration: {', '.join(other)}. Snakemake would keep "
                "them, because its record in .snakemake is missing or was ignored; remove them and start again"
            )

    def _snapshot_file(self, name: str) -> Path:
        return Path(self.folder) / "config" / f"{name}.json"

    @property
    def driver(self) -> str | None:
        """Process id, host and start time of the run's current driver; None if there is none."""
        return driver(Path(self.folder))

    def require_weights(self, rules: Set[str] | None = None) -> None:
        """Raise one ConfigError for all published weights that are not on this disk.

        Args:
            rules: names of the rules that will run; None means all rules.
        """
        missing = []
        with_the_model = _WITH_THE_MODEL
        if not self.benchmark.needs_sampling:
            with_the_model = with_the_model - {"benchmark_generate"}  # copies clips
        scores, samples, benchmarks = (
            rules is None or bool(rules & those) for those in (_SCORING, with_the_model, _BENCHMARK)
        )
        for needed in self.weights:
            reads = {samples if key == "model" else benchmarks if BENCHMARK in key else scores for key in needed.keys}
            if not any(reads):
                continue
            try:
                resolve(needed.location)
            except NotFetched:
                missing.append(f"\n  {needed.location} ({', '.join(needed.keys)})")
        if missing:
            raise ConfigError(
                f"weights that this run needs are not in {root()}:{''.join(missing)}\n"
                "On a machine with internet access: videodpo weights fetch, with one --preset for each file after "
                "config.yaml in --configfile"
            )


def once_settled(scored: Sequence[str], wildcards: Any, ancient: Callable[[str], Any]) -> list[Any]:
    """Lists of failures of the shards, marked `ancient` if they can no longer change the dimension's tables.

    Args:
        scored: `<scores>/shard-<number>.json`.
        ancient: Snakemake's function of that name.
    """
    return [ancient(file) if is_settled(file, wildcards.dimension) else file for file in scored]


def is_settled(scored: str, dimension: str) -> bool:
    """True if no later scoring can change a dimension's table of one shard.

    False if the table has a score that failed for a temporary reason: the next scoring may compute it, or has already
    done so. A missing or damaged file counts as settled: the stage that reads it reports the fault.

    Args:
        scored: the shard's list of failures, `<scores>/shard-<number>.json`.
    """
    path = Path(scored)
    temporary = _temporary(path).get(dimension, [])
    table = path.parent / dimension / f"{path.stem}.parquet"
    if not temporary or not table.exists():
        return True
    from videodpo.storage.tables import read_rows  # imports pandas, which is slow and rarely needed

    failed = {row["video_id"] for row in read_rows(table) if row["status"] == "failed"}
    return failed.isdisjoint(temporary)


def heldout_videos(run: Workflow) -> list[str]:
    """Held-out videos of both models that the comparison reads, relative to the run's folder."""
    return [
        f"round{{round}}/evaluation/videos/{arm}/shard-{shard}.parquet"
        for arm in ("base", "aligned")
        for shard in run.heldout_shards
    ]


def heldout_scores(run: Workflow) -> list[str]:
    """Scores of these videos, relative to the run's folder."""
    return [
        f"round{{round}}/evaluation/scores/{arm}/{name}/shard-{shard}.parquet"
        for arm in ("base", "aligned")
        for name in run.scorers + run.judges
        for shard in run.heldout_shards
    ]


def previous_round(number: str, file: str) -> list[str]:
    """Path of a file of the round before `number`, relative to the run's folder; none for the first round."""
    return [f"round{int(number) - 1}/{file}"] if number != "1" else []


def check_location(folder: str) -> None:
    """Raise ConfigError if the rules are in a folder whose name Snakemake would parse as a pattern."""
    if set("{}") & set(folder):
        raise ConfigError(f"{folder}: the workflow's path must not contain {{ or }}; move or rename the folder")


def put_command_first() -> None:
    """Let jobs call this environment's `videodpo`, even if the environment is not activated.

    Raises:
        ConfigError: as `path_with_command`.
    """
    os.environ["PATH"] = path_with_command(os.environ.get("PATH", os.defpath))


def path_with_command(path: str) -> str:
    """Put the folder of this environment's `videodpo` in front of PATH.

    Raises:
        ConfigError: there is no such command: jobs would run another environment's command, or none.
    """
    folder = sysconfig.get_path("scripts")
    if not shutil.which("videodpo", path=folder):
        raise ConfigError(
            f"no command videodpo in {folder}, next to the Python that runs Snakemake ({sys.executable}); install the "
            "package there, or run the snakemake of the environment that has it: make setup, then .venv/bin/snakemake"
        )
    return path if path.split(os.pathsep)[0] == folder else f"{folder}{os.pathsep}{path}"


@cache
def _temporary(scored: Path) -> dict[str, list[str]]:
    """Clips of a shard that have failed for a temporary reason, by dimension."""
    try:
        known = read_json(scored)
    except InputError:
        return {}
    return {dimension: done.get("temporary", []) for dimension, done in known.items()}
