"""VBench (CVPR 2024): its prompt list, the filter of still clips, and its totals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config.benchmark import Suite
from videodpo.config.errors import InputError
from videodpo.preference.suites.base import SuitePrompt, SuiteRules, scale
from videodpo.storage.files import read_json

SAMPLES = 5  # clips per prompt that count


class VBench(SuiteRules):
    """Rules of VBench 0.1.5."""

    version = "1"

    @staticmethod
    def read_prompts(path: Path) -> list[SuitePrompt]:
        """Read `VBench_full_info.json`: a list of {prompt_en, dimension, auxiliary_info}."""
        rows = read_json(path)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: not VBench's prompt list, which is a list of objects")
        found = []
        for number, row in enumerate(rows):
            if not isinstance(row.get("prompt_en"), str) or not isinstance(row.get("dimension"), list):
                raise InputError(f"{path}: entry {number} lacks prompt_en or dimension")
            info = _texts(row.get("auxiliary_info", {}))
            found.append(SuitePrompt(row["prompt_en"], frozenset(row["dimension"]), info))
        return found

    @staticmethod
    def counted(dimension: str, clips: pd.DataFrame) -> NDArray[np.bool_]:
        """Samples 0 to 4; for temporal_flickering, a prompt's first five still clips in the order of file names."""
        if dimension != "temporal_flickering":
            few: NDArray[np.bool_] = (clips["sample"] < SAMPLES).to_numpy()
            return few
        still = clips[clips["static_clip"] == 1]
        by_name = still.assign(name=still["sample"].map("{}.mp4".format)).sort_values("name")
        chosen = by_name.groupby("prompt_id").head(SAMPLES).index
        return clips.index.isin(chosen)

    @staticmethod
    def totals(means: Mapping[str, NDArray[np.float64]], suite: Suite) -> dict[str, NDArray[np.float64]]:
        """Weighted mean of the scaled dimensions in each pillar, without clipping, and of the pillars."""
        pillars = {}
        for pillar in suite.pillars.model_dump():
            inside = {name: one for name, one in suite.dimensions.items() if one.pillar == pillar}
            scaled = [one.weight * scale(means[name], suite, name) for name, one in inside.items()]
            pillars[pillar] = np.sum(scaled, axis=0) / sum(one.weight for one in inside.values())
        weights = suite.pillars.model_dump()
        total = sum(weights[name] * value for name, value in pillars.items()) / sum(weights.values())
        return {"total": total, **pillars}


def _texts(info: Mapping[str, Any]) -> dict[str, str]:
    """All texts in the nested mappings of an entry, by their own key."""
    found: dict[str, str] = {}
    for key, value in info.items():
        found |= _texts(value) if isinstance(value, dict) else {key: str(value)}
    return found
