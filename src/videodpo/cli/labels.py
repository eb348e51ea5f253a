"""Subcommands for people's votes: the page, the import and the agreement with the scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from videodpo.cli.options import Add, add_round, round_number


def add_labels(add: Add) -> None:
    label = add("label", _label, "write a page on which people compare clips without knowing which is which")
    label.add_argument("run_folder", type=Path, help="for example results/demo")
    label.add_argument("--out", type=Path, required=True, help="the page, for example labels.html")
    add_round(label)
    label.add_argument(
        "--of",
        choices=("pairs", "random", "evaluation"),
        default="pairs",
        help="compare pairs of the training, random clips of its prompts, or the base with the aligned model",
    )
    label.add_argument("--pairs", type=round_number, default=100, help="number of pairs (default: 100)")
    label.add_argument(
        "--repeats", type=share, default=0.1, help="share of the pairs shown twice, from 0 to 0.5 (default: 0.1)"
    )
    label.add_argument(
        "--ask", action="append", default=[], metavar="DIMENSION", help="also ask about this dimension (repeatable)"
    )
    label.add_argument("--seed", type=int, default=0, help="another seed draws other pairs and sides (default: 0)")
    labels = add("labels", _import_labels, "import votes from such pages, or compare them with the scores")
    what = labels.add_subparsers(required=True, metavar="COMMAND")
    imported = what.add_parser("import", help="add files of votes to the run's labels.parquet")
    imported.add_argument("votes", type=Path, nargs="+", metavar="VOTES", help="JSON file that a page saved")
    imported.add_argument("--run", type=Path, required=True, help="folder of the run, for example results/demo")
    agreement = what.add_parser(
        "agreement", help="print the agreement with each score and between raters, and the weights that fit best"
    )
    agreement.set_defaults(command=_label_agreement)
    agreement.add_argument("run_folder", type=Path, help="for example results/demo")
    add_round(agreement)


def _label(arguments: argparse.Namespace) -> None:
    from videodpo.tools.labels.page import write_page

    print(
        write_page(
            arguments.run_folder,
            arguments.out,
            round_number=arguments.round,
            subject=arguments.of,
            count=arguments.pairs,
            repeats=arguments.repeats,
            dimensions=arguments.ask,
            seed=arguments.seed,
        )
    )


def share(text: str) -> float:
    """Parse the value of --repeats."""
    number = float(text)
    if not 0 <= number <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 0.5")
    return number


def _import_labels(arguments: argparse.Namespace) -> None:
    from videodpo.tools.labels.votes import import_votes

    print(import_votes(arguments.votes, arguments.run))


def _label_agreement(arguments: argparse.Namespace) -> None:
    from videodpo.tools.labels.terminal import format_agreement

    print(format_agreement(arguments.run_folder, arguments.round))
