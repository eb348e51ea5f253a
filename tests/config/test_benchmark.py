"""Suites of benchmarks, and the section `evaluate.benchmark`."""

from __future__ import annotations

import pytest
import yaml

from videodpo.config import ConfigError, validate
from videodpo.config.benchmark import Benchmark, Suite, read_suite, suite_of
from videodpo.runtime import registry

SMALL = {
    "module": "vbench",
    "prompts": "list.json",
    "groups": {"one": {"dimensions": ["a", "b"], "num_prompts": 3, "samples": 2}},
    "dimensions": {"a": {"pillar": "quality", "min": 0.0, "max": 1.0}, "b": {}},
}


def changed(**keys):
    return SMALL | keys


def with_quality(**keys):
    return changed(dimensions={"a": SMALL["dimensions"]["a"] | keys, "b": {}})


def renamed(name):
    """The suite with another name for dimension b."""
    group = SMALL["groups"]["one"] | {"dimensions": ["a", name]}
    return changed(groups={"one": group}, dimensions={"a": SMALL["dimensions"]["a"], name: {}})


def test_vbench_has_its_clips_dimensions_and_weights():
    suite = read_suite("vbench")
    assert sum(group.num_prompts * group.samples for group in suite.groups.values()) == 6230
    assert len(suite.weighted) == 16
    by_pillar = {"quality": 0.0, "semantic": 0.0}
    for name in suite.weighted:
        by_pillar[suite.dimensions[name].pillar] += suite.dimensions[name].weight
    assert by_pillar == {"quality": 6.5, "semantic": 9.0}


def test_published_totals_obey_the_formula():
    for values in read_suite("vbench").published.values():
        assert (4 * values["quality"] + values["semantic"]) / 5 == pytest.approx(values["total"], abs=1e-4)


def test_a_name_alone_is_a_suite():
    assert validate(Benchmark, Benchmark.model_validate("vbench").model_dump()).suite == "vbench"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"arms": ["base"], "folders": {"aligned": "x"}}, "arms has no aligned"),
        ({"arms": ["base", "base"]}, "names a model twice"),
        ({"arms": []}, "arms"),
    ],
)
def test_models_and_folders_must_agree(raw, message):
    with pytest.raises(ConfigError, match=message):
        validate(Benchmark, raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (changed(groups={"one": {"dimensions": ["a", "c"], "num_prompts": 3, "samples": 2}}), "'c' is not among"),
        (changed(dimensions=SMALL["dimensions"] | {"c": {}}), "in 0 groups"),
        (changed(groups=SMALL["groups"] | {"two": SMALL["groups"]["one"]}), "in 2 groups"),
        (changed(groups={"a/b": SMALL["groups"]["one"]}), "letters, digits"),
        (changed(dimensions={"a": {"pillar": "quality"}, "b": {}}), "a pillar needs it"),
        (changed(groups={"official": SMALL["groups"]["one"]}), "must not be official"),
        (changed(gates={"a": "c"}), "'c' is not in the same group as 'a'"),
        (changed(gates={"c": "a"}), "'a' is not in the same group as 'c'"),
        (changed(gates={"a": "b", "b": "a"}), "'b' has a gate itself"),
        (changed(left_out=["a"]), "left_out: unknown key"),
        (with_quality(saturate=True), r"dimensions\.a\.saturate: true, but"),
        (with_quality(weight=0.0), r"pillars\.quality: all its dimensions have weight 0"),
        (changed(pillars={"quality": 0.0, "semantic": 1.0}), "pillars: each one with dimensions has weight 0"),
        (renamed("total"), r"dimensions\.total: .* none of quality, semantic, total"),
        (renamed("a-b"), r"dimensions\.a-b: the name may have letters, digits"),
    ],
)
def test_a_suite_that_contradicts_itself_is_refused(raw, message):
    with pytest.raises(ConfigError, match=message):
        validate(Suite, raw)


def test_a_suite_may_be_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    assert read_suite(str(path)).groups["one"].num_prompts == 3


def test_an_edited_suite_is_read_again(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    first = read_suite(str(path))
    assert read_suite(str(path)) is first
    path.write_text(yaml.safe_dump(changed(prompts="another list.json")))
    assert read_suite(str(path)).prompts == "another list.json"


def test_an_unknown_suite_is_refused_by_name(tmp_path):
    for name in ("vbnech", str(tmp_path / "none.yaml")):
        with pytest.raises(ConfigError, match=r"neither a suite \(vbench\) nor a YAML file"):
            read_suite(name)


def test_a_restricted_suite_keeps_the_gates_of_the_wanted_dimensions_only():
    small = validate(Suite, changed(gates={"a": "b"}))
    assert set(small.restricted(["a"]).dimensions) == {"a", "b"}
    assert set(small.restricted(["b"]).dimensions) == {"b"}
    assert set(validate(Suite, SMALL).restricted(["a"]).dimensions) == {"a"}
    suite = suite_of(Benchmark(dimensions=["temporal_flickering", "color"]))
    assert list(suite.groups) == ["temporal_flickering", "color"]
    assert set(suite.dimensions) == {"temporal_flickering", "static_clip", "color"}
    assert len(suite.left_out) == 14


def test_an_unknown_dimension_is_refused():
    with pytest.raises(ConfigError, match="'colour' is not in vbench"):
        suite_of(Benchmark(dimensions=["colour"]))


def test_scorers_of_vbench_are_known_and_accept_their_options():
    """A raw score is in the unit of its range: imaging quality as a share, not in percent."""
    suite = read_suite("vbench")
    for name, one in suite.dimensions.items():
        kind = registry.load("videodpo.scorers", one.scorer or name)
        options = validate(kind.Options, one.options, name)
        assert kind.weights(options) or name == "temporal_flickering"
    assert suite.dimensions["imaging_quality"].options == {"as_share": True}
