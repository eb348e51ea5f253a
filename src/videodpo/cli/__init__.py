"""The command line; its entry point is `main`."""

from videodpo.cli.command_line import main

__all__ = ["main"]
