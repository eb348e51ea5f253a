"""Read the user's own preference pairs: a table, the released VideoDPO format, or WebDataset shards."""

from __future__ import annotations

import json
import math
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.config import ConfigError, PairColumns, Source
from videodpo.runtime.seeds import prompt_id
from videodpo.stages.prompts.cleaning import clean
from videodpo.stages.prompts.data_sets import read_dataset
from videodpo.stages.prompts.formats import read_table_file
from videodpo.stages.prompts.text_files import MAX_LINE
from videodpo.storage.clips import member_path
from videodpo.storage.files import read_json

PAIRS_FILE, CLIPS_FILE = "pair.json", "metadata.json"  # of the released VideoDPO format
IMPORTED = "imported"
_SIGNS = {"A": 1, "B": -1, "same": 0}


class PairRow(NamedTuple):
    """One pair of the source. Its prompt is not cleaned."""

    row: int
    """0-based row of the source; of the better clip, if a row has one clip."""
    prompt: Any
    winner: Path | None
    """File of the clip, or its byte range in a tar file."""
    loser: Path | None
    weight: float | None = None
    probability: float | None = None
    label_source: str = IMPORTED
    winner_model: str | None = None
    reason: str | None = None
    """Why the pair cannot be used; None if it can."""


def read_pairs(source: Source) -> Iterator[PairRow]:
    """Yield all pairs of a source, in its order, also those that cannot be used.

    Raises:
        ConfigError: the source cannot be read, lacks a column, or has a value of another kind; the message names the
            row.
    """
    return (pair._replace(reason=pair.reason or _fault(pair)) for pair in _read(source))


def is_data_set(source: Source) -> bool:
    """True if Hugging Face's `datasets` reads the source: it is on the hub, or a folder without another format."""
    folder = Path(str(source.path))
    if source.is_on_hub or source.kind == "huggingface":
        return True
    return folder.is_dir() and not (folder / PAIRS_FILE).is_file() and not any(folder.glob("*.tar"))


def _read(source: Source) -> Iterator[PairRow]:
    path = Path(str(source.path))
    if is_data_set(source) or not path.is_dir():
        return _pairs_of(_read_table(source), source, path if path.is_dir() else path.parent)
    if (path / PAIRS_FILE).is_file():
        return _read_videodpo(path, Path(source.clips or path))
    return _pairs_of(_read_webdataset(sorted(path.glob("*.tar"))), source, path)


def _fault(pair: PairRow) -> str | None:
    for name, clip in (("winner", pair.winner), ("loser", pair.loser)):
        if clip is None:
            return f"no path of the {name}"
    for name, number in (("weight", pair.weight), ("probability", pair.probability)):
        if number is not None and not number > 0:
            return f"its {name} {number:g} is not above 0"
    if os.path.normpath(str(pair.winner)) == os.path.normpath(str(pair.loser)):
        return f"winner and loser are the same clip, {Path(str(pair.winner)).name}"
    return None


def _read_table(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table by column."""
    columns = source.columns
    judged = (*_clip_columns(columns), *columns.votes, *columns.ratings)
    named = (columns.prompt, *judged, columns.weight, columns.probability)
    needed = dict.fromkeys(name for name in (*named, columns.label_source, columns.winner_model) if name is not None)
    optional = [name for name in ("weight", "label_source", "winner_model") if name not in needed]
    if is_data_set(source):
        records = read_dataset(str(source.path), source.split, list(needed), optional, name=source.name)
    else:
        records = read_table_file(Path(str(source.path)), list(needed), optional)
    try:
        for row, values in records:
            yield row, dict(zip((*needed, *optional), values, strict=True))
    except ConfigError as error:
        raise ConfigError(str(error).replace("prompts.source.column:", "prompts.source.columns:")) from error


def _read_webdataset(tars: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the samples of tar shards: the values of `<key>.json`, and the byte range of each `<key>.<name>.mp4`."""
    number = 0
    for tar in tars:
        try:
            with tarfile.open(tar, "r:") as archive:
                members = ((*member.name.rpartition("/")[2].partition(".")[::2], member) for member in archive)
                files = ((key, ending, member) for key, ending, member in members if member.isreg())
                for key, sample in groupby(files, key=lambda file: file[0]):
                    record: dict[str, Any] = {}
                    for _, ending, member in sample:
                        if ending == "json":
                            record |= _json_object(archive, member, f"{tar.name}, {key}")
                        else:
                            record[ending.rpartition(".")[0]] = member_path(tar.name, member)
                    yield number, record
                    number += 1
        except (tarfile.TarError, OSError) as error:
            raise ConfigError(f"prompts.source.path: {tar}: not readable as a tar file ({error})") from error


def _json_object(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> dict[str, Any]:
    file = archive.extractfile(member)
    assert file is not None, "a regular file has content"
    try:
        values = json.loads(file.read(MAX_LINE))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"prompts.source.path: {where}.json: not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"prompts.source.path: {where}.json: is a {type(values).__name__}; an object is needed")
    return values


def _clip_columns(columns: PairColumns) -> tuple[str | None, ...]:
    if columns.ratings:
        return (columns.clip,)
    return (columns.clip_a, columns.clip_b) if columns.votes else (columns.winner, columns.loser)


def _pairs_of(records: Iterator[tuple[int, dict[str, Any]]], source: Source, folder: Path) -> Iterator[PairRow]:
    """Turn records into pairs. Clips are relative to `source.clips`, or else to the folder of the table."""
    columns = source.columns
    rows = (_row(row, record, columns, Path(source.clips or folder)) for row, record in records)
    if columns.ratings:
        yield from _pairs_of_rated(rows, columns)
        return
    for pair, record in rows:
        if not columns.votes:
            yield pair
            continue
        score, reason = _sum_of_votes(record, columns, pair.row)
        winner, loser = (pair.winner, pair.loser) if score >= 0 else (pair.loser, pair.winner)
        yield pair._replace(winner=winner, loser=loser, reason=reason)


def _row(row: int, record: dict[str, Any], columns: PairColumns, base: Path) -> tuple[PairRow, dict[str, Any]]:
    """The record, and what it says of a pair before votes and ratings: its first clip is the winner."""
    paths = [record.get(name) if name else None for name in _clip_columns(columns)]
    clips = [None if path in (None, "") else base / f"{path}{columns.clip_suffix}" for path in paths]
    pair = PairRow(
        row,
        record.get(columns.prompt),
        clips[0],
        clips[1] if len(clips) > 1 else None,
        _number(record, columns.weight or "weight", row),
        _number(record, columns.probability, row) if columns.probability else None,
        str(record.get(columns.label_source or "label_source") or IMPORTED),
        _text_or_none(record.get(columns.winner_model or "winner_model")),
    )
    return pair, record


def _pairs_of_rated(rows: Iterator[tuple[PairRow, dict[str, Any]]], columns: PairColumns) -> Iterator[PairRow]:
    """Yield the rows that cannot be used, then the pairs of each prompt; of equal clips, the earlier row is better."""
    from videodpo.preference.policies import rank_pairs  # imports pandas

    prompts: dict[str, dict[Path, tuple[float, PairRow]]] = defaultdict(dict)
    for rated, record in rows:
        ratings = {name: _number(record, name, rated.row) for name in columns.ratings}
        lacking = [name for name, rating in ratings.items() if rating is None]
        clips = prompts[prompt_id(clean(str(rated.prompt or "")))]
        if rated.winner is None:
            yield rated._replace(reason="no path of the clip")
        elif lacking:
            yield rated._replace(reason=f"no rating in column {lacking[0]}")
        elif rated.winner in clips:
            yield rated._replace(reason="its clip has an earlier row; one row per clip is used")
        else:
            score = math.fsum(columns.ratings[name] * rating for name, rating in ratings.items() if rating is not None)
            clips[rated.winner] = (score, rated)
    for clips in prompts.values():
        ranked = sorted(clips.values(), key=lambda one: -one[0])
        if len(ranked) == 1:
            yield ranked[0][1]._replace(reason="its prompt has one rated clip")
        for better, worse in rank_pairs(columns.rated_pairs, len(ranked)):
            (high, winner), (low, loser) = ranked[better], ranked[worse]
            reason = "the ratings are equal" if math.isclose(high, low, abs_tol=1e-9) else None
            yield winner._replace(loser=loser.winner, reason=reason)


def _sum_of_votes(record: Mapping[str, Any], columns: PairColumns, row: int) -> tuple[float, str | None]:
    """Weighted sum of the votes, positive if clip A wins, and the reason why there is no winner."""
    score = 0.0
    for name, weight in columns.votes.items():
        vote = record.get(name)
        if vote in (None, ""):
            return 0.0, f"no vote in column {name}"
        if str(vote) not in _SIGNS:
            raise ConfigError(
                f"prompts.source.columns.votes: {name!r} is {vote!r} in row {row}; {', '.join(_SIGNS)} are allowed"
            )
        score += weight * _SIGNS[str(vote)]
    return score, "the votes are tied" if math.isclose(score, 0.0, abs_tol=1e-9) else None


def _number(record: Mapping[str, Any], column: str, row: int) -> float | None:
    value = record.get(column)
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"prompts.source.columns: {column!r} is {value!r} in row {row}; a finite number is needed")
    return number


def _text_or_none(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _read_videodpo(folder: Path, clips: Path) -> Iterator[PairRow]:
    """Yield the pairs of `pair.json`, whose numbers count the clips in `metadata.json`."""
    pairs, metadata = read_json(folder / PAIRS_FILE), read_json(folder / CLIPS_FILE)
    for row, pair in enumerate(pairs if isinstance(pairs, list) else [pairs]):
        where = f"prompts.source.path: {PAIRS_FILE}, pair {row}"
        try:
            numbers = [int(pair["video1"]), int(pair["video2"])]
            if min(numbers) < 0:
                raise IndexError(f"video {min(numbers)}")
            winner, loser = (clips / str(metadata[number]["basic"]["clip_path"]) for number in numbers)
            caption, label, score = pair["frame_caption"], pair["label"], pair.get("score")
            caption = caption[0] if isinstance(caption, list) else caption
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"{where}: not in the VideoDPO format ({reason}); video1 and video2 are numbers of {CLIPS_FILE}"
            ) from error
        if label != 0:
            raise ConfigError(f"{where}: label {label!r}; only 0 is known, which says that video1 wins")
        probability = None if score is None else _number({"score": score}, "score", row)
        yield PairRow(row, caption, winner, loser, probability=probability)
