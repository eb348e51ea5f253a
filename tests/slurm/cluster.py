#!/usr/bin/env python3
"""A real SLURM of two nodes on this machine, in its own folder: munge, MariaDB, slurmdbd, slurmctld, two slurmd.

python tests/slurm/cluster.py install          Debian's packages; needs root
python tests/slurm/cluster.py start FOLDER     prints the line that points SLURM's commands at it; --gpus 2: per node
python tests/slurm/cluster.py stop FOLDER      ends its jobs and daemons; the logs stay in FOLDER/log
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPLATES = Path(__file__).with_name("conf")
PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "sacctmgr", "munged", "mariadbd", "mariadb-install-db")
COMMANDS = ("sacct", "sacctmgr", "salloc", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PORTS = ("slurmctld_port", "slurmdbd_port", "mariadb_port", "n0_port", "n1_port")
NODES = ("n0", "n1")
DEVICES = ("/dev/null", "/dev/zero")  # pretend GPUs of a node
ACCOUNT = "default"  # named in profiles/slurm
SECONDS = 60.0  # time limit for a daemon's first answer
NO_SERVICES = Path("/usr/sbin/policy-rc.d")


def install() -> None:
    """Install Debian's packages if a program is missing, without starting their services.

    Raises:
        RuntimeError: this is not root, or apt-get fails; the message has its output.
    """
    if not (missing := [name for name in PROGRAMS if not shutil.which(name)]):
        return
    wanted = f"SLURM's tests need {', '.join(missing)} of the Debian packages {' '.join(PACKAGES)}"
    if os.geteuid():
        raise RuntimeError(f"{wanted}; only root can install them")
    if not shutil.which("apt-get"):
        raise RuntimeError(f"{wanted}; this system has no apt-get")
    with _services_stay_down():
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            answer = subprocess.run(
                ["apt-get", "--quiet", *command],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.returncode:
                raise RuntimeError(f"{wanted}; apt-get {command[0]} failed:\n{answer.stdout}{answer.stderr}")


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Stop Debian from starting a service on installation, by a policy file."""
    if NO_SERVICES.exists():
        yield
        return
    NO_SERVICES.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()


class Cluster:
    """The cluster of one folder. `daemons.json` has the process ids of its daemons."""

    def __init__(self, folder: Path, gpus: int = 1) -> None:
        """folder: path below 90 characters, because of the sockets in it. gpus: per node, one or two."""
        self.folder = folder.resolve()
        self._gpus = gpus
        self._pids = self.folder / "daemons.json"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point SLURM's commands at this cluster."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Start every daemon and wait until both nodes are idle.

        Raises:
            RuntimeError: this is not root; the folder is not empty; or a daemon does not answer (the message has the
                end of its log).
        """
        if os.geteuid():
            raise RuntimeError("only root can start SLURM's daemons")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise RuntimeError(f"{self.folder} is not empty; stop the cluster in it, if there is one, and take another")
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise

    def _start_all(self) -> None:
        for name in ("log", "munge", "slurmctld", *NODES):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        settings = self._write_settings()
        self._write_commands()
        self._start_munge()
        self._start_mariadb(settings)
        self._start("slurmdbd", ["slurmdbd", "-D"])
        self._until("slurmdbd", lambda: self._answers("sacctmgr", "--noheader", "list", "cluster"))
        self.run("sacctmgr", "--immediate", "add", "cluster", "videodpo")
        self.run("sacctmgr", "--immediate", "add", "account", ACCOUNT, "Cluster=videodpo")
        self.run("sacctmgr", "--immediate", "add", "user", "root", f"Account={ACCOUNT}")
        self._start("slurmctld", ["slurmctld", "-D", "-c"])
        self._until("slurmctld", lambda: self._answers("scontrol", "ping"))
        for node in NODES:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd and wait until SLURM can give it jobs."""
        self._start(node, ["slurmd", "-D", "-N", node])
        self._until(node, lambda: self.node_state(node) in ("idle", "mixed", "allocated"))

    def kill_node(self, node: str) -> None:
        """Kill slurmd and every process of the node's jobs at once, like a power cut."""
        for pid in [self._daemons()[node], *self._processes(node)]:
            _kill(pid, signal.SIGKILL)

    def node_state(self, node: str) -> str:
        """SLURM's state of the node: idle, mixed, allocated, down, ..."""
        return self.run("sinfo", "--noheader", "--nodes", node, "--format", "%T").split()[0].rstrip("*")

    def run(self, *command: str) -> str:
        """Run a SLURM command and return its output; raise CalledProcessError if it fails."""
        return subprocess.run(
            command, env=os.environ | self.environment, check=True, capture_output=True, text=True
        ).stdout

    def stop(self) -> None:
        """End all jobs and daemons, in any state."""
        mark = f"SLURM_CONF={self.environment['SLURM_CONF']}"
        for pid in reversed(self._daemons().values()):
            if mark in _read(Path(f"/proc/{pid}/environ")):  # otherwise another process has this id by now
                _end(pid)
        for pid in [pid for node in NODES for pid in self._processes(node)]:
            _kill(pid, signal.SIGKILL)
        for pid in _parents():  # left-over processes of jobs whose node was set down
            environment = _read(Path(f"/proc/{pid}/environ"))
            if mark in environment and "SLURM_JOB_ID=" in environment:
                _kill(pid, signal.SIGKILL)
        self._pids.unlink(missing_ok=True)

    def _write_settings(self) -> dict[str, str]:
        settings = {"folder": str(self.folder), "password": secrets.token_hex(16)}
        settings |= {"gpus": str(self._gpus), "devices": ",".join(DEVICES[: self._gpus])}
        sockets = [socket.socket() for _ in PORTS]
        for name, one in zip(PORTS, sockets, strict=True):
            one.bind(("127.0.0.1", 0))
            settings[name] = str(one.getsockname()[1])
        for one in sockets:
            one.close()
        for template in TEMPLATES.glob("*.conf"):
            text = string.Template(template.read_text(encoding="utf-8")).substitute(settings)
            path = self.folder / template.name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600 if template.name == "slurmdbd.conf" else 0o644)
        return settings

    def _write_commands(self) -> None:
        """Write SLURM's commands with the cluster's settings: the plugin calls srun without SLURM_* variables."""
        (self.folder / "bin").mkdir()
        for name in COMMANDS:
            script = self.folder / "bin" / name
            call = f'SLURM_CONF={shlex.quote(self.environment["SLURM_CONF"])} exec {shutil.which(name)} "$@"'
            script.write_text(f"#!/bin/sh\n{call}\n", encoding="utf-8")
            script.chmod(0o755)

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._start("munged", ["munged", "--foreground", *options])
        self._until("munged", (munge / "socket").is_socket)

    def _start_mariadb(self, settings: dict[str, str]) -> None:
        data, log = self.folder / "mariadb", self.folder / "log" / "mariadb.log"
        common = ["--no-defaults", "--user=root", f"--datadir={data}"]
        quick = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0"]
        with open(log, "ab") as out:
            made = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
            subprocess.run(made, check=True, stdout=out, stderr=out)
        network = ["--bind-address=127.0.0.1", f"--port={settings['mariadb_port']}", "--skip-name-resolve"]
        at = f"--socket={self.folder / 'mariadb.socket'}"
        self._start("mariadb", ["mariadbd", *common, *quick, *network, at])
        self._until("mariadb", lambda: self._answers("mariadb-admin", "--no-defaults", at, "ping"))
        user = "slurm@127.0.0.1"
        grant = f"create user {user} identified by '{settings['password']}'; grant all on slurm_accounting.* to {user}"
        self.run("mariadb", "--no-defaults", at, "--execute", grant)

    def _start(self, name: str, command: list[str]) -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as out:
            process = subprocess.Popen(
                command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._pids.write_text(json.dumps(self._daemons() | {name: process.pid}), encoding="utf-8")

    def _daemons(self) -> dict[str, int]:
        known: dict[str, int] = json.loads(self._pids.read_text(encoding="utf-8")) if self._pids.exists() else {}
        return known

    def _until(self, name: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not holds():
            if time.monotonic() > end:
                logs = [path.read_text(errors="replace")[-2000:] for path in (self.folder / "log").glob(f"{name}.*")]
                raise RuntimeError("\n".join([f"{name} does not answer after {SECONDS:g} s", *logs]))
            time.sleep(0.2)

    def _answers(self, *command: str) -> bool:
        try:
            return "DOWN" not in self.run(*command)
        except subprocess.CalledProcessError:
            return False

    def _processes(self, node: str) -> list[int]:
        """Step daemons of a node, found by the log that they hold open, and all processes that they started."""
        log = str(self.folder / "log" / f"{node}.log")
        parents = _parents()
        found = {pid for pid in parents if _name(pid) == "slurmstepd" and log in _open_files(pid)}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)


def _parents() -> dict[int, int]:
    """Parent of every process of this machine."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _read(entry / "stat")):
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _name(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/comm")).strip()


def _open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except FileNotFoundError:
        return []


def _read(path: Path) -> str:
    """The file's text; empty if its process has ended or access is denied."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _end(pid: int) -> None:
    _kill(pid, signal.SIGTERM)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(ChildProcessError):  # it may be another process's child
            os.waitpid(pid, os.WNOHANG)
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    _kill(pid, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("install", "start", "stop"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--gpus", type=int, choices=(1, 2), default=1, help="of each node, pretended")
    arguments = parser.parse_args()
    try:
        if arguments.what == "install":
            install()
        elif arguments.folder is None:
            parser.error(f"{arguments.what} needs a folder")
        elif arguments.what == "start":
            cluster = Cluster(arguments.folder, arguments.gpus)
            cluster.start()
            print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']} PATH={cluster.folder / 'bin'}:$PATH")
        else:
            Cluster(arguments.folder).stop()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stderr or ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
