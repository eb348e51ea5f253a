"""Subcommands for a configuration before its run, and for files outside of a run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from videodpo.cli.options import Add, add_config, read_workflow
from videodpo.config import ConfigError, RunError
from videodpo.config.loading import with_settings


def add_own_files(add: Add) -> None:
    add_config(add("check", _check, "check a configuration and every file that it names"))
    weights = add("weights", _weights, "list, fetch or verify the weights that a configuration needs")
    weights.add_argument("what", choices=("list", "fetch", "verify"))
    add_config(weights)
    files = add("score-files", _score_files, "score video files outside of a run")
    files.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    files.add_argument("--dimension", required=True, help="name of the scorer")
    files.add_argument("--prompt", help="the prompt, for scorers that need one")
    files.add_argument(
        "--info",
        type=clip_info,
        default={},
        help='JSON object of a benchmark\'s prompt list, like \'{"object": "cat"}\'',
    )
    files.add_argument("--weights", action="append", default=[], help="weights, for scorers that need some")
    files.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the scorer")
    files.add_argument("--device", default="auto", help="auto, cpu or cuda")
    files.add_argument("--json", action="store_true", help="print one JSON object per line")
    schema = add("schema", _schema, "print the JSON schema of the configuration, for editors")
    schema.add_argument("--markdown", action="store_true", help="print the page docs/configuration.md instead")


def _check(arguments: argparse.Namespace) -> None:
    run = read_workflow(arguments)
    print(f"{arguments.config}: valid; run {run.config.run!r} writes to {run.folder}")
    try:
        run.require_weights()
    except ConfigError as error:
        print(f"Before the run can start: {error}")


def _weights(arguments: argparse.Namespace) -> None:
    from videodpo.weights.fetch import fetch_all, verify_all
    from videodpo.weights.locations import is_published
    from videodpo.weights.needed import describe

    needed = read_workflow(arguments).weights
    published = [one for one in needed if is_published(one.location)]
    if arguments.what == "verify":
        verify_all(published)
        return
    if arguments.what == "fetch":
        fetch_all(published)
    print(describe(needed))


def _score_files(arguments: argparse.Namespace) -> None:
    from videodpo.stages.score import score_files

    failed = 0
    for answer in score_files(
        arguments.clips,
        arguments.dimension,
        arguments.prompt or "",
        arguments.weights,
        arguments.device,
        with_settings({}, arguments.set),
        arguments.info,
    ):
        failed += answer["value"] is None
        if arguments.json:
            print(json.dumps(answer, allow_nan=False))
        else:
            print(f"{answer['file']}\t{answer['error'] if answer['value'] is None else answer['value']}")
    if failed:
        raise RunError(f"{failed} of {len(arguments.clips)} files could not be scored")


def clip_info(text: str) -> dict[str, str]:
    """Parse the value of --info."""
    try:
        info = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON ({error})") from error
    if not isinstance(info, dict) or not all(isinstance(value, str) for value in info.values()):
        raise argparse.ArgumentTypeError(f"{text} is not an object of texts")
    return info


def _schema(arguments: argparse.Namespace) -> None:
    from videodpo.config.docs import markdown_text, schema_text

    print(markdown_text() if arguments.markdown else schema_text(), end="")
