"""The model card of an exported model: README.md with the header that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from videodpo import __version__
from videodpo.config import HUB_PREFIX, Source
from videodpo.config.errors import InputError
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot
from videodpo.storage.manifests import read_json
from videodpo.storage.tables import map_shards, open_table, read_table
from videodpo.tools.adapter.examples import CHECKPOINTS, READ_BY_DIFFUSERS
from videodpo.weights.licences import licence_of, licence_of_prompts
from videodpo.weights.locations import hub_name

_HUB_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "openrail")
_ABOUT = {
    "diffusers": "in diffusers' format",
    "comfyui": "under the names of ComfyUI",
    "original": "under the names of the model's original code",
    "merged": "added to the weights of the base model",
}


def card(
    snapshot: Snapshot[TrainSettings],
    round_folder: Path,
    name: str,
    files: Mapping[str, str],
    example: str | None,
) -> str:
    """Text of the model card.

    Args:
        snapshot: settings of the training.
        round_folder: the exported round.
        name: name of the format.
        files: what each exported file is, by name.
        example: Python code that runs in the exported folder, if there is any.

    Raises:
        InputError: a table of the run is missing or unreadable.
    """
    settings, run = snapshot.settings, round_folder.parent
    source = load_snapshot(run / "config" / "prompts.json", "prompts").settings.prompts.source
    what = f"LoRA of rank {settings.train.lora.rank}" if settings.train.method == "lora" else "full fine-tune"
    parts = [
        f"---\n{_header(settings, name, source)}\n---",
        f"# {snapshot.run}",
        f"A {what} of {_code(settings.model.weights)} ({settings.model.family}), {_ABOUT[name]}. It was trained on "
        f"pairs of a better and a worse clip by videodpo {__version__}, with the loss {settings.train.objective.loss}.",
        "## Files\n\n" + _table(("file", "content"), [(_code(file), about) for file, about in files.items()]),
        "## Use\n\n" + (_use(example) if example else _COMFYUI),
        "## Data\n\n" + _table(("", ""), _data(run, round_folder, source)),
        "## Training\n\n" + _table(("key", "value"), _settings(snapshot, round_folder.name)),
        "## Scores\n\n" + _scores(round_folder / "evaluation" / "summary.json"),
        "## Licences\n\n" + _licences(settings, source),
    ]
    return "\n\n".join(parts) + "\n"


_COMFYUI = (
    "Copy the file to `ComfyUI/models/loras`, and connect a `LoraLoaderModelOnly` node between the model's loader and "
    "the sampler, with strength 1."
)


def _use(example: str) -> str:
    lines = (
        "Run this in the folder of the files. If you move the folder, correct the path of the base model in the code. "
        'On a GPU, add `pipe.to("cuda")`.'
    )
    return f"{lines}\n\n```python\n{example}\n```"


def _header(settings: TrainSettings, name: str, source: Source) -> str:
    from huggingface_hub import ModelCardData

    base, prompts = licence_of(settings.model.weights), licence_of_prompts(source)
    strictest = prompts if prompts.is_non_commercial and not base.is_non_commercial else base
    known = strictest.name.partition(",")[0].lower().replace(" ", "-")
    is_known = known in _HUB_LICENCES
    tags = ["text-to-video", "videodpo", "dpo", *(["lora"] if settings.train.method == "lora" else [])]
    data = ModelCardData(
        base_model=hub_name(settings.model.weights)[0] if settings.model.weights.startswith(HUB_PREFIX) else None,
        library_name=_library(settings.model.family, name),
        license=known if is_known else "other",
        license_name=None if is_known else "see-base-model",
        pipeline_tag="text-to-video",
        tags=[*tags, name] if name in ("comfyui", "merged") else tags,
        datasets=hub_name(source.path)[0] if source.path and source.path.startswith(HUB_PREFIX) else None,
    )
    text: str = data.to_yaml().strip()
    return text


def _library(family: str, name: str) -> str:
    """Return the library that loads the files, by the names that model hubs know."""
    if family in CHECKPOINTS:
        return "videodpo"
    single_file = name == "original" or (name == "comfyui" and family not in READ_BY_DIFFUSERS)
    return "diffusion-single-file" if single_file else "diffusers"


def _data(run: Path, round_folder: Path, source: Source) -> list[tuple[str, str]]:
    prompts = read_table(run / "prompts.parquet", ["split"]).split
    videos = map_shards(round_folder / "videos", _counts)
    with open_table(round_folder / "pairs.parquet") as pairs:
        num_pairs = pairs.metadata.num_rows
    return [
        ("source of the prompts", source.kind + (f", {_code(source.path)}" if source.path else "")),
        ("training prompts", f"{(prompts == 'train').sum():,}"),
        ("held-out prompts", f"{(prompts == 'heldout').sum():,}"),
        ("clips", f"{sum(total for total, _ in videos):,}, of which {sum(failed for _, failed in videos):,} failed"),
        ("pairs", f"{num_pairs:,}"),
    ]


def _counts(shard: Path) -> tuple[int, int]:
    """Return the number of clips in a shard of the videos, and of failed ones."""
    with open_table(shard) as file:
        status = file.read(["status"])["status"]
    return len(status), int(pc.sum(pc.not_equal(status, "ok")).as_py() or 0)


def _settings(snapshot: Snapshot[TrainSettings], round_name: str) -> list[tuple[str, str]]:
    settings = snapshot.settings
    train, schedule, sampling = settings.train, settings.schedule, settings.sampling
    rows: dict[str, Any] = {"round": round_name, "seed": snapshot.seed, "train.method": train.method}
    if train.method == "lora":
        rows |= {f"train.lora.{key}": value for key, value in train.lora.model_dump().items() if value is not None}
    rows |= {
        "train.objective.loss": train.objective.loss,
        "train.beta": train.beta,
        "train.learning_rate": train.learning_rate,
        "schedule.num_steps": schedule.num_steps,
        "schedule.global_batch_size (pairs)": schedule.global_batch_size,
        "schedule.timesteps.distribution": schedule.timesteps.distribution,
        "model.dtype": settings.model.dtype,
        "clip": f"{sampling.num_frames} frames of {sampling.height} x {sampling.width}",
        "generate.sampling.num_steps": sampling.num_steps,
        "generate.sampling.guidance_scale": sampling.guidance_scale,
    }
    if sampling.flow_shift is not None:
        rows["generate.sampling.flow_shift"] = sampling.flow_shift
    rows["settings digest"] = snapshot.digest
    return [(key, _code(str(value))) for key, value in rows.items()]


def _scores(file: Path) -> str:
    try:
        summary = read_json(file)
    except InputError:
        if file.exists():
            raise
        return "This round has not been evaluated on held-out prompts."
    rows = []
    for name in summary["order"]:
        row = summary["dimensions"][name]
        interval = "none" if row["ci_low"] is None else f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}"
        about = "judge, not trained on" if row["kind"] == "judge" else row["kind"]
        wins = f"{100 * row['win_rate']:.0f} %"
        rows.append(
            (name, about, f"{row['base']:.4f}", f"{row['aligned']:.4f}", f"{row['delta']:+.4f}", interval, wins)
        )
    head = ("score", "kind", "base", "aligned", "difference", "95 % interval", "wins")
    text = (
        f"{summary['num_clips']} clip pairs of {summary['num_prompts']} held-out prompts: both models sample from the "
        "same noise. The interval is a bootstrap over the prompts. OmniScore and its dimensions are what the "
        "training optimises; an independent judge, or your own eyes, should confirm a gain.\n\n"
    )
    return text + _table(head, rows)


def _licences(settings: TrainSettings, source: Source) -> str:
    rows = [
        ("base model", _code(settings.model.weights), str(licence_of(settings.model.weights))),
        ("prompts", _code(source.path or source.kind), str(licence_of_prompts(source))),
    ]
    return "This model is derived from both. Check their terms before you publish or use it.\n\n" + _table(
        ("", "name", "licence"), rows
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _code(text: str) -> str:
    """Show a path or a value of the configuration as it is, without Markdown in it."""
    shown = "".join(char if char.isprintable() else "?" for char in text).replace("`", "'")
    return f"`{shown}`"
