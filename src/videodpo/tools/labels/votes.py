"""Import files of votes, which the page of blind labels saves, into the run's table of votes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.locks import exclusive
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.settings import PairsSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot
from videodpo.storage.files import read_json
from videodpo.storage.schemas import LABELS
from videodpo.storage.tables import read_rows, write_table
from videodpo.tools.labels.draw import ARMS, Clip, Subject, on_sides, read_clips

log = logging.getLogger(__name__)

TABLE = "labels.parquet"
_Token = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("unprintable characters are not allowed")
    return text


_Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Vote(Section):
    """One answer."""

    left: _Token
    right: _Token
    question: _Text
    choice: Literal["left", "right", "tie", "skip"]
    seconds: float = Field(ge=0, allow_inf_nan=False)
    time: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


class VotesFile(Section):
    """Content of a file of votes."""

    format: Literal["videodpo votes"]
    version: Literal[1]
    run: _Text
    round: int = Field(ge=1)
    of: Subject
    seed: int = Field(ge=0)
    label_set: _Text
    rater: _Text
    votes: list[Vote]


def import_votes(files: Sequence[Path], run_folder: Path) -> str:
    """Add the votes in files to the run's `labels.parquet`.

    A vote on the same pair, page and question by the same rater replaces an earlier one. Votes on clips that are gone
    are left out with a warning; the files are not changed.

    Args:
        files: saved by the page.
        run_folder: <results>/<run>.

    Returns:
        One line that says what the table has now.

    Raises:
        InputError: a file is not readable, of another run, or all its clips are gone. Nothing is written then.
    """
    snapshot: Snapshot[PairsSettings] = load_snapshot(run_folder / "config" / "pairs.json", "pairs")
    new = [row for file in files for row in _rows(file, _read(file), run_folder, snapshot.run)]
    table = run_folder / TABLE
    with exclusive(run_folder, table):
        before = {_key(row): row for row in read_rows(table, LABELS.names)} if table.exists() else {}
        after = dict(before)
        for row in new:
            known = after.get(_key(row))
            if known is None or known["time"] <= row["time"]:
                after[_key(row)] = row
        rows = [after[key] for key in sorted(after)]
        write_table(table, rows, LABELS, **(snapshot.provenance | {"stage": "labels"}))
    replaced = sum(before[key] != after[key] for key in before)
    raters = len({row["rater"] for row in rows})
    return (
        f"{table}: {len(rows)} votes of {raters} {'rater' if raters == 1 else 'raters'}; "
        f"{len(after) - len(before)} are new, {replaced} replace earlier ones"
    )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Identify a vote; the order of these keys is the order of the table."""
    names = ("round", "label_set", "rater", "prompt_id", "left_id", "right_id", "left_arm", "right_arm", "question")
    return tuple(row[name] for name in names)


def _read(file: Path) -> VotesFile:
    content = read_json(file)
    try:
        return VotesFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "content"
        raise InputError(
            f"{file}: not a file of votes as the page of `videodpo label` saves it: {key}: {first['msg']}; "
            "save the votes again from the page"
        ) from None


def _rows(file: Path, content: VotesFile, run_folder: Path, run: str) -> Iterator[dict[str, Any]]:
    if content.run != run:
        raise InputError(
            f"{file}: votes on the run {content.run!r}, but {run_folder} is the run {run!r}; import them there"
        )
    folder = round_folder(run_folder, content.round)
    clips = {clip.token(content.seed): clip for arm in ARMS[content.of] for clip in read_clips(folder, arm).values()}
    gone = [vote for vote in content.votes if not {vote.left, vote.right} <= clips.keys()]
    if gone and len(gone) == len(content.votes):
        raise InputError(
            f"{file}: none of its {len(gone)} votes is about a clip that is in {folder} now; the clips were sampled "
            "again since the page was written; write a new page and label it"
        )
    if gone:
        log.warning(
            "%s: %d of %d votes are left out: their pairs are gone from %s, for example %s and %s",
            file,
            len(gone),
            len(content.votes),
            folder,
            gone[0].left,
            gone[0].right,
        )
    for vote in content.votes:
        if {vote.left, vote.right} <= clips.keys():
            yield _row(content, vote, clips[vote.left], clips[vote.right])


def _row(content: VotesFile, vote: Vote, left: Clip, right: Clip) -> dict[str, Any]:
    return {
        "round": content.round,
        "prompt_id": left.prompt_id,
        "left_id": left.video_id,
        "right_id": right.video_id,
        "left_arm": left.arm,
        "right_arm": right.arm,
        "left_sha256": left.sha256,
        "right_sha256": right.sha256,
        "question": vote.question,
        "choice": vote.choice,
        "rater": content.rater,
        "repeat": on_sides((left, right), content.seed) != (left, right),
        "seconds": vote.seconds,
        "time": vote.time,
        "label_set": content.label_set,
        "run": content.run,
    }
