"""Names of scorers and model families to the classes behind them, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any

SCORERS = {
    "subject_consistency": "videodpo.scorers.subject_consistency:SubjectConsistency",
    "background_consistency": "videodpo.scorers.background_consistency:BackgroundConsistency",
    "motion_smoothness": "videodpo.scorers.motion_smoothness:MotionSmoothness",
    "dynamic_degree": "videodpo.scorers.dynamic_degree:DynamicDegree",
    "dynamic_flow": "videodpo.scorers.dynamic_degree:DynamicFlow",
    "aesthetic_quality": "videodpo.scorers.aesthetic_quality:AestheticQuality",
    "imaging_quality": "videodpo.scorers.imaging_quality:ImagingQuality",
    "overall_consistency": "videodpo.scorers.overall_consistency:OverallConsistency",
    "temporal_flickering": "videodpo.scorers.temporal_flickering:TemporalFlickering",
    "dynamic_degree_dis": "videodpo.scorers.dynamic_degree_dis:DynamicDegreeDis",
    "motion_smoothness_dis": "videodpo.scorers.motion_smoothness_dis:MotionSmoothnessDis",
    "imaging_quality_sharpness": "videodpo.scorers.imaging_quality_sharpness:ImagingQualitySharpness",
    "subject_consistency_clip": "videodpo.scorers.frame_consistency_clip:SubjectConsistencyClip",
    "background_consistency_clip": "videodpo.scorers.frame_consistency_clip:BackgroundConsistencyClip",
    "overall_consistency_clip": "videodpo.scorers.overall_consistency_clip:OverallConsistencyClip",
    "overall_consistency_xclip": "videodpo.scorers.overall_consistency_xclip:OverallConsistencyXclip",
    "pickscore": "videodpo.scorers.pickscore:PickScore",
    "hps": "videodpo.scorers.hps:Hps",
    "vision_language_judge": "videodpo.scorers.vision_language_judge:VisionLanguageJudge",
    "caption_accuracy": "videodpo.scorers.caption_accuracy:CaptionAccuracy",
}
MODELS = {
    "wan": "videodpo.models.wan:WanModel",
}
_BUILTIN = {"videodpo.scorers": SCORERS, "videodpo.models": MODELS}


def names(group: str) -> list[str]:
    """Sorted names of the entry-point group `videodpo.scorers` or `videodpo.models`, plug-ins included."""
    return sorted({*_BUILTIN[group], *(point.name for point in entry_points(group=group))})


def load(group: str, name: str) -> Any:
    """The class registered under `name`.

    Raises:
        ValueError: no such name; the message lists what there is and the nearest match.
    """
    if name in _BUILTIN[group]:
        module, _, attribute = _BUILTIN[group][name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    for point in entry_points(group=group, name=name):
        return point.load()
    known = names(group)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    kind = group.rpartition(".")[2].rstrip("s")
    raise ValueError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")
