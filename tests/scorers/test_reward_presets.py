"""The presets of vision-language judges: one text for all dimensions, and every way in which the models write it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import ROOT
from videodpo.config import validate
from videodpo.config.loading import read_yaml
from videodpo.scorers.networks.answer_tokens import last_match
from videodpo.scorers.vision_language_judge import VisionLanguageJudge
from videodpo.weights.locations import check_name

PRESETS = {"videoscore2": 3, "unifiedreward": 5, "unifiedreward2": 3}
IN_ORDER = {
    "videoscore2": ("visual_quality", "text_alignment", "physical_consistency"),
    "unifiedreward": (
        "visual_quality",
        "temporal_consistency",
        "dynamic_degree",
        "text_alignment",
        "factual_consistency",
    ),
    "unifiedreward2": ("alignment", "physics", "style"),
}


def dimensions(preset: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(ROOT / "presets" / f"{preset}.yaml")["dimensions"]
    return found


def options(preset: str) -> dict[str, VisionLanguageJudge.Options]:
    return {name: validate(VisionLanguageJudge.Options, one["options"]) for name, one in dimensions(preset).items()}


def read(preset: str, text: str) -> list[str | None]:
    """What each dimension of a preset reads in a judge's text; None for a text that it refuses."""
    found: list[str | None] = []
    for name, one in options(preset).items():
        assert name.startswith(preset)
        assert one.pattern is not None
        try:
            found.append(last_match(text, re.compile(one.pattern)).group(1))
        except ValueError:
            found.append(None)
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_the_dimensions_of_a_preset_share_one_text(preset):
    found = options(preset)
    assert list(found) == [f"{preset}_{name}" for name in IN_ORDER[preset]]
    assert len({one.asked.model_dump_json() for one in found.values()}) == 1
    assert len({one.pattern for one in found.values()}) == len(found) == PRESETS[preset]
    for one in found.values():
        check_name(one.question_file)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_ranges_of_a_preset_are_the_models_scale(preset):
    top = 4 if preset == "unifiedreward" else 5
    assert {(one["min"], one["max"]) for one in dimensions(preset).values()} == {(1, top)}
    for one in options(preset).values():
        assert one.answers is None or list(one.answers.values()) == list(range(1, top + 1))


@pytest.mark.parametrize(
    "text",
    [
        "visual quality: 3; \ntext-to-video alignment: 4, \nphysical/common-sense consistency: 2",
        "visual quality: 3; text-to-video alignment: 4, physical/common-sense consistency: 2",
        "(1) visual quality - sharp, steady, clean: 3\n(2) text-to-video alignment - as asked: 4\n"
        "(3) physical/common-sense consistency - as in the real world: 2",
        "Visual quality: 3/5; \n- Text-to-video alignment: 4/5\n- Physical consistency: 2/5",
        "**Visual Quality**: 3\n**Text-to-Video Alignment:** 4\n**Physical/Common-sense Consistency**: 2.",
        "<think>visual quality: 5; text-to-video alignment: 5, physical consistency: 5</think>\n"
        "visual quality: <3>; text-to-video alignment: <4>, physical/common-sense consistency: <2>",
        "visual quality (1-5): 3\ntext-to-video alignment (1-5): 4\ncommon-sense consistency (1-5): 2",
    ],
)
def test_every_written_form_of_videoscore2_is_read(text):
    assert read("videoscore2", text) == ["3", "4", "2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("visual quality: 3; text-to-video alignment: n/a, physical/common-sense consistency: 2", ["3", None, "2"]),
        ("visual quality: 6; text-to-video alignment: 45, physical/common-sense consistency: 2.5", [None] * 3),
        ("<think>visual quality: 5; text-to-video alignment: 5, physical consistency: 5", [None] * 3),
        ("<think>visual quality: 5</think> I cannot say.", [None] * 3),
        ("The clip looks good.", [None] * 3),
        ("", [None] * 3),
    ],
)
def test_what_is_no_rating_of_videoscore2_is_refused(text, found):
    assert read("videoscore2", text) == found


@pytest.mark.parametrize("form", ["{0}: {1}", "({2}) {0}: {1}", "**{0}**: {1}", "{0} (1-4): {1}", "{0}: {1}/4"])
def test_every_written_form_of_unifiedreward_is_read(form):
    names = ("Visual quality", "temporal consistency", "dynamic degree", "text-to-video alignment")
    lines = [form.format(name, k % 4 + 1, k + 1) for k, name in enumerate((*names, "factual consistency"))]
    assert read("unifiedreward", "\n".join([*lines, "Final Score: 6"])) == ["1", "2", "3", "4", "1"]
    assert read("unifiedreward", "Final Score: 6") == [None] * 5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "Alignment Score (1-5): 2.4036\nPhysics Score (1-5): 3.0987\nStyle Score (1-5): 5.0000",
            ["2.4036", "3.0987", "5.0000"],
        ),
        ("Alignment Score: 2\n**Physics Score (1-5)**: 3.\nStyle score (1-5): 5", ["2", "3", "5"]),
        ("Alignment Score (1-5): 5.2\nPhysics Score (1-5): 12\nStyle Score (1-5): nan", [None] * 3),
        ("Alignment Score (1-5):\nPhysics Score (1-5): 3.5", [None, "3.5", None]),
    ],
)
def test_numbers_of_unifiedreward_2_are_read_as_written(text, found):
    assert read("unifiedreward2", text) == found
