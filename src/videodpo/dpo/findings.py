"""What a check found: fine, warning or alarm, as a line to read and as JSON."""

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
    """One check's result.

    Attributes:
        check: its name, as docs/doctor.md lists it. status: how bad it is.
        measured, expected: in words, with the numbers. advice: what to do; "" where all is fine.
        value: the measured number itself, for programs; None where there is none.
    """

    check: str
    status: Status
    measured: str
    expected: str
    advice: str = ""
    value: float | None = None

    @property
    def line(self) -> str:
        """For the terminal."""
        text = f"{self.status:<8} {self.check:<20} {self.measured}; expected: {self.expected}"
        return text if self.status == "fine" or not self.advice else f"{text}. {self.advice}"

    @property
    def json(self) -> str:
        """One JSON object on one line; a value that is not finite is null."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return json.dumps(vars(self) | {"value": value}, ensure_ascii=False, allow_nan=False)


def grade(value: float, warning: float, alarm: float = math.inf) -> Status:
    """By two limits that are still allowed; what is no number is an alarm."""
    if math.isnan(value) or value > alarm:
        return "alarm"
    return "warning" if value > warning else "fine"


def worse(one: Status, other: Status) -> Status:
    return max(one, other, key=_RANK.index)


def worst(findings: Sequence[Finding]) -> Status:
    """The highest status among them; fine for none."""
    return max((finding.status for finding in findings), key=_RANK.index, default="fine")
