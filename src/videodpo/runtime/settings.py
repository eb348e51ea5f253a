"""Settings that each stage reads: a part of the configuration, and values that follow from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from videodpo.config import (
    Config,
    Evaluate,
    Generate,
    Model,
    OmniScore,
    Pairs,
    Prompts,
    ReferenceJobs,
    Report,
    Sampling,
    Schedule,
    Section,
    Train,
    TrainRuntime,
)
from videodpo.runtime.benchmark_settings import BENCHMARK_KINDS, benchmark_values


class PromptsSettings(Section):
    prompts: Prompts


class GenerateSettings(Section):
    from_clips: bool
    """True if all clips are the user's own: they are imported, not sampled."""
    with_winners: bool = Field(False, exclude_if=lambda value: not value)
    """True if sample 0 of each prompt is the user's own clip, and the others are sampled."""
    generate: Generate
    model: Model


class ScoreSettings(Section):
    dimension: str
    # For a dimension with the name of its scorer, the key is left out, so that runs from before it existed stay valid.
    scorer: str | None = Field(None, exclude_if=lambda value: value is None)
    """Scorer of a dimension with a name of its own."""
    options: dict[str, Any]
    is_judge: bool
    """True for a judge, which may fail on any number of clips; the evaluation reports those that it could judge."""

    @property
    def scorer_name(self) -> str:
        return self.scorer or self.dimension


class OmniScoreSettings(Section):
    omniscore: OmniScore


class PairsSettings(Section):
    pairs: Pairs
    imported_for: str | None = Field(None, exclude_if=lambda value: value is None)
    """Family and weights of the run's model if the pairs are the user's own; None if they are chosen by score."""


class VisitsSettings(Section):
    schedule: Schedule
    model: Model
    """Its noise schedule determines the timesteps."""
    sampler: Sampling | None
    """Source of the noise levels for match_sampler; None for other distributions."""


class ReferenceSettings(Section):
    reference: ReferenceJobs
    model: Model


class TrainSettings(Section):
    train: Train
    schedule: Schedule
    model: Model
    sampling: Sampling


class EvaluateGenerateSettings(Section):
    sampling: Sampling
    videos_per_prompt: int
    shards: int
    model: Model


class AppearanceSettings(Section):
    embedder: str | None
    """Scorer whose frame embeddings tell how much the seeds of a prompt differ; None measures the pixels only."""
    options: dict[str, Any]
    """Options of this scorer."""


class EvaluateSettings(Section):
    evaluate: Evaluate
    omniscore: OmniScore
    dimensions: list[str]
    from_clips: bool
    """True if the training clips are not all sampled and scored, so that they say nothing about the base model."""


class ReportSettings(Section):
    report: Report
    dimensions: list[str]
    has_pairs: bool = Field(False, exclude_if=lambda value: not value)
    """True if the pairs are the user's own, so that the training clips have no scores."""
    has_benchmark: bool = Field(False, exclude_if=lambda value: not value)
    """True if the page also shows the results of a benchmark."""


class Execution(Section):
    """Execution settings of the stages. They do not affect results, so changing them never triggers a re-run."""

    clip_storage: Literal["files", "tar"]
    device: str
    max_failed_fraction: float
    train_runtime: TrainRuntime


KINDS: dict[str, type[Section]] = {
    "prompts": PromptsSettings,
    "generate": GenerateSettings,
    "score": ScoreSettings,
    "omniscore": OmniScoreSettings,
    "pairs": PairsSettings,
    "visits": VisitsSettings,
    "reference": ReferenceSettings,
    "train": TrainSettings,
    "evaluate_generate": EvaluateGenerateSettings,
    "appearance": AppearanceSettings,
    "evaluate": EvaluateSettings,
    **BENCHMARK_KINDS,
    "report": ReportSettings,
    "execution": Execution,
}
STAGES = tuple(KINDS)
SCORER = "scorer"  # key of a dimension, and key next to the options of a judge


def scorer_options(config: Config) -> dict[str, dict[str, Any]]:
    """Options of every scorer and judge, by name."""
    judges = {name: dict(options or {}) for name, options in config.evaluate.judges.items()}
    for options in judges.values():
        options.pop(SCORER, None)
    return {name: dimension.options for name, dimension in config.dimensions.items()} | judges


def scorer_of(config: Config, name: str) -> str:
    """Name in the registry of the scorer of a dimension or judge."""
    if name in config.dimensions:
        return config.dimensions[name].scorer or name
    return str((config.evaluate.judges.get(name) or {}).get(SCORER) or name)


def stage_settings(config: Config, stage: str, dimension: str) -> dict[str, Any]:
    """Values of the stage's class in `KINDS`.

    Args:
        dimension: a dimension or judge, or a group of a benchmark, for a stage with settings for each of them.
    """
    source = config.prompts.source
    derived: dict[str, Any] = {
        "evaluate": config.evaluate.model_copy(update={"benchmark": None}),
        "has_benchmark": config.evaluate.benchmark is not None,
        "from_clips": source.has_clips if stage == "evaluate" else source.samples_nothing,
        "with_winners": source.kind == "winners",
        "has_pairs": source.has_pairs,
        "imported_for": f"{config.model.family} {config.model.weights}" if source.has_pairs else None,
        "dimension": dimension,
        "scorer": scorer if (scorer := scorer_of(config, dimension)) != dimension else None,
        "embedder": scorer_of(config, dimension) if dimension else None,
        "options": scorer_options(config).get(dimension, {}),
        "omniscore": config.formula,
        "sampling": config.generate.sampling,
        "sampler": config.generate.sampling if config.schedule.timesteps.distribution == "match_sampler" else None,
        "videos_per_prompt": config.evaluate.videos_per_prompt,
        "shards": config.evaluate.shards,
        "dimensions": sorted(scorer_options(config)),
        "is_judge": dimension in config.evaluate.judges,
    }
    if stage in BENCHMARK_KINDS:
        derived = benchmark_values(config, stage, dimension)
    values = {}
    for field, info in KINDS[stage].model_fields.items():
        value = derived[field] if field in derived else getattr(config, field)
        if info.exclude_if is None or not info.exclude_if(value):
            values[field] = value.model_dump() if isinstance(value, Section) else value
    return values
