"""The rehearsal before a release covers every model preset, and fails on an unexpected log line."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.conftest import ROOT
from videodpo.config.loading import read_config
from videodpo.config.schema import parse_config


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("rehearsal")


def test_every_model_preset_is_rehearsed(rehearsal):
    presets = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "presets").glob("*.yaml")}
    weights = {name: preset.get("model", {}).get("weights", "") for name, preset in presets.items()}
    models = {name for name, location in weights.items() if location and not location.startswith("demo/")}
    assert set(rehearsal.CLIPS) == {"config.yaml"} | models


def test_the_overlay_of_every_preset_is_a_valid_configuration(rehearsal, tmp_path):
    for preset in rehearsal.CLIPS:
        (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(rehearsal.make_overlay(preset)))
        files = [*rehearsal.preset_files(preset), tmp_path / "overlay.yaml"]
        config = parse_config(read_config(ROOT / "config.yaml", files))
        left_out = set(rehearsal.ONLY_DEFAULT) if preset != rehearsal.DEFAULT else set()
        assert set(config.dimensions) == {*rehearsal.SCORERS, "temporal_flickering"} - left_out
        assert config.model.weights == "model"


def test_only_own_lines_below_warning_and_known_lines_are_expected(rehearsal, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "KNOWN", {"^listed$": "a test"})
    log = write(tmp_path / "round1" / "logs" / "generate" / "shard-00000.log")
    time = "2026-01-01 12:00:00,123"
    lines = [f"{time} INFO videodpo.stages.generate: fine", "warning  epochs     2 epochs", "", "listed"]
    bad = [f"{time} WARNING videodpo.dpo.trainer: step 1", "FutureWarning: gone in 1.0", "Loading weights: 100%"]
    log.write_text("\n".join(lines + bad) + "\n")
    write(tmp_path / "round1" / "benchmarks" / "generate" / "shard-00000.tsv").write_text(
        "s\tmax_rss\n12.5\t2048.0\n", encoding="utf-8"
    )
    stages, unexpected = rehearsal.read_run(tmp_path)
    assert unexpected == [f"round1/logs/generate/shard-00000.log: {line}" for line in bad]
    assert stages == [{"stage": "generate", "jobs": 1, "seconds": 12.5, "peak_memory_mb": 2048.0, "warnings": 4}]
    row = {
        "clip": {"num_frames": 5, "height": 8, "width": 8},
        "layers": 2,
        "machine": "one",
        "dtype": "bfloat16",
        "commit": "0" * 40,
    }
    row |= {"seconds": {"weights": 1.0, "run": 2.0}, "exit_code": 0, "stages": stages, "unexpected": unexpected}
    assert re.search(
        r"^\| generate \| 1 \| 12\.5 \| 2048 \| 4 \|$", rehearsal.markdown({"ltx-video": row}), re.MULTILINE
    )


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path
