"""Typed configuration: every key with its unit and range, and one readable message for a wrong key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from videodpo.config.benchmark import Benchmark
from videodpo.config.scoring import (
    Dimension,
    OmniScore,
    Pairs,
    Pillars,
    filter_disagreements,
    pillar_disagreements,
    wrong_names,
)
from videodpo.config.section import PositiveReal, Real, Section, Shards, validate, without_nulls
from videodpo.config.shard_counts import AUTO, heldout_shards, reference_shards, sampling_shards
from videodpo.config.source import Source
from videodpo.config.training import (
    ReferenceJobs,
    Schedule,
    Train,
    TrainRuntime,
)

TOTALS = {"omniscore", "quality", "semantic"}  # names of columns next to those of the dimensions


class Prompts(Section):
    source: Source
    """Source of the prompts."""
    # Left out of the settings snapshot if null, so that runs from before it existed stay valid.
    heldout_source: Source | None = Field(None, exclude_if=lambda value: value is None)
    """Source of the held-out prompts; null draws them from `source`."""
    num_train: int | None = Field(None, ge=1)
    """Number of training prompts to sample videos for; null uses all prompts that are not held out."""
    num_heldout: int = Field(..., ge=0)
    """Number of prompts held out for the evaluation; 0 turns off the evaluation and the report."""
    min_chars: int = Field(3, ge=1)
    """Minimum length in characters, after cleaning; shorter prompts are dropped."""
    max_chars: int = Field(2000, ge=1)
    """Maximum length in characters; longer prompts are dropped."""
    near_duplicate_threshold: Real = Field(0.8, gt=0, le=1)
    """Jaccard similarity of word 3-grams (MinHash) from which a prompt is a duplicate; 1 drops only exact ones."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.min_chars > self.max_chars:
            yield "min_chars", f"{self.min_chars} is above max_chars {self.max_chars}"
        if self.heldout_source is not None and not self.num_heldout:
            yield "heldout_source", "has no effect with num_heldout 0; leave it out"


class Model(Section):
    family: str
    """Name of the model family, for example `wan`."""
    weights: str
    """Folder in diffusers' format, or `hub:<org>/<name>@<commit>`."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Data type of the denoiser's and the text encoder's weights; the VAE stays in float32."""
    mixed_precision: bool = False
    """Keep weights in float32 and compute matrix products in `dtype`; full fine-tuning in bfloat16 needs this."""
    max_sequence_length: int = Field(512, ge=1)
    """Number of prompt tokens passed to the denoiser."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the model family."""


class Size(Section):
    num_frames: int = Field(..., ge=1)
    """Frames per clip."""
    height: int = Field(..., ge=16)
    """Height in pixels."""
    width: int = Field(..., ge=16)
    """Width in pixels."""


class Sampling(Size):
    buckets: list[Size] = Field([])
    """Additional sizes. Each prompt draws one of these or the size above; your own clips use the one that fits."""
    fps: Real = Field(16.0, gt=0)
    """Frames per second of the MP4."""
    num_steps: int = Field(50, ge=1)
    """Number of denoising steps."""
    guidance_scale: Real = Field(5.0, ge=1)
    """Scale of classifier-free guidance; 1 turns guidance off."""
    flow_shift: PositiveReal | None = None
    """Flow models: a larger shift spends more steps at high noise levels; null uses the value in the model's folder."""
    negative_prompt: str = ""
    """Text for the unconditional branch."""
    batch_size: int = Field(1, ge=1)
    """Clips denoised at once."""
    crf: int = Field(18, ge=0, le=51)
    """x264 quality; 0 is lossless."""
    latents_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the stored latents."""

    @property
    def sizes(self) -> list[Sampling]:
        """Copies of this sampling, one for each size: its own, then those of the buckets."""
        return [self.model_copy(update={**_size_of(size), "buckets": []}) for size in (self, *self.buckets)]

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        known = [_size_of(self)]
        for index, bucket in enumerate(self.buckets):
            if _size_of(bucket) in known:
                size = f"{bucket.num_frames} frames of {bucket.height} x {bucket.width}"
                yield f"buckets.{index}", f"{size} are listed already; list each size once"
            known.append(_size_of(bucket))


def _size_of(size: Size) -> dict[str, int]:
    return {name: getattr(size, name) for name in Size.model_fields}


class Generate(Section):
    videos_per_prompt: int = Field(4, ge=2)
    """Clips per prompt, N in the paper; a pair needs at least 2."""
    shards: Shards = AUTO  # type: ignore[assignment]
    """Number of sampling (or clip import) jobs per round; scoring uses the same number. `auto` sets 200 clips per job,
    at most 1,000 jobs, and 200 jobs if num_train is null."""
    sampling: Sampling
    """Sampling settings of one clip; the evaluation uses them too."""
    fit_clips: bool = False
    """True crops and scales your own clips that have another size, frame rate or length; false marks them as failed."""


class Evaluate(Section):
    videos_per_prompt: int = Field(1, ge=1)
    """Clips per held-out prompt and model; both models use the same seeds."""
    shards: Shards = AUTO  # type: ignore[assignment]
    """Number of sampling jobs per model; scoring uses as many. `auto` sets 50 clips per job, at most 100 jobs."""
    judges: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Scorers that only the evaluation uses, so that they are independent of the training: options by name. The key
    `scorer` next to a judge's options names its scorer, if the judge has a name of its own."""
    bootstrap_resamples: int = Field(10_000, ge=100)
    """Number of bootstrap resamples of the prompts for the confidence intervals."""
    motion_dimension: str | None = None
    """Dimension shown in the motion panel."""
    diversity_dimension: str | None = None
    """Consistency dimension whose network compares the clips of a prompt in the reward-hacking panel; needs
    videos_per_prompt 2 or more. Null leaves the diversity out."""
    benchmark: Benchmark | None = Field(None, exclude_if=lambda value: value is None)
    """Benchmark to score both models with at the end of a run, for example vbench; see docs/benchmark.md."""

    @model_validator(mode="before")
    @classmethod
    def _drop_removed(cls, raw: Any) -> Any:
        return without_nulls(raw, "judges")


class Report(Section):
    num_pairs: int = Field(100, ge=0)
    """Number of pairs with clips in the report folder; the list shows all pairs with their scores."""
    num_comparisons: int = Field(100, ge=0)
    """Number of held-out clips that the report folder has before and after the training; the list shows all."""


class Config(Section):
    """Configuration of a run."""

    run: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: letters, digits, `.`, `_` and `-`. Its results are written to <results>/<run>."""
    results: str = Field("results", pattern=r"^[^\x00-\x1f{}<>~-][^\x00-\x1f{}<>]*$")
    """Folder of all runs. It must not contain control characters, `{`, `}`, `<` or `>`, nor start with `~` or `-`."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Root seed of every random draw."""
    rounds: int = Field(1, ge=1)
    """Number of rounds of sampling and alignment; the paper uses 1."""
    max_failed_fraction: Real = Field(0.02, ge=0, le=1)
    """Maximum share of failed clips; a stage with a larger share stops the run."""
    clip_storage: Literal["files", "tar"] = "files"
    """Store one file per clip, or one tar file per shard, which turns a million clips into a thousand files.
    A change applies to shards finished afterwards and never triggers a re-run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for the networks; auto uses a GPU if there is one. CUDA_VISIBLE_DEVICES selects among several."""
    prompts: Prompts
    """Source and selection of the prompts."""
    model: Model
    """Model to align."""
    generate: Generate
    """Sampling."""
    dimensions: dict[str, Dimension] = Field(..., min_length=1)
    """Scorers by name, each with its options and its weight in the OmniScore; null removes a dimension of the base
    configuration."""
    omniscore: Pillars = Pillars()
    """Weights of the pillars."""
    pairs: Pairs = Pairs()
    """Choice and weights of the pairs."""
    reference: ReferenceJobs = ReferenceJobs()
    """Reference errors."""
    schedule: Schedule
    """Order of the visits to pairs, and their noise levels; shared by the reference errors and the training."""
    train: Train
    """DPO fine-tune."""
    train_runtime: TrainRuntime = TrainRuntime()
    """Processes, memory, checkpoints and tracking of the fine-tune. Changing these keys never triggers a re-run."""
    evaluate: Evaluate = Evaluate()
    """Comparison of the base and the aligned model."""
    report: Report = Report()
    """Report page."""

    @model_validator(mode="before")
    @classmethod
    def _drop_removed(cls, raw: Any) -> Any:
        return without_nulls(raw, "dimensions")

    @property
    def formula(self) -> OmniScore:
        """Settings of the OmniScore: the pillars, and the dimensions that belong to one."""
        inside = {name: dimension for name, dimension in self.dimensions.items() if dimension.pillar}
        raw = {name: dimension.model_dump(exclude={"scorer", "options"}) for name, dimension in inside.items()}
        return validate(OmniScore, self.omniscore.model_dump() | {"dimensions": raw}, "omniscore")

    @model_validator(mode="after")
    def _with_numbers_of_shards(self) -> Config:
        schedule, videos = self.schedule, self.generate.videos_per_prompt
        numbers = {
            "generate": sampling_shards(self.prompts.num_train, videos),
            "reference": reference_shards(schedule.num_steps * schedule.global_batch_size),
            "evaluate": heldout_shards(self.prompts.num_heldout, self.evaluate.videos_per_prompt),
        }
        sections = {name: getattr(self, name) for name in numbers if getattr(self, name).shards == AUTO}
        return self.model_copy(
            update={name: part.model_copy(update={"shards": numbers[name]}) for name, part in sections.items()}
        )

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        motion = self.evaluate.motion_dimension if self.prompts.num_heldout else None
        if motion is not None and motion not in self.dimensions:
            known = ", ".join(sorted(self.dimensions))
            yield "evaluate.motion_dimension", f"{motion!r} is not among dimensions ({known})"
        diversity = self.evaluate.diversity_dimension if self.prompts.num_heldout else None
        if diversity is not None and diversity not in self.dimensions:
            known = ", ".join(sorted(self.dimensions))
            yield "evaluate.diversity_dimension", f"{diversity!r} is not among dimensions ({known})"
        if diversity is not None and self.evaluate.videos_per_prompt < 2:
            reason = "compares clips of one prompt, but evaluate.videos_per_prompt is 1; use 2 or more, or null here"
            yield "evaluate.diversity_dimension", f"{diversity!r} {reason}"
        for key, reason in pillar_disagreements(self.omniscore.pillars, self.dimensions):
            yield f"omniscore.{key}", reason
        inside = [name for name, dimension in self.dimensions.items() if dimension.pillar]
        yield from filter_disagreements(self.pairs, inside)
        names = {f"dimensions.{name}": name for name in self.dimensions}
        names |= {f"evaluate.judges.{name}": name for name in self.evaluate.judges}
        yield from wrong_names(names, TOTALS)
        for name in sorted(set(self.dimensions) & set(self.evaluate.judges)):
            yield (
                f"evaluate.judges.{name}",
                "also among dimensions, so it is no independent judge; remove it from one of the two",
            )
        source = self.prompts.source
        if self.generate.fit_clips and not source.has_clips:
            allowed = "'clips', 'pairs' or 'winners'"
            yield "generate.fit_clips", f"true, but prompts.source.kind is {source.kind!r}, not {allowed}"
        if source.samples_nothing and self.rounds != 1:
            yield "rounds", f"{self.rounds} with your own clips, which support one round; use 1"
        if source.has_pairs and self.pairs.labels.source != "omniscore":
            reason = f"has no effect on the kind {source.kind!r}, whose pairs have winners already; leave it out"
            yield "pairs.labels.source", f"{self.pairs.labels.source!r} {reason}"
        yield from self._training_disagreements()
        worst = int(self.pairs.policy.rpartition("-")[2]) if self.pairs.policy.startswith("rank:") else 0
        samples = not source.has_clips  # a list of clips sets its own number per prompt, and own pairs need no policy
        if samples and worst > (videos := self.generate.videos_per_prompt):
            needs = f"{self.pairs.policy!r} needs at least {worst} videos per prompt"
            yield "pairs.policy", f"{needs}, generate.videos_per_prompt is {videos}"
        if samples and (self.pairs.first_samples or 0) > (videos := self.generate.videos_per_prompt):
            yield "pairs.first_samples", f"{self.pairs.first_samples}, more than generate.videos_per_prompt {videos}"

    def _training_disagreements(self) -> Iterator[tuple[str, str]]:
        model, train, runtime = self.model, self.train, self.train_runtime
        if self.schedule.timesteps.distribution == "match_sampler" and train.objective.official_code.separate_noise:
            reason = "true with schedule.timesteps.distribution match_sampler; use uniform, as the released code does"
            yield "train.objective.official_code.separate_noise", reason
        if model.mixed_precision and model.dtype == "float32":
            yield "model.mixed_precision", "true with dtype float32, where it has no effect"
        if train.method == "full" and model.dtype != "float32" and not model.mixed_precision:
            reason = "every trained weight is float32; model.mixed_precision: true multiplies in this type"
            yield "model.dtype", f"{model.dtype!r} with train.method full: {reason}"
        if train.warmup_steps > (num_steps := self.schedule.num_steps):
            yield "train.warmup_steps", f"{train.warmup_steps}, more than schedule.num_steps {num_steps}"
        if runtime.strategy == "fsdp" and train.method == "full" and train.reference == "online":
            yield (
                "train_runtime.strategy",
                "fsdp with train.method full and reference online: the copy is not sharded; use precomputed",
            )
        schedule, processes = self.schedule, runtime.processes * runtime.nodes
        micro_batches = schedule.global_batch_size // schedule.micro_batch_size
        if micro_batches % processes:
            where = f"{runtime.processes} on {runtime.nodes} nodes"
            reason = f"{micro_batches} micro-batches per step (global_batch_size / micro_batch_size)"
            yield "train_runtime.processes", f"{where}: {reason} do not divide over {processes} processes"
        if runtime.strategy == "fsdp" and processes == 1 and not runtime.offload_optimizer:
            reason = "fsdp with one process has nothing to shard; raise processes or set offload_optimizer"
            yield "train_runtime.strategy", reason


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Validate a mapping as read from YAML.

    Raises:
        ConfigError: a key is wrong; the message has one line per wrong key, with its value and what is allowed.
    """
    return validate(Config, raw)
