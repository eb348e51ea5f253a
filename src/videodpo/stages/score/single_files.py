"""Score the user's own files, outside of any run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError, validate
from videodpo.runtime import registry
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import score_clips
from videodpo.stages.score.read_ahead import Wanted, read_clip


def score_files(
    paths: Sequence[Path],
    dimension: str,
    prompt: str | None,
    weights: Sequence[str],
    device: str,
    options: Mapping[str, Any] | None = None,
    info: dict[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Score single clips; yield {"file", "dimension", "value"} for each, or a null value and "error".

    Args:
        paths: MP4 files.
        dimension: a registered scorer.
        prompt: prompt of the clips, if the scorer needs one.
        weights: the scorer's weights (its option `weights`).
        device: auto, cpu, or cuda.
        options: the scorer's other options.
        info: what a benchmark's prompt list says about the prompt.

    Raises:
        InputError: the dimension is unknown, weights are missing, or the scorer takes none.
    """
    kind = registry.load("videodpo.scorers", dimension)
    given = dict(options or {})
    if weights or "weights" not in given:
        given |= _options_with(dimension, weights)
    scorer = kind(validate(kind.Options, given, f"dimensions.{dimension}.options"), device)
    for path in paths:
        clip = read_clip(Wanted(path, prompt or "", num_bytes=0, info=info or {}))
        result = score_clips([scorer], [clip])[0][0] if isinstance(clip, Clip) else clip
        answer: dict[str, Any] = {"file": str(path), "dimension": dimension, "value": None}
        yield answer | ({"error": str(result)} if isinstance(result, ValueError) else {"value": result})


def _options_with(dimension: str, weights: Sequence[str]) -> dict[str, Any]:
    field = registry.load("videodpo.scorers", dimension).Options.model_fields.get("weights")
    if not weights and (field is None or not field.is_required()):
        return {}
    if field is None:
        raise ConfigError(f"--weights: {dimension} takes none, {list(weights)} given; leave the option out")
    if field.annotation is str:
        if len(weights) != 1:
            raise ConfigError(f"--weights: {dimension} takes exactly one, {len(weights)} given")
        return {"weights": weights[0]}
    return {"weights": list(weights)}
