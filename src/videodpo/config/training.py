"""Configuration of the fine-tune: the training data, the objective, and how the training runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    WrapValidator,
)

from videodpo.config.section import PositiveReal, Real, Section, Shards, number_or_auto
from videodpo.config.shard_counts import AUTO

# One type instead of a union: for a union, pydantic's message names the branches.
Beta = Annotated[
    PositiveReal,
    WrapValidator(number_or_auto),
    PlainSerializer(lambda value: value),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "enum": [AUTO]}]}),
]


class Timesteps(Section):
    distribution: Literal["uniform", "logit_normal", "match_sampler"] = "uniform"
    """Distribution of the training noise levels. match_sampler draws the noise levels of the sampling steps of
    generate.sampling, including its flow shift; each step has the same probability."""
    mean: Real = 0.0
    """Mean of logit_normal."""
    std: Real = Field(1.0, gt=0)
    """Standard deviation of logit_normal."""
    shift: Real = Field(1.0, gt=0)
    """Shift of uniform and logit_normal: with the shift s, q becomes s q / (1 + (s - 1) q)."""
    low: Real = Field(0.0, ge=0, lt=1)
    """Smallest noise level; must be 0 with match_sampler."""
    high: Real = Field(1.0, gt=0, le=1)
    """Largest noise level; must be 1 with match_sampler."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.low > self.high:
            yield "low", f"{self.low} is above high {self.high}"
        for name, default in (("low", 0.0), ("high", 1.0)):
            value = getattr(self, name)
            if self.distribution == "match_sampler" and value != default:
                yield name, f"{value} has no effect on match_sampler; use {default}"


class Validation(Section):
    num_prompts: int = Field(0, ge=0)
    """Number of training prompts whose pairs are held out to measure the implicit accuracy; 0 holds out none. At most a
    third of the prompts that have pairs is held out."""
    draws: int = Field(4, ge=1)
    """Number of draws of noise level and noise per held-out pair."""


class Schedule(Section):
    num_steps: int = Field(..., ge=1)
    """Number of optimizer steps."""
    global_batch_size: int = Field(8, ge=1)
    """Pairs per optimizer step, over all processes and gradient accumulation."""
    micro_batch_size: int = Field(1, ge=1)
    """Pairs per forward pass; must divide global_batch_size."""
    timesteps: Timesteps = Timesteps()
    """Noise levels of the training."""
    validation: Validation = Validation()
    """Pairs held out for validation."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.global_batch_size % self.micro_batch_size:
            reason = f"{self.micro_batch_size} does not divide {self.global_batch_size} of global_batch_size"
            yield "micro_batch_size", reason


class ReferenceJobs(Section):
    shards: Shards = AUTO  # type: ignore[assignment]
    """Number of jobs per round for the reference errors; `auto` sets 750 visits per job, at most 200 jobs."""


class Lora(Section):
    rank: int = Field(64, ge=1)
    """Rank of the adapter's matrices."""
    alpha: PositiveReal | None = None
    """The adapter is scaled by alpha / rank; null means alpha = rank, which every loader handles correctly."""
    dropout: Real = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the adapted layers; null selects the model family's attention and feed-forward layers."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) (arXiv 2312.03732)."""
    dora: bool = False
    """Train each weight's magnitude separately from its direction (arXiv 2402.09353)."""


class OfficialCode(Section):
    """Differences between the released VideoDPO code and its paper; for comparisons."""

    separate_noise: bool = False
    """Draw separate noise and timesteps for winner and loser."""
    logit_per_column: bool = False
    """Compute one logit per column of a latent instead of one per video."""
    network_dropout: bool = False
    """Keep policy and reference in train mode, so that the base network's own dropout applies to both."""


class Objective(Section):
    loss: Literal["dpo", "ipo", "hinge", "sft", "mapo"] = "dpo"
    """Loss function; docs/objectives.md says when to use which."""
    label_smoothing: Real = Field(0.0, ge=0, lt=0.5)
    """dpo: assumed share of pairs with swapped labels."""
    sft_weight: Real = Field(0.0, ge=0)
    """dpo, ipo, hinge: the winner's error, times this factor, is added to the loss (arXiv 2511.01450)."""
    sdpo_mu: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """dpo, ipo, hinge: margin mu of SDPO (arXiv 2511.03317), which scales the loser's gradient so that a step does not
    raise the winner's error; null turns SDPO off."""
    mapo_weight: Real = Field(0.1, gt=0)
    """mapo: factor of the preference term."""
    official_code: OfficialCode = OfficialCode()
    """Quirks of the released code; all of them need train.reference: online."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.label_smoothing and self.loss != "dpo":
            yield "label_smoothing", f"{self.label_smoothing} has no effect on {self.loss}"
        if self.sft_weight and self.loss in ("sft", "mapo"):
            yield "sft_weight", f"{self.sft_weight} has no effect on {self.loss}"
        if self.sdpo_mu is not None and self.loss in ("sft", "mapo"):
            yield "sdpo_mu", f"{self.sdpo_mu} has no effect on {self.loss}"
        if self.sdpo_mu is not None and self.official_code.logit_per_column:
            yield "sdpo_mu", f"{self.sdpo_mu} cannot be combined with official_code.logit_per_column"


class Train(Section):
    method: Literal["lora", "full"] = "lora"
    """Train a LoRA adapter, or all weights of the denoiser."""
    lora: Lora = Lora()
    """Adapter settings."""
    reference: Literal["precomputed", "online"] = "precomputed"
    """Source of the reference errors: precomputed by the stage `reference`, or a second forward pass in each step."""
    texts: Literal["cached", "online"] = "cached"
    """Source of the prompt embeddings: stored during sampling, or encoded again by the text encoder."""
    objective: Objective = Objective()
    """Loss function and its options."""
    beta: Beta
    """DPO's beta: strength of the preference; `auto` derives it from beta_logit (needs reference: precomputed)."""
    beta_logit: Real = Field(10.0, gt=0)
    """Target logit for beta: auto. A pair has this logit when the difference between the policy's errors of winner and
    loser has moved by one standard deviation of the reference's difference."""
    optimizer: Literal["adamw", "adamw_8bit", "adamw_fp8"] = "adamw"
    """AdamW with moments in float32, or in 8 bits through torchao (the extra `lowbit`)."""
    learning_rate: Real = Field(1e-4, gt=0)
    """Learning rate at the end of the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Optimizer steps of linear warm-up."""
    learning_rate_decay: Literal["none", "linear", "cosine"] = "none"
    """Decay of the learning rate after the warm-up, to 0 after the last step; none keeps it constant."""
    weight_decay: Real = Field(0.01, ge=0)
    """Weight decay of AdamW."""
    max_grad_norm: Real = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    skip_above_median: PositiveReal | None = 100.0
    """Skip a step if its gradient norm is above this multiple of the recent median and above `max_grad_norm`; null
    never skips."""
    max_skipped_steps: int = Field(5, ge=0)
    """Maximum number of consecutive skipped steps; one more bad step stops the training."""
    caption_dropout: Real = Field(0.0, ge=0, lt=1)
    """Share of pairs trained with the empty prompt (needs reference: online)."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        quirks = [f"official_code.{name}" for name, is_on in self.objective.official_code if is_on]
        if self.reference == "precomputed":
            if self.caption_dropout:
                reason = "needs reference: online (the table holds errors for the full prompt)"
                yield "caption_dropout", f"{self.caption_dropout} {reason}"
            for quirk in quirks:
                yield f"objective.{quirk}", "needs reference: online (the table has one error per video)"
        elif isinstance(self.beta, str):
            yield "beta", "'auto' needs reference: precomputed (it is set from the table's errors)"


def _off(value: Any) -> Any:
    """Convert False to "off", because YAML 1.1 reads the word off as false."""
    return "off" if value is False else value


class Samples(Section):
    num_prompts: int = Field(0, ge=0)
    """Number of training prompts to sample clips for during training, shown as a grid over steps; 0 samples none."""
    steps: int = Field(500, ge=1)
    """Optimizer steps between two grids."""


class TrainRuntime(Section):
    processes: int = Field(1, ge=1)
    """Number of processes per node, one per GPU."""
    nodes: int = Field(1, ge=1)
    """Number of nodes."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every process holds all weights; fsdp: every process holds a shard of them (FSDP2)."""
    context_parallel: int = Field(1, ge=1)
    """Number of neighbouring ranks that split the tokens of each clip (Ulysses; Wan only); must divide processes."""
    gradient_checkpointing: Annotated[Literal["off", "selective", "full"], BeforeValidator(_off)] = "full"
    """Recompute activations to save memory: none, all except the attention outputs, or all."""
    compile: bool = False
    """Compile the denoiser's repeated layers with torch.compile."""
    offload_activations: bool = False
    """Keep activations in CPU memory between forward and backward pass instead of recomputing them."""
    offload_optimizer: bool = False
    """Keep moments, gradients and the process's weight shard in CPU memory, and run the optimizer there (fsdp only)."""
    checkpoint_minutes: Real = Field(10.0, gt=0)
    """Minutes between full checkpoints; SIGTERM, SIGUSR1 and Ctrl-C write one too."""
    checkpoint_steps: int | None = Field(None, ge=1)
    """Optimizer steps between full checkpoints, in addition to checkpoint_minutes; null uses the minutes only."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(["tensorboard"])
    """Experiment trackers that receive the logged numbers during training, in addition to the log table."""
    validation_steps: int = Field(100, ge=1)
    """Optimizer steps between two validations."""
    samples: Samples = Samples()
    """Clips sampled during training."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.offload_activations and self.gradient_checkpointing != "off":
            kind = self.gradient_checkpointing
            reason = f"true with gradient_checkpointing: {kind}, which keeps no activations to offload; use off"
            yield "offload_activations", reason
        if self.offload_activations and self.compile:
            reason = "true with compile: true, whose layers need their activations in GPU memory"
            yield "offload_activations", f"{reason}; use one of them"
        if self.processes % self.context_parallel:
            yield "context_parallel", f"{self.context_parallel} does not divide processes: {self.processes}"
        if self.offload_optimizer and self.strategy != "fsdp":
            yield "offload_optimizer", "true needs strategy: fsdp; one process is enough"
