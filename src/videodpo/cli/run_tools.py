"""Subcommands that look at a run, or export from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from videodpo.cli.options import Add, add_round, round_number


def add_run_tools(add: Add) -> None:
    summary = add("summary", _summary, "print base against aligned, and the path of the report")
    summary.add_argument("run_folder", type=Path, help="for example results/demo")
    status = add("status", _status, "show what is done, running, failed and left of a run, and when it will end")
    status.add_argument("run_folder", type=Path, help="for example results/demo")
    status.add_argument("--shards", action="store_true", help="also list every job")
    inspect = add("inspect", _inspect, "print a table's origin, columns, ranges, first rows and histograms")
    inspect.add_argument("path", type=Path, help="a table, a folder of shards, or the folder of a run")
    inspect.add_argument("--rows", type=int, default=5, help="number of rows to print")
    sql = add("sql", _sql, "query the tables of a run; without a query, list them")
    sql.add_argument("run_folder", type=Path, help="for example results/demo")
    sql.add_argument("query", nargs="?", help="one SELECT statement")
    sql.add_argument("--round", type=round_number, help="use the tables of this round; by default, of the last one")
    form = sql.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_const", dest="to", const="csv", default="table", help="print CSV")
    form.add_argument("--json", action="store_const", dest="to", const="json", help="print one JSON object per line")
    form.add_argument("--out", type=Path, metavar="FILE.parquet", help="write a Parquet file, outside of the run")
    verify = add("verify", _verify, "compare every file of a run with its SHA-256; exit code 3 if one differs")
    verify.add_argument("run_folder", type=Path, help="for example results/demo")
    verify.add_argument(
        "--discard-damaged", action="store_true", help="remove damaged files; the next run re-creates them"
    )
    what_if = add("what-if", _what_if, "show which pairs other OmniScore or pair settings would choose; needs no GPU")
    what_if.add_argument("--run", type=Path, required=True, help="folder of the run, for example results/demo")
    add_round(what_if)
    what_if.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="KEY=VALUE",
        help="a key of omniscore, dimensions or pairs (repeatable)",
    )
    export = add("export", _export, "write the pairs of a round and their clips, for others to train on")
    export.add_argument("run_folder", type=Path, metavar="RUN", help="for example results/demo")
    add_round(export)
    export.add_argument("--format", choices=("videodpo", "datasets", "webdataset"), required=True)
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder to write")
    adapter = add("export-adapter", _export_adapter, "write the adapter in another tool's format, with a model card")
    adapter.add_argument("run_folder", type=Path, metavar="RUN", help="for example results/demo")
    adapter.add_argument(
        "--format",
        choices=("diffusers", "comfyui", "original", "merged"),
        required=True,
        help="original: names of the model's own code; merged: the base model with the change added",
    )
    adapter.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder to write")
    adapter.add_argument("--round", type=round_number, help="round to export, from 1; default: the last trained one")
    compare = add("compare", _compare, "write a page with the held-out clips of several runs or rounds side by side")
    compare.add_argument(
        "run_folders", type=Path, nargs="+", metavar="RUN", help="results/demo, or results/demo/round1"
    )
    compare.add_argument(
        "--out", type=Path, required=True, help="folder of the page; an earlier comparison is replaced"
    )
    compare.add_argument("--clips", type=int, default=200, help="rows with clips, at most; the list shows all")
    study = add("study", _study, "compare the finished arms of a study: tables, page and verdicts")
    study.add_argument("study_folder", type=Path, help="for example results/core")


def _summary(arguments: argparse.Namespace) -> None:
    from videodpo.tools.summary import summary

    print(summary(arguments.run_folder))


def _status(arguments: argparse.Namespace) -> None:
    from videodpo.tools.status import status
    from videodpo.tools.verify import runs_in

    print("\n\n".join(status(run, shards=arguments.shards) for run in runs_in(arguments.run_folder)))


def _inspect(arguments: argparse.Namespace) -> None:
    from videodpo.tools.inspect import inspect

    inspect(arguments.path, arguments.rows)


def _sql(arguments: argparse.Namespace) -> None:
    from videodpo.tools.sql import print_tables, query

    if arguments.query is None:
        print_tables(arguments.run_folder, arguments.round)
    else:
        query(arguments.run_folder, arguments.query, arguments.round, out=arguments.out, to=arguments.to)


def _verify(arguments: argparse.Namespace) -> int:
    from videodpo.tools.verify import runs_in, verify

    code = 0
    for run in runs_in(arguments.run_folder):
        if run != arguments.run_folder:
            print(f"{run}:")
        report = verify(run, discard_damaged=arguments.discard_damaged)
        print("\n".join(report.lines()))
        code = max(code, report.exit_code)
    return code


def _what_if(arguments: argparse.Namespace) -> None:
    from videodpo.tools.what_if import format_comparison, what_if

    print(f"{arguments.run}, round {arguments.round}: {', '.join(arguments.set)}")
    print(format_comparison(what_if(arguments.run, arguments.round, arguments.set)))


def _export(arguments: argparse.Namespace) -> None:
    from videodpo.tools.export import export_pairs

    count = export_pairs(arguments.run_folder, arguments.round, arguments.format, arguments.out)
    print(f"{arguments.out}: {count} pairs in the format {arguments.format}")


def _export_adapter(arguments: argparse.Namespace) -> None:
    from videodpo.tools.adapter import export_adapter

    print(export_adapter(arguments.run_folder, arguments.format, arguments.out, arguments.round) / "README.md")


def _compare(arguments: argparse.Namespace) -> None:
    from videodpo.tools.compare import compare

    print(compare(arguments.run_folders, arguments.out, arguments.clips))


def _study(arguments: argparse.Namespace) -> None:
    from videodpo.tools.study import write_study

    print(write_study(arguments.study_folder))
