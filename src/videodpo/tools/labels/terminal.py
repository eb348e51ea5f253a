"""Agreement of a run's votes as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from videodpo.config import OmniScore
from videodpo.config.errors import InputError
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.snapshot import load_formula
from videodpo.storage.labels import OVERALL, read_labels
from videodpo.tools.labels.agreement import (
    Share,
    alpha,
    consistency,
    score_agreement,
    score_differences,
    share,
    with_numbers,
)
from videodpo.tools.labels.votes import TABLE
from videodpo.tools.labels.weights import fit, yaml_block

HEADER = f"  {'':32}  votes  share  95 % interval"


def format_agreement(run_folder: Path, round_number: int) -> str:
    """Compare the votes on one round with the scores, with themselves and with each other; write nothing.

    Raises:
        InputError: there are no votes on the clips of the round.
    """
    table, folder = run_folder / TABLE, round_folder(run_folder, round_number)
    if not table.exists():
        raise InputError(f"{table}: not there; import votes first with `videodpo labels import`")
    found, num_gone = read_labels(table, folder)
    votes = with_numbers(found)
    if votes.empty:
        raise InputError(f"{table}: no votes on clips of round {round_number}, except skipped ones; import some")
    formula = load_formula(run_folder)
    differences = score_differences(votes, folder, formula)
    lines = [f"{table}, round {round_number}: {len(votes)} votes, without {len(found) - len(votes)} skipped ones"]
    if num_gone:
        lines.append(f"{num_gone} votes are left out: their clips are gone")
    is_evaluation = votes["left_arm"] != "train"
    for title, chosen in (("clips of the training", ~is_evaluation), ("base against aligned", is_evaluation)):
        if chosen.any():
            lines += ["", title, *_scores(votes[chosen], differences[chosen])]
    overall = votes["question"] == OVERALL
    lines += ["", *_raters(votes[overall], differences["omniscore"][overall])]
    to_fit = overall & ~is_evaluation
    lines += ["", *_weights(votes[to_fit], differences[to_fit], formula)]
    return "\n".join(lines)


def _scores(votes: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    overall = votes["question"] == OVERALL
    mine = votes[overall]
    yield HEADER
    if (mine["left_arm"] != "train").any():
        first = mine[~mine["repeat"]]
        aligned = first["value"].where(first["left_arm"] == "aligned", 1 - first["value"])
        yield _line("aligned is preferred (ties: half)", share(aligned, first["prompt_id"]))
    yield "  the clip with the higher score is preferred"
    for name in differences.columns:
        yield _line(f"  {name}", score_agreement(mine, differences[name][overall]))
    if not overall.all():
        yield "  the same, asked for this dimension alone"
    for question, asked in votes[~overall].groupby("question"):
        if question in differences:
            yield _line(f"  {question}", score_agreement(asked, differences[str(question)].loc[asked.index]))
        else:
            yield f"    {question}: not a dimension of this run any more"


def _raters(votes: pd.DataFrame, omniscore: pd.Series) -> Iterator[str]:
    yield "raters"
    yield HEADER
    for rater, mine in votes.groupby("rater"):
        decided = mine[mine["value"] != 0.5]
        ties = (mine["value"] == 0.5).astype(float)
        yield f"  {rater}"
        yield _line("  ties", share(ties, mine["prompt_id"]))
        yield _line("  left is preferred", share(decided["value"], decided["prompt_id"]))
        yield _line("  agrees with the OmniScore", score_agreement(mine, omniscore.loc[mine.index]))
        yield _line("  same answer on hidden repeats", consistency(mine))
    try:
        between = alpha(votes)
    except InputError as error:  # the optional package is not installed; the rest of the output does not need it
        yield f"  {error}"
        return
    if between is None:
        yield "  Krippendorff's alpha: undefined; it needs pairs with votes of several raters, and different answers"
        return
    value, interval, num_pairs = between
    ends = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    yield f"  Krippendorff's alpha between raters: {value:.2f}{ends} on {num_pairs} pairs (1: agreement, 0: chance)"


def _weights(votes: pd.DataFrame, differences: pd.DataFrame, formula: OmniScore) -> Iterator[str]:
    yield "weights that fit the votes best (Bradley-Terry)"
    found = fit(votes, differences, formula)
    if isinstance(found, str):
        yield f"  none: {found}"
        return
    yield HEADER
    yield _line("agreement with the weights of now", found.now)
    yield _line("agreement with fitted, held out", found.fitted)
    yield _line("difference", found.gain)
    if not found.is_better:
        yield (
            "  WARNING: too few votes to tell the fitted weights from those of now: the interval of the difference "
            "includes 0"
        )
    yield ""
    yield f"# Fitted to {found.num_votes} votes; comments: 95 % interval of the weight, and its value now, as shares."
    yield yaml_block(found)


def _line(label: str, found: Share | None) -> str:
    if found is None:
        return f"  {label:32}      0"
    ends = "" if found.interval is None else f"  {100 * found.interval[0]:.1f} to {100 * found.interval[1]:.1f} %"
    return f"  {label:32}  {found.num_votes:5}  {100 * found.mean:5.1f} %{ends}"
