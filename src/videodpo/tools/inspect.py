"""Show any table of a run as text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from videodpo.storage.tables import read_metadata, read_table


def describe(path: Path, num_rows: int = 5) -> str:
    """Describe a table: provenance, row count, type and summary of each column, and the first rows.

    Raises:
        ValueError: not a readable table.
    """
    table = read_table(path)
    lines = [f"{path}: {len(table)} rows, {len(table.columns)} columns"]
    lines += [f"  {key}: {value}" for key, value in sorted(read_metadata(path).items()) if key != "pandas"]
    lines += ["", _columns(table).to_string(), ""]
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", 48):
        lines.append(table.head(num_rows).to_string())
    return "\n".join(lines)


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
