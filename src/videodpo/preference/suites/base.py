"""Interface of a benchmark's own rules; everything that is a number is in the suite's YAML file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config.benchmark import Suite


@dataclass(frozen=True)
class SuitePrompt:
    """An entry of the prompt list.

    Attributes:
        dimensions: dimensions that score its clips.
        info: what scorers need to know about the prompt, for example {"object": "cat"}.
    """

    prompt: str
    dimensions: frozenset[str]
    info: Mapping[str, str]


@dataclass(frozen=True)
class OfficialResult:
    """What a benchmark's own program says about a dimension, on the scale of our scores.

    Attributes:
        mean: its mean.
        clips: score of each clip, by file name without suffix.
    """

    mean: float
    clips: Mapping[str, float]


class SuiteRules(ABC):
    """Rules of one benchmark. A package can add its own by an entry point in the group `videodpo.preference.suites`.

    Attributes:
        version: increased whenever the same scores would give other totals.
        official_program: command of the benchmark's own program, if it can score the clips too.
        renamed_clips: dimensions for which this program renames the clips that it chooses.
        optional_clips: dimensions for which it may leave out clips; in others, fewer clips mean that some are missing.
        official_samples: clips per prompt that it scores.
    """

    version: ClassVar[str]
    official_program: ClassVar[str | None] = None
    renamed_clips: ClassVar[frozenset[str]] = frozenset()
    optional_clips: ClassVar[frozenset[str]] = frozenset()
    official_samples: ClassVar[int]

    @staticmethod
    @abstractmethod
    def read_prompts(path: Path) -> list[SuitePrompt]:
        """Read the prompt list.

        Raises:
            InputError: the file is not such a list.
        """

    @staticmethod
    @abstractmethod
    def counted(clips: pd.DataFrame, gate: str | None) -> NDArray[np.bool_]:
        """Choose the clips whose score of a dimension counts.

        Args:
            clips: the group's clips of one model: prompt_id, sample, and a column for each dimension; NaN if a score
                failed.
            gate: dimension whose scores choose the clips; None if there is none.
        """

    @staticmethod
    @abstractmethod
    def check(suite: Suite) -> None:
        """Refuse a suite that these rules cannot follow.

        Raises:
            ConfigError: the message gives the key and the reason.
        """

    @staticmethod
    def read_official(path: Path, known: Collection[str]) -> tuple[dict[str, OfficialResult], dict[str, str]]:
        """Read results of the benchmark's own program; only called if there is one.

        Args:
            path: the file.
            known: names of the dimensions.

        Returns:
            Results by dimension, and the reason for each dimension whose result cannot be used.

        Raises:
            InputError: the file has no result that can be used.
        """
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def totals(means: Mapping[str, NDArray[np.float64]], suite: Suite) -> dict[str, NDArray[np.float64]]:
        """Combine the means of all dimensions to totals, by name; the main total comes first.

        Args:
            means: mean of each dimension; arrays of one shape, so that resamples are computed together.
        """


def scale(values: NDArray[np.float64], suite: Suite, name: str) -> NDArray[np.float64]:
    """Scale raw scores of a dimension to its range."""
    dimension = suite.dimensions[name]
    assert dimension.min is not None
    assert dimension.max is not None
    scaled: NDArray[np.float64] = (values - dimension.min) / (dimension.max - dimension.min)
    return scaled
