"""Write an adapter in the format of another tool."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.models.shared.adapters import lora_file
from videodpo.runtime.settings import TrainSettings
from videodpo.storage.tensors import write_tensors
from videodpo.tools.adapter.layouts import COMFYUI, ORIGINAL
from videodpo.tools.adapter.lora import LoraLayer, read_lora
from videodpo.tools.adapter.merge import (
    CHECKPOINT,
    TURBO_LORA,
    link,
    merge_pipeline,
    merge_videocrafter,
    read_network,
    write_turbo_lora,
)
from videodpo.weights.locations import resolve

FORMATS = ("diffusers", "comfyui", "original", "merged")
_EXPERTS = ("_high_noise", "_low_noise")  # of Wan 2.2 A14B, in the order of its networks
_UNCHANGED = "of the base model, unchanged: a hard link or a copy"


def known_formats(settings: TrainSettings) -> list[str]:
    """Return the formats in which some tool reads this family's LoRA, or its fully fine-tuned weights."""
    family, is_lora = settings.model.family, settings.train.method == "lora"
    if family == "t2v_turbo":
        own = ["original"] if settings.model.options.get("distilled_lora") == "trained" else []
        return ["diffusers", *own, "merged"] if is_lora else ["diffusers"]
    known = {"diffusers", "merged"}
    if is_lora and family in COMFYUI:
        known.add("comfyui")
    if family in ORIGINAL and not (is_lora and family == "cogvideox"):  # SAT reads a LoRA in its own checkpoints only
        known.add("original")
    return [name for name in FORMATS if name in known]


class Export:
    """Writer of one adapter in every format."""

    def __init__(self, settings: TrainSettings, networks: Sequence[str], adapter: Path, run: str, out: Path) -> None:
        """Prepare an export.

        Args:
            settings: settings of the training.
            networks: names of the family's networks that can be trained.
            adapter: folder of the adapter.
            run: name of the run, for the names of files.
            out: folder to write into.
        """
        self._settings, self._networks, self._adapter, self._run, self._out = settings, networks, adapter, run, out
        self._is_lora = settings.train.method == "lora"

    def write(self, name: str) -> dict[str, str]:
        """Write one of the known formats; return what each file or folder is, by name."""
        write = {
            "diffusers": self._diffusers,
            "comfyui": self._comfyui,
            "original": self._original,
            "merged": self._merged,
        }
        return write[name]()

    def _trained(self) -> list[str]:
        """Return the networks that were trained, in the family's order."""
        files = {network: lora_file(network) if self._is_lora else network for network in self._networks}
        return [network for network, file in files.items() if (self._adapter / file).exists()]

    def _loras(self) -> dict[str, dict[str, LoraLayer]]:
        first = self._networks[0]  # every file uses this name
        return {network: read_lora(self._adapter / lora_file(network), first) for network in self._trained()}

    def _name(self, network: str) -> str:
        experts = self._trained()
        suffix = _EXPERTS[experts.index(network)] if len(experts) > 1 else ""
        return f"{self._run}{suffix}.safetensors"

    def _diffusers(self) -> dict[str, str]:
        if self._is_lora:
            for network in self._trained():
                shutil.copyfile(self._adapter / lora_file(network), self._out / lora_file(network))
            return {lora_file(network): f"LoRA of `{network}`" for network in self._trained()}
        for network in self._trained():
            shutil.copytree(self._adapter / network, self._out / network)
        return {network: f"the fine-tuned `{network}`" for network in self._trained()}

    def _comfyui(self) -> dict[str, str]:
        layout, family = COMFYUI[self._settings.model.family], self._settings.model.family
        for network, layers in self._loras().items():
            found = layout.convert_lora(layers)
            tensors = _peft_tensors(found, "diffusion_model.") if family == "ltx_video" else _kohya_tensors(found)
            write_tensors(self._out / self._name(network), tensors)
        return {self._name(network): f"LoRA of `{network}`" for network in self._trained()}

    def _original(self) -> dict[str, str]:
        if self._settings.model.family == "t2v_turbo":
            return self._turbo_lora()
        layout = ORIGINAL[self._settings.model.family]
        for network in self._trained():
            if self._is_lora:
                tensors = _peft_tensors(layout.convert_lora(self._loras()[network]))
            else:
                tensors = layout.convert_weights(read_network(self._adapter / network))
            write_tensors(self._out / self._name(network), {key: value.contiguous() for key, value in tensors.items()})
        what = "LoRA" if self._is_lora else "all weights"
        return {self._name(network): f"{what} of `{network}`" for network in self._trained()}

    def _turbo_lora(self) -> dict[str, str]:
        base = resolve(self._settings.model.weights)
        write_turbo_lora(base, self._loras()["unet"], self._out)
        return {TURBO_LORA: "the trained LoRA, in place of T2V-Turbo's own file"}

    def _merged(self) -> dict[str, str]:
        family, base = self._settings.model.family, resolve(self._settings.model.weights)
        loras = self._loras() if self._is_lora else {}
        full = None if self._is_lora else self._adapter
        if family == "t2v_turbo" and self._settings.model.options.get("distilled_lora") == "trained":
            link(base / CHECKPOINT, self._out / CHECKPOINT)
            return {CHECKPOINT: _UNCHANGED} | self._turbo_lora()
        if family in ("videocrafter2", "t2v_turbo"):
            merge_videocrafter(base, loras.get("unet", {}), full, self._out)
            files = {CHECKPOINT: "the checkpoint with the changed U-Net"}
            if family == "t2v_turbo":
                files[TURBO_LORA] = _UNCHANGED
            return files
        merge_pipeline(base, loras, full, self._out)
        changed = {network: f"the aligned `{network}`" for network in self._trained()}
        others = {path.name for path in self._out.iterdir()} - changed.keys()
        return changed | dict.fromkeys(sorted(others), _UNCHANGED)


def _kohya_tensors(layers: Mapping[str, LoraLayer]) -> dict[str, Any]:
    """Tensors as ComfyUI's users know them: lora_down, lora_up, and alpha, which is divided by the rank."""
    import torch

    tensors: dict[str, Any] = {}
    for name, layer in layers.items():
        tensors[f"diffusion_model.{name}.lora_down.weight"] = layer.down.contiguous()
        tensors[f"diffusion_model.{name}.lora_up.weight"] = layer.up.contiguous()
        tensors[f"diffusion_model.{name}.alpha"] = torch.tensor(layer.scale * len(layer.down))
    return tensors


def _peft_tensors(layers: Mapping[str, LoraLayer], prefix: str = "") -> dict[str, Any]:
    """Tensors as peft names them, without alpha: the scale is part of the up matrix."""
    tensors: dict[str, Any] = {}
    for name, layer in layers.items():
        tensors[f"{prefix}{name}.lora_A.weight"] = layer.down.contiguous()
        tensors[f"{prefix}{name}.lora_B.weight"] = (layer.scale * layer.up).contiguous()
    return tensors
