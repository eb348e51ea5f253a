"""An ordinary run as the rules need it: paths, inputs, start. The module `study` has the same for a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from videodpo.config import ConfigError
from videodpo.config.study import Study
from videodpo.runtime.giving_up import has_given_up
from videodpo.workflow.plan import Job
from videodpo.workflow.run import Workflow, previous_round

Paths = str | list[str]


class Wildcards(Protocol):
    """Wildcards as Snakemake passes them to input functions."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class Runs:
    """An ordinary run. The rules' paths contain its folder instead of a wildcard."""

    study: Study | None = None
    plan_sha256 = ""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.first = Workflow(raw)
        self.runs: dict[str, Workflow] = {"": self.first}
        self.folder = self.root = self.first.folder
        self.pattern = ""
        """Names of the runs, as a regular expression for the wildcard `run`."""

    @cached_property
    def targets(self) -> list[str]:
        """Final outputs: the last round's report, or its adapter if no prompts are held out; and the benchmark."""
        return self.first.targets

    @property
    def page(self) -> list[str]:
        """Folder of the report that the rule `all` ends with; none for a study, which has its own page."""
        return self.first.page

    @property
    def results(self) -> Any:
        """Input of the rule `study`: a function that raises ConfigError, because an ordinary run is no study."""

        def refuse(wildcards: Wildcards) -> list[str]:
            raise ConfigError("study: missing; choose one, for example --config study=studies/core.yaml")

        return refuse

    @property
    def arms(self) -> dict[str, Workflow]:
        """Requested runs, by name."""
        return self.runs

    @property
    def tables(self) -> list[str]:
        """Pairs tables of each run's last round."""
        return [self._path(name, f"round{run.config.rounds}/pairs.parquet") for name, run in self.arms.items()]

    @property
    def benchmark(self) -> Any:
        """Summary of the last round's benchmark; or a function that raises ConfigError, because there is none."""

        def refuse(wildcards: Wildcards) -> list[str]:
            if self.study:
                raise ConfigError("benchmark: a study has none; run one of its arms without the study for that")
            raise ConfigError(
                "evaluate.benchmark: null; choose one, for example --config evaluate='{benchmark: vbench}'"
            )

        rounds = self.first.config.rounds
        return [f"{self.first.folder}/{file.format(round=rounds)}" for file in self.first.benchmark.summary] or refuse

    def inputs(self, files: str | Callable[[Workflow], list[str]]) -> Callable[[Wildcards], Paths]:
        """Input of a rule: files of the job's run, or of the run that makes them.

        Args:
            files: relative to the run's folder, with wildcards in braces; or a function that returns them for a run.
        """

        def found(wildcards: Wildcards) -> Paths:
            known = dict(wildcards.items())
            run = known.get("run", "")
            wanted = files if isinstance(files, str) else files(self.runs[run])
            if isinstance(wanted, str):
                return self._path(run, wanted.format(**known))
            return [self._path(run, file.format(**known)) for file in wanted]

        return found

    def score_configs(self, scores: str, *, judges: bool) -> Callable[[Wildcards], Paths]:
        """Settings snapshots of the scorers of a scoring job, without those whose scores another run makes.

        Args:
            scores: folder of the scores, relative to the run's folder, with wildcards in braces.
            judges: include the judges.
        """

        def found(wildcards: Wildcards) -> Paths:
            known = dict(wildcards.items())
            run, folder = known.get("run", ""), scores.format(**known)
            names = scorers_of(self.runs[run], judges)
            own = [name for name in names if self._owner(run, f"{folder}/{name}") == run]
            return [f"{self.runs[run].folder}/config/score/{name}.json" for name in own]

        return found

    def adapter(self, wildcards: Wildcards) -> list[str]:
        """Adapter for sampling held-out clips; none for the arm `base`."""
        known = dict(wildcards.items())
        if known["arm"] == "base":
            return []
        return [self._path(known.get("run", ""), f"round{known['round']}/adapter")]

    def benchmark_config(self, wildcards: Wildcards) -> str:
        """Settings snapshot of the clips of a benchmark's group."""
        stage = "benchmark_copy" if self.copies(wildcards) else "benchmark_generate"
        return f"{self.folder_of(wildcards)}/config/{stage}/{dict(wildcards.items())['group']}.json"

    def benchmark_adapter(self, wildcards: Wildcards) -> list[str]:
        """Adapter for sampling the clips of a benchmark; none for the arm `base` and for clips of the user."""
        return [] if self.copies(wildcards) else self.adapter(wildcards)

    def copies(self, wildcards: Wildcards) -> bool:
        """True if the clips of a benchmark's job are the user's own."""
        return self.of(wildcards).benchmark.copies(dict(wildcards.items())["arm"])

    def benchmark_configs(self, wildcards: Wildcards) -> list[str]:
        """Settings snapshots of the scorers of a benchmark's group."""
        run, group = self.of(wildcards), dict(wildcards.items())["group"]
        return [f"{run.folder}/config/benchmark_score/{name}.json" for name in run.benchmark.dimensions(group)]

    def benchmark_shards(self, wildcards: Wildcards) -> list[str]:
        """Numbers of the shards of a benchmark's group."""
        return self.of(wildcards).benchmark.shards(dict(wildcards.items())["group"])

    def previous_adapter(self, wildcards: Wildcards) -> list[str]:
        """Adapter that a round samples with and trains from: the previous round's; none for the first round."""
        known = dict(wildcards.items())
        return [self._path(known.get("run", ""), file) for file in previous_round(known["round"], "adapter")]

    def of(self, wildcards: Wildcards) -> Workflow:
        """Run that a job belongs to."""
        return self.runs[dict(wildcards.items()).get("run", "")]

    def folder_of(self, wildcards: Wildcards) -> str:
        """Folder of the run that a job belongs to."""
        return self.of(wildcards).folder

    def num_gpus(self, *, judges: bool) -> int:
        """Number of GPUs that a scoring job requests."""
        return max(run.num_gpus(scorers_of(run, judges)) for run in self.runs.values())

    @property
    def benchmark_gpus(self) -> int:
        """Number of GPUs that a scoring job of the benchmark requests."""
        return max(run.benchmark.num_gpus for run in self.runs.values())

    @property
    def appearance_gpus(self) -> int:
        """Number of GPUs that a job of the appearance stage requests."""
        return max(run.num_gpus(filter(None, [run.config.evaluate.diversity_dimension])) for run in self.runs.values())

    def has_given_up(self, rule: str, wildcards: Mapping[str, str]) -> bool:
        """True if the job of this rule failed for a permanent reason, so that a retry would fail again."""
        return "round" in wildcards and has_given_up(
            Path(self.of(wildcards).folder) / f"round{wildcards['round']}", rule
        )

    def edited(self) -> list[str]:
        """Names of the settings snapshots on disk that differ from this configuration, with their run in a study.

        Raises:
            ConfigError: a snapshot cannot be read.
        """
        return [
            f"{name}: {one}".removeprefix(": ")
            for name, run in self.runs.items()
            for one in run.edited()
            if one in self._own_snapshots(name)
        ]

    def refuse_edits(self) -> None:
        """Raise ConfigError if a settings snapshot on disk differs from the configuration."""
        for name, run in self.runs.items():
            run.refuse_edits(self._own_snapshots(name))

    def start(self, jobs: Iterable[Job], kept: Mapping[str, Set[str]]) -> None:
        """Start each run, as `Workflow.start`, before any job.

        Args:
            jobs: all jobs.
            kept: settings snapshots that jobs will read as they are, by run.

        Raises:
            ConfigError: a run cannot start; the message gives the reason.
        """
        self.first.start(list(jobs), kept.get("", set()))

    def remove_stale_files(self) -> None:
        """Remove what a study's earlier starts left; an ordinary run has nothing to remove."""

    def write_results(self) -> None:
        """Write the comparison of the runs finished so far; an ordinary run has nothing to compare."""

    @property
    def drivers(self) -> list[str]:
        """Each run in progress, with process id, host and start time of its driver."""
        return [f"{run.folder} is in use by {run.driver}" for run in self.runs.values() if run.driver]

    def _path(self, run: str, file: str) -> str:
        return f"{self.runs[self._owner(run, file)].folder}/{file}"

    def _owner(self, run: str, file: str) -> str:
        """Name of the run that makes a file, given relative to the run's folder."""
        return run

    def _own_snapshots(self, run: str) -> Set[str]:
        """Settings snapshots that the run's own jobs read."""
        return self.runs[run].snapshots.keys()


def scorers_of(run: Workflow, judges: bool) -> list[str]:
    """Names of the scorers of a scoring job."""
    return run.scorers + run.judges * judges
