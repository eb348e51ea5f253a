"""Show any table of a run as text: one file, a folder of shards, or the list of all tables of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from videodpo.storage.files import printable
from videodpo.storage.tables import read_metadata, read_table
from videodpo.tools.sql import print_tables
from videodpo.tools.tables import shards_in

_BARS = " ▁▂▃▄▅▆▇█"
_BINS = 20


def inspect(path: Path, num_rows: int = 5) -> None:
    """Print the tables of a run; or a table's provenance, row count, columns, first rows and histograms.

    Args:
        path: folder of a run, folder of shards, or a table.
        num_rows: number of rows to print.

    Raises:
        InputError: none of these, or not readable.
    """
    if (path / "config").is_dir():
        print_tables(path)
        return
    files = shards_in(path) or [path]
    table = pd.concat(map(read_table, files), ignore_index=True)
    shards = f" in {len(files)} shards" if path.is_dir() else ""
    lines = [f"{path}: {len(table)} rows, {len(table.columns)} columns{shards}"]
    lines += [f"  {key}: {value}" for key, value in sorted(read_metadata(files[0]).items()) if key != "pandas"]
    lines += ["", _columns(table).to_string(), ""]
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 48):
        lines.append(table.head(num_rows).map(_printable).to_string())
    print("\n".join(lines))
    if histograms := list(_histograms(table)):
        grid = Table.grid(padding=(0, 2))
        for name, bars, low, high in histograms:
            grid.add_row(Text(bars, style="cyan"), f"{low:.6g} to {high:.6g}", Text(name))
        print()
        Console().print(grid)


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def _columns(table: pd.DataFrame) -> pd.DataFrame:
    rows = {}
    for name, values in table.items():
        numeric = pd.api.types.is_numeric_dtype(values)
        low, high = (values.min(), values.max()) if numeric and len(values) else ("", "")
        rows[name] = {
            "type": str(values.dtype),
            "nulls": int(values.isna().sum()),
            "distinct": int(values.nunique()),
            "min": low,
            "mean": values.mean() if numeric and len(values) else "",
            "max": high,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _histograms(table: pd.DataFrame) -> Iterator[tuple[str, str, float, float]]:
    """Name, bars, minimum and maximum of each column of numbers that has at least two different ones."""
    for name, values in table.items():
        if pd.api.types.is_numeric_dtype(values):
            numbers = values.dropna().to_numpy(dtype=np.float64)
            numbers = numbers[np.isfinite(numbers)]
            if len(numbers) and numbers.min() < numbers.max():
                counts, edges = np.histogram(numbers, bins=_BINS)
                heights = np.ceil(counts / counts.max() * (len(_BARS) - 1)).astype(int)
                yield str(name), "".join(_BARS[height] for height in heights), edges[0], edges[-1]
