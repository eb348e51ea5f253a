"""Pairs of a round with their prompts and clips, as all export formats need them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.runtime.rounds import round_folder
from videodpo.runtime.settings import GenerateSettings, PromptsSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot
from videodpo.storage.clips import read_clip
from videodpo.storage.tables import read_metadata, read_rows, shard_paths


class Clip(NamedTuple):
    """A clip of a pair."""

    video_id: str
    path: Path
    sha256: str
    seconds: float
    model: str
    """Model that made it: family and weights; `import` for the user's own clip."""

    def content(self) -> bytes:
        """Bytes of the MP4; errors as `read_clip`."""
        return read_clip(self.path, self.sha256)


class Pair(NamedTuple):
    """A row of the pairs table with its prompt and its clips."""

    prompt: str
    winner: Clip
    loser: Clip
    row: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """Columns that the formats `datasets` and `webdataset` have besides the clips, in this order.

        `weight`, `label_source` and `winner_model` are found again by `prompts.source.columns`.
        """
        names = ("weight", "probability", "score_winner", "score_loser", "policy", "label_source")
        kept = {name: self.row[name] for name in names}
        return {"prompt": self.prompt, **kept, "winner_model": self.winner.model, "loser_model": self.loser.model}


@dataclass(frozen=True)
class ExportedPairs:
    """Pairs of a round in the order of their table, and what a data card says about them."""

    run: str
    round_number: int
    rows: list[Pair]
    generate: Snapshot[GenerateSettings]
    prompts: Snapshot[PromptsSettings]
    metadata: dict[str, str]
    """Metadata of the pairs table."""


def read_exported_pairs(run: Path, round_number: int) -> ExportedPairs:
    """Read a round's pairs.

    Raises:
        InputError: not the folder of a run, or the round has no pairs.
    """
    folder = round_folder(run, round_number)
    path = folder / "pairs.parquet"
    rows = read_rows(path)
    prompts = {row["prompt_id"]: row["prompt"] for row in read_rows(run / "prompts.parquet", ["prompt_id", "prompt"])}
    imported = _models_of_winners(run)
    columns = ["video_id", "path", "sha256", "num_frames", "fps", "model"]
    videos = {row["video_id"]: row for file in shard_paths(folder / "videos") for row in read_rows(file, columns)}

    def clip(video_id: str) -> Clip:
        row = videos[video_id]
        seconds = row["num_frames"] / row["fps"]
        model = imported.get(video_id, row["model"])
        return Clip(video_id, run / row["path"], row["sha256"], seconds, model)

    pairs = [Pair(prompts[row["prompt_id"]], clip(row["winner_id"]), clip(row["loser_id"]), row) for row in rows]
    generate = load_snapshot(run / "config" / "generate.json", "generate")
    settings = load_snapshot(run / "config" / "prompts.json", "prompts")
    return ExportedPairs(run.resolve().name, round_number, pairs, generate, settings, read_metadata(path))


def _models_of_winners(run: Path) -> dict[str, str]:
    """Model of each imported winner that has one, by video_id."""
    path = run / "imported_pairs.parquet"
    if not path.exists():
        return {}
    rows = read_rows(path, ["winner_id", "winner_model"])
    return {row["winner_id"]: row["winner_model"] for row in rows if row["winner_id"] and row["winner_model"]}
