"""The probe of a few steps: it finds settings that do not move the model or saturate it, and leaves no trace."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import small_run
from videodpo.dpo.findings import Finding
from videodpo.dpo.passes import Passes
from videodpo.stages.doctor import diagnose
from videodpo.storage.files import sha256_of_folder


@pytest.fixture
def probe(paired: Any, random_model: Path, stages: Any, tmp_path: Path) -> Any:
    """Function that runs the doctor on a copy of the small run; it returns the findings by check."""
    paired.copy(tmp_path)

    def call(*, dtype: str = "float32", runtime: dict[str, Any] | None = None, **train: Any) -> dict[str, Finding]:
        raw = small_run(random_model, tmp_path, train={"reference": "online"} | train)
        raw["model"]["dtype"] = dtype
        raw["train_runtime"] |= runtime or {}
        run = stages(raw)
        run.visits()
        run.snapshot("execution")
        return {finding.check: finding for finding in diagnose(run.snapshot("train"), run.round_folder)}

    return call


@pytest.mark.parametrize(
    ("rate", "advice"), [(1e-9, "will not move"), (2e-2, ""), (10.0, "will saturate")], ids=["still", "fine", "far"]
)
def test_a_rate_that_moves_nothing_and_one_that_breaks_the_model_are_warnings(
    probe: Any, rate: float, advice: str
) -> None:
    finding = probe(learning_rate=rate, beta=1000.0)["movement"]
    assert finding.status == ("warning" if advice else "fine"), finding.line
    assert advice in finding.advice


def test_the_probe_is_deterministic_and_leaves_nothing_behind(probe: Any, random_model: Path, tmp_path: Path) -> None:
    first = probe(lora={"rank": 4, "dropout": 0.5})
    before = sha256_of_folder(random_model), sha256_of_folder(tmp_path / "small" / "round1")
    assert probe(lora={"rank": 4, "dropout": 0.5}) == first
    assert (sha256_of_folder(random_model), sha256_of_folder(tmp_path / "small" / "round1")) == before


def test_a_training_that_does_not_fit_on_one_gpu_is_not_judged(probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = probe(runtime={"strategy": "fsdp", "processes": 2})
    assert "not judged, the training splits its model over processes" in shared["movement"].measured
    assert shared["movement"].status == shared["zero_gradients"].status == "fine"

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Passes, "learn", out_of_memory)
    assert "not judged, the training does not fit" in probe()["movement"].measured


def test_gradients_too_small_for_float16_are_counted(probe: Any) -> None:
    # The loss scale begins at 2^16; gradients of 1e-12 of the usual size are still too small.
    assert probe(dtype="float16")["zero_gradients"].value == pytest.approx(0.0, abs=0.01)
    finding = probe(dtype="float16", beta=1e-10)["zero_gradients"]
    assert finding.status == "alarm", finding.line


def test_the_doctor_logs_its_progress(probe: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    probe()
    assert "doctor: the first losses done, 2 of 5 parts" in caplog.text
    assert "pass 1 of" in caplog.text or "5 of 5 parts" in caplog.text
