"""T2V-Turbo v1: VideoCrafter2 with a LoRA for sampling in 4 to 8 steps; noise target.

Legend: see `videodpo.models.base`. Weights: `model.ckpt` and `unet_lora.pt`, as published by the authors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from videodpo.config import Lora, Model, Sampling, Section
from videodpo.config.errors import InputError
from videodpo.config.section import Real
from videodpo.models.videocrafter2 import VideoCrafter2Model

if TYPE_CHECKING:
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule

LORA = "unet_lora.pt"
STEPS = range(1, 51)
TAKEN_OFF = "taken_off"  # adapter with the negative of the distilled LoRA


class T2VTurboModel(VideoCrafter2Model):
    """The denoiser is conditioned on the guidance, so `guidance_scale` is 1. It is trained at its 50 DDIM timesteps."""

    version = "1"
    hub_files = ("model.ckpt", LORA)

    class Options(Section):
        """Options of the pipeline call; conditioning is the same in sampling and training."""

        fps: Real = Field(16.0, gt=0)
        """Frames per second that the denoiser is conditioned on."""
        guidance: Real = Field(7.5, gt=0)
        """Guidance scale that the denoiser is conditioned on."""
        distilled_lora: Literal["fixed", "trained"] = "fixed"
        """fixed trains a fresh LoRA on top of the distilled one; trained trains the distilled one, as in the paper."""

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        super().check(settings, sampling)
        if sampling.guidance_scale != 1:
            raise InputError(
                f"generate.sampling.guidance_scale: {sampling.guidance_scale:g}; t2v_turbo needs 1 here, because its "
                "denoiser is conditioned on model.options.guidance"
            )
        if sampling.num_steps not in STEPS:
            raise InputError(f"generate.sampling.num_steps: {sampling.num_steps}; t2v_turbo takes 1 to 50, best 4 to 8")

    @classmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        from videodpo.models.shared.noise_schedules import Diffusion
        from videodpo.models.shared.t2v_turbo_pipeline import TRAINED_STEPS, consistency_timesteps, make_scheduler

        timesteps = consistency_timesteps(TRAINED_STEPS)
        return Diffusion(make_scheduler().alphas_cumprod, "epsilon", timesteps=timesteps)

    @classmethod
    def sampler_timesteps(cls, settings: Model, sampling: Sampling) -> Sequence[float]:
        from videodpo.models.shared.t2v_turbo_pipeline import consistency_timesteps

        return consistency_timesteps(sampling.num_steps)

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        from videodpo.models.shared.t2v_turbo_pipeline import T2VTurboPipeline

        files = folder / self.index, folder / LORA
        return T2VTurboPipeline.from_originals(*files, self.dtype, self.weights_dtype)

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return self.conditions()

    def conditions(self) -> dict[str, float]:
        return {"fps": self._options.fps, "guidance": self._options.guidance}

    def add_lora(self, lora: Lora, seed: int) -> None:
        """Add a fresh LoRA, or make the distilled one trainable (`distilled_lora: trained`).

        In the latter case, the base weights include the distilled LoRA, and a frozen adapter subtracts it again.
        Without adapters, the denoiser is therefore the distilled model, which is the reference.
        """
        import torch
        from peft import LoraConfig, get_peft_model_state_dict

        from videodpo.weights.checkpoints import read_tensors

        if self._options.distilled_lora == "fixed":
            super().add_lora(lora, seed)
            return
        tensors = read_tensors(self._folder / LORA)
        ups, downs = tensors[::2], tensors[1::2]
        _require_own_settings(lora, rank=len(downs[0]))
        network = self.pipe.unet
        for name, dropout in ((TAKEN_OFF, 0.0), ("default", lora.dropout)):
            config = LoraConfig(r=lora.rank, lora_alpha=lora.rank, lora_dropout=dropout)
            config.target_modules = set(self.pipe.lora_layers)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # two adapters on purpose
                network.add_adapter(config, adapter_name=name)
        with torch.no_grad():
            for name, up, down in zip(self.pipe.lora_layers, ups, downs, strict=True):
                layer = network.get_submodule(name)
                for adapter, sign in ((TAKEN_OFF, -1), ("default", 1)):
                    layer.lora_A[adapter].float().weight.copy_(down)
                    layer.lora_B[adapter].float().weight.copy_(sign * up)
        frozen = get_peft_model_state_dict(network, adapter_name=TAKEN_OFF)
        self._taken_off = {key: value.clone() for key, value in frozen.items()}  # copied before weights are sharded
        network.set_adapter([TAKEN_OFF, "default"])
        self._freeze_taken_off()
        for name, module in network.named_modules():
            if "lora_dropout" in name:
                module.train()

    def _freeze_taken_off(self) -> None:
        """Freeze the subtracting adapter, because peft makes every adapter that it enables trainable."""
        for name, parameter in self.pipe.unet.named_parameters():
            if f".{TAKEN_OFF}." in name:
                parameter.requires_grad_(False)

    @contextmanager
    def reference_weights(self) -> Iterator[None]:
        try:
            with super().reference_weights():
                yield
        finally:
            self._freeze_taken_off()

    def whole_lora(
        self, network: Any, weights: dict[str, torch.Tensor] | None
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """With a trained distilled LoRA, merge both adapters into one of twice the rank, the trained one first."""
        import torch

        trained, config = super().whole_lora(network, weights)
        if TAKEN_OFF not in network.peft_config:
            return trained, config
        merged = {
            key: torch.cat([value, self._taken_off[key].to(value.device)], dim=_rank_axis(key))
            for key, value in trained.items()
        }
        return merged, config | {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}

    def trained_part(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._options.distilled_lora == "fixed":
            return state
        return {key: value.chunk(2, dim=_rank_axis(key))[0].contiguous() for key, value in state.items()}


def _rank_axis(key: str) -> int:
    return 0 if ".lora_A." in key else 1


def _require_own_settings(lora: Lora, rank: int) -> None:
    own = Lora(rank=rank, dropout=lora.dropout)
    for key in Lora.model_fields:
        value, needed = getattr(lora, key), getattr(own, key)
        if value != needed:
            raise InputError(
                f"train.lora.{key}: {value}; model.options.distilled_lora: trained trains {LORA}, which takes "
                f"{'null' if needed is None else needed} only"
            )
