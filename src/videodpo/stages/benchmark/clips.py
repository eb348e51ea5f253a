"""Clips of a benchmark with their scores: which of them count, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from videodpo.config.benchmark import RunSuite
from videodpo.runtime.registry import suite_rules
from videodpo.scorers.base import NO_RESULT
from videodpo.storage.tables import read_shards
from videodpo.weights.locations import resolve

_SHOWN = 3


@dataclass(frozen=True)
class Count:
    """Clips of one arm in one dimension.

    Attributes:
        scored: clips in the mean.
        no_result: clips that the benchmark leaves out.
        failed: clips that are missing, or have no score.
        reason: why the first of these failed.
        empty_prompts: prompts without a clip that counts.
    """

    scored: int
    no_result: int
    failed: int
    reason: str
    empty_prompts: int

    @property
    def is_complete(self) -> bool:
        """True if the mean is over all clips that the benchmark asks for."""
        return self.scored > 0 and not self.failed

    def notes(self, arm: str, name: str) -> Iterator[str]:
        """One sentence for everything that a reader of the mean has to know."""
        if self.failed:
            yield f"{arm}, {name}: incomplete, {self.failed} clips have no score; the first one: {self.reason}"
        if self.no_result:
            yield f"{arm}, {name}: {self.no_result} clips without a result, which the benchmark leaves out"
        if self.empty_prompts:
            yield f"{arm}, {name}: {self.empty_prompts} prompts have no clip that counts"


def read_clips(folder: Path, suite: RunSuite, arms: Sequence[str], prompts: pd.DataFrame) -> pd.DataFrame:
    """Read the scores of all clips of both arms.

    Args:
        folder: `round<r>/benchmark`.
        suite: the benchmark.
        arms: models.
        prompts: the table of the benchmark's prompts.

    Returns:
        The columns of the table BENCHMARK, and group and failed, in the order of arm, group, dimension, prompt, sample.
    """
    rules = suite_rules(suite.module)
    found = []
    for arm in arms:
        for name in suite.groups:
            own = prompts[prompts["group"] == name]
            videos = read_shards(folder / name / "videos" / arm)[["video_id", "prompt_id", "sample", "seed"]]
            videos = videos.merge(own[["prompt_id", "prompt", "position"]], on="prompt_id")
            videos = videos.sort_values(["position", "sample"], ignore_index=True)
            scores = {one: read_shards(folder / name / "scores" / arm / one) for one in suite.scored(name)}
            by_clip = {one: table.set_index("video_id").loc[videos["video_id"]] for one, table in scores.items()}
            wide = videos.assign(**{one: table["value"].to_numpy(float) for one, table in by_clip.items()})
            for one, table in by_clip.items():
                error = table["error"].reset_index(drop=True)
                lacks = wide[one].isna() & ~error.astype(str).str.startswith(NO_RESULT)
                gate = suite.gates.get(one)
                counted = rules.counted(wide, gate) | (one in suite.gates.values())
                failed = lacks & counted
                if gate:  # a clip whose gate failed may be one of those that count
                    failed |= wide[gate].isna() & rules.counted(wide.fillna({gate: 1.0}), gate)
                    error = error.fillna(by_clip[gate]["error"].reset_index(drop=True))
                found.append(
                    videos[["prompt_id", "prompt", "sample", "seed"]].assign(
                        arm=arm, dimension=one, group=name, value=wide[one], counted=counted, error=error, failed=failed
                    )
                )
    return pd.concat(found, ignore_index=True)


def count_clips(clips: pd.DataFrame, suite: RunSuite, arms: Sequence[str]) -> dict[tuple[str, str], Count]:
    """Count the clips of each arm and dimension."""
    counts = {}
    for arm in arms:
        for name in suite.dimensions:
            rows = clips[(clips["arm"] == arm) & (clips["dimension"] == name)]
            counted, has_value = rows["counted"], rows["value"].notna()
            failed = rows[rows["failed"]]
            errors = failed["error"].dropna()
            counts[arm, name] = Count(
                scored=int((counted & has_value).sum()),
                no_result=int((counted & ~has_value & ~rows["failed"]).sum()),
                failed=len(failed),
                reason=errors.iloc[0] if len(errors) else "",
                empty_prompts=int((~counted.groupby(rows["prompt_id"]).any()).sum()),
            )
    return counts


def unknown_files(arm: str, folder: str, suite: RunSuite, prompts: pd.DataFrame) -> Iterator[str]:
    """One sentence if the user's folder has files that are no clips of the benchmark.

    Any number is right for a prompt of a group that the run does not score, because that group may have more samples.
    """
    texts = zip(prompts["group"], prompts["prompt"], strict=True)
    expected = {f"{prompt}-{sample}" for name, prompt in texts for sample in range(suite.groups[name].samples)}
    inside = {name for group in suite.groups.values() for name in group.dimensions}
    listed = suite_rules(suite.module).read_prompts(resolve(suite.prompts))
    others = {one.prompt for one in listed if one.dimensions - inside}

    def is_odd(file: Path) -> bool:
        prompt, _, number = file.stem.rpartition("-")
        return file.suffix != ".mp4" or not (file.stem in expected or (prompt in others and number.isdigit()))

    if odd := sorted(file.name for file in Path(folder).iterdir() if is_odd(file)):
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        yield (
            f"{arm}: {len(odd)} files in {folder} are not used: {', '.join(odd[:_SHOWN])}{more}; names must be "
            "<prompt>-<number>.mp4, with a prompt of the benchmark and a number from 0 and below its samples"
        )
