"""A page with several runs or rounds side by side, on the held-out prompts that all of them evaluated."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from videodpo.config import OmniScore
from videodpo.config.errors import InputError
from videodpo.preference.statistics import bootstrap_interval
from videodpo.runtime.snapshot import load_formula
from videodpo.stages.report.gallery import Gallery, Measure, Side, write_gallery
from videodpo.stages.report.html import page_environment, write_web_files
from videodpo.stages.report.intervals import draw_interval, label_rows
from videodpo.stages.report.style import Drawn, FigureFolder, Theme
from videodpo.storage.files import rename_folder, write_text
from videodpo.storage.schemas import STATISTICS
from videodpo.storage.tables import read_shards, read_table
from videodpo.tools.study.results import KEY, SIDES, TOTALS, scores_by_clip

_RESAMPLES, _SEED = 10_000, 0
_MARKER = "data/runs.js"  # a folder with this file is an earlier comparison


@dataclass(frozen=True)
class Evaluated:
    """One evaluated round.

    Attributes:
        label: how the page calls it.
        folder: folder of the run.
        scores: as `scores_by_clip` returns them, indexed by prompt_id and sample, with the statistics of the pixels.
        videos: videos tables of `base` and `aligned`, indexed by video_id.
        texts: prompt by prompt_id.
    """

    label: str
    folder: Path
    scores: pd.DataFrame
    videos: dict[str, pd.DataFrame]
    texts: dict[str, str]

    @property
    def names(self) -> set[str]:
        return {column.removeprefix("base_") for column in self.scores.columns if column.startswith("base_")}


def compare(paths: Sequence[Path], out: Path, num_clips: int) -> str:
    """Write the page, and return the differences of the first score as text.

    Args:
        paths: at least two folders of runs, which stand for their last evaluated round, or of rounds.
        out: folder of the page. An earlier comparison is replaced.
        num_clips: maximum number of rows with clips.

    Raises:
        InputError: a folder has no evaluation, the runs have no prompt or no score in common, or `out` is another
            folder that is not empty.
    """
    if len(paths) < 2:
        raise InputError(f"{len(paths)} run given; give two or more runs or rounds")
    if num_clips < 0:
        raise InputError(f"--clips: {num_clips} is below 0")
    if out.exists() and not (out / _MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out: {out} exists and is not an earlier comparison; name a new folder")
    rounds = [_round_folder(path) for path in paths]
    formula = load_formula(rounds[0].parent)
    runs = [_read(folder, label, formula) for folder, label in zip(rounds, _labels(paths, rounds), strict=True)]
    gallery = _gallery(runs, formula)
    differences = _differences(gallery)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed writer
    try:
        facts = write_gallery(gallery, partial, num_clips)
        write_text(partial / "index.html", _page(runs, gallery, facts, differences, FigureFolder(partial / "figures")))
        write_web_files(partial)
        rename_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    lines = [f"{facts['total']} held-out clips in common"]
    for row in differences:
        if row["score"] == gallery.measures[0].name:
            interval = "" if row["ci_low"] is None else f" [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"
            lines.append(f"{row['of']} minus {row['minus']}: {row['score']} {row['delta']:+.4f}{interval}")
    return "\n".join([*lines, f"page: {(out / 'index.html').resolve()}"])


def _round_folder(path: Path) -> Path:
    """Folder of the evaluated round that a path stands for."""
    if (path / "evaluation" / "summary.json").is_file():
        return path.resolve()
    found = [one.parents[1] for one in path.glob("round*/evaluation/summary.json")]
    if not found:
        raise InputError(f"{path}: no evaluation; give results/<run> or results/<run>/round<r> of a finished run")
    return max(found, key=lambda folder: int(folder.name[5:])).resolve()


def _labels(paths: Sequence[Path], rounds: Sequence[Path]) -> list[str]:
    """Shortest labels that differ: the run's name, with its round, or the path as it was given."""
    for labels in (
        [folder.parent.name for folder in rounds],
        [f"{folder.parent.name} {re.sub('round', 'round ', folder.name)}" for folder in rounds],
        [str(path) for path in paths],
    ):
        if len(set(labels)) == len(labels):
            return labels
    raise InputError(f"{paths[0]} is given more than once")


def _read(folder: Path, label: str, formula: OmniScore) -> Evaluated:
    run, evaluation = folder.parent, folder / "evaluation"
    scores = scores_by_clip(read_table(evaluation / "prompts.parquet"), formula).set_index(KEY)
    for side in SIDES:
        appearance = evaluation / "appearance" / f"{side}.parquet"
        if appearance.is_file():  # evaluations of earlier versions have none
            pixels = read_table(appearance).set_index(KEY)[list(STATISTICS)]
            scores = scores.join(pixels.astype(float).add_prefix(f"{side}_"))
    prompts = read_table(run / "prompts.parquet", ["prompt_id", "prompt"])
    videos = {side: read_shards(evaluation / "videos" / side).set_index("video_id") for side in SIDES}
    return Evaluated(label, run, scores, videos, dict(zip(prompts.prompt_id, prompts.prompt, strict=True)))


def _gallery(runs: Sequence[Evaluated], formula: OmniScore) -> Gallery:
    """Rows of the clips that all runs have. Runs with the same base clips share one side for them."""
    keys = runs[0].scores.index
    for run in runs[1:]:
        keys = keys.intersection(run.scores.index, sort=False)
    if keys.empty:
        names = ", ".join(run.label for run in runs)
        raise InputError(f"{names} have no held-out prompt in common; give runs of the same prompts")
    keys = keys.sort_values()
    common = set.intersection(*(run.names for run in runs))
    kinds = {name: "total" if name == "omniscore" else "pillar" for name in TOTALS}
    kinds |= dict.fromkeys(sorted(common - set(TOTALS) - set(STATISTICS)), "dimension")
    kinds |= dict.fromkeys(STATISTICS, "appearance")
    there = [name for name in kinds if name in common and all(_has_values(run.scores.loc[keys], name) for run in runs)]
    if not there:
        raise InputError("the runs have no score in common; give runs with the same dimensions")
    measures = [Measure(name, kinds[name]) for name in there]
    video_ids = [f"{prompt_id}-{sample}" for prompt_id, sample in keys]
    bases = [run.videos["base"].loc[video_ids, "sha256"].tolist() for run in runs]
    shared = all(base == bases[0] for base in bases)
    sides: list[Side] = []
    values = []
    for number, run in enumerate(runs):
        for arm in SIDES if number == 0 or not shared else SIDES[1:]:
            label = run.label if arm == "aligned" else "base" if shared else f"base of {run.label}"
            sides.append(Side(label, f"{number}-{arm}", run.folder, run.videos[arm]))
            values.append(run.scores.loc[keys][[f"{arm}_{name}" for name in there]].to_numpy(float).T)
    return Gallery(
        name="runs",
        noun="held-out clips",
        sides=sides,
        difference=(len(sides) - 1, 1),
        measures=measures,
        ids=video_ids,
        prompts=[runs[0].texts[prompt_id] for prompt_id, _ in keys],
        video_ids=[video_ids] * len(sides),
        values_SMR=np.stack(values),
        facts={},
    )


def _has_values(scores: pd.DataFrame, name: str) -> bool:
    return bool(scores[[f"{side}_{name}" for side in SIDES]].notna().any().all())


def _differences(gallery: Gallery) -> list[dict[str, Any]]:
    """Mean difference with its interval for each score: each run against its base, then against the first run."""
    labels = [side.label for side in gallery.sides]
    aligned = [number for number, side in enumerate(gallery.sides) if side.arm.endswith("aligned")]
    base = {number: max(k for k in range(number) if gallery.sides[k].arm.endswith("base")) for number in aligned}
    pairs = [(number, base[number]) for number in aligned] + [(number, aligned[0]) for number in aligned[1:]]
    prompts = pd.Series([name.rpartition("-")[0] for name in gallery.ids])
    rows = []
    for number, measure in enumerate(gallery.measures):
        for plus, minus in pairs:
            delta = pd.Series(gallery.values_SMR[plus, number] - gallery.values_SMR[minus, number])
            there = delta.notna()
            interval = bootstrap_interval(delta[there], prompts[there], resamples=_RESAMPLES, seed=_SEED)
            low, high = interval or (None, None)
            about = {"score": measure.name, "kind": measure.kind, "of": labels[plus], "minus": labels[minus]}
            numbers = {"delta": float(delta.mean()), "ci_low": low, "ci_high": high, "num_clips": int(there.sum())}
            clear = low is not None and high is not None and (low > 0 or high < 0)
            direction = "even" if not clear else "up" if delta.mean() > 0 else "down"
            spread = float(np.nanstd(gallery.values_SMR[:, number]))
            rows.append({**about, **numbers, "direction": direction, "standard_deviation": spread})
    return rows


def _page(
    runs: Sequence[Evaluated],
    gallery: Gallery,
    facts: dict[str, Any],
    differences: Sequence[dict[str, Any]],
    figures: FigureFolder,
) -> str:
    columns = list(dict.fromkeys((row["of"], row["minus"]) for row in differences))
    rows = [[row for row in differences if row["score"] == measure.name] for measure in gallery.measures]
    means_SM = np.nanmean(gallery.values_SMR, axis=2)
    seeds = [side.videos.loc[list(gallery.ids), "seed"].tolist() for side in gallery.sides]
    return (
        page_environment("videodpo.stages.report")
        .get_template("compare.html")
        .render(
            runs=[run.label for run in runs],
            clips=facts,
            same_noise=all(seed == seeds[0] for seed in seeds),
            num_prompts=len({name.rpartition("-")[0] for name in gallery.ids}),
            totals=gallery.measures[0].kind == "total",
            sides=[side.label for side in gallery.sides],
            means=list(zip(gallery.measures, means_SM.T.tolist(), strict=True)),
            columns=[f"{of} \N{MINUS SIGN} {minus}" for of, minus in columns],
            differences=list(zip(gallery.measures, rows, strict=True)),
            figures=[
                _forest(figures, differences, f"difference-{number}", run.label, runs[0].label)
                for number, run in enumerate(runs[1:], start=1)
            ],
        )
    )


def _forest(figures: FigureFolder, differences: Sequence[dict[str, Any]], name: str, of: str, minus: str) -> Drawn:
    rows = [row for row in differences if (row["of"], row["minus"]) == (of, minus)]

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for number, row in enumerate(rows):
            spread = row["standard_deviation"] or 1.0
            ends = [None if row[key] is None else row[key] / spread for key in ("ci_low", "ci_high")]
            draw_interval(axes, theme, -number, row["delta"] / spread, *ends)
        names = [row["score"].replace("_", " ") for row in rows]
        label_rows(axes, theme, names, "difference, in standard deviations")

    return figures.draw(
        name,
        paint,
        data=pd.DataFrame(rows).drop(columns="direction"),
        title=f"{of} minus {minus}",
        caption="Mean difference on the common held-out clips with its 95 % interval (paired bootstrap over the "
        "prompts), in standard deviations of the clips' scores. Filled: the interval excludes zero.",
        size=(6.2, 0.9 + 0.27 * len(rows)),
    )
