"""Choose the videos that count, so that runs with fewer samples or fewer prompts share one sampling."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from videodpo.config import Pairs
from videodpo.runtime.seeds import derive_seed
from videodpo.storage.schemas import PAIRS_REJECTED


def counted_videos(scores: pa.Table, settings: Pairs, seed: int) -> tuple[pa.Table, pa.Table]:
    """Apply `first_samples` and `prompt_share`.

    Args:
        scores: the omniscore table; with `first_samples`, it needs the column `sample`.
        seed: seed of the run.

    Returns:
        The videos that count, and rows of `PAIRS_REJECTED`: one per prompt that does not count, then one
        per further video that does not count, whose id is in `winner_id`.
    """
    rejected = [PAIRS_REJECTED.empty_table()]
    if settings.prompt_share < 1:
        prompts = pc.unique(scores["prompt_id"])
        counted = _share(prompts, settings.prompt_share, seed)
        out = prompts.filter(pc.invert(pc.is_in(prompts, counted)))
        reason = f"prompt_share: not among the {100 * settings.prompt_share:g} % of the prompts that count"
        rejected.append(_rows(out, pa.nulls(len(out), pa.string()), reason))
        scores = scores.filter(pc.is_in(scores["prompt_id"], counted))
    if settings.first_samples is not None:
        first = pc.less(scores["sample"], settings.first_samples)
        out = scores.filter(pc.invert(first))
        reason = f"first_samples: not among the first {settings.first_samples} samples"
        rejected.append(_rows(out["prompt_id"], out["video_id"], reason))
        scores = scores.filter(first)
    return scores, pa.concat_tables(rejected)


def _share(prompts: pa.Array, share: float, seed: int) -> pa.Array:
    """Prompts with the lowest random keys, so that a smaller share is a subset of any larger one."""
    keys = [derive_seed(seed, "prompt share", prompt_id) for prompt_id in prompts.to_pylist()]
    return prompts.take(pa.array(np.argsort(keys, kind="stable")[: max(1, round(share * len(keys)))]))


def _rows(prompt_ids: pa.Array, video_ids: pa.Array, reason: str) -> pa.Table:
    nobody = pa.nulls(len(prompt_ids), pa.string())
    columns = [prompt_ids.cast(pa.string()), video_ids.cast(pa.string()), nobody, pa.repeat(reason, len(prompt_ids))]
    return pa.table(columns, schema=PAIRS_REJECTED)
