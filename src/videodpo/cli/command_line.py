"""The command line `videodpo`: one subcommand per stage, and tools for a run and for own files."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from functools import partial

from videodpo import __version__
from videodpo.cli.labels import add_labels
from videodpo.cli.options import Command
from videodpo.cli.own_files import add_own_files
from videodpo.cli.run_tools import add_run_tools
from videodpo.cli.stages import add_stages
from videodpo.cli.workflow_tools import add_workflow_tools
from videodpo.config import VideodpoError
from videodpo.runtime.exit_codes import is_refusal
from videodpo.runtime.logs import log_start, set_up_logs
from videodpo.runtime.output import tolerant_output
from videodpo.storage.files import refuse_full_disk


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

    add_stages(partial(add, "stages, in the order of a run"))
    add_run_tools(partial(add, "look at a run"))
    add_labels(partial(add, "look at a run"))
    add_own_files(partial(add, "before a run, and your own files"))
    add_workflow_tools(partial(add, "called by the workflow only"))
    parser.epilog = "\n\n".join("\n".join([f"{group}:", *lines]) for group, lines in groups.items())
    return parser
