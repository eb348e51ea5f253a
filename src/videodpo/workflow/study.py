"""All runs of a study as the rules need them: validated arms, the owner of each shared file, links, start."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Set
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError
from videodpo.config.study import SHARED, Study, arm_configuration, base_configuration, for_run, read_study
from videodpo.storage.files import json_text, write_json
from videodpo.storage.manifests import manifest_path
from videodpo.workflow.plan import Job
from videodpo.workflow.run import Workflow
from videodpo.workflow.runs import Runs
from videodpo.workflow.sharing import Sharing, link_memory


def read_runs(config: Mapping[str, Any]) -> Runs:
    """Validate Snakemake's configuration: an ordinary run, or with the key `study` the runs of a study.

    Raises:
        ConfigError: some keys are wrong; the message names each of them, and its arm.
    """
    raw = dict(config)
    file, extended = raw.pop("study", None), raw.pop("study_extended", False)
    return Runs(raw) if file is None else StudyRuns(Path(str(file)), raw, str(extended).lower() == "true")


class StudyRuns(Runs):
    """The runs of a study. In the rules' paths, the wildcard `run` is <arm>/seed<seed>."""

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
        if (Path(self.root) / "config").is_dir():
            raise ConfigError(f"{file}: name: {study.name!r}: {self.root} is the folder of a run; use another name")
        self._without_training = [name for name in self.runs if name.startswith(f"{SHARED}/")]
        self.sharing = Sharing(self.runs, self._without_training, Path(self.root))

    @property
    def arms(self) -> dict[str, Workflow]:
        return {name: run for name, run in self.runs.items() if name not in self._without_training}

    @cached_property
    def targets(self) -> list[str]:
        return [f"{self.root}/index.html"]

    @property
    def page(self) -> list[str]:
        return []

    @property
    def results(self) -> list[str]:
        """Files that the study compares: the evaluation and the report of each arm's runs."""
        names = ("evaluation/prompts.parquet", "evaluation/summary.json", "report")
        return [f"{run.folder}/round{run.config.rounds}/{name}" for run in self.arms.values() for name in names]

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Input of `videodpo study`: the study, its OmniScore, and its runs."""
        assert self.study is not None
        runs = [
            {"arm": name.partition("/")[0], "seed": run.config.seed, "folder": name, "round": run.config.rounds}
            for name, run in self.arms.items()
        ]
        return {
            "study": self.study.model_dump(exclude={"base", "common"}),
            "omniscore": self.first.config.formula.model_dump(),
            "bootstrap_resamples": self.first.config.evaluate.bootstrap_resamples,
            "runs": runs,
        }

    @property
    def plan_sha256(self) -> str:  # type: ignore[override]
        return hashlib.sha256(json_text(self.plan).encode()).hexdigest()

    def remove_stale_files(self) -> None:
        """Remove links of earlier configurations, and the table of an unfinished study, unless a driver is running.

        Snakemake does not make a missing input of a file that exists: with that table, it would have nothing to do.
        """
        if not self.drivers:
            self.sharing.remove_stale_links()
            if not all(map(os.path.exists, self.results)):
                table = Path(self.root) / "study.parquet"
                for path in (table, manifest_path(table)):
                    path.unlink(missing_ok=True)

    def start(self, jobs: Iterable[Job], kept: Mapping[str, Set[str]]) -> None:
        by_run: dict[str, list[Job]] = {name: [] for name in self.runs}
        for job in jobs:
            for output in job.outputs:
                if job.will_run:
                    self._refuse_link(job.run, output)
            by_run.setdefault(job.run, []).append(job)
        for name, run in self.runs.items():  # takes the locks, so that no other driver's jobs read the links below
            run.start(by_run[name], kept.get(name, set()))
        self.sharing.make_links()
        for name, run in self.runs.items():
            link_memory(Path(run.folder), Path(self.root))
            if any(job.rule == "evaluate" and job.will_run for job in by_run[name]):
                # If the run fails, the study must not show the old summary.
                summary = Path(run.folder) / f"round{run.config.rounds}/evaluation/summary.json"
                for path in (summary, manifest_path(summary)):
                    path.unlink(missing_ok=True)
        write_json(Path(self.root) / "study.json", self.plan)

    def write_results(self) -> None:
        """Write the study's tables and page from the runs that are finished."""
        subprocess.run(["videodpo", "study", self.root], check=False)

    def _owner(self, run: str, file: str) -> str:
        return self.sharing.owner(run, file)

    def _own_snapshots(self, run: str) -> Set[str]:
        return self.sharing.own_snapshots(run)

    def _refuse_link(self, run: str, output: str) -> None:
        if run and self._owner(run, file := str(Path(output).relative_to(self.runs[run].folder))) != run:
            raise ConfigError(f"{output}: is a link to {self._path(run, file)}; request that file")


def _workflows(study: Study, raw: Mapping[str, Any], file: str) -> dict[str, Workflow]:
    """Validated runs by name, starting with those without an arm's overlay."""
    runs: dict[str, Workflow] = {}
    problems: list[str] = []
    of_the_base: set[str] = set()

    def add(label: str, folder: str, configuration: Callable[[], dict[str, Any]]) -> list[str]:
        try:
            arm = configuration()
            runs.update({f"{folder}/seed{seed}": Workflow(for_run(study, arm, folder, seed)) for seed in study.seeds})
        except ConfigError as error:
            lines = str(error).removeprefix("configuration: ").split("\n  ")
            problems.extend(f"{label}: {line}" for line in lines if line not in of_the_base)
            return lines
        return []

    base = base_configuration(study, raw)
    of_the_base = set(add("base and common", SHARED, lambda: base))
    for name, arm in study.arms.items():
        add(f"arm {name}", name, partial(arm_configuration, arm, base))
    first = next(iter(runs.values()), None)
    for name, run in runs.items():
        assert first is not None
        label = f"arm {name.partition('/')[0]}"
        problems += [f"{label}: {problem}" for problem in _differences(run, first)] if run is not first else []
        if not run.config.prompts.num_heldout:
            problems.append(f"{label}: prompts.num_heldout: 0; a study compares runs on held-out prompts")
        if run.config.evaluate.benchmark:
            problems.append(f"{label}: evaluate.benchmark: a study compares runs on held-out prompts only; remove it")
    if problems:
        raise ConfigError(f"{file}: " + "\n  ".join(dict.fromkeys(problems)))
    return runs


def _differences(run: Workflow, first: Workflow) -> list[str]:
    """Differing keys that determine a rule's outputs or resources, which must be the same in all runs."""
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
