"""Galleries of a finished round: base against aligned, and winner against loser."""

from __future__ import annotations

import numpy as np

from videodpo.stages.report.gallery import Gallery, Measure, Side, looked_up
from videodpo.stages.report.inputs import Finished
from videodpo.storage.schemas import STATISTICS

ARMS = ("base", "aligned")


def comparison_gallery(finished: Finished) -> Gallery:
    """Held-out clips of both models, same prompt and same noise, with scores and the statistics of their pixels."""
    names = list(finished.summary["order"])
    wide = finished.comparison.pivot(index=["prompt_id", "sample"], columns="dimension", values=list(ARMS))
    video_ids = [f"{prompt_id}-{sample}" for prompt_id, sample in wide.index]
    values_SMR = [
        np.concatenate(
            [
                wide[[(arm, name) for name in names]].to_numpy().T,
                looked_up(finished.appearance[arm].set_index("video_id"), video_ids, STATISTICS),
            ]
        )
        for arm in ARMS
    ]
    measures = [Measure(name, finished.summary["dimensions"][name]["kind"]) for name in names]
    return Gallery(
        name="before-after",
        noun="held-out clips",
        sides=[Side(arm, arm, finished.folder, finished.arms[arm].set_index("video_id")) for arm in ARMS],
        difference=(1, 0),
        measures=measures + [Measure(name, "appearance") for name in STATISTICS],
        ids=video_ids,
        prompts=[finished.texts[prompt_id] for prompt_id, _ in wide.index],
        video_ids=[video_ids, video_ids],
        values_SMR=np.stack(values_SMR),
        facts={},
    )


def pair_gallery(finished: Finished) -> Gallery:
    """All pairs of the training with their scores; pairs from elsewhere may have no other score than their own."""
    pairs, dimensions = finished.pairs, finished.dimensions
    ids = [pairs.winner_id.tolist(), pairs.loser_id.tolist()]
    # Pairs of the user's own have no scores.
    pillars = [name for name in ("quality", "semantic") if name in finished.summary["dimensions"] and dimensions]
    columns = ["omniscore", *pillars, *(f"raw_{name}" for name in dimensions)]
    scores = finished.scores.set_index("video_id")
    values_SMR = [looked_up(scores, side, columns) for side in ids]
    for values_MR, own in zip(values_SMR, ("score_winner", "score_loser"), strict=True):
        values_MR[0] = pairs[own]
    videos = finished.videos.set_index("video_id")
    kinds = ["total", *("pillar" for _ in pillars), *("dimension" for _ in dimensions)]
    return Gallery(
        name="pairs",
        noun="pairs",
        sides=[Side(label, "pair", finished.folder, videos) for label in ("winner", "loser")],
        difference=(0, 1),
        measures=[Measure(*one) for one in zip(["omniscore", *pillars, *dimensions], kinds, strict=True)],
        ids=[str(number) for number in pairs.pair_id],
        prompts=[finished.texts[prompt_id] for prompt_id in pairs.prompt_id],
        video_ids=ids,
        values_SMR=np.stack(values_SMR),
        facts={"weight": pairs.weight.tolist(), "policy": pairs.policy.tolist(), "label": pairs.label_source.tolist()},
    )
