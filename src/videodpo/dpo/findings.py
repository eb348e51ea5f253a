"""Result of a check (fine, warning or alarm), as a line of text and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["fine", "warning", "alarm"]
_RANK: tuple[Status, ...] = ("fine", "warning", "alarm")


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        check: name of the check, as listed in docs/doctor.md.
        status: severity.
        measured, expected: text with the numbers.
        advice: what to do; "" if all is fine.
        value: the measured number, for programs; None if there is none.
    """

    check: str
    status: Status
    measured: str
    expected: str
    advice: str = ""
    value: float | None = None

    @property
    def line(self) -> str:
        """One line for the terminal."""
        text = f"{self.status:<8} {self.check:<20} {self.measured}; expected: {self.expected}"
        return text if self.status == "fine" or not self.advice else f"{text}. {self.advice}"

    @property
    def json(self) -> str:
        """One JSON object on one line; a non-finite value becomes null."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return json.dumps(vars(self) | {"value": value}, ensure_ascii=False, allow_nan=False)


def grade(value: float, warning: float, alarm: float = math.inf) -> Status:
    """Return "alarm" for NaN or above `alarm`, "warning" above `warning`, else "fine"."""
    if math.isnan(value) or value > alarm:
        return "alarm"
    return "warning" if value > warning else "fine"


def worse(one: Status, other: Status) -> Status:
    """Return the more severe status."""
    return max(one, other, key=_RANK.index)


def worst(findings: Sequence[Finding]) -> Status:
    """Return the most severe status; "fine" if there are no findings."""
    return max((finding.status for finding in findings), key=_RANK.index, default="fine")
