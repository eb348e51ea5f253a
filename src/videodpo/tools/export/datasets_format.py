"""A Hugging Face data set: `pairs.parquet`, a folder of clips, and a data card."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from videodpo import __version__
from videodpo.tools.export.pairs import Clip, ExportedPairs
from videodpo.weights.licences import licence_of, licence_of_prompts

_TEXT, _NUMBER = pa.string(), pa.float64()
COLUMNS = pa.schema(
    {
        "prompt": _TEXT,
        "winner": _TEXT,
        "loser": _TEXT,
        "weight": _NUMBER,
        "probability": _NUMBER,
        "score_winner": _NUMBER,
        "score_loser": _NUMBER,
        "policy": _TEXT,
        "label_source": _TEXT,
        "winner_model": _TEXT,
        "loser_model": _TEXT,
    }
)


def write_datasets(pairs: ExportedPairs, folder: Path) -> None:
    """Write the data set; a clip of several pairs is stored once."""
    (folder / "clips").mkdir()
    rows = []
    for pair in pairs.rows:
        paths = {"winner": _stored(pair.winner, folder), "loser": _stored(pair.loser, folder)}
        rows.append(pair.values() | paths)
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), folder / "pairs.parquet", compression="zstd")
    (folder / "README.md").write_text(data_card(pairs), encoding="utf-8")


def _stored(clip: Clip, folder: Path) -> str:
    path = f"clips/{clip.video_id}.mp4"
    if not (folder / path).exists():
        (folder / path).write_bytes(clip.content())
    return path


def data_card(pairs: ExportedPairs) -> str:
    """Text of the data card: what the pairs are, how they were made, and under which licences."""
    generate, source = pairs.generate.settings, pairs.prompts.settings.prompts.source
    model, sampling = generate.model, generate.generate.sampling
    head = {
        "configs": [{"config_name": "default", "data_files": "pairs.parquet"}],
        "task_categories": ["text-to-video"],
        "tags": ["preference", "dpo", "video"],
    }
    labels = Counter(str(pair.row["label_source"]) for pair in pairs.rows)
    policies = Counter(str(pair.row["policy"]) for pair in pairs.rows)
    models = Counter(clip.model for pair in pairs.rows for clip in (pair.winner, pair.loser))
    clips = {clip.video_id for pair in pairs.rows for clip in (pair.winner, pair.loser)}
    sizes = ", ".join(f"{size.num_frames} frames of {size.height} x {size.width}" for size in sampling.sizes)
    facts = {
        "pairs": len(pairs.rows),
        "clips": len(clips),
        "prompts": len({pair.prompt for pair in pairs.rows}),
        "labels": _counted(labels),
        "policy": _counted(policies),
        "clips made by": _counted(models),
        "clip size": f"{sizes}, {sampling.fps:g} per second",
        "run": f"{pairs.run}, round {pairs.round_number}, seed {pairs.metadata['seed']}",
        "made by": f"videodpo {__version__}, settings {pairs.metadata['config_digest'][:12]}",
    }
    if not generate.from_clips:
        sampled = f"{sampling.num_steps} steps, guidance {sampling.guidance_scale:g}"
        facts["sampling"] = f"{generate.generate.videos_per_prompt} samples per prompt, {sampled}"
    lines = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    return f"""---
{yaml.safe_dump(head, sort_keys=False).strip()}
---

# Preference pairs of videos

Each row of `pairs.parquet` has a prompt and the paths of two clips: `winner` is preferred over `loser`.

| | |
|---|---|
{chr(10).join(lines)}

## Licences

| what | licence |
|---|---|
| model `{model.weights}` | {licence_of(model.weights)} |
| prompts ({source.kind}) | {licence_of_prompts(source)} |

Your own clips have the licence that you give them. The licence of this data set must fit all of these.

## Columns

| column | meaning |
|---|---|
| prompt | the text, cleaned |
| winner, loser | MP4 files, relative to this folder |
| weight | factor of the pair in the loss |
| probability | of the two scores, from which the weight was computed; null for labels from elsewhere |
| score_winner, score_loser | OmniScores; null for labels from elsewhere |
| policy, label_source | how the pair was chosen, and who says which clip wins |
| winner_model, loser_model | model that made the clip; `import` if it is unknown |
"""


def _cell(value: object) -> str:
    """Text of a table cell; labels and models may come from the user's table."""
    return html.escape(" ".join(str(value).split()), quote=False).replace("|", "&#124;")


def _counted(values: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in values.most_common())
