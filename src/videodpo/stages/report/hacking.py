"""Panel of reward hacking: statistics of the pixels and of the motion, base against aligned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from videodpo.preference.statistics import bootstrap_interval
from videodpo.runtime.seeds import derive_seed
from videodpo.stages.report.inputs import Finished
from videodpo.stages.report.intervals import draw_interval, label_rows
from videodpo.stages.report.style import Drawn, FigureFolder, Theme
from videodpo.storage.schemas import STATISTICS

LARGE = 0.1  # relative change of a mean that is marked, if its interval excludes zero
_MEANINGS = {
    "exposure": "mean brightness: 0 is black, 1 is white",
    "overexposed": "share of pixels that are nearly white (luma of at least 250 of 255)",
    "saturation": "mean difference of a pixel's largest and smallest colour channel: high in cartoons",
    "contrast": "standard deviation of the brightness within a frame",
    "sharpness": "standard deviation of the brightness's Laplacian; halos and noise raise it too",
    "seed_distance": "mean distance (1 minus cosine) of a prompt's clips, by embeddings of their frames, without the "
    "text. A fall means that the seeds look alike",
}


def hacking_rows(finished: Finished) -> list[dict[str, Any]]:
    """One row per statistic: both means, the difference with its interval, the relative change, and a warning."""
    clips = finished.comparison[finished.comparison.dimension == "omniscore"]
    keys = [f"{prompt_id}-{sample}" for prompt_id, sample in zip(clips.prompt_id, clips["sample"], strict=True)]
    arms = {arm: table.set_index("video_id").reindex(keys) for arm, table in finished.appearance.items()}
    rows = []
    for name in STATISTICS:
        base, aligned = arms["base"][name], arms["aligned"][name]
        there = base.notna() & aligned.notna()
        if there.any():
            row = _row(finished, base[there], aligned[there], clips.prompt_id[there.to_numpy()])
            rows.append({"name": name, "meaning": _MEANINGS[name], **row})
    if motion := finished.summary["motion"]:
        scores = finished.comparison[finished.comparison.dimension == motion["dimension"]]
        row = _row(finished, scores.base, scores.aligned, scores.prompt_id)
        meaning = "amount of motion, the dimension of evaluate.motion_dimension. A fall means stiller clips"
        rows.append({"name": motion["dimension"], "meaning": meaning, **row})
    return rows


def hacking_notes(finished: Finished, rows: list[dict[str, Any]]) -> list[str]:
    """What the panel lacks, and how to add it."""
    notes = []
    if all(row["name"] != "seed_distance" for row in rows):
        notes.append(
            "The distance between the seeds of a prompt was not measured: it needs evaluate.diversity_dimension, and "
            "evaluate.videos_per_prompt of 2 or more."
        )
    if not finished.summary["motion"]:
        notes.append("Motion was not measured: set evaluate.motion_dimension.")
    failed = {arm: int((table.status != "ok").sum()) for arm, table in finished.appearance.items()}
    if any(failed.values()):
        notes.append(
            f"Clips that could not be measured: {failed['base']} of the base model, {failed['aligned']} aligned."
        )
    return notes


def hacking_figures(finished: Finished, rows: list[dict[str, Any]], folder: FigureFolder) -> list[Drawn]:
    """Draw the relative changes, and the distribution of the motion if it was measured."""
    table = pd.DataFrame(rows)
    drawn = [
        folder.draw(
            "reward-hacking",
            lambda figure, theme: _relative(figure, theme, rows),
            data=table.drop(columns=["meaning", "direction"]),
            title="Relative change of each statistic",
            caption="Mean of aligned minus base with its 95 % interval (paired bootstrap over the prompts), in percent "
            "of the base model's mean. Filled: the interval excludes zero.",
            size=(6.2, 1.0 + 0.32 * len(rows)),
        )
    ]
    if motion := finished.summary["motion"]:
        scores = finished.comparison[finished.comparison.dimension == motion["dimension"]]
        data = pd.DataFrame(
            {
                "share": (np.arange(len(scores)) + 1) / len(scores),
                "base": np.sort(scores.base),
                "aligned": np.sort(scores.aligned),
            }
        )
        drawn.append(
            folder.draw(
                "motion",
                lambda figure, theme: _motion(figure, theme, data, motion["dimension"]),
                data=data,
                title="Motion of the clips",
                caption="Share of held-out clips with at most this much motion. A line further left moves less; a "
                "steep start at zero means still clips.",
            )
        )
    return drawn


def _row(finished: Finished, base: pd.Series, aligned: pd.Series, prompt_ids: pd.Series) -> dict[str, Any]:
    delta = (aligned - base).reset_index(drop=True)
    seed = derive_seed(int(finished.summary["seed"]), "bootstrap")
    resamples = int(finished.summary["bootstrap"])
    interval = bootstrap_interval(delta, prompt_ids.reset_index(drop=True), resamples=resamples, seed=seed)
    low, high = interval or (None, None)
    mean = float(base.mean())
    relative = float(delta.mean()) / mean if mean else None
    is_clear = low is not None and high is not None and (low > 0 or high < 0)
    return {
        "num_clips": len(delta),
        "base": mean,
        "aligned": float(aligned.mean()),
        "delta": float(delta.mean()),
        "ci_low": low,
        "ci_high": high,
        "relative": relative,
        "direction": "even" if not is_clear else "up" if delta.mean() > 0 else "down",
        "warning": is_clear and relative is not None and abs(relative) > LARGE,
    }


def _relative(figure: Figure, theme: Theme, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots()
    for number, row in enumerate(rows):
        if row["relative"] is None:
            continue
        scale = 100 / row["base"]
        ends = [None if row[key] is None else row[key] * scale for key in ("ci_low", "ci_high")]
        draw_interval(axes, theme, -number, 100 * row["relative"], *ends)
    label_rows(axes, theme, [row["name"].replace("_", " ") for row in rows], "change, % of the base model's mean")


def _motion(figure: Figure, theme: Theme, data: pd.DataFrame, name: str) -> None:
    axes = figure.subplots()
    axes.step(data.base, data.share, where="post", color=theme.contrast, linestyle=(0, (4, 1.5)), label="base")
    axes.step(data.aligned, data.share, where="post", color=theme.accent, label="aligned")
    axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel("share of clips")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=min(0.0, float(data[["base", "aligned"]].min().min())))
    axes.legend(loc="lower right")
