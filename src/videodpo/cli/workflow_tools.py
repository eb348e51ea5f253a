"""Subcommands that only the workflow calls."""

from __future__ import annotations

import argparse
from pathlib import Path

from videodpo.cli.options import Add
from videodpo.runtime.snapshot import write_planned


def add_workflow_tools(add: Add) -> None:
    snapshot = add("snapshot", _snapshot, "write the settings snapshot of one stage, with the digests of its weights")
    snapshot.add_argument("out", type=Path)
    snapshot.add_argument("--settings", type=Path, required=True, help="JSON file that the workflow wrote")
    snapshot.add_argument("--sha256", required=True, help="SHA-256 of that file")
    shards = add("list-shards", _list_shards, "write a manifest of all shards and their SHA-256")
    shards.add_argument("out", type=Path)


def _snapshot(arguments: argparse.Namespace) -> None:
    write_planned(arguments.settings, arguments.sha256, arguments.out)


def _list_shards(arguments: argparse.Namespace) -> None:
    from videodpo.storage.shard_list import write_shard_list

    write_shard_list(arguments.out)
