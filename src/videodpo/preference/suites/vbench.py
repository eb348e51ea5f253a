"""VBench (CVPR 2024): its prompt list, the filter of still clips, and its totals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config.benchmark import Suite
from videodpo.config.errors import ConfigError, InputError
from videodpo.preference.suites.base import OfficialResult, SuitePrompt, SuiteRules, scale
from videodpo.storage.files import read_json

SAMPLES = 5  # clips per prompt that count


class VBench(SuiteRules):
    """Rules of VBench 0.1.5."""

    version = "1"
    official_program = "vbench"
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
            prompt, dimensions, info = (row.get(key) for key in ("prompt_en", "dimension", "auxiliary_info"))
            if not isinstance(prompt, str) or not _are_texts(dimensions):
                raise InputError(f"{path}: entry {number} lacks prompt_en or dimension, a text and a list of texts")
            if "auxiliary_info" in row and not isinstance(info, dict):
                raise InputError(f"{path}: entry {number}: auxiliary_info is {info!r}; it must be an object")
            texts: dict[str, str] = {}
            for key, text in _texts(info or {}):
                if texts.setdefault(key, text) != text:
                    raise InputError(f"{path}: entry {number}: auxiliary_info has two values of {key!r}")
            found.append(SuitePrompt(prompt, frozenset(dimensions), texts))
        return found

    @staticmethod
    def check(suite: Suite) -> None:
        """Refuse samples that never count."""
        for name, group in suite.groups.items():
            if group.samples > SAMPLES and not suite.gates.keys() & set(group.dimensions):
                raise ConfigError(
                    f"groups.{name}.samples: {group.samples}, but only {SAMPLES} clips per prompt count; use "
                    f"{SAMPLES}, or name the dimension that chooses them in `gates`"
                )

    @staticmethod
    def counted(clips: pd.DataFrame, gate: str | None) -> NDArray[np.bool_]:
        """Samples 0 to 4; with a gate, a prompt's first five clips with the score 1, in the order of file names."""
        if gate is None:
            few: NDArray[np.bool_] = (clips["sample"] < SAMPLES).to_numpy()
            return few
        passed = clips[clips[gate] == 1]
        by_name = passed.assign(name=passed["sample"].map("{}.mp4".format)).sort_values("name")
        chosen = by_name.groupby("prompt_id").head(SAMPLES).index
        return clips.index.isin(chosen)

    @staticmethod
    def read_official(path: Path, known: Collection[str]) -> tuple[dict[str, OfficialResult], dict[str, str]]:
        """Read `*_eval_results.json`: {dimension: [mean, [{video_path, video_results}, ...]]}."""
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            raise InputError(f"{path}: not VBench's results, which are an object of dimensions")
        found, problems = {}, {}
        for name, value in content.items():
            try:
                if name not in known:
                    raise InputError(f"no dimension of the benchmark ({', '.join(known)})")
                found[name] = _official_result(name, value)
            except InputError as error:
                problems[name] = str(error)
        if not found:
            name, reason = next(iter(problems.items()))
            raise InputError(f"{path}: {name}: {reason}")
        return found, problems

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


def _official_result(name: str, value: Any) -> OfficialResult:
    """Read the results of one dimension; raise InputError with the reason if they are not in VBench's form."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
        raise InputError("not [mean, list of clips], as VBench 0.1.5 writes it")
    mean, clips = value
    if not clips:
        raise InputError("VBench found no clip of this dimension")
    if not _is_number(mean) or isinstance(mean, bool):
        raise InputError(f"the mean {mean!r} is not a finite number")
    scores = {}
    for clip in clips:
        if not isinstance(clip, dict) or not isinstance(clip.get("video_path"), str):
            raise InputError("a clip lacks video_path")
        if not _is_number(clip.get("video_results")):
            raise InputError(f"the score {clip.get('video_results')!r} of {clip['video_path']} is not a number")
        scores[PurePosixPath(clip["video_path"]).stem] = float(clip["video_results"])
    if name == "imaging_quality":  # clips are from 0 to 100, and so was the mean in early releases
        scores = {clip: score / 100 for clip, score in scores.items()}
        mean = mean / 100 if mean > 1 else mean
    return OfficialResult(float(mean), scores)


def _is_number(value: Any) -> bool:
    """True for finite numbers, true and false."""
    return isinstance(value, (int, float)) and isfinite(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _texts(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All texts in the nested mappings of an entry, with their own key."""
    for key, value in info.items():
        if isinstance(value, dict):
            yield from _texts(value)
        else:
            yield key, str(value)
