"""VBench (CVPR 2024): its prompt list, the filter of still clips, and its totals."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config.benchmark import Suite
from videodpo.config.errors import InputError
from videodpo.preference.suites.base import OfficialResult, SuitePrompt, SuiteRules, scale
from videodpo.storage.files import read_json

SAMPLES = 5  # clips per prompt that count


class VBench(SuiteRules):
    """Rules of VBench 0.1.5."""

    version = "1"
    has_official_program = True
    renamed_clips = frozenset({"temporal_flickering"})
    optional_clips = frozenset({"temporal_flickering", "color"})
    official_samples = SAMPLES

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
        if dimension != "temporal_flickering" or "static_clip" not in clips:
            few: NDArray[np.bool_] = (clips["sample"] < SAMPLES).to_numpy()
            return few
        still = clips[clips["static_clip"] == 1]
        by_name = still.assign(name=still["sample"].map("{}.mp4".format)).sort_values("name")
        chosen = by_name.groupby("prompt_id").head(SAMPLES).index
        return clips.index.isin(chosen)

    @staticmethod
    def read_official(path: Path, known: Collection[str]) -> dict[str, OfficialResult]:
        """Read `*_eval_results.json`: {dimension: [mean, [{video_path, video_results}, ...]]}."""
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            raise InputError(f"{path}: not VBench's results, which are an object of dimensions")
        found = {}
        for name, value in content.items():
            if name not in known:
                raise InputError(f"{path}: {name!r} is no dimension of the benchmark ({', '.join(known)})")
            if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
                raise InputError(f"{path}: {name}: not [mean, list of clips], as VBench 0.1.5 writes it")
            mean, clips = value
            if not clips:
                raise InputError(f"{path}: {name}: VBench found no clip of this dimension")
            if not _is_number(mean) or isinstance(mean, bool):
                raise InputError(f"{path}: {name}: the mean {mean!r} is not a finite number")
            scores = {}
            for clip in clips:
                if not isinstance(clip, dict) or not isinstance(clip.get("video_path"), str):
                    raise InputError(f"{path}: {name}: a clip lacks video_path")
                if not _is_number(clip.get("video_results")):
                    what = f"the score {clip.get('video_results')!r} of {clip['video_path']}"
                    raise InputError(f"{path}: {name}: {what} is not a number")
                scores[PurePosixPath(clip["video_path"]).stem] = float(clip["video_results"])
            if name == "imaging_quality":  # clips are from 0 to 100, and so was the mean in early releases
                scores = {clip: score / 100 for clip, score in scores.items()}
                mean = mean / 100 if mean > 1 else mean
            found[name] = OfficialResult(float(mean), scores)
        return found

    @staticmethod
    def totals(means: Mapping[str, NDArray[np.float64]], suite: Suite) -> dict[str, NDArray[np.float64]]:
        """Weighted mean of the scaled dimensions in each pillar, without clipping, and of the pillars."""
        pillars, weights = {}, suite.pillars.model_dump()
        for pillar in weights:
            inside = {name: one for name, one in suite.dimensions.items() if one.pillar == pillar}
            scaled = [one.weight * scale(means[name], suite, name) for name, one in inside.items()]
            if scaled:
                pillars[pillar] = np.sum(scaled, axis=0) / sum(one.weight for one in inside.values())
        total = sum(weights[name] * value for name, value in pillars.items()) / sum(weights[name] for name in pillars)
        return {"total": total, **pillars}


def _is_number(value: Any) -> bool:
    """True for finite numbers, true and false."""
    return isinstance(value, (int, float)) and isfinite(value)


def _texts(info: Mapping[str, Any]) -> dict[str, str]:
    """All texts in the nested mappings of an entry, by their own key."""
    found: dict[str, str] = {}
    for key, value in info.items():
        found |= _texts(value) if isinstance(value, dict) else {key: str(value)}
    return found
