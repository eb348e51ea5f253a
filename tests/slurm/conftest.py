"""One cluster for all tests of this folder. `make test-slurm` runs them; the ordinary test run does not."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.slurm import limits
from tests.slurm.cluster import Cluster, install
from tests.slurm.runs import PLUGIN, Round, Run, slow_run


@contextmanager
def started(gpus: int) -> Iterator[Cluster]:
    """A cluster that the SLURM commands of this process and its children use; always stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    before = dict(os.environ)
    made = Cluster(folder, gpus)
    try:
        made.start()
        os.environ.update(made.environment)
        yield made
    finally:
        os.environ.clear()
        os.environ.update(before)
        made.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    install()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, which also stops the cluster
    with started(gpus=1) as made:
        yield made


@pytest.fixture
def wider_nodes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For one test, SLURM's commands use another cluster, whose nodes have two GPUs each."""
    monkeypatch.setenv("PATH", os.environ["PATH"].removeprefix(f"{cluster.folder / 'bin'}{os.pathsep}"))
    with started(gpus=2):
        yield


@pytest.fixture(scope="session", autouse=True)
def slow_plugin() -> Iterator[None]:
    """Register the slow model and scorer, also in this process."""
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[Callable[[Any], Any]]:
    """Function that registers runs, whose driver and jobs are ended after the module's tests."""
    runs: list[Run] = []

    def add(run: Any) -> Any:
        runs.append(run)
        return run

    yield add
    for run in runs:
        run.stop()


@pytest.fixture(scope="session")
def limited(
    cluster: Cluster, random_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Round]]:
    """The runs of test_expired_jobs.py. The demo requests them too, so that they run at the same time."""
    runs = limits.started(tmp_path_factory.mktemp("limited"), random_model)
    yield runs
    for run in runs.values():
        run.stop()


@pytest.fixture(scope="session")
def prepared(random_model: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Round:
    """A round that is ready for a training of 60 steps with two micro-batches each; for `copies`."""
    schedule = {"num_steps": 60, "global_batch_size": 4, "micro_batch_size": 2, "validation": {"num_prompts": 0}}
    train_runtime = {"gradient_checkpointing": "off", "checkpoint_steps": None, "trackers": ["tensorboard"]}
    raw = slow_run(random_model, schedule=schedule, train_runtime=train_runtime)
    made = Round(tmp_path_factory.mktemp("prepared") / "run", raw)
    made.prepare()
    return made


@pytest.fixture(scope="session")
def alone(prepared: Round) -> Round:
    """The same round, trained in one process without the cluster and without an interruption."""
    made = prepared.copy("alone")
    made.command("train")
    return made


@pytest.fixture
def copies(prepared: Round, running: Any, request: pytest.FixtureRequest) -> Callable[..., Round]:
    """Function that copies the prepared round; its driver gets the given environment."""
    return lambda **environment: running(prepared.copy(request.node.name.replace(" ", "_"), **environment))
