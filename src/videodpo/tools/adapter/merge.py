"""Write a base model with the change of an adapter added; components that did not change are linked or copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from videodpo.config.errors import InputError
from videodpo.models.shared.pipeline_model import components, read_config
from videodpo.storage.files import files_of
from videodpo.storage.tensors import write_tensors
from videodpo.tools.adapter.lora import LoraLayer, add_lora

if TYPE_CHECKING:
    import torch

CHECKPOINT = "model.ckpt"  # of VideoCrafter2 and T2V-Turbo
TURBO_LORA = "unet_lora.pt"


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it to another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def merge_pipeline(base: Path, loras: Mapping[str, Mapping[str, LoraLayer]], full: Path | None, out: Path) -> None:
    """Write a folder in diffusers' format.

    Args:
        base: folder of the base model, in diffusers' format.
        loras: LoRA by network.
        full: folder with the trained networks after full fine-tuning; None for LoRAs.
        out: folder to write into.

    Raises:
        InputError: the base model has no such layer.
    """
    index = read_config(base / "model_index.json")
    link(base / "model_index.json", out / "model_index.json")
    for component in components(index):
        trained = full / component if full and (full / component).is_dir() else base / component
        layers, found = loras.get(component, {}), set()
        for file in files_of(trained):
            target = out / component / file.relative_to(trained)
            if component not in loras:
                link(file, target)
            elif file.suffix == ".safetensors":
                found |= _merge_file(file, layers, target)
            elif file.suffix == ".json":
                link(file, target)
        _refuse_leftover(layers.keys() - found, base / component)


def _merge_file(file: Path, layers: Mapping[str, LoraLayer], target: Path) -> set[str]:
    """Write one file of weights, in the types of the base model; return the layers that it changed."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    weights = load_file(file)
    found = add_lora(weights, layers)
    with safe_open(file, framework="pt") as handle:
        metadata = handle.metadata()
    write_tensors(target, weights, metadata)
    return found


def _refuse_leftover(layers: set[str], base: Path) -> None:
    if layers:
        raise InputError(f"{base}: no layer {min(layers)}; the adapter was trained on another model")


def merge_videocrafter(base: Path, layers: Mapping[str, LoraLayer], full: Path | None, out: Path) -> None:
    """Write `model.ckpt` under its authors' names; T2V-Turbo's `unet_lora.pt` stays as it is.

    Args:
        base: folder with `model.ckpt`.
        layers: LoRA of the U-Net.
        full: folder with the trained U-Net after full fine-tuning; None for a LoRA.
        out: folder to write into.

    Raises:
        InputError: the file has no such layer.
    """
    import torch

    from videodpo.models.shared.videocrafter_pipeline import UNET
    from videodpo.models.shared.videocrafter_unet import from_original
    from videodpo.weights.checkpoints import read_checkpoint

    tensors = read_checkpoint(base / CHECKPOINT)
    change = _replaced(full) if full else _added(layers)
    changed = set()
    for name, value in tensors.items():
        if name.startswith(UNET):
            ((own, weight),) = from_original({name.removeprefix(UNET): value}).items()
            new = change(own, weight)
            if new is not None:
                changed.add(own)
                tensors[name] = new.view(value.shape)
    if not full:
        _refuse_leftover(layers.keys() - {name.removesuffix(".weight") for name in changed}, base / CHECKPOINT)
    torch.save({"state_dict": tensors}, out / CHECKPOINT)
    if (base / TURBO_LORA).is_file():
        link(base / TURBO_LORA, out / TURBO_LORA)


def _added(layers: Mapping[str, LoraLayer]) -> Callable[[str, torch.Tensor], torch.Tensor | None]:
    def change(name: str, weight: torch.Tensor) -> torch.Tensor | None:
        layer = layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        return layer.added_to(weight) if layer else None

    return change


def _replaced(full: Path) -> Callable[[str, torch.Tensor], torch.Tensor | None]:
    trained = read_network(full / "unet")
    return lambda name, weight: trained[name].to(weight.dtype)


def read_network(folder: Path) -> dict[str, torch.Tensor]:
    """Read all weights of a network that `save_pretrained` wrote, in one file or several."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    return weights


def write_turbo_lora(base: Path, layers: Mapping[str, LoraLayer], out: Path) -> None:
    """Write T2V-Turbo's own trained LoRA in its authors' format: up and down matrix of every layer, in their order.

    Args:
        base: folder of the base model.
        layers: the saved adapter: the trained LoRA, and the negative of the original one (`distilled_lora: trained`).
        out: folder to write into.
    """
    import torch

    from videodpo.models.shared.t2v_turbo_pipeline import T2VTurboPipeline

    order = T2VTurboPipeline.from_originals(base / CHECKPOINT, base / TURBO_LORA).lora_layers
    tensors = []
    for name in order:
        layer = layers[name]
        assert layer.scale == 1
        rank = len(layer.down) // 2
        tensors += [layer.up[:, :rank].clone(), layer.down[:rank].clone()]
    torch.save(tensors, out / TURBO_LORA)
