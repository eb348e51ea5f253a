"""Wan 2.1 text-to-video through diffusers' WanPipeline: flow matching, velocity target.

Legend: see `videodpo.models.base`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config import Lora, Model, Sampling
from videodpo.models.base import VideoModel
from videodpo.weights.places import NotFetched, resolve

if TYPE_CHECKING:
    import numpy as np
    import torch

NUM_TRAIN_TIMESTEPS = 1000.0
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
LORA_FILE = "pytorch_lora_weights.safetensors"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"model.weights: {path} is not readable ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"model.weights: {path} holds no settings")
    return config


def _grid(vae: Mapping[str, Any], denoiser: Mapping[str, Any]) -> tuple[int, int, int]:
    """What (frames - 1), height and width must be multiples of; older VAE configs leave out diffusers' defaults."""
    space, time = vae.get("scale_factor_spatial", 8), vae.get("scale_factor_temporal", 4)
    _, patch_y, patch_x = denoiser.get("patch_size", (1, 2, 2))
    return time, space * patch_y, space * patch_x


def _refuse_size(grid: tuple[int, int, int], num_frames: int, height: int, width: int, what: str) -> None:
    time, by_y, by_x = grid
    if height % by_y or width % by_x or (num_frames - 1) % time:
        raise ValueError(
            f"{what}: {num_frames} frames of {height} x {width}; height and width must be multiples of {by_y} and "
            f"{by_x}, num_frames 1 more than a multiple of {time}"
        )


class WanModel(VideoModel):
    """Wan 2.1 T2V, any size: the denoiser's `config.json` says which."""

    version = "1"

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        try:
            folder = resolve(settings.weights)
        except NotFetched:
            return
        index = _read_config(folder / "model_index.json")
        if index.get("_class_name") != "WanPipeline":
            raise ValueError(
                f"model.weights: {folder} is a {index.get('_class_name')}, the family wan needs a WanPipeline"
            )
        vae, denoiser = (_read_config(folder / part / "config.json") for part in ("vae", "transformer"))
        _refuse_size(_grid(vae, denoiser), sampling.num_frames, sampling.height, sampling.width, "generate.sampling")

    def __init__(self, settings: Model, device: str) -> None:
        os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")  # read when diffusers is imported
        import torch
        from diffusers import WanPipeline
        from diffusers.utils import logging as diffusers_logging

        diffusers_logging.disable_progress_bar()
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, settings.dtype)
        self.max_text_tokens = settings.max_text_tokens
        pipe = WanPipeline.from_pretrained(
            resolve(settings.weights),
            # The VAE's own weights, not their rounding: casting it up afterwards comes too late.
            torch_dtype={"default": self.dtype, "vae": torch.float32},
            use_safetensors=True,
            local_files_only=True,
        )
        if pipe.transformer is None or pipe.transformer_2 is not None:
            raise ValueError(f"model.weights: {settings.weights} has two experts; family `wan` takes models with one")
        pipe.set_progress_bar_config(disable=True)
        pipe.to(self.device)
        for part in (pipe.text_encoder, pipe.transformer, pipe.vae):  # parts built from a config start in train mode
            part.eval().requires_grad_(False)
        self.pipe: Any = pipe
        self.denoiser = pipe.transformer
        self._frozen_copy: torch.nn.Module | None = None
        self._negative: tuple[str, torch.Tensor] | None = None

    def encode_prompt(self, prompt: str) -> torch.Tensor:
        import torch

        with torch.no_grad():
            text_1LD: torch.Tensor = self.pipe.encode_prompt(
                [prompt],
                do_classifier_free_guidance=False,
                max_sequence_length=self.max_text_tokens,
                device=self.device,
                dtype=self.dtype,
            )[0]
        return text_1LD[0]

    def latent_shape(self, sampling: Sampling) -> tuple[int, int, int, int]:
        """(C, F, H, W) of one clip.

        Raises:
            ValueError: a size that the VAE and the patches do not divide.
        """
        grid = _grid(self.pipe.vae.config, self.denoiser.config)
        _refuse_size(grid, sampling.num_frames, sampling.height, sampling.width, "generate.sampling")
        space, time = self.pipe.vae_scale_factor_spatial, self.pipe.vae_scale_factor_temporal
        frames = (sampling.num_frames - 1) // time + 1
        return (self.denoiser.config.in_channels, frames, sampling.height // space, sampling.width // space)

    def draw_noise(self, seed: int, sampling: Sampling) -> torch.Tensor:
        import torch

        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(self.latent_shape(sampling), generator=generator, dtype=torch.float32).to(self.device)

    def sample(self, text_BLD: torch.Tensor, noise_BCFHW: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        negative_BLD = None
        if sampling.guidance_scale > 1:
            if self._negative is None or self._negative[0] != sampling.negative_prompt:
                self._negative = (sampling.negative_prompt, self.encode_prompt(sampling.negative_prompt))
            negative_BLD = self._negative[1].expand(len(text_BLD), -1, -1)
        latents_BCFHW: torch.Tensor = self.pipe(
            prompt_embeds=text_BLD,
            negative_prompt_embeds=negative_BLD,
            latents=noise_BCFHW.clone(),
            num_frames=sampling.num_frames,
            height=sampling.height,
            width=sampling.width,
            num_inference_steps=sampling.num_steps,
            guidance_scale=sampling.guidance_scale,
            max_sequence_length=self.max_text_tokens,
            output_type="latent",
        ).frames
        return latents_BCFHW.float()

    def decode(self, latents_BCFHW: torch.Tensor) -> np.ndarray:
        import torch

        vae = self.pipe.vae
        with torch.no_grad():
            mean, std = self._latent_statistics()
            pixels = vae.decode(latents_BCFHW.to(vae.device, vae.dtype) * std + mean, return_dict=False)[0]
        frames = (pixels.clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)
        array: np.ndarray = frames.permute(0, 2, 3, 4, 1).cpu().numpy()
        return array

    def encode(self, frames_TYXC: np.ndarray) -> torch.Tensor:
        import torch

        num_frames, height, width, _ = frames_TYXC.shape
        _refuse_size(_grid(self.pipe.vae.config, self.denoiser.config), num_frames, height, width, "the clip")
        pixels = torch.from_numpy(frames_TYXC).permute(3, 0, 1, 2)[None].to(self.device, torch.float32) / 127.5 - 1
        with torch.no_grad():
            mean, std = self._latent_statistics()
            latents_1CFHW: torch.Tensor = (self.pipe.vae.encode(pixels).latent_dist.mode() - mean) / std
        return latents_1CFHW[0]

    def _latent_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        config = self.pipe.vae.config
        shape = (1, config.z_dim, 1, 1, 1)
        options = {"device": self.pipe.vae.device, "dtype": self.pipe.vae.dtype}
        mean = torch.tensor(config.latents_mean, **options).view(shape)
        return mean, torch.tensor(config.latents_std, **options).view(shape)

    def add_noise(self, latents_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor, level_B: torch.Tensor) -> torch.Tensor:
        level = level_B.view(-1, 1, 1, 1, 1)
        return (1 - level) * latents_BCFHW + level * noise_BCFHW

    def target(self, latents_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor, level_B: torch.Tensor) -> torch.Tensor:
        return noise_BCFHW - latents_BCFHW

    def predict(self, noisy_BCFHW: torch.Tensor, level_B: torch.Tensor, text_BLD: torch.Tensor) -> torch.Tensor:
        prediction: torch.Tensor = self.denoiser(
            hidden_states=noisy_BCFHW.to(self.dtype),
            timestep=level_B.to(self.device) * NUM_TRAIN_TIMESTEPS,
            encoder_hidden_states=text_BLD.to(self.dtype),
            return_dict=False,
        )[0]
        return prediction

    def timestep(self, level: float) -> float:
        return level * NUM_TRAIN_TIMESTEPS

    def add_lora(self, lora: Lora, seed: int) -> None:
        import torch
        from peft import LoraConfig

        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.rank,  # alpha unlike rank reloads at the wrong scale where metadata is ignored
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules or LORA_TARGETS,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.denoiser.add_adapter(config)
        for parameter in self.denoiser.parameters():  # the adapter trains in float32 whatever the base's type
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def resume_lora(self, folder: Path) -> None:
        from diffusers import WanPipeline
        from peft import set_peft_model_state_dict

        state = WanPipeline.lora_state_dict(folder, weight_name=LORA_FILE)
        set_peft_model_state_dict(
            self.denoiser, {key.removeprefix("transformer."): value for key, value in state.items()}
        )

    @contextmanager
    def reference_weights(self) -> Iterator[None]:
        if self._frozen_copy is None:
            self.pipe.transformer.disable_adapters()  # also where data parallelism has wrapped `denoiser`
            try:
                yield
            finally:
                self.pipe.transformer.enable_adapters()
        else:
            trained, self.denoiser = self.denoiser, self._frozen_copy
            try:
                yield
            finally:
                self.denoiser = trained

    def keep_reference(self) -> None:
        import copy

        self._frozen_copy = copy.deepcopy(self.denoiser).eval().requires_grad_(False)

    def save_adapter(self, folder: Path) -> None:
        from diffusers import WanPipeline
        from peft import get_peft_model_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        if not hasattr(self.denoiser, "peft_config"):
            self.denoiser.save_pretrained(folder / "transformer", safe_serialization=True)
            return
        config = self.denoiser.peft_config["default"].to_dict()
        metadata = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        WanPipeline.save_lora_weights(
            folder,
            transformer_lora_layers=get_peft_model_state_dict(self.denoiser),
            transformer_lora_adapter_metadata=metadata,
            weight_name=LORA_FILE,
        )

    def load_adapter(self, folder: Path) -> None:
        if (folder / LORA_FILE).is_file():
            self.pipe.load_lora_weights(folder, weight_name=LORA_FILE)
        elif (folder / "transformer").is_dir():
            from diffusers import WanTransformer3DModel

            denoiser = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=self.dtype)
            self.pipe.transformer = self.denoiser = denoiser.to(self.device).eval().requires_grad_(False)
        else:
            raise ValueError(f"{folder}: neither {LORA_FILE} nor a transformer folder in it")
        self.denoiser.eval().requires_grad_(False)
