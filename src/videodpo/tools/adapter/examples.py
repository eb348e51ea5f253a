"""The short Python example of a model card: load what was exported, and sample one clip."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videodpo.config import HUB_PREFIX
from videodpo.models.shared.adapters import lora_file
from videodpo.models.shared.pipeline_model import read_config
from videodpo.runtime.settings import TrainSettings
from videodpo.weights.locations import hub_name, local_path

READ_BY_DIFFUSERS = ("wan", "ltx_video")
"""Families whose LoRA diffusers reads under the names of ComfyUI."""

_PROMPT = "A red ball rolls over a wooden table."
_TAKES_LENGTH = ("wan", "cogvideox", "ltx_video")  # families whose pipelines take max_sequence_length
_NO_GUIDANCE = ("hunyuan_video15", "t2v_turbo")  # families whose pipelines take no guidance_scale
CHECKPOINTS = {  # families in their authors' files: module and class of this package's pipeline, its reader, the files
    "videocrafter2": ("videocrafter_pipeline", "VideoCrafterPipeline", "from_original", ("model.ckpt",)),
    "t2v_turbo": ("t2v_turbo_pipeline", "T2VTurboPipeline", "from_originals", ("model.ckpt", "unet_lora.pt")),
}
_ADD = """from safetensors.torch import load_file, save_file

# original.safetensors stands for the authors' checkpoint of the denoiser
weights, lora = load_file("original.safetensors"), load_file("{file}")
for layer in {{name.rsplit(".lora_", 1)[0] for name in lora}}:
    change = lora[f"{{layer}}.lora_B.weight"].flatten(1) @ lora[f"{{layer}}.lora_A.weight"].flatten(1)
    weights[f"{{layer}}.weight"] += change.view_as(weights[f"{{layer}}.weight"])
save_file(weights, "aligned.safetensors")"""


def example(kind: Any, settings: TrainSettings, name: str, files: Sequence[Path], out: Path) -> str | None:
    """Return Python code that runs in the exported folder; None if no Python library reads this format.

    Args:
        kind: class of the model family.
        settings: settings of the training.
        name: name of the format.
        files: exported files, or folders of networks.
        out: the folder in which the code will run.
    """
    family, is_lora = settings.model.family, settings.train.method == "lora"
    if name == "original" and family != "t2v_turbo":
        first = files[0].name
        load_only = f'from safetensors.torch import load_file\n\nweights = load_file("{first}")'
        return _ADD.format(file=first) if is_lora else load_only
    if name == "comfyui" and family not in READ_BY_DIFFUSERS:
        return None
    if family in CHECKPOINTS:
        return _checkpoint_example(settings, name, _near(settings.model.weights, out))
    return _pipeline_example(kind, settings, name, files, _base(settings.model.weights, out))


def _pipeline_example(kind: Any, settings: TrainSettings, name: str, files: Sequence[Path], base: str) -> str:
    imports = [f"from diffusers import {kind.pipeline}"]
    options = ""
    if settings.model.dtype != "float32":
        imports.insert(0, "import torch")
        options = f", dtype=torch.{settings.model.dtype}"
    before: list[str] = []
    after: list[str] = []
    if name == "merged":
        base = json.dumps(".")
    else:
        if settings.train.method == "full":
            before, more = _load_networks(files, imports)
        elif settings.model.family == "text_to_video_sd":
            before, more = _load_unet(base, imports)
        else:
            after, more = _load_loras(settings.model.family, files), ""
        options += more
    if (shift := settings.sampling.flow_shift) is not None:  # schedulers differ in the name, and ignore the other
        changes = f"shift={shift:g}, flow_shift={shift:g}, use_dynamic_shifting=False"
        after.append(f"pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config, {changes})")
    load = f"pipe = {kind.pipeline}.from_pretrained({base}{options})"
    return "\n".join([*imports, "", *before, load, *after, _sample(settings)])


def _load_networks(folders: Sequence[Path], imports: list[str]) -> tuple[list[str], str]:
    """Return lines that load fully fine-tuned networks, and the pipeline's arguments; extend `imports`."""
    kinds = {folder.name: read_config(folder / "config.json")["_class_name"] for folder in folders}
    imports += [f"from diffusers import {kind}" for kind in sorted(set(kinds.values()))]
    lines = [f'{network} = {kind}.from_pretrained(".", subfolder="{network}")' for network, kind in kinds.items()]
    return lines, "".join(f", {network}={network}" for network in kinds)


def _load_unet(base: str, imports: list[str]) -> tuple[list[str], str]:
    """As `_load_networks`, for a LoRA of ModelScope's U-Net, whose class in diffusers takes none."""
    imports.append("from videodpo.models.shared.unet3d import UNet3DConditionModel")
    load = f'unet = UNet3DConditionModel.from_pretrained({base}, subfolder="unet")'
    return [load, f'unet.load_lora_adapter(".", weight_name="{lora_file("unet")}", prefix="unet")'], ", unet=unet"


def _load_loras(family: str, files: Sequence[Path]) -> list[str]:
    if family == "hunyuan_video15":  # its pipeline has no `load_lora_weights`
        return [f'pipe.transformer.load_lora_adapter(".", weight_name="{files[0].name}", prefix=None)']
    second = ("", ", load_into_transformer_2=True")
    return [
        f'pipe.load_lora_weights(".", weight_name="{file.name}"{more})'
        for file, more in zip(files, second, strict=False)
    ]


def _checkpoint_example(settings: TrainSettings, name: str, base: str) -> str:
    module, pipeline, method, names = CHECKPOINTS[settings.model.family]
    here = {"merged": names, "original": ("unet_lora.pt",)}.get(name, ())
    paths = ", ".join(f"Path({json.dumps(one if one in here else f'{base}/{one}')})" for one in names)
    imports = [
        "from pathlib import Path",
        f"from videodpo.models.shared.{module} import {pipeline}",
    ]
    lines = [f"pipe = {pipeline}.{method}({paths})"]
    if name == "diffusers" and settings.train.method == "lora":
        lines.append(f'pipe.load_lora_weights(".", weight_name="{lora_file("unet")}")')
    elif name == "diffusers":
        imports.append("from videodpo.models.shared.videocrafter_unet import VideoCrafterUNet")
        lines.append('pipe.register_modules(unet=VideoCrafterUNet.from_pretrained(".", subfolder="unet"))')
    return "\n".join([*imports, "", *lines, _sample(settings)])


def _sample(settings: TrainSettings) -> str:
    """Return lines that sample one clip with the settings of the run."""
    family, sampling = settings.model.family, settings.sampling
    options: dict[str, Any] = {"num_frames": sampling.num_frames, "height": sampling.height, "width": sampling.width}
    options["num_inference_steps"] = sampling.num_steps
    if family not in _NO_GUIDANCE:
        options["guidance_scale"] = sampling.guidance_scale
    if family in _TAKES_LENGTH:
        options["max_sequence_length"] = settings.model.max_sequence_length
    if sampling.negative_prompt and sampling.guidance_scale > 1:
        options["negative_prompt"] = sampling.negative_prompt
    options["output_type"] = "pil"
    lines = [f"    {name}={json.dumps(value)}," for name, value in options.items()]
    save = f'"sample.gif", save_all=True, append_images=frames[1:], duration={round(1000 / sampling.fps)}'
    return "\n".join(["frames = pipe(", f'    "{_PROMPT}",', *lines, ").frames[0]", f"frames[0].save({save})"])


def _base(location: str, out: Path) -> str:
    """Return the first argument of `from_pretrained`, and the commit of a repository."""
    if location.startswith(HUB_PREFIX):
        repository, revision = hub_name(location)
        return f'"{repository}", revision="{revision}"'
    return json.dumps(_near(location, out))


def _near(location: str, out: Path) -> str:
    """Return the path of local weights as seen from `out`."""
    return os.path.relpath(local_path(location).absolute(), out.absolute())
