"""Trainings in one or several separate processes, which start within a second because a server forks them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from multiprocessing.process import BaseProcess
from typing import Any

import torch

PRELOAD = ["tests.support.processes", "tests.support.trainings", "videodpo.dpo.trainer", "diffusers.pipelines.wan"]


class Server:
    """Forks processes from a process that has imported everything."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*PRELOAD, "peft"])

    def start(self, run: Any) -> list[BaseProcess]:
        """Start the processes of a training."""
        count = run.config.train_runtime.processes
        if count == 1 and run.config.train_runtime.strategy == "ddp":
            ranks = [{}]
        else:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                port = found.getsockname()[1]
            world = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            ranks = [world | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
        started: list[BaseProcess] = [self._context.Process(target=_train, args=(run, rank)) for rank in ranks]
        for process in started:
            process.start()
        return started

    def finish(self, run: Any) -> None:
        """Train to the end."""
        started = self.start(run)
        for process in started:
            process.join()
        assert {process.exitcode for process in started} == {0}


def _train(run: Any, environment: dict[str, Any]) -> None:
    """Train as one of several ranks, with the environment that torch's launcher would set."""
    os.environ |= {name: str(value) for name, value in environment.items()}
    torch.set_num_threads(1)
    run.train()
