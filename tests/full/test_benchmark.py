"""A benchmark of clips in two folders, through Snakemake: no sampling, no training, and an edit re-runs its part."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import small_run
from tests.support.workspace import make_workspace, snakemake, without_default_scorers
from videodpo.storage.video import write_mp4

PROMPTS = ["a red cat", "a blue dog"]
SHARP, FLICKER = "imaging_quality_sharpness", "temporal_flickering"
SUMMARY = Path("results/small/round1/benchmark/summary.json")
OWN_RULES = {
    "snapshot",
    "benchmark_prompts",
    "benchmark_generate",
    "benchmark_score",
    "benchmark_collect_scores",
    "benchmark_summary",
}


@pytest.fixture(scope="module")
def workspace(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    rng = np.random.default_rng(0)
    for arm in ("base", "aligned"):
        (folder / arm).mkdir()
        for prompt in PROMPTS:
            for sample in range(2):
                frames = rng.integers(0, 255, size=(5, 32, 32, 3), dtype=np.uint8)
                write_mp4(folder / arm / f"{prompt}-{sample}.mp4", frames, 8.0)
    rows = [{"prompt_en": prompt, "dimension": [SHARP]} for prompt in PROMPTS]
    (folder / "list.json").write_text(json.dumps(rows))
    suite = {
        "module": "vbench",
        "prompts": "list.json",
        "groups": {"sharp": {"dimensions": [SHARP, "flicker"], "num_prompts": 2, "samples": 2}},
        "dimensions": {
            SHARP: {"pillar": "quality", "min": 0.0, "max": 1.0},
            "flicker": {"scorer": FLICKER, "pillar": "semantic", "min": 0.0, "max": 1.0},
        },
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    section = {"suite": "suite.yaml", "folders": {"base": "base", "aligned": "aligned"}}
    raw = small_run(random_model, Path("results"), evaluate={"benchmark": section})
    return make_workspace(folder, without_default_scorers(raw))


def run(folder: Path) -> tuple[set[str], dict[str, object]]:
    """Rules that Snakemake ran, and the summary."""
    answer = snakemake(folder, "benchmark", "--cores", "2", "--configfile", "overlay.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rules = set(re.findall(r"^(?:local)?rule (\w+):", answer.stdout + answer.stderr, flags=re.MULTILINE))
    return rules - {"benchmark"}, json.loads((folder / SUMMARY).read_text())


def test_a_benchmark_of_finished_clips_re_runs_what_an_edit_changes(workspace: Path) -> None:
    rules, summary = run(workspace)
    assert rules == OWN_RULES
    assert summary["notes"] == []
    assert [row["name"] for row in summary["rows"]][:3] == ["total", "quality", "semantic"]

    above = workspace / SUMMARY.parents[1]
    assert (above / "logs/benchmark_summary.log").exists()
    assert (above / "benchmarks/benchmark_summary.tsv").exists()

    assert run(workspace)[0] == set()

    (workspace / "aligned" / "a red cat-1.mp4").unlink()
    rules, summary = run(workspace)
    assert rules == OWN_RULES - {"benchmark_prompts"}
    assert all("incomplete, 1 clips have no score" in note for note in summary["notes"])

    overlay = yaml.safe_load((workspace / "overlay.yaml").read_text())
    overlay["evaluate"]["bootstrap_resamples"] = 200
    (workspace / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    assert run(workspace)[0] == {"snapshot", "benchmark_summary"}
