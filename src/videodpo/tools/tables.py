"""The tables of a run by name: shards united, with the round, the arm and a benchmark's group as columns."""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line
from videodpo.storage.tables import read_metadata

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROUND = re.compile(r"round([1-9]\d*)")
# Tables whose name is not that of their file or folder.
_NAMES = {"evaluation/prompts": "evaluation"}
_ARMS = re.compile(r"evaluation/(?P<kind>videos|scores|appearance)/(?P<arm>base|aligned)(/[^/]+)?")
_GROUPS = re.compile(r"benchmark/(?P<group>[^/]+)/(?P<kind>videos|scores)/(?P<arm>base|aligned)(/[^/]+)?")
_GROUP_PROMPTS = re.compile(r"benchmark_prompts/(?P<group>[^/]+)")
_SCORES = re.compile(r"scores/[^/]+")


class Part(NamedTuple):
    """Files with the same columns, which belong to one round, one arm and one group; None where a table has none.

    Attributes:
        arm: `base` or `aligned`, for the videos of both models and their scores.
        group: group of a benchmark's prompts.
    """

    round: int | None
    arm: str | None
    group: str | None
    files: list[Path]


def find_tables(run: Path, round_number: int | None = None) -> dict[str, list[Part]]:
    """Find all tables of a run.

    Args:
        run: its folder.
        round_number: the round whose tables to use; None stands for the last one that has any.

    Returns:
        Parts of each table, by name.

    Raises:
        InputError: the folder has no tables, or not of this round.
    """
    files = sorted([*run.glob("*.parquet"), *run.glob("benchmark_prompts/*.parquet"), *run.glob("round*/*.parquet")])
    for pattern in ("evaluation/*", "evaluation/appearance/*", "benchmark/*"):
        files += sorted(run.glob(f"round*/{pattern}.parquet"))
    above = ("evaluation", "benchmark/*")
    for pattern in ("*", "scores/*", *(f"{folder}/{kind}" for folder in above for kind in ("videos/*", "scores/*/*"))):
        for folder in sorted(run.glob(f"round*/{pattern}")):
            files += shards_in(folder)
    grouped: dict[tuple[str, int | None, str | None, str | None], list[Path]] = defaultdict(list)
    for file in files:
        if file.stem.isidentifier() or file.name.startswith("shard-"):  # not the copy of an edited table
            grouped[_key(file.relative_to(run))].append(file)
    rounds = {number for _, number, _, _ in grouped if number}
    if not grouped:
        raise InputError(f"{run}: has no tables; give the folder of a run, <results>/<run>")
    if round_number and round_number not in rounds:
        known = ", ".join(map(str, sorted(rounds))) or "none"
        raise InputError(f"--round: {round_number}; the rounds of {run} that have tables: {known}")
    shown = {None, round_number or max(rounds, default=0)}
    tables: dict[str, list[Part]] = {}
    for (name, number, arm, group), paths in grouped.items():
        if number in shown:
            tables.setdefault(name, []).append(Part(number, arm, group, paths))
    return tables


def shards_in(folder: Path) -> list[Path]:
    """Existing shards of a table, without leftovers of an earlier, larger shard count."""
    files = sorted(folder.glob("shard-[0-9]*.parquet"))
    count = int(read_metadata(files[0]).get("num_shards", "1")) if files else 0
    return [file for file in files if int(file.stem.removeprefix("shard-")) < count]


def _key(file: Path) -> tuple[str, int | None, str | None, str | None]:
    """Name, round, arm and group of a table, from a path relative to the run's folder."""
    inside = file.parent if file.name.startswith("shard-") else file.with_suffix("")
    found = _ROUND.fullmatch(inside.parts[0])
    number = int(found[1]) if found else None
    name = inside.relative_to(inside.parts[0]).as_posix() if found else inside.as_posix()
    if arm := _ARMS.fullmatch(name):
        return f"evaluation_{arm['kind']}", number, arm["arm"], None
    if part := _GROUPS.fullmatch(name):
        return f"benchmark_{part['kind']}", number, part["arm"], part["group"]
    if part := _GROUP_PROMPTS.fullmatch(name):
        return "benchmark_prompts", None, None, part["group"]
    if _SCORES.fullmatch(name):
        return "scores", number, None, None
    return _NAMES.get(name, name.replace("/", "_")), number, None, None


def connect(tables: dict[str, list[Part]]) -> DuckDBPyConnection:
    """Open an in-memory database with one view per table. It can read the tables' files and nothing else.

    Raises:
        InputError: a table is not readable.
    """
    import duckdb

    # A database in memory would write its spill files to the working directory.
    off = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    database = duckdb.connect(":memory:", config={"temp_directory": "", **off})
    for name, parts in tables.items():
        try:
            database.execute(f'CREATE VIEW "{name}" AS {" UNION ALL BY NAME ".join(map(_select, parts))}')
        except duckdb.Error as error:
            raise InputError(f"table {name}: {first_line(error)}") from error
    files = [str(file) for parts in tables.values() for part in parts for file in part.files]
    allowed = sorted({*files, *map(glob.escape, files)})  # DuckDB checks a pattern and then the file that it stands for
    database.execute(f"SET allowed_paths = [{', '.join(map(_quoted, allowed))}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def _select(part: Part) -> str:
    columns = [f"{part.round} AS round"] if part.round else []
    columns += [f"{_quoted(part.arm)} AS arm"] if part.arm else []
    columns += [f"{_quoted(part.group)} AS benchmark_group"] if part.group else []
    files = ", ".join(_quoted(glob.escape(str(file))) for file in part.files)
    return f"SELECT {', '.join([*columns, '*'])} FROM read_parquet([{files}], hive_partitioning = false)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
