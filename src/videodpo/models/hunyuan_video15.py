"""HunyuanVideo 1.5 through diffusers' HunyuanVideo15Pipeline: flow matching, velocity target.

Legend: see `videodpo.models.base`. Text comes from a language model and, for words in quotation marks, from ByT5.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
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
    """Text to video, without a first frame. diffusers has no `load_lora_weights` for this pipeline: its transformer
    has `load_lora_adapter(folder, weight_name="pytorch_lora_weights.safetensors", prefix=None)`.
    """

    version = "1"
    pipeline = "HunyuanVideo15Pipeline"
    text_names = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        time, space = vae.get("temporal_compression_ratio", 4), vae.get("spatial_compression_ratio", 16)
        return Compression(time, space, denoiser.get("patch_size", 1), step=time)

    def __init__(self, settings: Model, device: str, *, parts: Set[Part] = ALL_PARTS) -> None:
        super().__init__(settings, device, parts=parts)
        self.pipe.tokenizer_max_length = self.max_sequence_length
        if self.pipe.vae is not None:
            self.pipe.vae.enable_slicing()  # its attention mask holds for one clip alone
            self.pipe.vae.enable_tiling()  # a clip of full size at once would take 25 GB for one activation
        self.leaves_weights_out = True  # nothing reads what the last block makes of the text

    def left_out(self, folder: Path, parts: Set[Part]) -> dict[str, Any]:
        import diffusers
        import torch

        left_out = super().left_out(folder, parts)
        if "vae" not in left_out:
            return left_out
        with torch.device("meta"):  # the pipeline asks it for its settings
            vae = diffusers.AutoencoderKLHunyuanVideo15.from_config(read_config(folder / "vae" / "config.json"))
        return {**left_out, "vae": vae}

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        text, mask, glyphs, glyph_mask = self.pipe.encode_prompt([prompt], device=self.device, dtype=self.dtype)
        return text * mask[..., None], mask, glyphs * glyph_mask[..., None], glyph_mask

    def sample(
        self, text: PromptEmbeds, seeds: Sequence[int], sampling: Sampling, negative: PromptEmbeds | None = None
    ) -> torch.Tensor:
        # A component of the pipeline, no argument of its call.
        self.pipe.guider.guidance_scale = sampling.guidance_scale
        return super().sample(text, seeds, sampling, negative)

    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        import torch

        pipe, noisy = self.pipe, noisy_BCFHW.to(self.dtype)
        no_frames = pipe.prepare_cond_latents_and_mask(noisy, self.dtype, self.device)
        no_image = noisy.new_zeros(len(noisy), pipe.vision_num_semantic_tokens, pipe.vision_states_dim)
        prediction: torch.Tensor = self.denoiser(
            hidden_states=torch.cat([noisy, *no_frames], dim=1),
            image_embeds=no_image,
            timestep=self.noise_schedule.timestep(noise_level_B.to(self.device)).to(self.dtype),
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
