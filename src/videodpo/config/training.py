"""The configuration of the fine-tune: what is trained on, by which objective, and how the training runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from videodpo.config.section import PositiveReal, Real, Section, Shards, WrongKeys, number_or_auto
from videodpo.config.shard_counts import AUTO

# One type to pydantic: of a union, its message names the branches.
Beta = Annotated[
    PositiveReal,
    WrapValidator(number_or_auto),
    PlainSerializer(lambda value: value),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "enum": [AUTO]}]}),
]


class Timesteps(Section):
    distribution: Literal["uniform", "logit_normal"] = "uniform"
    """How noise levels are drawn for training."""
    mean: Real = 0.0
    """Of the logit-normal."""
    std: Real = Field(1.0, gt=0)
    """Of the logit-normal."""
    shift: Real = Field(1.0, gt=0)
    """Flow shift s: q becomes s q / (1 + (s - 1) q)."""
    low: Real = Field(0.0, ge=0, lt=1)
    """Smallest noise level."""
    high: Real = Field(1.0, gt=0, le=1)
    """Largest noise level."""

    @model_validator(mode="after")
    def _levels_in_order(self) -> Timesteps:
        if self.low > self.high:
            raise WrongKeys(("low", f"{self.low} is above high {self.high}"))
        return self


class Validation(Section):
    num_prompts: int = Field(0, ge=0)
    """Training prompts whose pairs are kept out of the training, to measure the implicit accuracy on; 0 is none."""
    draws: int = Field(4, ge=1)
    """Noise levels and noises for each of these pairs."""


class Schedule(Section):
    num_steps: int = Field(..., ge=1)
    """Optimiser steps."""
    global_batch_size: int = Field(8, ge=1)
    """Global batch, over all processes and accumulation."""
    micro_batch_size: int = Field(1, ge=1)
    """Pairs in one forward pass; divides global_batch_size."""
    timesteps: Timesteps = Timesteps()
    """Noise levels."""
    validation: Validation = Validation()
    """Pairs that are not trained on."""

    @model_validator(mode="after")
    def _micro_batches_are_whole(self) -> Schedule:
        if self.global_batch_size % self.micro_batch_size:
            raise WrongKeys(
                (
                    "micro_batch_size",
                    f"{self.micro_batch_size} does not divide {self.global_batch_size} of global_batch_size",
                )
            )
        return self


class ReferenceJobs(Section):
    shards: Shards = AUTO  # type: ignore[assignment]
    """Jobs a round that the reference errors are split into; `auto` is 750 visits each, 200 jobs at most."""


class Lora(Section):
    rank: int = Field(64, ge=1)
    """Rank of the adapter's matrices."""
    alpha: PositiveReal | None = None
    """The adapter is scaled by alpha / rank; null is alpha = rank, which every loader gets right."""
    dropout: Real = Field(0.0, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the layers; null takes the model family's attention and feed-forward layers."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) (arXiv 2312.03732)."""
    dora: bool = False
    """Train each weight's magnitude beside its direction (arXiv 2402.09353)."""


class OfficialCode(Section):
    """What the released VideoDPO code does otherwise than its paper; for comparisons."""

    separate_noise: bool = False
    """Winner and loser get noise and timesteps of their own."""
    logit_per_column: bool = False
    """One logit for each column of a latent instead of one a video."""
    network_dropout: bool = False
    """Policy and reference both stay in train mode: the base network's own dropout falls on either."""


class Objective(Section):
    loss: Literal["dpo", "ipo", "hinge", "sft", "mapo"] = "dpo"
    """The loss; docs/objectives.md says which to use when."""
    label_smoothing: Real = Field(0.0, ge=0, lt=0.5)
    """dpo: share of pairs that are taken to be labelled the wrong way round."""
    sft_weight: Real = Field(0.0, ge=0)
    """dpo, ipo, hinge: the winner's error is added to the loss with this factor (arXiv 2511.01450)."""
    sdpo_mu: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """dpo, ipo, hinge: the loser's gradient is scaled so that a step does not raise the winner's error, with this
    margin mu (SDPO, arXiv 2511.03317); null is off."""
    mapo_weight: Real = Field(0.1, gt=0)
    """mapo: factor of its preference term."""
    official_code: OfficialCode = OfficialCode()
    """Quirks of the released code; all need train.reference: online."""

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Objective:
        problems = []
        if self.label_smoothing and self.loss != "dpo":
            problems.append(("label_smoothing", f"{self.label_smoothing} has no effect on {self.loss}"))
        if self.loss in ("sft", "mapo"):
            if self.sft_weight:
                problems.append(("sft_weight", f"{self.sft_weight} has no effect on {self.loss}"))
            if self.sdpo_mu is not None:
                problems.append(("sdpo_mu", f"{self.sdpo_mu} has no effect on {self.loss}"))
        if self.sdpo_mu is not None and self.official_code.logit_per_column:
            problems.append(("sdpo_mu", f"{self.sdpo_mu} does not go with official_code.logit_per_column"))
        if problems:
            raise WrongKeys(*problems)
        return self


class Train(Section):
    method: Literal["lora", "full"] = "lora"
    """LoRA adapter, or every weight of the denoiser."""
    lora: Lora = Lora()
    """Adapter settings."""
    reference: Literal["precomputed", "online"] = "precomputed"
    """Where the reference's errors come from: the stage `reference`, or a second forward pass at every step."""
    texts: Literal["cached", "online"] = "cached"
    """Where encoded prompts come from: the sampling stored them, or the text encoder is loaded and encodes again."""
    objective: Objective = Objective()
    """The loss."""
    beta: Beta
    """Strength of the preference against the reference; `auto` sets it by beta_logit (needs reference: precomputed)."""
    beta_logit: Real = Field(10.0, gt=0)
    """beta: auto gives a pair this logit where the policy's errors moved apart by one standard deviation of the
    reference's difference between winner and loser."""
    optimizer: Literal["adamw", "adamw_8bit", "adamw_fp8"] = "adamw"
    """AdamW, its moments in float32, or in 8 bits by torchao (the extra `lowbit`)."""
    learning_rate: Real = Field(6e-6, gt=0)
    """Constant after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Linear warm-up; optimiser steps."""
    weight_decay: Real = Field(0.01, ge=0)
    """AdamW."""
    max_grad_norm: Real = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    skip_above_median: PositiveReal | None = 100.0
    """A step whose gradient norm is above this many times the median of the last steps, and above `max_grad_norm`, is
    skipped; null never."""
    max_skipped_steps: int = Field(5, ge=0)
    """The training stops at the next bad step after this many were skipped in a row."""
    caption_dropout: Real = Field(0.0, ge=0, lt=1)
    """Share of pairs trained with the empty prompt (needs reference: online)."""

    @model_validator(mode="after")
    def _table_suffices(self) -> Train:
        if problems := list(self._disagreements()):
            raise WrongKeys(*problems)
        return self

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        quirks = [f"official_code.{name}" for name, is_on in self.objective.official_code if is_on]
        if self.reference == "precomputed":
            if self.caption_dropout:
                reason = "needs reference: online (the table holds errors for the full prompt)"
                yield "caption_dropout", f"{self.caption_dropout} {reason}"
            for quirk in quirks:
                yield f"objective.{quirk}", "needs reference: online (the table has one error a video, by the paper)"
        elif isinstance(self.beta, str):
            yield "beta", "'auto' needs reference: precomputed (it is set from the table's errors)"


def _off(value: Any) -> Any:
    """YAML 1.1 reads the word off as false."""
    return "off" if value is False else value


class Samples(Section):
    num_prompts: int = Field(0, ge=0)
    """Training prompts that clips are sampled for, as a grid over the steps; 0 is none."""
    steps: int = Field(500, ge=1)
    """Steps between two grids."""


class TrainRuntime(Section):
    processes: int = Field(1, ge=1)
    """Processes on each node, one a GPU."""
    nodes: int = Field(1, ge=1)
    """Nodes."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Every process holds all weights, or its share of them (FSDP2)."""
    context_parallel: int = Field(1, ge=1)
    """Neighbouring processes that share each clip's tokens (Ulysses; the Wan family); divides processes."""
    gradient_checkpointing: Annotated[Literal["off", "selective", "full"], BeforeValidator(_off)] = "full"
    """Recompute activations to save memory: none, all but the attention's outputs, all."""
    compile: bool = False
    """Compile the denoiser's repeated layers with torch.compile."""
    offload_activations: bool = False
    """Keep activations in the CPU's memory between forward and backward, instead of computing them again."""
    offload_optimizer: bool = False
    """Keep moments, gradients and this process's share of the weights in the CPU's memory, and step there (fsdp)."""
    checkpoint_minutes: Real = Field(10.0, gt=0)
    """Between full checkpoints; SIGTERM, SIGUSR1 and Ctrl-C make one too."""
    checkpoint_steps: int | None = Field(None, ge=1)
    """Steps between full checkpoints, beside the clock; null leaves it to the clock."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(["tensorboard"])
    """Where the log's numbers go while the training runs, beside its table."""
    validation_steps: int = Field(100, ge=1)
    """Steps between two looks at the validation pairs."""
    samples: Samples = Samples()
    """Clips drawn while the training runs."""

    @model_validator(mode="after")
    def _options_go_together(self) -> TrainRuntime:
        if self.offload_activations and self.gradient_checkpointing != "off":
            kind = self.gradient_checkpointing
            reason = f"true with gradient_checkpointing: {kind}, which keeps nothing that could be moved; use off"
            raise WrongKeys(("offload_activations", reason))
        if self.offload_activations and self.compile:
            reason = (
                "true with compile: true, whose layers need activations as they left them in memory; use one of them"
            )
            raise WrongKeys(("offload_activations", reason))
        if self.processes % self.context_parallel:
            reason = f"{self.context_parallel} does not divide processes: {self.processes}"
            raise WrongKeys(("context_parallel", reason))
        if self.offload_optimizer and self.strategy != "fsdp":
            raise WrongKeys(("offload_optimizer", "true needs strategy: fsdp; one process is enough"))
        return self
