"""Turn the user's own clips and pairs into the tables that the import reads; check that the first clips exist."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError, Source
from videodpo.runtime.seeds import prompt_id
from videodpo.stages.prompts.cleaning import clean
from videodpo.stages.prompts.formats import read_table_file
from videodpo.stages.prompts.pair_sources import IMPORTED, read_pairs
from videodpo.storage.clips import file_of

CHECKED = 100  # number of clips that must exist before a run starts
Rows = list[dict[str, Any]]
log = logging.getLogger(__name__)


def clip_rows(source: Source, splits: Mapping[str, str]) -> Rows:
    """Rows of `schemas.CLIPS`: clips of the training prompts, numbered per prompt in the order of the list.

    Args:
        source: the list; its paths are relative to `source.clips`, or else to its own folder.
        splits: split of each prompt, by prompt_id.

    Raises:
        ConfigError: a row has no path, or no prompt has two clips, so that there are no pairs.
    """
    counts: Counter[str] = Counter()
    rows = []
    for _, name, path in _listed(source):
        if splits.get(name) == "train":
            rows.append({"prompt_id": name, "sample": counts[name], "path": str(path)})
            counts[name] += 1
    if counts and max(counts.values()) < 2:
        raise ConfigError(f"prompts.source.path: {_name(source)}: no prompt has two clips, so there are no pairs")
    return _sorted(rows)


def pair_rows(source: Source, splits: Mapping[str, str]) -> tuple[Rows, Rows]:
    """Rows of `schemas.CLIPS` and of `schemas.IMPORTED_PAIRS`, the latter in the order of the source.

    Clips are numbered per prompt in their order of appearance. A pair that cannot be used has the reason.

    Args:
        source: of the kind `pairs`.
        splits: split of each prompt, by prompt_id.

    Raises:
        ConfigError: no pair can be used; the message counts the reasons.
    """
    counts: Counter[str] = Counter()
    ids: dict[tuple[str, Path], str] = {}
    clips, pairs = [], []
    for pair in read_pairs(source):
        name = prompt_id(clean(str(pair.prompt or "")))
        row = _pair_row(pair.row, name, splits, pair.reason)
        row |= {"weight": pair.weight, "probability": pair.probability}
        row |= {"label_source": pair.label_source, "winner_model": pair.winner_model}
        for side, path in (("winner", pair.winner), ("loser", pair.loser)):
            if row["reason"] is not None or path is None:
                continue
            if (name, path) not in ids:
                ids[name, path] = f"{name}-{counts[name]}"
                clips.append({"prompt_id": name, "sample": counts[name], "path": str(path)})
                counts[name] += 1
            row[f"{side}_id"] = ids[name, path]
        pairs.append(row)
    return _sorted(clips), _usable(pairs, source)


def winner_rows(source: Source, splits: Mapping[str, str]) -> tuple[Rows, Rows]:
    """As `pair_rows`, for the kind `winners`: sample 0 of a prompt is its clip, which wins against all other samples.

    The loser is null, because the number of samples is not known here.
    """
    clips: Rows = []
    pairs = []
    taken = set()
    for number, name, path in _listed(source):
        another = "its prompt has an earlier clip in the list; one clip per prompt is used" if name in taken else None
        row = _pair_row(number, name, splits, another)
        if row["reason"] is None:
            taken.add(name)
            row["winner_id"] = f"{name}-0"
            clips.append({"prompt_id": name, "sample": 0, "path": str(path)})
        pairs.append(row)
    return _sorted(clips), _usable(pairs, source)


def check_clips(source: Source, max_missing: float) -> None:
    """Check that the first clips of the source exist.

    Args:
        source: a list of clips or pairs.
        max_missing: largest fraction of them that may be missing.

    Raises:
        ConfigError: a row has no path, or too many clips are missing; the message has full paths.
    """
    paths = [path.absolute() for path in itertools.islice(_clips(source), CHECKED)]
    missing = [str(path) for path in paths if not file_of(path).is_file()]
    if len(missing) > max_missing * len(paths):
        raise ConfigError(
            f"prompts.source.path: {_name(source)}: {len(missing)} of the first {len(paths)} clips are missing: "
            f"{', '.join(missing[:3])}{', ...' if missing[3:] else ''}; paths are relative to the list's folder, or to "
            "prompts.source.clips, and name files on this machine"
        )


def _clips(source: Source) -> Iterator[Path]:
    if source.kind == "pairs":
        pairs = (pair for pair in read_pairs(source) if pair.reason is None)
        yield from (clip for pair in pairs for clip in (pair.winner, pair.loser) if clip)
    else:
        yield from (path for _, _, path in _listed(source))


def _listed(source: Source) -> Iterator[tuple[int, str, Path]]:
    """Row, prompt_id and file of each clip in a list."""
    manifest = Path(str(source.path))
    for number, (text, path) in read_table_file(manifest, (source.column, "path")):
        if not path:
            raise ConfigError(f"prompts.source.path: {manifest.name}: row {number} has no path")
        yield number, prompt_id(clean(str(text or ""))), Path(source.clips or manifest.parent) / str(path)


def _pair_row(row: int, name: str, splits: Mapping[str, str], reason: str | None) -> dict[str, Any]:
    if name not in splits:
        reason = reason or "its prompt was dropped or not drawn, see prompts_dropped.parquet and prompts.num_train"
    elif splits[name] != "train":
        reason = reason or "its prompt is held out"
    found = {"row": row, "prompt_id": name, "winner_id": None, "loser_id": None, "reason": reason}
    return found | {"weight": None, "probability": None, "label_source": IMPORTED, "winner_model": None}


def _usable(pairs: Rows, source: Source) -> Rows:
    reasons = Counter(pair["reason"] for pair in pairs if pair["reason"] is not None)
    listing = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    listing += "; ..." if len(reasons) > 3 else ""
    if reasons.total() == len(pairs):
        raise ConfigError(
            f"prompts.source.path: {_name(source)}: none of its {len(pairs)} pairs can be used ({listing})"
        )
    if reasons:
        log.warning("%s: %d of %d pairs cannot be used: %s", _name(source), reasons.total(), len(pairs), listing)
    return pairs


def _sorted(clips: Rows) -> Rows:
    return sorted(clips, key=lambda row: (row["prompt_id"], row["sample"]))


def _name(source: Source) -> str:
    return Path(str(source.path)).name
