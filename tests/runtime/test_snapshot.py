"""Inputs of a stage's settings snapshot, and the files that a weights path stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import small_run
from videodpo.config import parse_config
from videodpo.runtime.snapshot import snapshot_text, stage_names, weight_files


def test_the_order_of_keys_changes_no_stage(tmp_path: Path) -> None:
    def backwards(value: Any) -> Any:
        return {key: backwards(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    raw = small_run(tmp_path, tmp_path)
    one, other = parse_config(raw), parse_config(backwards(raw))
    assert list(one.dimensions) == list(reversed(other.dimensions))
    assert [snapshot_text(one, name) for name in stage_names(one)] == [
        snapshot_text(other, name) for name in stage_names(one)
    ]


def _model_folder(folder: Path) -> Path:
    (folder / "vae").mkdir()
    (folder / ".cache").mkdir()
    for name in ("model_index.json", "vae/weights.safetensors", "README.md", ".hidden", ".cache/download.json"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def test_the_digest_covers_every_file_of_a_model_folder_in_a_fixed_order(tmp_path: Path) -> None:
    folder = _model_folder(tmp_path)
    assert weight_files(str(folder)) == [folder / "model_index.json", folder / "vae" / "weights.safetensors"]


def test_an_edited_model_card_does_not_change_the_digest(tmp_path: Path) -> None:
    assert not [file for file in weight_files(str(_model_folder(tmp_path))) if file.suffix == ".md"]


def test_file_stands_for_itself(tmp_path: Path) -> None:
    assert weight_files(str(tmp_path / "judge.safetensors")) == [tmp_path / "judge.safetensors"]


@pytest.mark.parametrize("change", [{"flow_shift": 5.0}, {"negative_prompt": "blurred"}])
def test_how_clips_are_sampled_is_recorded_for_training_and_evaluation(tmp_path: Path, change: dict[str, Any]) -> None:
    raw = small_run(tmp_path, tmp_path)
    changed = {**raw, "generate": raw["generate"] | {"sampling": raw["generate"]["sampling"] | change}}
    one, other = parse_config(raw), parse_config(changed)
    stages = {name for name in stage_names(one) if snapshot_text(one, name) != snapshot_text(other, name)}
    assert stages >= {"generate", "evaluate_generate"}
