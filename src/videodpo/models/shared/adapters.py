"""Adapters on the networks of a pipeline: add, train, disable for the reference, save and load.

Legend: see `videodpo.models.base`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from videodpo.config import Lora
from videodpo.config.errors import InputError
from videodpo.models.base import VideoModel
from videodpo.models.shared.context_parallel import enable_context_parallel
from videodpo.runtime.compat.peft import measure_dora_magnitudes
from videodpo.storage.files import first_line

if TYPE_CHECKING:
    import torch

LORA_FILE = "pytorch_lora_weights.safetensors"


class AdaptedModel(VideoModel):
    """A model around a diffusers pipeline.

    Attributes:
        pipe: the pipeline.
        networks: names of its components that are fine-tuned.
        lora_targets: names of the layers that get a LoRA by default.
        lora_part: part of a network that holds these layers; None means all of it.
    """

    networks: ClassVar[tuple[str, ...]] = ("transformer",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    lora_part: ClassVar[str | None] = None
    pipe: Any
    _frozen_copy: torch.nn.Module | None = None

    def _trained(self) -> dict[str, Any]:
        """Return the networks that are fine-tuned, by their names in the pipeline."""
        found = {name: getattr(self.pipe, name) for name in self.networks}
        return {name: network for name, network in found.items() if network is not None}

    def add_lora(self, lora: Lora, seed: int) -> None:
        import torch
        from peft import LoraConfig

        for network in self._trained().values():
            self._require_layers(network, lora.target_modules or [])
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha or lora.rank,  # other values reload at a wrong scale if metadata is ignored
            lora_dropout=lora.dropout,
            use_rslora=lora.rslora,
            use_dora=lora.dora,
            target_modules=lora.target_modules or self._default_targets(),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for network in self._trained().values():
                network.add_adapter(config)
        for name, module in self.denoiser.named_modules():
            if "lora_dropout" in name:  # the base network's dropout stays off, as in the reference
                module.train()
        for parameter in self.denoiser.parameters():  # the adapter trains in float32, regardless of the base's dtype
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if lora.dora:  # in float32 as in the forward pass: rounding would make the policy differ from the reference
            measure_dora_magnitudes(self.denoiser)

    def _default_targets(self) -> list[str] | str:
        """Return layer names, or a regular expression for full names, as peft accepts them."""
        if self.lora_part is None:
            return list(self.lora_targets)
        return rf"{self.lora_part}\..*\.({'|'.join(map(re.escape, self.lora_targets))})"

    def _require_layers(self, network: torch.nn.Module, targets: list[str]) -> None:
        """Raise InputError if any target is missing: peft raises only if all are."""
        layers = [f".{name}" for name, _ in network.named_modules()]
        unknown = [name for name in targets if not any(layer.endswith(f".{name}") for layer in layers)]
        if unknown:
            raise InputError(
                f"train.lora.target_modules: {', '.join(unknown)}: no such layer in {type(network).__name__}; "
                f"null takes {', '.join(self.lora_targets)}"
            )

    def resume_lora(self, folder: Path) -> None:
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        for name, network in self._trained().items():
            with _refused(folder / lora_file(name)):
                state = load_file(folder / lora_file(name))
                own = {key.removeprefix(f"{self.networks[0]}."): value for key, value in state.items()}
                set_peft_model_state_dict(network, self.trained_part(own))

    @contextmanager
    def reference_weights(self) -> Iterator[None]:
        if self._frozen_copy is None:
            # Use the networks of the pipeline: data parallelism may have wrapped `denoiser`.
            for network in self._trained().values():
                network.disable_adapters()
            try:
                yield
            finally:
                for network in self._trained().values():
                    network.enable_adapters()
        else:
            trained, self.denoiser = self.denoiser, self._frozen_copy
            try:
                yield
            finally:
                self.denoiser = trained

    def keep_reference(self) -> None:
        import copy

        self._frozen_copy = copy.deepcopy(self.denoiser).eval().requires_grad_(False)

    def enable_context_parallel(self, degree: int) -> None:
        networks = self._trained()
        if self._frozen_copy is not None:
            copies = dict(self._frozen_copy.named_children())
            networks |= {
                f"reference's {name}": copies[name] if len(self._trained()) > 1 else self._frozen_copy
                for name in self._trained()
            }
        enable_context_parallel(networks, degree, self.device.type)

    def save_adapter(self, folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        networks = self._trained()
        if not all(hasattr(network, "peft_config") for network in networks.values()):
            for name, network in networks.items():
                network.save_pretrained(folder / name, safe_serialization=True)
            return
        for name, network in networks.items():
            state, config = self.whole_lora(network, weights)
            metadata = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
            # diffusers loads adapters in train mode, where dropout would affect every sample.
            metadata["lora_dropout"] = 0.0
            self.save_lora(name, folder, state, metadata)

    def whole_lora(
        self, network: Any, weights: dict[str, torch.Tensor] | None
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all changes to the base model: tensors of the LoRA and its settings.

        Args:
            weights: as in `save_adapter`.
        """
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(network, weights), network.peft_config["default"].to_dict()

    def trained_part(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return those tensors of `whole_lora` that are trained."""
        return state

    def save_lora(self, name: str, folder: Path, state: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        """Save the LoRA of one network in the format of the pipeline's `load_lora_weights`.

        Args:
            name: name of the network in the pipeline.
            folder: folder of the adapter.
            state: tensors of the LoRA.
            metadata: its settings.
        """
        first = self.networks[0]  # every file uses this name, regardless of the network
        layers = {f"{first}_lora_layers": state, f"{first}_lora_adapter_metadata": metadata}
        self.pipe.save_lora_weights(folder, weight_name=lora_file(name), **layers)

    def load_lora(self, name: str, folder: Path) -> None:
        """Load the LoRA of one network."""
        self.pipe.load_lora_weights(folder, weight_name=lora_file(name))

    def load_adapter(self, folder: Path) -> None:
        files = [folder / lora_file(name) for name in self._trained()]
        if any(file.is_file() for file in files):
            if lacking := [file.name for file in files if not file.is_file()]:
                raise InputError(f"{folder}: {lacking[0]} is missing; the model has {len(files)} networks")
            for file, name in zip(files, self._trained(), strict=True):
                with _refused(file):
                    self.load_lora(name, folder)
        elif all((folder / name).is_dir() for name in self._trained()):
            for name, network in self._trained().items():
                with _refused(folder / name):
                    trained = type(network).from_pretrained(folder / name, use_safetensors=True)
                    network.load_state_dict(trained.state_dict())
        else:
            raise InputError(f"{folder}: neither {LORA_FILE} nor a {self.networks[0]} folder in it")
        self.denoiser.eval().requires_grad_(False)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Convert library errors about a damaged file, or a file of another model, to an InputError with its path."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, SafetensorError) as error:
        raise InputError(f"{path}: not an adapter of this model ({first_line(error)})") from error


def lora_file(network: str) -> str:
    """Return the file name of a network's LoRA: diffusers' own, with `_2` for a second network."""
    return LORA_FILE if not network.endswith("_2") else LORA_FILE.replace(".", "_2.")
