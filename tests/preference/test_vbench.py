"""VBench's rules: its prompt list, the clips that count, and its totals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from videodpo.config import ConfigError, InputError
from videodpo.config.benchmark import read_suite
from videodpo.preference.suites.vbench import VBench


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def test_the_list_gives_prompts_dimensions_and_texts_for_the_scorers(tmp_path):
    rows = [
        {"prompt_en": "a cat", "dimension": ["object_class"], "auxiliary_info": {"object_class": {"object": "cat"}}},
        {"prompt_en": "alley", "dimension": ["scene"], "auxiliary_info": {"scene": {"scene": {"scene": "alley"}}}},
        {"prompt_en": "rain", "dimension": ["overall_consistency", "imaging_quality"]},
    ]
    cat, alley, rain = VBench.read_prompts(write(tmp_path / "list.json", rows))
    assert (cat.prompt, dict(cat.info)) == ("a cat", {"object": "cat"})
    assert dict(alley.info) == {"scene": "alley"}
    assert rain.dimensions == {"overall_consistency", "imaging_quality"}
    assert dict(rain.info) == {}


@pytest.mark.parametrize(
    "rows",
    [
        {},
        ["a cat"],
        [{"prompt_en": "a cat"}],
        [{"prompt_en": 1, "dimension": []}],
        [{"prompt_en": "a cat", "dimension": [["color"]]}],
    ],
)
def test_another_file_is_refused_by_name(rows, tmp_path):
    with pytest.raises(InputError, match=r"list\.json"):
        VBench.read_prompts(write(tmp_path / "list.json", rows))


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (None, "auxiliary_info is None; it must be an object"),
        ("cat", "auxiliary_info is 'cat'; it must be an object"),
        ({"color": {"color": "red"}, "scene": {"color": "blue"}}, "auxiliary_info has two values of 'color'"),
    ],
)
def test_unusable_information_about_a_prompt_is_refused_with_its_number(info, reason, tmp_path):
    rows = [{"prompt_en": "a dog", "dimension": []}, {"prompt_en": "a cat", "dimension": [], "auxiliary_info": info}]
    with pytest.raises(InputError, match=rf"list\.json: entry 1: {reason}"):
        VBench.read_prompts(write(tmp_path / "list.json", rows))


def test_five_samples_count():
    clips = pd.DataFrame({"prompt_id": ["p"] * 7, "sample": range(7)})
    assert VBench.counted(clips, None).tolist() == [True] * 5 + [False] * 2


def test_the_first_five_still_clips_count_in_the_order_of_file_names():
    still = {0, 2, 3, 10, 11, 12, 24}
    clips = pd.DataFrame({"prompt_id": ["p"] * 25, "sample": range(25)})
    clips["static_clip"] = [float(sample in still) for sample in clips["sample"]]
    counted = VBench.counted(clips, "static_clip")
    assert clips["sample"][counted].tolist() == [0, 2, 10, 11, 12]  # 0, 10, 11, 12, 2, 24, 3


def test_a_clip_whose_filter_failed_does_not_count():
    clips = pd.DataFrame({"prompt_id": ["p", "p"], "sample": [0, 1], "static_clip": [np.nan, 1.0]})
    assert VBench.counted(clips, "static_clip").tolist() == [False, True]


def test_samples_that_never_count_are_refused():
    suite = read_suite("vbench")
    VBench.check(suite)
    with pytest.raises(
        ConfigError, match=r"groups\.temporal_flickering\.samples: 25, but only 5 clips per prompt count"
    ):
        VBench.check(suite.model_copy(update={"gates": {}}))


def test_totals_are_weighted_means_of_the_scaled_dimensions():
    suite = read_suite("vbench")
    best = {name: np.array([one.max, one.min]) for name, one in suite.dimensions.items() if one.pillar}
    totals = VBench.totals(best, suite)
    assert list(totals) == ["total", "quality", "semantic"]
    assert all(np.allclose(values, [1.0, 0.0]) for values in totals.values())
    one_bit = best | {"dynamic_degree": np.array([0.0, 1.0])}
    assert VBench.totals(one_bit, suite)["total"] == pytest.approx([1 - 0.8 * 0.5 / 6.5, 0.8 * 0.5 / 6.5])
