"""A finished run of any model family with a random adapter, and how other tools read an exported one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Stages, small_run
from tests.support.families import Family
from videodpo.runtime import registry
from videodpo.storage.manifests import product_folder

RUN = "small"
FLOW_SHIFT = 7.0


class Trained:
    """A run with an adapter.

    Attributes:
        folder: folder of the run.
        settings: settings of the training.
        model: the model with the adapter.
    """

    def __init__(self, paired: Stages, family: Family, weights: Path, results: Path, **train: Any) -> None:
        """Copy a run up to its pairs, and let it have trained another model.

        Args:
            paired: the run.
            family: the other model's family.
            weights: its folder.
            results: folder for the new run.
            train: section of the configuration.
        """
        options = {"distilled_lora": "trained"} if train.pop("trained_turbo", False) else {}
        own = {"family": family.family, "weights": str(weights), "max_sequence_length": family.text_tokens}
        kind = registry.load("videodpo.models", family.family)
        sampling = family.sampling.model_dump(exclude={"buckets"})
        sampling["flow_shift"] = FLOW_SHIFT if kind.takes_flow_shift else None
        raw = small_run(weights, results, model=own | {"options": options}, train=train)
        raw["generate"] = raw["generate"] | {"sampling": sampling}
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(paired.folder, results / RUN)
        run = Stages(raw)
        self.settings = settings = run.snapshot("train").settings
        self.folder = run.folder
        self.model = kind(settings.model, "cpu")
        if settings.train.method == "lora":
            self.model.add_lora(settings.train.lora, seed=0)
        else:
            self.model.denoiser.requires_grad_(True)
        generator = torch.Generator().manual_seed(5)
        for name, value in self.model.denoiser.named_parameters():
            if value.requires_grad and "magnitude" not in name:
                value.data += 0.05 * torch.randn(value.shape, generator=generator)
        with product_folder(run.round_folder / "adapter") as partial:
            self.model.save_adapter(partial)

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The trained networks by name."""
        found = {name: getattr(self.model.pipe, name) for name in self.model.networks}
        return {name: network for name, network in found.items() if network is not None}


def run_example(folder: Path) -> dict[str, Any]:
    """Run the Python code of a model card in its folder; return its variables."""
    (code,) = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, names)
    return names


def base_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The base model's weights, by their names without adapters."""
    return {
        name.replace(".base_layer", ""): value.clone()
        for name, value in network.state_dict().items()
        if "lora_" not in name
    }


def aligned_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights with the adapter added by peft."""
    for module in network.modules():
        if hasattr(module, "merge") and hasattr(module, "lora_A"):
            module.merge()
    found = base_weights(network)
    for module in network.modules():
        if hasattr(module, "unmerge") and hasattr(module, "lora_A"):
            module.unmerge()
    return found


def with_lora(file: Path, weights: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Add a LoRA as other tools do: every tensor must belong to a weight, and alpha is divided by the rank.

    Args:
        prefix: of the names in the file; ComfyUI's is `diffusion_model.`.
    """
    lora, found = load_file(file), dict(weights)
    used = set()
    for name in weights:
        layer = prefix + name.removesuffix(".weight")
        for up, down in (("lora_up", "lora_down"), ("lora_B", "lora_A")):
            if (key := f"{layer}.{up}.weight") in lora:
                matrices = [lora[key], lora[f"{layer}.{down}.weight"]]
                scale = lora[f"{layer}.alpha"].item() / len(matrices[1]) if f"{layer}.alpha" in lora else 1.0
                found[name] = found[name] + scale * (matrices[0] @ matrices[1])
                used |= {key, f"{layer}.{down}.weight", f"{layer}.alpha"}
    assert lora.keys() <= used
    return found
