"""Findings, tables and page of a study, from evaluations with known differences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from videodpo.cli import main
from videodpo.config import InputError
from videodpo.storage.files import write_json
from videodpo.storage.manifests import record_json
from videodpo.storage.schemas import EVALUATION
from videodpo.storage.tables import read_table, write_table
from videodpo.tools.study import write_study
from videodpo.tools.study.arms import Arm, format_arms

PROMPTS, SEEDS = 60, (1, 2)
SHARP, TEXT, JUDGE = "sharpness", "text", "eye"
OMNISCORE = {
    "dimensions": {
        SHARP: {"pillar": "quality", "min": 0.0, "max": 1.0},
        TEXT: {"pillar": "semantic", "min": 0.0, "max": 1.0},
    },
    "pillars": {"quality": 1.0, "semantic": 1.0},
}
# Shift of the sharpness and of the text score, by arm.
SHIFTS = {"good": (0.2, 0.1), "same": (0.2, 0.1), "bad": (-0.3, 0.0), "sharp": (0.3, -0.3)}
FINDINGS = [
    {"claim": "rises", "arm": "good", "against": "base", "score": "omniscore", "paper": "1 to 2"},
    {"claim": "beats sharp", "arm": "good", "against": "sharp", "score": "omniscore", "paper": ""},
    {"claim": "bad beats good", "arm": "bad", "against": "good", "score": "quality", "paper": ""},
    {"claim": "beats itself", "arm": "good", "against": "same", "score": "omniscore", "paper": ""},
    {"claim": "lacks", "arm": "good", "against": "failed", "score": "omniscore", "paper": ""},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study with one arm that failed before its pairs, after one comparison; and the command's output."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_runs()
        return folder, write_study(Path("results/known"))


@pytest.fixture
def root(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study's folder, relative to the working directory; tests only read it."""
    monkeypatch.chdir(made[0])
    return Path("results/known")


def make_runs() -> None:
    root = Path("results/known")
    names = [*SHIFTS, "failed"]
    runs = [{"arm": name, "seed": seed, "folder": f"{name}/seed{seed}", "round": 1} for name in names for seed in SEEDS]
    arms = {name: {"about": f"about {name}", "overlay": {}, "extended": False} for name in names}
    study = {"name": "known", "seeds": list(SEEDS), "arms": arms, "findings": FINDINGS}
    plan = {"study": study, "omniscore": OMNISCORE, "bootstrap_resamples": 2000, "runs": runs}
    write_json(root / "study.json", plan)
    for seed in SEEDS:
        for name, shifts in SHIFTS.items():
            evaluated(root / name / f"seed{seed}/round1/evaluation", seed, shifts)
        failed = root / f"failed/seed{seed}"
        for file in ("prompts.parquet", "round1/videos/shards.json", "round1/omniscore.parquet"):
            (failed / file).parent.mkdir(parents=True, exist_ok=True)
            (failed / file).touch()
        (failed / "round1/logs").mkdir()
        (failed / "round1/logs/pairs.log").write_text("x started on y: videodpo pairs\nvideodpo pairs: none left\n")


def evaluated(folder: Path, seed: int, shifts: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)  # all arms have the same clips of the base model
    rows: list[dict[str, Any]] = []
    for prompt in range(PROMPTS):
        for name, shift in zip((SHARP, TEXT), shifts, strict=True):
            base = rng.random()
            aligned = base + shift + 0.02 * np.sin(prompt)
            rows.append(row(f"{seed}-{prompt}", name, base, aligned))
        rows.append(row(f"{seed}-{prompt}", JUDGE, 0.5, 0.5 - shifts[0]))
        rows.append(row(f"{seed}-{prompt}", "omniscore", 0.0, 99.0))  # by the arm's own OmniScore formula
    write_table(folder / "prompts.parquet", rows, EVALUATION, stage="evaluate", digest="d", seed=seed)
    other = {"headroom": 9.0, "gain": 9.0, "delta": 99.0, "kind": "total"}
    dimensions = {SHARP: {"headroom": 0.5, "gain": 0.4, "kind": "dimension"}, TEXT: {"kind": "dimension"}}
    dimensions |= {JUDGE: {"kind": "judge"}, "omniscore": other}
    summary = {"dimensions": dimensions, "motion": {"relative_change": -0.25}, "strength": {"mean": 0.03}}
    record_json(folder / "summary.json", summary)


def row(prompt: str, name: str, base: float, aligned: float) -> dict[str, Any]:
    values = {"base": base, "aligned": aligned, "delta": aligned - base}
    return {"prompt_id": prompt, "sample": 0, "dimension": name, **values}


@pytest.fixture
def verdicts(root: Path) -> dict[str, dict[str, Any]]:
    return {one["claim"]: one for one in json.loads((root / "verdicts.json").read_text())}


def test_verdicts_follow_the_known_differences(verdicts):
    found = {claim: one["verdict"] for claim, one in verdicts.items()}
    assert found == {
        "rises": "reproduced",
        "beats sharp": "reproduced",
        "bad beats good": "contradicted",
        "beats itself": "not resolved",
        "lacks": "no result",
    }


def test_differences_are_paired_and_use_one_omniscore_for_all_arms(verdicts):
    assert verdicts["beats sharp"]["difference"] == pytest.approx((0.2 + 0.1) / 2 - (0.3 - 0.3) / 2)
    assert verdicts["bad beats good"]["difference"] == pytest.approx(-0.5)
    assert verdicts["bad beats good"]["ci_low"] == pytest.approx(-0.5)  # the shift that both sides share cancels
    assert verdicts["rises"]["num_prompts"] == PROMPTS * len(SEEDS)


def test_a_finding_without_a_result_counts_for_the_correction(verdicts):
    smallest = 2 / 2001
    assert verdicts["rises"]["p"] == pytest.approx(smallest)
    assert verdicts["rises"]["p_holm"] == pytest.approx(5 * smallest)


def test_the_table_has_every_arm_seed_and_score(root, verdicts):
    table = read_table(root / "study.parquet")
    assert len(table) == len(SHIFTS) * len(SEEDS) * 6
    one = table[(table.arm == "good") & (table.seed == 1)].set_index("score")
    assert one.loc["quality", "delta"] == pytest.approx(0.2, abs=0.01)
    assert one.loc["omniscore", "aligned"] < 2
    assert (one.loc[SHARP, "headroom"], one.loc[SHARP, "gain"]) == (0.5, 0.4)
    assert np.isnan(one.loc["omniscore", "headroom"])  # it has another formula
    assert (one.loc[TEXT, "strength"], one.loc[TEXT, "motion"]) == (0.03, -0.25)


def test_arms_are_compared_with_the_judges(root, made):
    good, same, _, sharp = (line.split() for line in made[1].splitlines()[3:7])
    assert made[1].splitlines()[2].split() == ["seeds", "omniscore", "gain", JUDGE, "motion", "strength"]
    assert good[2:] == [good[2], "-0.2000", "-25.0", "%", "+3.0", "%"]  # no gain: the arm's own formula differs
    assert (good[:2], good[1:], sharp[3]) == (["good", "2"], same[1:], "-0.3000")
    drawn = pd.read_csv(root / "figures/judges.csv")
    assert drawn.arm.tolist() == [*SHIFTS, "failed"]
    assert drawn[JUDGE].tolist() == pytest.approx([-0.2, -0.2, 0.3, -0.3, np.nan], nan_ok=True)
    assert f"No arm is trained on {JUDGE}." in (root / "index.html").read_text()


def test_a_study_without_totals_and_judges_has_a_table_of_arms():
    arm = Arm("one", "", num_seeds=1, deltas={SHARP: 0.1}, gain=None, motion=-0.02, strength=None)
    header, row = format_arms([arm], []).splitlines()
    assert (header.split(), row.split()) == (
        ["seeds", "omniscore", "gain", "motion", "strength"],
        ["one", "1", "-2.0", "%"],
    )


def test_missing_runs_are_named_with_their_log(root, made):
    text = made[1]
    assert "8 of 10 runs are finished" in text
    assert "failed, seed 1: missing round1/pairs.parquet; log: results/known/failed/seed1/round1/logs/pairs.log" in text
    page = (root / "index.html").read_text()
    assert "results/known/failed/seed2/round1/logs/pairs.log" in page
    assert "1 to 2" in page


def test_the_same_runs_give_the_same_bytes(root):
    names = ("study.parquet", "verdicts.json", "index.html", "figures/findings-light.svg")
    before = [(root / name).read_bytes() for name in names]
    write_study(root)
    assert [(root / name).read_bytes() for name in names] == before


def test_a_study_without_finished_runs_is_an_error_that_names_the_logs(root, capsys, tmp_path):
    root = shutil.copytree(root, tmp_path / "known")
    for summary in root.rglob("summary.json"):
        summary.unlink()
    assert main(["study", str(root)]) == 1
    assert "no run of the study is finished" in (error := capsys.readouterr().err)
    assert "failed/seed1/round1/logs/pairs.log" in error


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no study\.json"):
        write_study(tmp_path)
