"""OmniScore formula: scaling, pillars, weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config import OmniScore, validate
from videodpo.config.errors import InputError
from videodpo.preference.prompt_groups import PromptGroups, measure_groups
from videodpo.storage.schemas import omniscore_schema


def omniscore(raw: pd.DataFrame, config: OmniScore | Mapping[str, Any]) -> pd.DataFrame:
    """Scale raw scores and combine them into pillars and the OmniScore.

    normalised = (raw - min) / (max - min), with `scaling: prompt_group` standardised over the clips of each prompt. A
    pillar is the weighted mean of its dimensions. The OmniScore is the
    weighted mean of the two pillars (VBench's Total; arXiv 2412.14167, section 3.1).

    Args:
        raw: one row per video: `video_id`, `prompt_id`, `sample`, and `raw_<dimension>` for every dimension of
            `config`. Other columns are ignored.
        config: the section `omniscore`, or an equivalent mapping.

    Returns:
        Columns of `schemas.omniscore_schema` for the sorted dimensions, with rows in the order of `raw`. A pillar
        without a weighted dimension is 0.0; its own weight is then 0.

    Raises:
        InputError: a column is missing, or a raw score is missing or not finite.
    """
    if not isinstance(config, OmniScore):
        config = validate(OmniScore, config, "omniscore")
    names = sorted(config.dimensions)
    needed = ["video_id", "prompt_id", "sample", *(f"raw_{name}" for name in names)]
    if absent := [column for column in needed if column not in raw.columns]:
        raise InputError(
            f"raw scores: columns {absent} are missing; score these dimensions, or remove them from omniscore"
        )
    columns = {name: raw[f"raw_{name}"].to_numpy(np.float64, na_value=np.nan) for name in names}
    for name, values in columns.items():
        if (unusable := ~np.isfinite(values)).any():
            raise InputError(
                f"raw_{name}: video {raw.video_id.to_numpy()[unusable][0]!r} has no finite score; leave it out"
            )
    table = raw[["video_id", "prompt_id", "sample"]].reset_index(drop=True).astype({"sample": np.int32})
    groups = prompt_groups(columns, pd.factorize(table.prompt_id)[0], config)
    scored: pd.DataFrame = table.assign(**scale(columns, config, groups))[omniscore_schema(names).names]
    return scored


def dimension_shares(config: OmniScore) -> dict[str, float]:
    """Factor of each dimension's scaled score in the OmniScore; the factors add up to 1."""
    pillars = config.pillars.model_dump()
    totals = {
        pillar: sum(one.weight for one in config.dimensions.values() if one.pillar == pillar) for pillar in pillars
    }
    total = sum(pillars.values())
    return {
        name: pillars[one.pillar] / total * one.weight / totals[one.pillar] if totals[one.pillar] else 0.0
        for name, one in config.dimensions.items()
    }


def prompt_groups(
    raw: Mapping[str, NDArray[np.float64]], codes: NDArray[np.int64], config: OmniScore
) -> PromptGroups | None:
    """Measure the scaled scores of each prompt's clips for `scale`; None if the configuration does not standardise.

    Args:
        raw: finite raw scores by name, for all clips, [videos].
        codes: number of each clip's prompt, [videos].
    """
    if config.scaling == "range":
        return None
    return measure_groups(((name, _in_range(raw[name], name, config)) for name in sorted(config.dimensions)), codes)


def scale(
    raw: Mapping[str, NDArray[np.float64]], config: OmniScore, groups: PromptGroups | None = None
) -> dict[str, NDArray[np.float64]]:
    """Compute the columns `raw_*`, `norm_*`, `quality`, `semantic` and `omniscore`, [videos] each.

    Args:
        raw: finite raw scores by name, for all dimensions of `config`.
        groups: of these videos, from `prompt_groups`; needed with `scaling: prompt_group` only.
    """
    assert (groups is None) == (config.scaling == "range")
    names = sorted(config.dimensions)
    columns = {f"raw_{name}": raw[name] for name in names}
    for name in names:
        norm = _in_range(raw[name], name, config)
        columns[f"norm_{name}"] = groups.standardise(name, norm) if groups else norm
    for pillar in ("quality", "semantic"):
        # Sum column by column in the order of the names, for the same bytes at any number of rows and threads.
        total, weights = np.zeros_like(raw[names[0]]), 0.0
        for name in (name for name in names if config.dimensions[name].pillar == pillar):
            total = total + config.dimensions[name].weight * columns[f"norm_{name}"]
            weights += config.dimensions[name].weight
        columns[pillar] = total / weights if weights else np.zeros_like(total)
    quality, semantic = config.pillars.quality, config.pillars.semantic
    columns["omniscore"] = (quality * columns["quality"] + semantic * columns["semantic"]) / (quality + semantic)
    return columns


def _in_range(raw: NDArray[np.float64], name: str, config: OmniScore) -> NDArray[np.float64]:
    """Scale raw scores so that the dimension's `min` becomes 0 and its `max` becomes 1."""
    bounds = config.dimensions[name]
    norm = (raw - bounds.min) / (bounds.max - bounds.min)
    return norm.clip(0.0, 1.0) if config.clip or bounds.saturate else norm
