"""A workflow's folder whose jobs run on the cluster, and their rows in SLURM's accounting."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import Stages, small_run
from tests.support.workspace import make_workspace, without_default_scorers, write_overlay
from videodpo.config.loading import read_config
from videodpo.storage.shard_list import NAME, write_shard_list

PLUGIN = Path(__file__).parents[1] / "slow_plugin"
PATIENCE = 1500.0  # seconds; several times the need of an idle machine
FIELDS = ("JobIDRaw", "Comment", "State", "NodeList", "AllocTRES", "NNodes")
SUBMITTED = re.compile(r"SLURM jobid (\d+) \(log: \S+/slurm_logs/rule_(\S+)/\1\.log\)")
DRIVER = Path(__file__).with_name("quick_driver.py")
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")


class Job(NamedTuple):
    """A row of the accounting; a requeued job has one per start."""

    number: int
    rule: str
    wildcards: str
    comment: str
    state: str
    nodes: str
    gpus: int
    num_nodes: int


class Run:
    """A folder with the workflow, and its driver."""

    def __init__(self, folder: Path, overlays: tuple[str, ...] = ("overlay.yaml",), **environment: str) -> None:
        """overlays: files in the folder that override config.yaml."""
        self.folder = folder.resolve()
        self.overlays = overlays
        self.environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        self.driver: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start the driver; its output goes to driver.log."""
        command = [sys.executable, str(DRIVER), "--profile", "slurm", "--configfile", "config.yaml"]
        command += [*self.overlays, *QUICK, *arguments]
        with open(self.folder / "driver.log", "ab") as log:
            self.driver = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def finish(self) -> str:
        """Wait for the driver and return its output; raise AssertionError if it failed."""
        assert self.driver is not None
        code = self.driver.wait(timeout=PATIENCE)
        output = (self.folder / "driver.log").read_text(encoding="utf-8")
        assert code == 0, output[-6000:] + self._logs()
        return output

    def run(self, *arguments: str) -> str:
        """Run the driver from start to end; return its output."""
        self.start(*arguments)
        return self.finish()

    def stop(self) -> None:
        """Kill the driver and cancel its jobs."""
        if self.driver and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        if numbers := [str(job.number) for job in self.jobs() if job.state in ("RUNNING", "PENDING", "REQUEUED")]:
            subprocess.run(["scancel", *numbers], check=True)

    def jobs(self) -> list[Job]:
        """Every start of every job that the drivers of this folder have submitted, by number."""
        log = self.folder / "driver.log"
        submitted = dict(SUBMITTED.findall(log.read_text(encoding="utf-8")) if log.exists() else [])
        what = ["--allocations", "--duplicates", "--parsable2", "--noheader", f"--format={','.join(FIELDS)}"]
        answer = subprocess.run(["sacct", *what, "--starttime=now-1days"], capture_output=True, text=True, check=True)
        rows = [line.split("|") for line in answer.stdout.splitlines()]
        return [_job(row, submitted[row[0]]) for row in rows if row[0] in submitted]

    def job(self, rule: str) -> Job:
        """The rule's last job, once SLURM has it."""
        found: list[Job] = self.until(lambda: [job for job in self.jobs() if job.rule == rule], f"job of {rule}")
        return found[-1]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until `holds` returns a true value and return it; fail if the driver ends or time is up first."""
        end = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < end, f"no {what} after {PATIENCE:g} s"
            assert self.driver is None or self.driver.poll() is None, f"the driver ended before {what}" + self._logs()
            time.sleep(0.1)
        return found

    def _logs(self) -> str:
        paths = [*self.folder.glob("results/*/**/logs/**/*.log"), self.folder / "driver.log"]
        return "".join(f"\n== {path}\n{path.read_text(errors='replace')[-1500:]}" for path in paths if path.is_file())


class Round(Run):
    """A small run whose first stages can run in this process, without the cluster."""

    def __init__(self, folder: Path, raw: dict[str, Any], **environment: str) -> None:
        """raw: as returned by `small_run`."""
        self.raw = without_default_scorers(raw)
        self.raw["results"] = "results"
        self.raw["prompts"]["source"].setdefault("path", None)  # otherwise config.yaml's
        make_workspace(folder, self.raw)
        super().__init__(folder, PYTHONPATH=str(PLUGIN), **environment)

    def copy(self, name: str, **environment: str) -> Round:
        """Copy the round into a folder next to this one."""
        made = Round(self.folder.with_name(name), copy.deepcopy(self.raw), **environment)
        shutil.copytree(self.folder / "results", made.folder / "results")
        return made

    def change(self, section: str, **values: Any) -> None:
        """Override values of a section of the configuration."""
        self.raw[section] = self.raw[section] | values
        write_overlay(self.folder, self.raw)

    @property
    def round_folder(self) -> Path:
        return self.folder / "results" / str(self.raw["run"]) / "round1"

    @contextlib.contextmanager
    def stages(self) -> Iterator[Stages]:
        """The stages in this process, on the run's own folder."""
        with contextlib.chdir(self.folder):
            yield Stages(read_config(Path("config.yaml"), [Path("overlay.yaml")]))

    def prepare(self) -> None:
        """Run all stages before the fine-tune."""
        with self.stages() as stages:
            stages.prompts()
            stages.generate()
            write_shard_list(stages.round_folder / "videos" / NAME)
            stages.score()
            for dimension in stages.config.dimensions:
                write_shard_list(stages.round_folder / "scores" / dimension / NAME)
            stages.pairs()
            stages.reference()
            stages.snapshot("train")
        self.command("doctor", "--out", str(self.round_folder / "doctor.json"))

    def command(self, stage: str, *arguments: str) -> None:
        """Run a stage's command on this machine."""
        config = self.round_folder.parent / "config" / "train.json"
        command = [sys.executable, "-m", "videodpo", stage, "--config", str(config), *arguments]
        answer = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr[-4000:]

    def record(self) -> list[dict[str, Any]]:
        """Record of the slow plug-in in order: stage, job, piece and time."""
        path = self.folder / self.environment["SLOW_RECORD"]
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def last_step(self) -> int:
        """Number of steps in the newest state of the training; 0 if there is none."""
        found = [
            json.loads(path.read_text())["step"] for path in self.round_folder.glob("state/*/step-*/progress.json")
        ]
        return max(found, default=0)


def slow_run(model: Path, **changes: Any) -> dict[str, Any]:
    """`small_run` with the slow model, which sleeps if the environment has SLOW_RECORD."""
    raw = small_run(model, Path("results"), **changes)
    raw["model"]["family"] = "slow_wan"
    return raw


def _job(row: list[str], logged: str) -> Job:
    number, comment, state, nodes, resources, num_nodes = row
    rule, _, wildcards = logged.partition("/")
    counts = dict(item.split("=") for item in resources.split(",") if item)
    gpus = int(counts.get("gres/gpu", 0))
    return Job(int(number), rule, wildcards, comment, state.split()[0], nodes, gpus, int(num_nodes))


def send(job: Job, number: signal.Signals) -> None:
    """Send a signal to every process of a job's steps, as SLURM does before a time limit."""
    subprocess.run(["scancel", f"--signal={number.name.removeprefix('SIG')}", str(job.number)], check=True)
