"""Prompts stage: clean the prompts of a source, remove duplicates, and draw and split them by the seed."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

import pandas as pd

from videodpo.config import ConfigError, Prompts, Source
from videodpo.runtime.locks import exclusive
from videodpo.runtime.seeds import derive_seed, prompt_id
from videodpo.runtime.settings import PromptsSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.prompts.cleaning import clean, scrub
from videodpo.stages.prompts.clips import clip_rows, pair_rows, winner_rows
from videodpo.stages.prompts.duplicates import NearDuplicates, exact_key
from videodpo.stages.prompts.sources import heldout_keys, read_rows, source_name
from videodpo.storage.schemas import CLIPS, IMPORTED_PAIRS, PROMPTS, PROMPTS_DROPPED
from videodpo.storage.tables import write_table

STEPS = ("null", "length", "toxicity", "duplicate", "near_duplicate")
_KEYS = {
    "length": "prompts.min_chars or max_chars",
    "toxicity": "prompts.source.max_toxicity",
    "near_duplicate": "prompts.near_duplicate_threshold",
}
_log = logging.getLogger("videodpo.stages.prompts")


def make_prompts(snapshot: Snapshot[PromptsSettings]) -> None:
    """Write `prompts.parquet` and `prompts_dropped.parquet`; for the user's own clips also `clips.parquet`, and
    for the user's own pairs `imported_pairs.parquet`.

    Near-duplicates are searched in the order of the draw and only until there are enough prompts, so that the cost
    depends on the sample and not on the source. Of two similar prompts, the one drawn first is kept. No held-out prompt
    is a near-duplicate of a training prompt. The held-out prompts are drawn first, so that they stay the same when
    `num_train` changes.

    Raises:
        ConfigError: the source cannot be read, or too few prompts are left; the message counts what each step dropped.
    """
    settings = snapshot.settings.prompts
    tally = _Tally()
    near = NearDuplicates(settings.near_duplicate_threshold)
    pool = _usable(settings.source, settings, snapshot.seed, tally)
    if settings.heldout_source is None:
        drawn = _draw(pool, settings.num_heldout, settings.num_train, near, tally)
        heldout, train = drawn[: settings.num_heldout], drawn[settings.num_heldout :]
    else:
        with heldout_keys():
            other = _usable(settings.heldout_source, settings, snapshot.seed, tally)
        heldout = _draw(other, settings.num_heldout, 0, near, tally)
        known = {exact_key(text) for text in heldout}
        train = _draw(pool.without(known, tally), 0, settings.num_train, near, tally)
    chosen = train + heldout
    ids = [prompt_id(text) for text in chosen]
    assert len(set(ids)) == len(ids), "two prompts share a prompt_id"
    splits = ["train"] * len(train) + ["heldout"] * len(heldout)
    heldout_name = source_name(settings.heldout_source or settings.source)
    table = pd.DataFrame(
        {
            "prompt_id": ids,
            "prompt": chosen,
            "source": [source_name(settings.source)] * len(train) + [heldout_name] * len(heldout),
            "split": splits,
            "position": range(len(chosen)),
        }
    )
    counts = tally.counts(len(train), len(heldout))
    provenance = snapshot.provenance | {"extra": {"counts": json.dumps(counts)}}
    path = snapshot.folder / "prompts.parquet"
    with exclusive(snapshot.folder, path):
        write_table(path.with_name("prompts_dropped.parquet"), tally.dropped_rows(), PROMPTS_DROPPED, **provenance)
        write_table(path, table, PROMPTS, **provenance)
        split_of = dict(zip(ids, splits, strict=True))
        if settings.source.kind == "clips":
            write_table(path.with_name("clips.parquet"), clip_rows(settings.source, split_of), CLIPS, **provenance)
        elif settings.source.has_pairs:
            rows = pair_rows if settings.source.kind == "pairs" else winner_rows
            clips, pairs = rows(settings.source, split_of)
            write_table(path.with_name("clips.parquet"), clips, CLIPS, **provenance)
            write_table(path.with_name("imported_pairs.parquet"), pairs, IMPORTED_PAIRS, **provenance)
    for name, count in counts.items():
        _log.info("%-16s %9d", name, count)


@dataclass
class _Tally:
    """Number of prompts read, and the prompts that each step dropped."""

    read: int = 0
    dropped: list[tuple[int, str, str, str]] = field(default_factory=list)

    def drop(self, row: int, prompt: str, step: str, reason: str) -> None:
        self.dropped.append((row, prompt, step, reason))

    def by_step(self) -> dict[str, int]:
        steps = Counter(step for _, _, step, _ in self.dropped)
        return {step: steps[step] for step in STEPS}

    def counts(self, train: int, heldout: int) -> dict[str, int]:
        dropped = self.by_step()
        unsampled = self.read - sum(dropped.values()) - train - heldout
        return {"read": self.read, **dropped, "unsampled": unsampled, "train": train, "heldout": heldout}

    def dropped_rows(self) -> pd.DataFrame:
        frame = pd.DataFrame(sorted(self.dropped), columns=PROMPTS_DROPPED.names)
        return frame.astype({"row": "int64"})


@dataclass(frozen=True)
class _Pool:
    """Cleaned prompts of one source that pass every step except near_duplicate, in a random order."""

    source: Source
    rows: list[int]
    texts: list[str]

    def without(self, known: Set[bytes], tally: _Tally) -> _Pool:
        """Drop the prompts with one of these exact keys."""
        kept = []
        for index, text in enumerate(self.texts):
            if exact_key(text) in known:
                tally.drop(self.rows[index], text, "duplicate", "is a held-out prompt")
            else:
                kept.append(index)
        return _Pool(self.source, [self.rows[index] for index in kept], [self.texts[index] for index in kept])


def _usable(source: Source, settings: Prompts, seed: int, tally: _Tally) -> _Pool:
    """Read a source, clean its prompts, and drop those that fail a step before near_duplicate."""
    rows: list[int] = []
    texts: list[str] = []
    seen: set[bytes] = set()
    low, high, limit = settings.min_chars, settings.max_chars, source.max_toxicity
    for row, raw, toxicity in read_rows(source, seed):
        tally.read += 1
        if raw is None:
            tally.drop(row, "", "null", "the source has no text in this row")
            continue
        text = clean(raw)
        if not low <= len(text) <= high:
            # Record the uncleaned text: cleaning may have left nothing recognisable.
            tally.drop(row, scrub(raw), "length", f"{len(text)} characters after cleaning, {low} to {high} are allowed")
        elif toxicity is not None and not toxicity <= limit:  # so that NaN is dropped
            tally.drop(row, text, "toxicity", f"{toxicity:.4g} is not at most {limit:g}")
        elif (key := exact_key(text)) in seen:
            tally.drop(row, text, "duplicate", "differs from an earlier prompt in case and whitespace only")
        else:
            seen.add(key)
            rows.append(row)
            texts.append(text)
    order = list(range(len(texts)))
    random.Random(derive_seed(seed, "prompts")).shuffle(order)
    return _Pool(source, [rows[index] for index in order], [texts[index] for index in order])


def _draw(pool: _Pool, num_heldout: int, num_train: int | None, near: NearDuplicates, tally: _Tally) -> list[str]:
    """Draw held-out prompts, then training prompts; none is similar to another, or to one drawn before."""
    need = num_heldout + (1 if num_train is None else num_train)
    most = len(pool.texts) if num_train is None else need
    drawn: list[str] = []
    for row, text in zip(pool.rows, pool.texts, strict=True):
        if len(drawn) == most:
            break
        similar = near.add(text)
        if similar is None:
            drawn.append(text)
        else:
            reason = f"similarity {similar[1]:.3f} to prompt {prompt_id(similar[0])}"
            tally.drop(row, text, "near_duplicate", reason)
    if len(drawn) < need:
        raise ConfigError(_too_few(len(drawn), num_heldout, num_train, pool.source, tally))
    return drawn


def _too_few(there: int, num_heldout: int, num_train: int | None, source: Source, tally: _Tally) -> str:
    dropped = {step: count for step, count in tally.by_step().items() if count}
    wanted = "at least 1" if num_train is None else str(num_train)
    losses = ", ".join(f"{count} by {step}" for step, count in dropped.items()) or "none"
    keys = [_KEYS[step] for step in dropped if step in _KEYS]
    widen = f", widen {', '.join(keys)}" if keys else ""
    return (
        f"prompts.num_train, prompts.num_heldout: {wanted} + {num_heldout} prompts are wanted, {there} are "
        f"left of {tally.read} in {source_name(source)} (dropped: {losses}); "
        f"lower one of the two{widen}, or bring more prompts"
    )
