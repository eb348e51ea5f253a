"""Configuration of a study: arms over one base configuration, seeds, and the findings that the arms test."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from videodpo.config.errors import ConfigError
from videodpo.config.loading import merge, read_yaml
from videodpo.config.section import Section, validate

BASE = "base"
"""Value of `against` for the model before the alignment."""
SHARED = "shared"
"""Subfolder of the study for files that arms share with the study's base configuration, which has no overlay."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_OF_THE_STUDY = ("run", "results", "seed")


class Arm(Section):
    about: str
    """One line about the arm, for the page."""
    overlay: dict[str, Any] = Field(default_factory=dict)
    """Configuration keys that this arm sets; `presets` lists preset files that are applied before them."""
    extended: bool = False
    """Run this arm only with `--config study_extended=true`."""


class Finding(Section):
    claim: str
    """The finding, in one sentence: `arm` scores higher than `against`."""
    arm: str
    """Name of the arm that is expected to score higher."""
    against: str = BASE
    """Name of the arm that it is compared with; `base` is the model before the alignment."""
    score: str = "omniscore"
    """Score that is compared: omniscore, a pillar, a dimension or a judge."""
    paper: str = ""
    """The paper's own numbers, as text."""


class Study(Section):
    """Configuration of a study."""

    name: str = Field(..., pattern=_NAME)
    """Name of the study: letters, digits, `.`, `_` and `-`. Its results are written to <results>/<name>."""
    base: list[str] = Field([])
    """Presets that are applied to the configuration, for all arms."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(..., min_length=1)
    """Seeds. Each arm runs once per seed."""
    common: dict[str, Any] = Field(default_factory=dict)
    """Configuration keys that are set for all arms, after the presets of `base`."""
    arms: dict[str, Arm] = Field(..., min_length=1)
    """Arms by name. The names allow the same characters as the study's name."""
    findings: list[Finding] = Field([])
    """Findings to test. The correction for multiple tests covers all of them."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if twice := sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1}):
            yield "seeds", f"{twice[0]} is listed twice; list each seed once"
        for name in sorted({BASE, SHARED} & set(self.arms)):
            yield f"arms.{name}", f"the name {name!r} is reserved; use another one"
        for name in self.arms:
            if not re.fullmatch(_NAME, name):
                yield f"arms.{name}", "a name has letters, digits, `.`, `_` and `-`, and begins with a letter or digit"
        overlays = {"common": self.common} | {f"arms.{name}.overlay": arm.overlay for name, arm in self.arms.items()}
        for where, overlay in overlays.items():
            for key in set(_OF_THE_STUDY) & set(overlay):
                yield f"{where}.{key}", f"{overlay[key]!r}; the study sets this key, so remove it here"
        known = ", ".join(self.arms)
        for number, finding in enumerate(self.findings):
            if finding.arm not in self.arms:
                yield f"findings.{number}.arm", f"{finding.arm!r} is not among the arms ({known})"
            if finding.against not in (BASE, *self.arms):
                yield f"findings.{number}.against", f"{finding.against!r} is neither {BASE} nor an arm ({known})"
            if finding.against == finding.arm:
                yield f"findings.{number}.against", f"{finding.against!r} is the finding's own arm; name another one"

    def without_extended(self) -> Study:
        """The study without its extended arms and the findings that need them."""
        arms = {name: arm for name, arm in self.arms.items() if not arm.extended}
        findings = [finding for finding in self.findings if {finding.arm, finding.against} <= {BASE, *arms}]
        return self.model_copy(update={"arms": arms, "findings": findings})


def read_study(file: Path, *, extended: bool) -> Study:
    """Read a study file.

    Args:
        extended: keep the arms that are marked as `extended`.

    Raises:
        ConfigError: the file cannot be read, or keys are wrong; the message names each of them.
    """
    try:
        study = validate(Study, read_yaml(file))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}".replace("configuration: ", "")) from None
    study = study if extended else study.without_extended()
    if not study.arms:
        raise ConfigError(f"{file}: arms: all arms are extended; to run them, add --config study_extended=true")
    return study


def base_configuration(study: Study, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Apply the presets of `base`, then the keys of `common`, to a raw configuration.

    Raises:
        ConfigError: a preset cannot be read.
    """
    return merge(_with_presets(raw, study.base), study.common)


def arm_configuration(arm: Arm, base: Mapping[str, Any]) -> dict[str, Any]:
    """Apply an arm's overlay to the base; raise ConfigError as `base_configuration` does."""
    overlay = dict(arm.overlay)
    return merge(_with_presets(base, overlay.pop("presets", [])), overlay)


def for_run(study: Study, raw: Mapping[str, Any], folder: str, seed: int) -> dict[str, Any]:
    """Set the seed and the path of one run in an arm's raw configuration.

    Args:
        study: the study; its name is part of the path.
        raw: raw configuration of the arm.
        folder: name of the arm, or `SHARED`.
        seed: seed of the run, whose path is <results>/<study>/<folder>/seed<seed>.
    """
    results = Path(str(raw.get("results", "results"))) / study.name / folder
    return {**raw, "results": str(results), "run": f"seed{seed}", "seed": seed}


def _with_presets(raw: Mapping[str, Any], presets: Any) -> dict[str, Any]:
    if not isinstance(presets, list) or not all(isinstance(preset, str) for preset in presets):
        raise ConfigError(f"overlay.presets: {presets!r}: a list of files is needed")
    merged = dict(raw)
    for preset in presets:
        merged = merge(merged, read_yaml(Path(preset)))
    return merged
