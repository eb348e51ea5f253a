"""Summary of an evaluation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_HEAD = ("", "base", "aligned", "delta", "[95 % CI]", "wins", "of headroom")
_TITLES = {"reported": "scored, outside the OmniScore", "judge": "independent judges, never trained on"}


def format_table(summary: Mapping[str, Any]) -> str:
    """Format base, aligned, delta with its interval, win rate, and gain: one line per dimension.

    Args:
        summary: content of `evaluation/summary.json`.
    """
    rows: list[Sequence[str]] = [_HEAD]
    previous = None
    for name in summary["order"]:
        row = summary["dimensions"][name]
        if row["kind"] != previous and row["kind"] in _TITLES:
            rows.append((_TITLES[row["kind"]],))
        previous = row["kind"]
        rows.append(
            (
                "  " * (row["kind"] not in ("total", "pillar")) + name,
                f"{row['base']:.4f}",
                f"{row['aligned']:.4f}",
                f"{row['delta']:+.4f}",
                "none" if row["ci_low"] is None else f"[{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]",
                f"{100 * row['win_rate']:.0f} %",
                _gain(row),
            )
        )
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[k]) for row in full) for k in range(len(_HEAD))]
    lines = [
        f"{summary['run']}, {summary['round']}: {summary['num_clips']} clip pairs of {summary['num_prompts']} held-out "
        f"prompts ({summary['num_left_out']} left out)",
        "",
    ]
    for row in rows:
        cells = [
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    for name in summary["order"]:
        if (num_clips := summary["dimensions"][name]["num_clips"]) < summary["num_clips"]:
            lines.append(f"{name}: could score {num_clips} of {summary['num_clips']} clip pairs")
    if any(row["ci_low"] is None for row in summary["dimensions"].values()):
        lines.append("interval none: a single held-out prompt has none, and supports no claim")
    lines += _headroom_lines(summary["dimensions"].values())
    for name, reason in sorted(summary["not_applicable"].items()):
        lines.append(f"{name}: not applicable ({reason})")
    if motion := summary["motion"]:
        lines += ["", _motion_line(motion)]
    if moved := summary.get("strength"):  # summaries of earlier versions have none
        lines += ["", _strength_line(moved)]
    return "\n".join(lines) + "\n"


def _gain(row: Mapping[str, Any]) -> str:
    if row.get("gain") is None:  # summaries of earlier versions have none
        return "none"
    text = f"{100 * row['gain']:z.0f} %"
    return text if row["gain_low"] is None else f"{text} [{100 * row['gain_low']:z.0f}, {100 * row['gain_high']:z.0f}]"


def _headroom_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Explain what 100 % means: one line per kind of prompts on which headroom was measured."""
    sources = {row["headroom_source"]: row["headroom_samples"] for row in rows if row.get("gain") is not None}
    return [
        f"of headroom ({source}): 100 % is as good as the best of {count} samples of the base model"
        for source, count in sorted(sources.items(), reverse=True)
    ]


def _motion_line(motion: Mapping[str, Any]) -> str:
    change = motion["relative_change"]
    text = (
        f"motion ({motion['dimension']}): {motion['base']:.4f} -> {motion['aligned']:.4f}"
        + (f" ({100 * change:+.1f} %)" if change is not None else "")
        + f", nearly still clips {100 * motion['base_still']:.0f} % -> {100 * motion['aligned_still']:.0f} %"
    )
    return f"WARNING: the aligned model moves less. {text}" if motion["warning"] else text


def _strength_line(moved: Mapping[str, float]) -> str:
    sides = {"winners": "winner", "losers": "loser", "both": "mean"}
    shares = ", ".join(f"{side} {100 * moved[key]:+.2f} %" for side, key in sides.items())
    return f"strength (error over the reference's, last {moved['steps']} steps of the training): {shares}"
