"""Dimensions and judges with a name of their own, of which several may have one scorer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Stages, small_run
from videodpo.config import ConfigError, parse_config
from videodpo.runtime import registry
from videodpo.runtime.snapshot import snapshot_text
from videodpo.storage.tables import read_table
from videodpo.workflow.run import Workflow

JUDGE = str(ROOT / "demo" / "judge" / "judge.safetensors")
SHARP = {"scorer": "imaging_quality_sharpness", "pillar": "quality", "min": 0.0, "max": 1.0}


def configuration(results: Path, dimensions: dict[str, Any], judges: dict[str, Any] | None = None) -> dict[str, Any]:
    removed = {"temporal_flickering": None, "imaging_quality_sharpness": None}
    changes = {"dimensions": removed | dimensions, "evaluate": {"judges": judges or {}}}
    return small_run(ROOT / "demo" / "text_to_video", results, **changes)


def settings(raw: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(snapshot_text(parse_config(raw), f"score/{name}"))
    return found


def test_two_dimensions_of_one_scorer_have_tables_of_their_own(paired, tmp_path):
    paired.copy(tmp_path)
    raw = configuration(tmp_path, {"sharp": SHARP, "sharp_again": SHARP})
    run = Stages(raw)
    run.score()
    run.pairs()
    table = read_table(run.round_folder / "omniscore.parquet")
    assert table.raw_sharp.tolist() == table.raw_sharp_again.tolist()
    rows = read_table(run.round_folder / "scores" / "sharp" / "shard-00000.parquet")
    assert set(rows.dimension) == {"sharp"}
    version = registry.load("videodpo.scorers", "imaging_quality_sharpness").version
    assert set(rows.scorer) == {f"imaging_quality_sharpness v{version} no-weights"}


def test_a_snapshot_names_the_scorer_only_where_the_dimension_has_another_name(tmp_path):
    raw = configuration(tmp_path, {"sharp": SHARP}, {"captions": {"scorer": "caption_accuracy", "weights": JUDGE}})
    assert settings(raw, "sharp")["settings"]["scorer"] == "imaging_quality_sharpness"
    judge = settings(raw, "captions")
    assert judge["settings"] == {
        "dimension": "captions",
        "scorer": "caption_accuracy",
        "options": {"weights": JUDGE},
        "is_judge": True,
    }
    assert list(judge["weights"]) == [JUDGE]
    own = configuration(tmp_path, {"imaging_quality_sharpness": SHARP | {"scorer": None}})
    assert "scorer" not in settings(own, "imaging_quality_sharpness")["settings"]


def test_the_workflow_checks_the_scorer_of_a_named_dimension(tmp_path):
    raw = configuration(tmp_path, {"sharp": SHARP}, {"captions": {"scorer": "caption_accuracy", "weights": JUDGE}})
    run = Workflow(raw)
    assert run.scorers == ["sharp"]
    assert [needed.keys for needed in run.weights if needed.location == JUDGE] == [("evaluate.judges.captions",)]
    wrong = SHARP | {"scorer": "imaging_quality_sharp"}
    with pytest.raises(
        ConfigError, match=r"dimensions\.sharp: unknown scorer .*did you mean 'imaging_quality_sharpness'"
    ):
        Workflow(configuration(tmp_path, {"sharp": wrong}))


@pytest.mark.parametrize("name", ["omniscore", "quality", "semantic", "a-b", "a/b", "{x}"])
def test_a_name_that_is_no_column_or_file_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"dimensions\..*: the name may have letters, digits and _, and none of omni"):
        parse_config(configuration(tmp_path, {"sharp": SHARP, name: SHARP | {"pillar": None}}))
