"""A model family around its diffusers pipeline: everything except the denoiser call and the scaling of latents.

Legend: see `videodpo.models.base`.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from videodpo.config import Model, Sampling, validate
from videodpo.config.errors import InputError
from videodpo.models.base import ALL_PARTS, Part, PromptEmbeds
from videodpo.models.shared.adapters import AdaptedModel
from videodpo.models.shared.flow_shift import with_flow_shift
from videodpo.runtime.compat.diffusers import name_layers
from videodpo.weights.contents import DIFFUSERS, TRANSFORMERS, refuse_downloads, refuse_network
from videodpo.weights.locations import NotFetched, resolve

if TYPE_CHECKING:
    import numpy as np
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule

_ENDINGS = ("safetensors", "json", "jinja", "txt", "model")
Config = Mapping[str, Any]


class Compression(NamedTuple):
    """Compression factors from frames and pixels to latents, and from latents to the denoiser's patches."""

    time: int
    """Frames per latent frame, except that the first latent frame represents one frame."""
    space: int
    """Pixels per latent pixel, along height and width."""
    patch: int
    """Latent pixels per patch, along height and width."""
    step: int
    """Number of frames minus one must be a multiple of this."""

    def refuse(self, num_frames: int, height: int, width: int, what: str) -> None:
        """Refuse a size that is not divisible by VAE compression and patch size.

        Args:
            num_frames: frames of the clip.
            height: pixels.
            width: pixels.
            what: start of the message.

        Raises:
            InputError: the message has the size and what is allowed.
        """
        side = self.space * self.patch
        if height % side or width % side or (num_frames - 1) % self.step:
            raise InputError(
                f"{what}: {num_frames} frames of {height} x {width}; height and width must be multiples of {side}, "
                f"num_frames 1 more than a multiple of {self.step}"
            )


class PipelineModel(AdaptedModel):
    """Loads a pipeline from its folder, samples with it, and adds adapters to its denoiser.

    Attributes:
        pipeline: name of the pipeline's class in diffusers.
        text_names: argument names of the encoded prompt in the pipeline's call.
        layers: classes of the networks' repeated layers, which are compiled one by one. Needed only if diffusers' class
            does not name them.
        sharded_layers: classes of the layers that are sharded one by one, if they differ from `layers`.
    """

    pipeline: ClassVar[str]
    text_names: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    layers: ClassVar[tuple[str, ...]] = ()
    sharded_layers: ClassVar[tuple[str, ...]] = ()
    # Components are in subfolders. Copies of the weights at the top of some repositories are skipped.
    hub_files: ClassVar[tuple[str, ...]] = ("model_index.json", *(f"*/*.{end}" for end in _ENDINGS))

    @staticmethod
    @abstractmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        """Return the compression, from the `config.json` of VAE and denoiser."""

    @classmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        """Return flow matching, the default of the families."""
        from videodpo.models.shared.noise_schedules import FlowMatching

        return FlowMatching()

    @classmethod
    def sampler_timesteps(cls, settings: Model, sampling: Sampling) -> Sequence[float]:
        scheduler = with_flow_shift(cls.load_sampler(settings), sampling.flow_shift)
        cls.set_timesteps(scheduler, settings, sampling)
        timesteps: list[float] = scheduler.timesteps.tolist()
        return timesteps

    @classmethod
    def load_sampler(cls, settings: Model) -> Any:
        """Load the scheduler that the pipeline samples with."""
        return load_scheduler(resolve(settings.weights))

    @classmethod
    def set_timesteps(cls, scheduler: Any, settings: Model, sampling: Sampling) -> None:
        """Set the scheduler's timesteps as the pipeline's call does."""
        scheduler.set_timesteps(sampling.num_steps)

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        """Encode a prompt to tensors [1, L, ...], in the order of `text_names`."""
        found: tuple[Any, ...] = self.pipe.encode_prompt(
            [prompt],
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
            dtype=self.dtype,
        )
        return found[: len(self.text_names)]  # the rest belongs to a negative prompt

    def scale(self, raw_BCFHW: torch.Tensor) -> torch.Tensor:
        """Convert the VAE's latents to the denoiser's scale."""
        scaled: torch.Tensor = raw_BCFHW * self.pipe.vae.config.scaling_factor
        return scaled

    def unscale(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        """Convert the denoiser's latents to the VAE's scale."""
        raw: torch.Tensor = latents_BCFHW / self.pipe.vae.config.scaling_factor
        return raw

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        """Load the pipeline from a folder in diffusers' format; `components` replace parts that are not loaded."""
        import torch

        # Load the VAE in float32: casting it up after loading would keep the rounded weights.
        types = {"default": self.dtype, "vae": torch.float32} | dict.fromkeys(self.networks, self.weights_dtype)
        return self.pipeline_class().from_pretrained(
            folder,
            dtype=types,
            use_safetensors=True,
            local_files_only=True,
            **components,
        )

    def pipeline_class(self) -> Any:
        """Return the diffusers class named by `pipeline`, or a subclass of it."""
        import diffusers

        return getattr(diffusers, self.pipeline)

    def left_out(self, folder: Path, parts: Set[Part]) -> dict[str, Any]:
        """Return replacements for the components that belong to none of `parts`, by name."""
        components = {name: self.part_of(name) for name in self.component_names(folder)}
        return {name: None for name, part in components.items() if part is not None and part not in parts}

    def component_names(self, folder: Path) -> list[str]:
        """Return the names of the pipeline's components."""
        return list(components(read_config(folder / self.index)))

    @classmethod
    def part_of(cls, component: str) -> Part | None:
        """Return the part of the model that a pipeline component belongs to; None for a scheduler."""
        if component in cls.networks:
            return "denoiser"
        if component.startswith(("text_encoder", "tokenizer")):
            return "text"
        return "vae" if component.startswith("vae") else None

    def precision(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self.device.type, self.dtype, enabled=self.weights_dtype != self.dtype)

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        """Return additional arguments of the pipeline's call."""
        return {"guidance_scale": sampling.guidance_scale, "max_sequence_length": self.max_sequence_length}

    def to_pipeline(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        """Convert latents [B, C, F, H, W] to the pipeline's own layout."""
        return latents_BCFHW

    def from_pipeline(self, latents: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        """Convert latents from the pipeline's own layout to [B, C, F, H, W]."""
        return latents

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        try:
            folder = resolve(settings.weights)
        except NotFetched:
            return
        index = read_config(folder / "model_index.json")
        if index.get("_class_name") != cls.pipeline:
            raise InputError(
                f"model.weights: {folder} is a {index.get('_class_name')}, "
                f"the family {settings.family} needs a {cls.pipeline}"
            )
        compression = cls.compression(
            *(read_config(folder / part / "config.json") for part in ("vae", cls.networks[0]))
        )
        for name, (library, _) in components(index).items():
            if cls.part_of(name) is not None and not name.startswith("tokenizer"):
                refuse_network(folder / name, TRANSFORMERS if library == "transformers" else DIFFUSERS, "model.weights")
        refuse_downloads(folder, cls.hub_files, "model.weights")
        compression.refuse(sampling.num_frames, sampling.height, sampling.width, "generate.sampling")

    def __init__(self, settings: Model, device: str, *, parts: Set[Part] = ALL_PARTS) -> None:
        os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")  # read when diffusers is imported
        import torch

        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, settings.dtype)
        self.weights_dtype = torch.float32 if settings.mixed_precision else self.dtype
        self.max_sequence_length = settings.max_sequence_length
        self._options: Any = validate(self.Options, settings.options, "model.options")
        folder = resolve(settings.weights)
        left_out = self.left_out(folder, parts)
        self._folder = folder
        pipe = self.load_pipeline(folder, **left_out)
        self._vae_config: Config = self._config_of(pipe, "vae")
        self._compression = self.compression(self._vae_config, self._config_of(pipe, self.networks[0]))
        pipe.register_modules(**dict.fromkeys(left_out))
        pipe.set_progress_bar_config(disable=True)
        pipe.to(self.device)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):  # modules built from a config start in train mode
                part.eval().requires_grad_(False)
        self.pipe: Any = pipe
        self._scheduler = pipe.scheduler
        for name in self.networks:
            if network := getattr(pipe, name):
                name_layers(network, self.layers, self.sharded_layers)
        if "denoiser" in parts:
            self.denoiser = self.make_denoiser()
        self.noise_schedule = self.make_schedule(folder)
        self._negative: tuple[str, PromptEmbeds] | None = None

    def _config_of(self, pipe: Any, component: str) -> Config:
        network = getattr(pipe, component)
        config: Config = network.config if network else read_config(self._folder / component / "config.json")
        return config

    def make_denoiser(self) -> Any:
        """Return the pipeline's networks as one module."""
        return getattr(self.pipe, self.networks[0])

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        import torch

        with torch.no_grad():
            found = self.encode_texts(prompt)
        return {name: value[0] for name, value in zip(self.text_names, found, strict=True)}

    def latent_shape(self, sampling: Sampling) -> tuple[int, int, int, int]:
        """Return the latent shape (C, F, H, W) of one clip.

        Raises:
            InputError: the size is not divisible by VAE compression and patch size.
        """
        time, space, _, _ = self._compression
        self._compression.refuse(sampling.num_frames, sampling.height, sampling.width, "generate.sampling")
        frames = (sampling.num_frames - 1) // time + 1
        return self.latent_channels, frames, sampling.height // space, sampling.width // space

    @property
    def latent_channels(self) -> int:
        channels: int = self._vae_config["latent_channels"]
        return channels

    def sample(
        self, text: PromptEmbeds, seeds: Sequence[int], sampling: Sampling, negative: PromptEmbeds | None = None
    ) -> torch.Tensor:
        import torch

        # One CPU generator per clip, so that its noise at every step does not depend on the batch.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        shape = self.latent_shape(sampling)
        noise_BCFHW = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        inputs = dict(text)
        if sampling.guidance_scale > 1:
            unwanted = self._negative_text(sampling.negative_prompt) if negative is None else negative
            for name, value in unwanted.items():
                inputs[f"negative_{name}"] = value.to(self.device).expand(len(seeds), *value.shape)
        self.pipe.register_modules(scheduler=with_flow_shift(self._scheduler, sampling.flow_shift))
        with self.precision():
            latents = self.pipe(
                **inputs,
                latents=self.to_pipeline(noise_BCFHW.to(self.device)),
                generator=generators,
                num_frames=sampling.num_frames,
                height=sampling.height,
                width=sampling.width,
                num_inference_steps=sampling.num_steps,
                output_type="latent",
                **self.call_options(sampling),
            ).frames
        return self.from_pipeline(latents, sampling).float()

    def _negative_text(self, prompt: str) -> PromptEmbeds:
        if self._negative is None or self._negative[0] != prompt:
            self._negative = (prompt, self.encode_prompt(prompt))
        return self._negative[1]

    @contextmanager
    def with_vae(self) -> Iterator[None]:
        if self.pipe.vae is not None:
            yield
            return
        self.pipe.register_modules(vae=self.load_vae(self._folder).to(self.device).eval().requires_grad_(False))
        try:
            yield
        finally:
            self.pipe.register_modules(vae=None)

    def load_vae(self, folder: Path) -> Any:
        """Load only the VAE of the folder, in float32."""
        import diffusers
        import torch

        kind = getattr(diffusers, read_config(folder / "vae" / "config.json")["_class_name"])
        return kind.from_pretrained(folder / "vae", dtype=torch.float32, use_safetensors=True, local_files_only=True)

    def decode(self, latents_BCFHW: torch.Tensor) -> list[np.ndarray | None]:
        import torch

        with torch.no_grad():
            pixels = self.decode_raw(self.unscale(latents_BCFHW.to(self.pipe.vae.device, self.pipe.vae.dtype)))
        frames = (pixels.clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)
        array: np.ndarray = frames.permute(0, 2, 3, 4, 1).cpu().numpy()
        finite = pixels.isfinite().flatten(1).all(dim=1).tolist()
        return [frames_TYXC if is_finite else None for frames_TYXC, is_finite in zip(array, finite, strict=True)]

    def decode_raw(self, raw_BCFHW: torch.Tensor) -> torch.Tensor:
        """Decode the VAE's latents to pixels [B, 3, T, Y, X] in -1..1."""
        pixels: torch.Tensor = self.pipe.vae.decode(raw_BCFHW, return_dict=False)[0]
        return pixels

    def encode(self, frames_TYXC: np.ndarray) -> torch.Tensor:
        import torch

        num_frames, height, width, _ = frames_TYXC.shape
        self._compression.refuse(num_frames, height, width, "the clip")
        pixels = torch.from_numpy(frames_TYXC).permute(3, 0, 1, 2)[None].to(self.device, torch.float32) / 127.5 - 1
        with torch.no_grad():
            return self.scale(self.encode_raw(pixels))[0]

    def encode_raw(self, pixels_BCTYX: torch.Tensor) -> torch.Tensor:
        """Encode pixels in -1..1 to the VAE's latents: the mode of the posterior, without noise."""
        raw: torch.Tensor = self.pipe.vae.encode(pixels_BCTYX).latent_dist.mode()
        return raw


def load_scheduler(folder: Path) -> Any:
    """Load the scheduler from a folder in diffusers' format, without loading weights."""
    import diffusers

    _, name = read_config(folder / "model_index.json")["scheduler"]
    return getattr(diffusers, name).from_pretrained(folder / "scheduler", local_files_only=True)


def components(index: Config) -> dict[str, tuple[str, str]]:
    """Return (library, class) of each component in a pipeline's `model_index.json`, by name."""
    entries = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    return {name: (str(library), str(kind)) for name, (library, kind) in entries.items() if library is not None}


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a component; raise InputError if they are not readable."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"model.weights: {path} is not readable ({error})") from error
    if not isinstance(config, dict):
        raise InputError(f"model.weights: {path} is not a JSON object")
    return config
