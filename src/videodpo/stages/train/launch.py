"""Start a training in several processes, with torch's launcher; on several nodes, with SLURM's srun around it."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from videodpo.config import TrainRuntime
from videodpo.config.errors import InputError

log = logging.getLogger(__name__)

# Variables that torch's launcher sets for each process; they may be left over from another launcher.
_OF_A_LAUNCHER = re.compile(
    r"(LOCAL_|GROUP_)?RANK|(LOCAL_|GROUP_)?WORLD_SIZE|MASTER_(ADDR|PORT)|ROLE_\w+|TORCHELASTIC_\w+"
)
# Variables of other launchers, and variables that set options of torch's launcher and of accelerate.
_FOREIGN = re.compile(
    r"(ACCELERATE|FSDP|FP8|MEGATRON_LM|PARALLELISM_CONFIG|DEEPSPEED|PET|OMPI_COMM_WORLD|PMI|PMIX|PALS|MV2_COMM_WORLD)_\w+"
    r"|MPI_LOCALRANKID|MPI_LOCALNRANKS|NODE_RANK|FORK_LAUNCHED"
)
# Signals that torch's launcher forwards, so that every process saves its state. SIGUSR1 is not among its defaults.
# `launcher` forwards SIGINT.
_SIGNALS = "SIGTERM,SIGHUP,SIGQUIT,SIGUSR1"
# Seconds until the launcher kills the processes: long enough to finish a step and write a checkpoint.
_PATIENCE = "600"
_FIRST_PORT, _NUM_PORTS = 20000, 20000


def drop_foreign_variables(environment: MutableMapping[str, str], *, launched: bool) -> None:
    """Remove variables of an outer launcher or of accelerate that would override the training's settings.

    Args:
        environment: changed in place, before torch and accelerate read it.
        launched: true in a process that `launch_command` started; the variables of its launcher stay.
    """
    names = [name for name in environment if _FOREIGN.fullmatch(name)]
    if not launched:
        names += [name for name in environment if _OF_A_LAUNCHER.fullmatch(name)]
    for name in names:
        del environment[name]
    if names and not launched:
        log.info("ignored: %s; train and train_runtime decide", ", ".join(sorted(names)))


def launch_environment(runtime: TrainRuntime, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment for `launch_command`, whose processes share this process's threads."""
    if _is_to_be_spread(runtime, environment):
        return dict(environment)
    threads = max(1, int(environment.get("OMP_NUM_THREADS", "1")) // runtime.processes)
    return {**environment, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": _PATIENCE, "OMP_NUM_THREADS": str(threads)}


def launch_command(runtime: TrainRuntime, arguments: Sequence[str], environment: Mapping[str, str]) -> list[str] | None:
    """Command that replaces this process to start all processes of `videodpo <arguments>`; None if one is enough.

    On several nodes, srun starts this command again on each node, where it becomes torch's launcher.

    Args:
        runtime: number of processes and nodes.
        arguments: of `videodpo`, without the program's name.
        environment: environment variables; they show whether this is a SLURM job, and whether srun started it.

    Raises:
        InputError: several nodes are configured outside of a SLURM job.
    """
    is_alone = runtime.processes * runtime.nodes == 1 and runtime.strategy == "ddp"
    if is_alone:
        return None
    program = ["-m", "videodpo", *arguments]
    if _is_to_be_spread(runtime, environment):
        return [*_one_task_a_node(runtime), sys.executable, *program]
    launcher = [sys.executable, "-m", "videodpo.stages.train.launcher", f"--nproc-per-node={runtime.processes}"]
    launcher.append(f"--signals-to-handle={_SIGNALS}")
    meeting = ["--standalone"] if runtime.nodes == 1 else _meeting(runtime, environment)
    return [*launcher, *meeting, *program, "--launched"]


def _is_to_be_spread(runtime: TrainRuntime, environment: Mapping[str, str]) -> bool:
    if runtime.nodes == 1:
        return False
    if "SLURM_JOB_ID" not in environment:
        raise InputError(
            f"train_runtime.nodes: {runtime.nodes}, but this is not a SLURM job; run snakemake --profile slurm"
        )
    return environment.get("SLURM_STEP_NUM_NODES") != str(runtime.nodes)  # otherwise srun has already spread it


def _one_task_a_node(runtime: TrainRuntime) -> list[str]:
    # --cpu-bind=none: a task may use all cores of the job on its node; by default, srun binds it to one.
    # --kill-on-bad-exit: otherwise the other nodes would wait for a node that failed. --wait=0: the first node still
    # writes the adapter when the others are done.
    shape = [f"--nodes={runtime.nodes}", f"--ntasks={runtime.nodes}", "--ntasks-per-node=1"]
    return ["srun", *shape, "--cpu-bind=none", "--kill-on-bad-exit=1", "--wait=0"]


def _meeting(runtime: TrainRuntime, environment: Mapping[str, str]) -> list[str]:
    """Rendezvous options for the launchers of one step: its first node, with a port derived from the job's id."""
    job, number = environment["SLURM_JOB_ID"], environment["SLURM_NODEID"]
    names = _scontrol("show", "hostnames", environment["SLURM_STEP_NODELIST"]).split()
    first, own = (_address(name) for name in (names[0], names[int(number)]))
    port = _FIRST_PORT + int(job) % _NUM_PORTS
    return [
        f"--nnodes={runtime.nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-id={job}",
        f"--rdzv-endpoint={first}:{port}",
        f"--rdzv-conf=is_host={int(number == '0')},read_timeout={_PATIENCE}",
        f"--local-addr={own}",
    ]


def _address(node: str) -> str:
    """Address by which SLURM reaches the node, because the node's name may not resolve elsewhere."""
    found = re.search(r"\bNodeAddr=(\S+)", _scontrol("--oneliner", "show", "node", node))
    return found[1] if found else node


def _scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True).stdout
