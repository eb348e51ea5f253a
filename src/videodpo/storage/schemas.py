"""Columns of every table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from videodpo.config.errors import InputError

_STR, _F64, _F32, _I64, _I32 = pa.string(), pa.float64(), pa.float32(), pa.int64(), pa.int32()


def _schema(**columns: pa.DataType | tuple[pa.DataType, bool]) -> pa.Schema:
    """Build a schema; a column is required unless it is given as (type, True)."""
    fields = []
    for name, kind in columns.items():
        dtype, nullable = kind if isinstance(kind, tuple) else (kind, False)
        fields.append(pa.field(name, dtype, nullable=nullable))
    return pa.schema(fields)


PROMPTS = _schema(prompt_id=_STR, prompt=_STR, source=_STR, split=_STR, position=_I64)
PROMPTS_DROPPED = _schema(row=_I64, prompt=_STR, step=_STR, reason=_STR)
CLIPS = _schema(prompt_id=_STR, sample=_I32, path=_STR)
IMPORTED_PAIRS = _schema(
    row=_I64,
    prompt_id=_STR,
    winner_id=(_STR, True),
    loser_id=(_STR, True),  # null if the winner wins against all other samples of its prompt
    weight=(_F64, True),
    probability=(_F64, True),
    label_source=_STR,
    winner_model=(_STR, True),
    reason=(_STR, True),
)
CLIP_SIZE = ("num_frames", "height", "width")
ClipSize: TypeAlias = tuple[int | None, ...]
"""Values of `CLIP_SIZE`: frames, and height and width in pixels. None for a failed clip."""
VIDEOS = _schema(
    video_id=_STR,
    prompt_id=_STR,
    sample=_I32,
    seed=_I64,
    status=_STR,
    error=(_STR, True),
    path=(_STR, True),
    sha256=(_STR, True),
    num_frames=(_I32, True),
    height=(_I32, True),
    width=(_I32, True),
    fps=(_F64, True),
    latents=(_STR, True),
    model=_STR,
    adapter=(_STR, True),
)
SCORES = _schema(
    video_id=_STR,
    prompt_id=_STR,
    dimension=_STR,
    value=(_F64, True),
    status=_STR,
    error=(_STR, True),
    scorer=_STR,
)
PAIRS = _schema(
    pair_id=_I64,
    prompt_id=_STR,
    winner_id=_STR,
    loser_id=_STR,
    score_winner=(_F64, True),  # the scores and what follows from them are null for imported pairs
    score_loser=(_F64, True),
    gap=(_F64, True),
    probability=(_F64, True),
    weight=_F64,
    policy=_STR,
    label_source=_STR,
)
PAIRS_REJECTED = _schema(prompt_id=_STR, winner_id=(_STR, True), loser_id=(_STR, True), reason=_STR)
VISITS = _schema(
    step=(_I64, True),  # null for validation
    pair_id=_I64,
    visit=_I32,
    timestep=_F64,
    noise_seed=_I64,
    split=_STR,
    noise_level=_F64,
    micro_batch=_I64,
)
REFERENCE = _schema(
    pair_id=_I64,
    visit=_I32,
    timestep=_F64,
    noise_seed=_I64,
    ref_error_winner=(_F32, True),  # null if not finite: the training skips the step
    ref_error_loser=(_F32, True),
)
EVALUATION = _schema(prompt_id=_STR, sample=_I32, dimension=_STR, base=_F64, aligned=_F64, delta=_F64)
STATISTICS = ("exposure", "overexposed", "saturation", "contrast", "sharpness", "seed_distance")
APPEARANCE = _schema(
    video_id=_STR,
    prompt_id=_STR,
    sample=_I32,
    status=_STR,
    error=(_STR, True),
    **dict.fromkeys(STATISTICS, (_F64, True)),
)
BENCHMARK_PROMPTS = _schema(
    prompt_id=_STR,
    prompt=_STR,
    position=_I64,
    info=_STR,  # a JSON object
)
BENCHMARK = _schema(
    arm=_STR,
    dimension=_STR,
    prompt_id=_STR,
    prompt=_STR,
    sample=_I32,
    seed=_I64,
    value=(_F64, True),  # null if the clip has no score
    counted=pa.bool_(),
    error=(_STR, True),
)
STUDY = _schema(
    arm=_STR,
    seed=_I64,
    score=_STR,
    base=_F64,
    aligned=_F64,
    delta=_F64,
    ci_low=(_F64, True),
    ci_high=(_F64, True),
    num_prompts=_I64,
    headroom=(_F64, True),
    gain=(_F64, True),
    strength=(_F64, True),
    motion=(_F64, True),
)
LABELS = _schema(
    round=_I64,
    prompt_id=_STR,
    left_id=_STR,
    right_id=_STR,
    left_arm=_STR,
    right_arm=_STR,
    left_sha256=_STR,
    right_sha256=_STR,
    question=_STR,
    choice=_STR,
    rater=_STR,
    repeat=pa.bool_(),
    seconds=_F64,
    time=_STR,
    label_set=_STR,
    run=_STR,
)
DRIFT_BUCKETS = 4  # equal parts of the timestep range, low noise first
TRAIN_LOG = _schema(
    step=_I64,
    epoch=_F64,
    loss=(_F64, True),  # here and below, null if not finite: the step was skipped
    margin=(_F64, True),
    accuracy=(_F64, True),  # over the pairs that have a margin
    error_winner=(_F64, True),
    error_loser=(_F64, True),
    ref_error_winner=(_F64, True),
    ref_error_loser=(_F64, True),
    weight_mean=_F64,
    lr=_F64,
    grad_norm=(_F64, True),
    loss_scale=(_F64, True),  # null unless matrix products are in float16
    skipped=pa.bool_(),
    validation_loss=(_F64, True),  # null except at steps with a validation
    validation_accuracy=(_F64, True),
    seconds=_F64,
    samples_per_second=_F64,
    max_memory_mb=_F64,
    **{f"{side}_drift_{bucket}": (_F64, True) for side in ("winner", "loser") for bucket in range(DRIFT_BUCKETS)},
    safeguard_share=(_F64, True),  # null without train.objective.sdpo_mu
)


def omniscore_schema(dimensions: Sequence[str]) -> pa.Schema:
    """Schema of the omniscore table, with the dimensions in the given order."""
    columns: dict[str, pa.DataType | tuple[pa.DataType, bool]] = {
        "video_id": _STR,
        "prompt_id": _STR,
        "sample": _I32,
    }
    columns |= {f"raw_{name}": _F64 for name in dimensions}
    columns |= {f"norm_{name}": _F64 for name in dimensions}
    return _schema(**columns, quality=_F64, semantic=_F64, omniscore=_F64)


def needed_columns(name: str) -> list[str]:
    """Columns of a table that a person may edit, by its file name."""
    schemas = {"prompts": PROMPTS, "pairs": PAIRS, "omniscore": omniscore_schema(()), "labels": LABELS}
    return list(schemas[Path(name).stem].names)


def refuse_other_types(path: Path, found: pa.Schema) -> None:
    """Check the column types of a table that another program may have written.

    Raises:
        InputError: a known column has another type; the message names it.
    """
    for field in found:
        needed = "number" if field.name.startswith(("raw_", "norm_")) else _KINDS.get(field.name)
        if needed and _kind(field.type) not in (needed, "nothing"):
            dtype = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            raise InputError(f"{path}: column {field.name!r} is {dtype}; {needed} is needed")


def _kind(dtype: pa.DataType) -> str:
    if pa.types.is_dictionary(dtype):
        return _kind(dtype.value_type)
    if pa.types.is_null(dtype):
        return "nothing"
    if pa.types.is_boolean(dtype):
        return "true or false"
    if dtype in (pa.string(), pa.large_string(), pa.string_view()):
        return "text"
    return "number" if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) else str(dtype)


_ALL = [
    PROMPTS,
    PROMPTS_DROPPED,
    CLIPS,
    IMPORTED_PAIRS,
    VIDEOS,
    SCORES,
    PAIRS,
    PAIRS_REJECTED,
    VISITS,
    REFERENCE,
    EVALUATION,
]
_ALL += [APPEARANCE, BENCHMARK_PROMPTS, BENCHMARK, STUDY, LABELS, TRAIN_LOG, omniscore_schema(())]
_KINDS = {field.name: _kind(field.type) for schema in _ALL for field in schema}
del _KINDS["step"]  # text in PROMPTS_DROPPED, a number in TRAIN_LOG; every other name has one type in all tables
