"""Results of a benchmark as a table for the terminal, as CSV and as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from videodpo.storage.files import atomic_path, write_text

_MARK = "* incomplete: clips are missing or have no score"


def format_benchmark(summary: Mapping[str, Any]) -> str:
    """Format the results in percent: one line per total and dimension, then the published ones and the notes.

    Args:
        summary: content of `benchmark/summary.json`.
    """
    cells = _cells(summary)
    lines = [f"{summary['run']}, {summary['round']}: {summary['suite']}, in percent", ""]
    lines += cells.to_string(index=False, justify="right").splitlines()
    if _has_mark(cells):
        lines.append(_MARK)
    if summary["official"]:
        lines.append(
            "official: the benchmark's own program on the same clips; largest: the largest difference of one clip"
        )
    for model, values in summary["published"].items():
        lines.append(f"published, {model}: " + ", ".join(f"{name} {100 * value:.2f}" for name, value in values.items()))
    return "\n".join([*lines, *summary["notes"]]) + "\n"


def write_csv(path: Path, summary: Mapping[str, Any]) -> None:
    """Write all figures of the rows and the published ones, unrounded and not in percent."""
    rows = [row | {f"published {model}": value for model, value in _published(summary, row)} for row in summary["rows"]]
    with atomic_path(path) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)


def write_latex(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the table as LaTeX for the package booktabs."""
    cells = _cells(summary)
    has_mark = _has_mark(cells)
    for number, row in enumerate(summary["rows"]):
        for model, value in _published(summary, row):
            cells.loc[number, f"{model} (published)"] = _percent(value)
    columns = "l" + "r" * (len(cells.columns) - 1)
    text = cells.to_latex(index=False, escape=True, column_format=columns, na_rep="")
    if has_mark:
        line = rf"\multicolumn{{{len(cells.columns)}}}{{l}}{{{_MARK}}} \\" + "\n"
        text = text.replace(r"\end{tabular}", line + r"\end{tabular}")
    write_text(path, text)


def _published(summary: Mapping[str, Any], row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Published results in one row, with their models."""
    return [(model, values[row["name"]]) for model, values in summary["published"].items() if row["name"] in values]


def _has_mark(cells: pd.DataFrame) -> bool:
    return any("*" in cell for row in cells.itertuples(index=False) for cell in row)


def _cells(summary: Mapping[str, Any]) -> pd.DataFrame:
    """The table as text, in percent."""
    rows = []
    for row in summary["rows"]:
        cells = {"": row["name"]}
        for arm in summary["arms"]:
            mark = "" if row[f"{arm}_complete"] else "*"
            cells[arm] = "none" if row[arm] is None else f"{100 * row[arm]:.2f}{mark}"
        if "delta" in row:
            cells["delta"] = "none" if row["delta"] is None else f"{100 * row['delta']:+.2f}"
            low, high = row["ci_low"], row["ci_high"]
            cells["95 % CI"] = "none" if low is None else f"[{100 * low:+.2f}, {100 * high:+.2f}]"
        for arm in summary["arms"]:
            cells[f"clips {arm}"] = str(row.get(f"{arm}_clips", ""))
        for arm in summary["official"]:
            mark = "" if row.get(f"official_{arm}_complete", True) else "*"
            cells[f"official {arm}"] = _percent(row.get(f"official_{arm}")) + mark
            cells[f"{arm} - official"] = _percent(row.get(f"official_{arm}_difference"), "+")
            cells[f"largest {arm}"] = _percent(row.get(f"official_{arm}_largest"))
        rows.append(cells)
    return pd.DataFrame(rows)


def _percent(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{100 * value:{sign}.2f}"
