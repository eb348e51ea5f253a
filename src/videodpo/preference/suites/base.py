"""Interface of a benchmark's own rules; everything that is a number is in the suite's YAML file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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


class SuiteRules(ABC):
    """Rules of one benchmark. A package can add its own by an entry point in the group `videodpo.preference.suites`.

    Attributes:
        version: increased whenever the same scores would give other totals.
    """

    version: ClassVar[str]

    @staticmethod
    @abstractmethod
    def read_prompts(path: Path) -> list[SuitePrompt]:
        """Read the prompt list.

        Raises:
            InputError: the file is not such a list.
        """

    @staticmethod
    @abstractmethod
    def counted(dimension: str, clips: pd.DataFrame) -> NDArray[np.bool_]:
        """Choose the clips whose score of a dimension counts.

        Args:
            dimension: a dimension of the group.
            clips: the group's clips of one model: prompt_id, sample, and a column for each dimension; NaN if a score
                failed.
        """

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
