"""The runs of one call of Snakemake, as the rules need them: one ordinary run, or all runs of a study."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from videodpo.config import ConfigError
from videodpo.config.study import SHARED, Study, arm_configuration, base_configuration, for_run, read_study
from videodpo.runtime.giving_up import has_given_up
from videodpo.storage.files import json_text, write_json
from videodpo.storage.manifests import manifest_path
from videodpo.workflow.run import Workflow, previous_round
from videodpo.workflow.sharing import Sharing, link_memory

Paths = str | list[str]


class Wildcards(Protocol):
    """What Snakemake gives to functions of inputs."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class Job(Protocol):
    """A job that Snakemake will run: rule, run, and its outputs."""

    rule: str
    run: str
    outputs: list[str]


def read_runs(config: Mapping[str, Any]) -> Runs:
    """Validate Snakemake's configuration: an ordinary run, or with the key `study` the runs of a study.

    Raises:
        ConfigError: some keys are wrong; the message names each of them, and its arm.
    """
    raw = dict(config)
    file, extended = raw.pop("study", None), raw.pop("study_extended", False)
    return Runs(raw) if file is None else StudyRuns(Path(str(file)), raw, str(extended).lower() == "true")


class Runs:
    """An ordinary run. The rules' paths hold its folder, and no wildcard stands for it."""

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
        """Final output: of each run, the last round's report, or its adapter if no prompts are held out."""
        return self.first.targets

    @property
    def results(self) -> Any:
        """Input of the rule `study`."""

        def refuse(wildcards: Wildcards) -> list[str]:
            raise ConfigError("study: no study is chosen; add --config study=studies/core.yaml")

        return refuse

    @property
    def tables(self) -> list[str]:
        """Pairs of the last round of each run."""
        return [self._path(name, f"round{run.config.rounds}/pairs.parquet") for name, run in self.runs.items()]

    def inputs(self, files: str | Callable[[Workflow], list[str]]) -> Paths | Callable[[Wildcards], Paths]:
        """Input of a rule: files of the job's run, wherever they are made.

        Args:
            files: relative to the run's folder, with wildcards in braces; or a function that gives them for a run.
        """
        found = files if isinstance(files, str) else files(self.first)
        return f"{self.folder}/{found}" if isinstance(found, str) else [f"{self.folder}/{file}" for file in found]

    def score_configs(self, scores: str, *, judges: bool) -> Paths | Callable[[Wildcards], Paths]:
        """Settings snapshots of the scorers of a scoring job.

        Args:
            scores: folder of the scores, relative to the run's folder, with wildcards in braces.
            judges: with the judges.
        """
        return [f"{self.folder}/config/score/{name}.json" for name in _scorers(self.first, judges)]

    def adapter(self, wildcards: Wildcards) -> list[str]:
        """Adapter that held-out clips are sampled with: none for the arm `base`."""
        known = dict(wildcards.items())
        if known["arm"] == "base":
            return []
        return [self._path(known.get("run", ""), f"round{known['round']}/adapter")]

    def previous_adapter(self, wildcards: Wildcards) -> list[str]:
        """Adapter that a round samples and trains from: that of the round before; none for the first round."""
        known = dict(wildcards.items())
        return [self._path(known.get("run", ""), file) for file in previous_round(known["round"], "adapter")]

    def of(self, wildcards: Wildcards) -> Workflow:
        """The run of a job."""
        return self.runs[dict(wildcards.items()).get("run", "")]

    def num_gpus(self, *, judges: bool) -> int:
        """Number of GPUs that a scoring job requests."""
        return max(run.num_gpus(_scorers(run, judges)) for run in self.runs.values())

    def has_given_up(self, rule: str, wildcards: Mapping[str, str]) -> bool:
        """True if the job of this rule failed for a permanent reason, so that a retry makes no sense."""
        return "round" in wildcards and has_given_up(
            Path(self.of(wildcards).folder) / f"round{wildcards['round']}", rule
        )

    def edited(self) -> list[str]:
        """Names of the settings snapshots on disk that differ from this configuration, with their run in a study.

        Raises:
            ConfigError: a snapshot cannot be read.
        """
        return self.first.edited()

    def refuse_edits(self) -> None:
        """Raise ConfigError if a settings snapshot on disk differs from the configuration."""
        self.first.refuse_edits()

    def start(self, jobs: Iterable[Job], kept: Mapping[str, Set[str]]) -> None:
        """Start each run, as `Workflow.start`, before any job.

        Args:
            jobs: all jobs that will run.
            kept: settings snapshots that jobs will read as they are, by run.

        Raises:
            ConfigError: a run cannot start; the message gives the reason.
        """
        self.first.start({job.rule for job in jobs}, kept.get("", set()))

    def remove_stale_links(self) -> None:
        """Remove the links of a study's earlier configurations; an ordinary run has none."""

    def write_results(self) -> None:
        """Write what can be compared so far; an ordinary run has nothing to compare."""

    @property
    def drivers(self) -> list[str]:
        """Each run that is being made at present, and process id, host and start time of its driver."""
        return [f"{run.folder} is being made by {run.driver}" for run in self.runs.values() if run.driver]

    def _path(self, run: str, file: str) -> str:
        return f"{self.runs[run].folder}/{file}"


class StudyRuns(Runs):
    """The runs of a study. In the rules' paths, the wildcard `run` stands for <arm>/seed<seed>."""

    def __init__(self, file: Path, raw: Mapping[str, Any], extended: bool) -> None:
        """Validate the study and all its runs.

        Raises:
            ConfigError: one message lists the problems of all arms.
        """
        self.study = study = read_study(file, extended=extended)
        self.runs = _workflows(study, raw, str(file))
        self.first = next(iter(self.runs.values()))
        self.root = str(Path(self.first.folder).parents[1])
        self.folder = f"{self.root}/{{run}}"
        self.pattern = "|".join(map(re.escape, self.runs))
        self._without_training = [name for name in self.runs if name.startswith(f"{SHARED}/")]
        self.sharing = Sharing(self.runs, self._without_training, Path(self.root))

    @cached_property
    def arms(self) -> dict[str, Workflow]:
        """The runs of the arms, by name."""
        return {name: run for name, run in self.runs.items() if name not in self._without_training}

    @cached_property
    def targets(self) -> list[str]:
        return [f"{self.root}/index.html"]

    @property
    def results(self) -> list[str]:
        """What the study compares: the evaluation and the report of each arm's runs."""
        names = ("evaluation/prompts.parquet", "evaluation/summary.json", "report/index.html")
        return [f"{run.folder}/round{run.config.rounds}/{name}" for run in self.arms.values() for name in names]

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What `videodpo study` needs to know: the study, its OmniScore, and its runs."""
        assert self.study is not None
        runs = [
            {"arm": name.partition("/")[0], "seed": run.config.seed, "folder": name, "round": run.config.rounds}
            for name, run in self.arms.items()
        ]
        evaluate = self.first.config.evaluate
        return {
            "study": self.study.model_dump(exclude={"base", "common"}),
            "omniscore": self.first.config.formula.model_dump(),
            "bootstrap_resamples": evaluate.bootstrap_resamples,
            "motion_dimension": evaluate.motion_dimension,
            "runs": runs,
        }

    @property
    def plan_sha256(self) -> str:  # type: ignore[override]
        return hashlib.sha256(json_text(self.plan).encode()).hexdigest()

    def inputs(self, files: str | Callable[[Workflow], list[str]]) -> Callable[[Wildcards], Paths]:
        def found(wildcards: Wildcards) -> Paths:
            known = dict(wildcards.items())
            wanted = files if isinstance(files, str) else files(self.of(wildcards))
            if isinstance(wanted, str):
                return self._path(known["run"], wanted.format(**known))
            return [self._path(known["run"], file.format(**known)) for file in wanted]

        return found

    def score_configs(self, scores: str, *, judges: bool) -> Callable[[Wildcards], Paths]:
        def found(wildcards: Wildcards) -> Paths:
            known = dict(wildcards.items())
            run, folder = known["run"], scores.format(**known)
            own = [name for name in _scorers(self.of(wildcards), judges) if self._owns(run, f"{folder}/{name}")]
            return [f"{self.runs[run].folder}/config/score/{name}.json" for name in own]

        return found

    def edited(self) -> list[str]:
        return [f"{name}: {one}" for name, run in self.runs.items() for one in self._edited(name, run)]

    def _edited(self, name: str, run: Workflow) -> list[str]:
        own = set(self.sharing.own_snapshots(name))
        return [one for one in run.edited() if one in own]

    def refuse_edits(self) -> None:
        for name, run in self.runs.items():
            run.refuse_edits(set(self.sharing.own_snapshots(name)))

    def remove_stale_links(self) -> None:
        """Remove the links of earlier configurations, unless a driver is running, whose jobs read them."""
        if not self.drivers:
            self.sharing.remove_stale_links()

    def start(self, jobs: Iterable[Job], kept: Mapping[str, Set[str]]) -> None:
        by_run: dict[str, set[str]] = {}
        for job in jobs:
            for output in job.outputs:
                self._refuse_link(job.run, output)
            by_run.setdefault(job.run, set()).add(job.rule)
        self.sharing.make_links()
        for name, run in self.runs.items():
            link_memory(Path(run.folder), Path(self.root))
            rules = by_run.get(name, set())
            run.start(rules, kept.get(name, set()))
            if "evaluate" in rules:  # otherwise the study would show the old one if the run fails
                summary = Path(run.folder) / f"round{run.config.rounds}/evaluation/summary.json"
                for path in (summary, manifest_path(summary)):
                    path.unlink(missing_ok=True)
        write_json(Path(self.root) / "study.json", self.plan)

    def write_results(self) -> None:
        """Write the study's tables and page from the runs that are finished."""
        subprocess.run(["videodpo", "study", self.root], check=False)

    def _owns(self, run: str, file: str) -> bool:
        return self.sharing.owner(run, file) == run

    def _path(self, run: str, file: str) -> str:
        return f"{self.root}/{self.sharing.owner(run, file)}/{file}"

    def _refuse_link(self, run: str, output: str) -> None:
        if run and not self._owns(run, file := str(Path(output).relative_to(self.runs[run].folder))):
            raise ConfigError(f"{output}: a link to {self._path(run, file)}; ask for that file")


def _scorers(run: Workflow, judges: bool) -> list[str]:
    return run.scorers + run.judges * judges


def _workflows(study: Study, raw: Mapping[str, Any], file: str) -> dict[str, Workflow]:
    """Validated runs by name, first those without any arm's overlay."""
    runs: dict[str, Workflow] = {}
    problems: list[str] = []

    def add(label: str, folder: str, configuration: Callable[[], dict[str, Any]]) -> None:
        try:
            arm = configuration()
            runs.update({f"{folder}/seed{seed}": Workflow(for_run(study, arm, folder, seed)) for seed in study.seeds})
        except ConfigError as error:
            problems.append(f"{label}: {str(error).removeprefix('configuration: ')}".replace("\n", f"\n  {label}:"))

    base = base_configuration(study, raw)
    add("base and common", SHARED, lambda: base)
    for name, arm in study.arms.items():
        add(f"arm {name}", name, lambda arm=arm: arm_configuration(arm, base))  # type: ignore[misc]
    first = next(iter(runs.values()), None)
    for name, run in runs.items():
        assert first is not None
        label = f"arm {name.partition('/')[0]}"
        problems += [f"{label}: {problem}" for problem in _differences(run, first)] if run is not first else []
        if not run.config.prompts.num_heldout:
            problems.append(f"{label}: prompts.num_heldout: 0; a study compares runs on held-out prompts")
    if problems:
        raise ConfigError(f"{file}: " + "\n  ".join(dict.fromkeys(problems)))
    return runs


def _differences(run: Workflow, first: Workflow) -> list[str]:
    """Keys that give a rule its outputs or its resources, and so must be the same in all runs."""
    keys: dict[str, Callable[[Workflow], Any]] = {
        "results": lambda one: str(Path(one.folder).parents[2]),
        "generate.shards": lambda one: one.config.generate.shards,
        "evaluate.shards": lambda one: one.config.evaluate.shards,
        "prompts.source.kind": lambda one: one.config.prompts.source.kind,
        "train_runtime.processes": lambda one: one.config.train_runtime.processes,
        "train_runtime.nodes": lambda one: one.config.train_runtime.nodes,
    }
    return [
        f"{key}: {value(run)!r}, but {value(first)!r} without the arm's overlay; set it in `common`"
        for key, value in keys.items()
        if value(run) != value(first)
    ]
