"""HunyuanVideo 1.5 through diffusers' HunyuanVideo15Pipeline: flow matching, velocity target.

Legend: see `videodpo.models.base`. A language model encodes the prompt; ByT5 encodes words in quotation marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config import Model, Sampling
from videodpo.models.base import ALL_PARTS, Part, PromptEmbeds
from videodpo.models.shared.adapters import lora_file
from videodpo.models.shared.pipeline_model import Compression, Config, PipelineModel, read_config
from videodpo.runtime.compat.diffusers import lora_metadata_key

if TYPE_CHECKING:
    import torch


class HunyuanVideo15Model(PipelineModel):
    """Text to video without a first frame.

    diffusers has no `load_lora_weights` for this pipeline. Its transformer has
    `load_lora_adapter(folder, weight_name="pytorch_lora_weights.safetensors", prefix=None)`.
    """

    version = "2"
    pipeline = "HunyuanVideo15Pipeline"
    takes_flow_shift = True
    # Both streams of the blocks, but not the text refiner before them.
    lora_targets = (
        *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
        *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "ff_context.net.0.proj", "ff_context.net.2"),
    )
    lora_part = "transformer_blocks"
    text_names = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        time, space = vae.get("temporal_compression_ratio", 4), vae.get("spatial_compression_ratio", 16)
        return Compression(time, space, denoiser.get("patch_size", 1), step=time)

    @classmethod
    def set_timesteps(cls, scheduler: Any, settings: Model, sampling: Sampling) -> None:
        import numpy as np

        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, sampling.num_steps + 1)[:-1])

    def __init__(self, settings: Model, device: str, *, parts: Set[Part] = ALL_PARTS) -> None:
        super().__init__(settings, device, parts=parts)
        self.pipe.tokenizer_max_length = self.max_sequence_length
        if self.pipe.vae is not None:
            self.pipe.vae.enable_slicing()  # its attention mask only works for one clip
            self.pipe.vae.enable_tiling()  # without tiling, one activation of a full-size clip takes 25 GB
        self.leaves_weights_out = True  # the last block's text output is unused
        if self.pipe.transformer is not None:
            _take_float32_timesteps(self.pipe.transformer)

    def left_out(self, folder: Path, parts: Set[Part]) -> dict[str, Any]:
        import diffusers
        import torch

        left_out = super().left_out(folder, parts)
        if "vae" not in left_out:
            return left_out
        with torch.device("meta"):  # the pipeline reads its config only
            vae = diffusers.AutoencoderKLHunyuanVideo15.from_config(read_config(folder / "vae" / "config.json"))
        return {**left_out, "vae": vae}

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        text, mask, glyphs, glyph_mask = self.pipe.encode_prompt([prompt], device=self.device, dtype=self.dtype)
        return text * mask[..., None], mask, glyphs * glyph_mask[..., None], glyph_mask

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return {}  # guidance is a component of this pipeline, not an argument of the call

    def sample(
        self, text: PromptEmbeds, seeds: Sequence[int], sampling: Sampling, negative: PromptEmbeds | None = None
    ) -> torch.Tensor:
        self.pipe.guider.guidance_scale = sampling.guidance_scale
        with _exact_timesteps(self.pipe):
            return super().sample(text, seeds, sampling, negative)

    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        import torch

        pipe, noisy = self.pipe, noisy_BCFHW.to(self.dtype)
        no_frames = pipe.prepare_cond_latents_and_mask(noisy, self.dtype, self.device)
        no_image = noisy.new_zeros(len(noisy), pipe.vision_num_semantic_tokens, pipe.vision_states_dim)
        prediction: torch.Tensor = self.denoiser(
            hidden_states=torch.cat([noisy, *no_frames], dim=1),
            image_embeds=no_image,
            timestep=self.noise_schedule.timestep(noise_level_B.to(self.device)),
            encoder_hidden_states=text["prompt_embeds"].to(self.dtype),
            encoder_attention_mask=text["prompt_embeds_mask"],
            encoder_hidden_states_2=text["prompt_embeds_2"].to(self.dtype),
            encoder_attention_mask_2=text["prompt_embeds_mask_2"],
            return_dict=False,
        )[0]
        return prediction

    def save_lora(self, name: str, folder: Path, state: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        described = {"format": "pt", lora_metadata_key(): json.dumps(metadata, sort_keys=True)}
        save_file(state, folder / lora_file(name), metadata=described)

    def load_lora(self, name: str, folder: Path) -> None:
        self.pipe.transformer.load_lora_adapter(folder, weight_name=lora_file(name), prefix=None)


def _take_float32_timesteps(transformer: Any) -> None:
    """Compute the time embedding in float32 and cast only for its layers.

    diffusers would compute it in the type of the timestep.
    """

    def cast(embedder: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        waves, *others = args
        return waves.to(embedder.linear_1.weight.dtype), *others

    transformer.time_embed.timestep_embedder.register_forward_pre_hook(cast)


@contextmanager
def _exact_timesteps(pipe: Any) -> Iterator[None]:
    """Inside the block, pass the scheduler's exact timesteps to the denoiser.

    The pipeline rounds timesteps to the type of the latents: in bfloat16, those above 512 become multiples of 4.
    """

    def replace(transformer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"timestep": pipe.current_timestep.expand(len(kwargs["timestep"]))}

    handle = pipe.transformer.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
