"""Videos to one dimension's scores: one shard a call, resumable clip by clip."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videodpo import registry
from videodpo.config import ConfigError, validate
from videodpo.failures import failed_so_far, refuse_too_many
from videodpo.files import exclusive, sha256_of
from videodpo.frozen import Frozen, ScoreSettings
from videodpo.scorers.base import Clip, Scorer
from videodpo.tables import SCORES, read_metadata, read_rows, read_table, write_table
from videodpo.video import read_mp4

log = logging.getLogger(__name__)

SAVE_SECONDS = 30.0  # what a killed job loses at most


@dataclass(frozen=True)
class _Work:
    """The scores so far, in a file that no workflow engine knows and so none deletes when the job fails."""

    path: Path
    frozen: Frozen[ScoreSettings]
    extra: dict[str, str]

    def load(self) -> dict[str, dict[str, Any]]:
        """Rows by video that may be kept: same settings, same videos table; failed clips are tried again."""
        if not self.path.exists():
            return {}
        metadata = read_metadata(self.path)
        if metadata.get("config_digest") != self.frozen.digest or any(
            metadata.get(key) != value for key, value in self.extra.items()
        ):
            return {}
        return {row["video_id"]: row for row in read_rows(self.path) if row["status"] == "ok"}

    def save(self, rows: Sequence[dict[str, Any]], path: Path | None = None) -> None:
        frozen = self.frozen
        write_table(
            path or self.path,
            rows,
            SCORES,
            stage=frozen.stage,
            digest=frozen.digest,
            seed=frozen.seed,
            extra=self.extra,
        )


def score_shard(frozen: Frozen[ScoreSettings], videos: Path, out: Path) -> None:
    """Score one shard of videos in one dimension.

    A clip that cannot be read or scored becomes a failed row with its reason. Clips are scored one by one, so
    a score depends neither on the shard nor on where a killed job went on.

    Args:
        frozen: the dimension's settings; clips and prompts.parquet lie in its folder.
        videos: the shard's videos table. out: the scores table, rows in the same order.

    Raises:
        RuntimeError: more than `max_failed_fraction` of all clips failed, unless the scorer is a judge; the scores
            are kept for the next try.
        ValueError: the options are wrong, or the prompts table lacks a video's prompt.
    """
    with exclusive(out.parent / "work" / f"{out.stem}.lock"):
        metadata = read_metadata(videos)
        extra = {key: metadata[key] for key in ("num_shards", "shard")}
        work = _Work(out.parent / "work" / out.name, frozen, extra | {"videos_sha256": sha256_of(videos)})
        rows = _score_rows(frozen, read_rows(videos), work)
        if not frozen.settings.is_judge:
            failed = failed_so_far(rows, out, frozen.digest)
            allowed = frozen.execution.max_failed_fraction
            refuse_too_many(frozen.settings.dimension, failed, int(metadata["num_videos"]), allowed)
        work.save(rows, out)
        work.path.unlink(missing_ok=True)


def score_files(
    paths: Sequence[Path], dimension: str, prompt: str | None, weights: Sequence[str], device: str
) -> Iterator[dict[str, Any]]:
    """Score single clips: for each {"file", "dimension", "value"}, or a null value and "error".

    Args:
        paths: MP4 files. dimension: a registered scorer. prompt: the clips' text, where the scorer needs one.
        weights: the scorer's weights (its option `weights`). device: auto, cpu, or cuda.

    Raises:
        ValueError: unknown dimension, or weights missing or not taken.
    """
    scorer = _make_scorer(dimension, _options_with(dimension, weights), device)
    for path in paths:
        result: dict[str, Any] = {"file": str(path), "dimension": dimension}
        try:
            yield result | {"value": _score_file(scorer, path, prompt or "")}
        except ValueError as error:
            yield result | {"value": None, "error": str(error)}


def _score_rows(frozen: Frozen[ScoreSettings], videos: list[dict[str, Any]], work: _Work) -> list[dict[str, Any]]:
    settings = frozen.settings
    done = work.load()
    if done:
        log.info("%s: %d of %d clips are scored already", work.path.name, len(done), len(videos))
    table = read_table(frozen.folder / "prompts.parquet", ["prompt_id", "prompt"])
    prompts = dict(zip(table["prompt_id"], table["prompt"], strict=True))
    label = _label(frozen)
    scorer: Scorer | None = None
    rows: list[dict[str, Any]] = []
    saved = time.monotonic()
    for number, video in enumerate(videos):
        row: dict[str, Any] = {"video_id": video["video_id"], "prompt_id": video["prompt_id"]}
        row |= {"dimension": settings.dimension, "value": None, "status": "failed", "error": None, "scorer": label}
        if video["prompt_id"] not in prompts:
            raise ValueError(f"{frozen.folder / 'prompts.parquet'}: no prompt {video['prompt_id']}; make videos again")
        if video["video_id"] in done:
            row = done[video["video_id"]]
        elif video["status"] != "ok":
            row["error"] = video["error"] or "the videos table has no reason"
        else:
            if scorer is None:  # loaded only when something is left to do
                scorer = _make_scorer(settings.dimension, settings.options, frozen.execution.device)
            try:
                path = frozen.folder / video["path"]
                row["value"] = _score_file(scorer, path, prompts[video["prompt_id"]], sha256=video["sha256"])
                row["status"] = "ok"
            except ValueError as error:
                row["error"] = str(error)
        rows.append(row)
        if time.monotonic() - saved > SAVE_SECONDS:
            # Rows further on that an earlier try has are kept too: this one may be killed as well.
            later = {other["video_id"] for other in videos[number + 1 :]}
            work.save([*rows, *(row for video_id, row in done.items() if video_id in later)])
            log.info("%s: %d of %d clips", work.path.name, number + 1, len(videos))
            saved = time.monotonic()
    work.save(rows)
    return rows


def _score_file(scorer: Scorer, path: Path, prompt: str, *, sha256: str | None = None) -> float:
    """Raises ValueError where there is no number to be had; anything else is a defect of the code or the machine."""
    # Four of five damaged files decode without a complaint, to other pixels: only the digest tells.
    if sha256 is not None and path.is_file() and path.stat().st_size and sha256_of(path) != sha256:
        raise ValueError(f"{path.name}: sha256 differs from the videos table")
    frames, fps = read_mp4(path)
    value = scorer.score(Clip(frames, fps, prompt))
    if not math.isfinite(value):
        raise ValueError(f"the scorer gave {value}")
    return value


def _make_scorer(dimension: str, options: dict[str, Any], device: str) -> Scorer:
    kind = registry.load("videodpo.scorers", dimension)
    scorer: Scorer = kind(validate(kind.Options, options, f"scores.{dimension}"), device)
    return scorer


def _options_with(dimension: str, weights: Sequence[str]) -> dict[str, Any]:
    field = registry.load("videodpo.scorers", dimension).Options.model_fields.get("weights")
    if field is None:
        if weights:
            raise ConfigError(f"--weights: {dimension} takes none, {list(weights)} given; leave the option out")
        return {}
    if field.annotation is str:
        if len(weights) != 1:
            raise ConfigError(f"--weights: {dimension} takes exactly one, {len(weights)} given")
        return {"weights": weights[0]}
    return {"weights": list(weights)}


def _label(frozen: Frozen[ScoreSettings]) -> str:
    """Name, version and digest of all weights' bytes (`hub:` names as they are)."""
    kind = registry.load("videodpo.scorers", frozen.settings.dimension)
    named = kind.weights(validate(kind.Options, frozen.settings.options, f"scores.{frozen.settings.dimension}"))
    digests = sorted(frozen.weights.values())
    weights = " ".join(named) or "no-weights"
    if digests:
        weights = (digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest())[:12]
    return f"{frozen.settings.dimension} v{kind.version} {weights}"
