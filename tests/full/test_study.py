"""A study of three arms end to end: shared files are computed once; failures, edits and kills affect one arm only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT as REPOSITORY
from tests.conftest import small_run
from tests.support.studies import BROKEN, CALL, OF_THE_PROFILES, make_study, planned, run_study, with_arm, write_study
from tests.support.workspace import dry_run, make_workspace, without_default_scorers
from videodpo.cli import main
from videodpo.storage.files import sha256_of
from videodpo.storage.tables import read_table

SOURCES = REPOSITORY / "src"
ROOT, SHARED = Path("results/tiny"), Path("results/tiny/shared/seed3")
ARMS = ("dpo", "plain", "sft")
LATE = {"train": {"beta": 200.0}}
SAME = [
    "prompts.parquet",
    "round1/videos/shard-00000.parquet",
    "round1/scores/temporal_flickering/shard-00000.parquet",
    "round1/omniscore.parquet",
    "round1/pairs.parquet",
    "round1/visits.parquet",
    "round1/reference/shard-00000.parquet",
    "round1/adapter/pytorch_lora_weights.safetensors",
    "round1/evaluation/videos/base/shard-00000.parquet",
    "round1/evaluation/prompts.parquet",
]


@pytest.fixture(scope="module")
def made(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder of a finished study, and Snakemake's output."""
    folder = make_study(tmp_path_factory.mktemp("study"), random_model)
    answer = run_study(folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder, answer.stdout


@pytest.fixture
def study(made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study, which is also the working directory."""
    folder = shutil.copytree(made[0], tmp_path / "study", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def edited(
    made: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A copy with an additional arm, and an edit that makes `sft` fail; and the result of the second start."""
    folder = shutil.copytree(made[0], tmp_path_factory.mktemp("edited") / "study", symlinks=True)
    write_study(folder, arms={**with_arm("sft", **BROKEN), "late": {"about": "-", "overlay": LATE}})
    return folder, run_study(folder)


def tries(log: Path) -> int:
    return log.read_text(encoding="utf-8").count(" started on ")


def test_each_shared_file_is_computed_once(made):
    logs = made[0] / SHARED / "round1" / "logs"
    for name in ("generate/shard-00000.log", "score/shard-00000.log", "reference/shard-00000.log", "visits.log"):
        assert tries(logs / name) == 1
    assert not list((made[0] / SHARED).rglob("train.log"))
    for arm in ARMS:
        own = {path.name for path in (made[0] / ROOT / arm / "seed3/round1/logs").iterdir()}
        assert not own & {"generate", "score", "collect_scores", "omniscore.log", "visits.log", "reference"}
        assert ("pairs.log" in own) == (arm == "plain")
        assert not (made[0] / ROOT / arm / "seed3/round1/logs/evaluate_generate/base").exists()


def test_weights_are_read_once_for_all_runs(made):
    memories = [made[0] / ROOT / arm / "seed3/weights.json" for arm in ("shared", *ARMS)]
    assert all(memory.resolve() == (made[0] / ROOT / "weights.json").resolve() for memory in memories)


def test_a_second_start_does_nothing(study):
    assert planned(study) == []


def test_tables_page_and_verdicts_are_written(made):
    root = made[0] / ROOT
    table = read_table(root / "study.parquet")
    assert set(zip(table.arm, table.seed, strict=True)) == {(arm, 3) for arm in ARMS}
    summary = json.loads((root / "sft/seed3/round1/evaluation/summary.json").read_text())["dimensions"]["omniscore"]
    row = table[(table.arm == "sft") & (table.score == "omniscore")].iloc[0]
    assert (row.base, row.aligned) == pytest.approx((summary["base"], summary["aligned"]))
    verdicts = json.loads((root / "verdicts.json").read_text())
    assert [one["verdict"] for one in verdicts] == ["not resolved"] * 3
    assert "80.44 to 81.93" in (root / "index.html").read_text()
    assert "Not resolved" in made[1]


def test_an_arm_has_the_same_bytes_as_an_ordinary_run(made, random_model, tmp_path):
    raw = small_run(random_model, Path("results"), run="seed3", pairs={"reweight": {"exponent": 0.0}})
    make_workspace(tmp_path, without_default_scorers(raw))
    stages = "from tests.support.every_stage import run_stages"
    call = [sys.executable, "-c", f"{stages}; run_stages('--config', 'config.yaml', '--preset', 'overlay.yaml')"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, SOURCES)))}
    subprocess.run(call, cwd=tmp_path, env=environment, check=True)
    alone, arm = tmp_path / "results/seed3", made[0] / ROOT / "plain/seed3"
    assert {name: sha256_of(arm / name) for name in SAME} == {name: sha256_of(alone / name) for name in SAME}


def test_the_tools_work_on_an_arm(study, capsys):
    run = str(ROOT / "dpo/seed3")
    assert main(["verify", run]) == 0
    assert f"videodpo verify {SHARED}" in capsys.readouterr().out
    assert main(["verify", str(ROOT)]) == 0
    assert main(["summary", run]) == 0
    assert main(["inspect", f"{run}/round1/pairs.parquet"]) == 0
    assert main(["what-if", "--run", run, "--set", "pairs.first_samples=2"]) == 0
    assert "rejected" in capsys.readouterr().out


def test_a_damaged_shared_file_is_named_with_the_run_that_made_it(study, capsys):
    table = SHARED / "round1/evaluation/videos/base/shard-00000.parquet"
    table.write_bytes(b"x")
    config = str(ROOT / "dpo/seed3/config/evaluate.json")
    assert main(["evaluate", "--config", config]) == 1
    assert f"videodpo verify {SHARED} --discard-damaged" in capsys.readouterr().err
    assert main(["verify", str(ROOT / "dpo/seed3"), "--discard-damaged"]) == 0
    assert main(["verify", str(SHARED), "--discard-damaged"]) == 3
    assert (study / ROOT / "dpo/seed3/round1/evaluation/videos/base").is_symlink()
    jobs = dry_run(study, str(table), *CALL[1:])
    assert [(job.rule, job.wildcards["run"]) for job in jobs] == [("evaluate_generate", "shared/seed3")]


def test_only_an_edited_arm_is_re_run(study):
    write_study(study, arms=with_arm("sft", **LATE))
    jobs = planned(study)
    assert {job.wildcards["run"] for job in jobs if job.rule != "study"} == {"sft/seed3"}
    again = {"doctor", "train", "evaluate_generate", "evaluate_score", "evaluate_collect_scores", "evaluate_appearance"}
    assert {job.rule for job in jobs} == again | {"evaluate", "report", "study"}


def test_an_arm_that_stops_sharing_removes_no_files_of_the_others(study):
    write_study(study, arms=with_arm("dpo", generate={"sampling": {"num_steps": 3}}))
    jobs = planned(study)
    assert {job.wildcards["run"] for job in jobs if job.rule != "study"} == {"dpo/seed3"}
    assert {"generate", "score", "omniscore", "pairs", "visits", "reference"} <= {job.rule for job in jobs}


def test_an_edited_finding_runs_only_the_comparison(study):
    write_study(study, findings=[{"claim": "Another", "arm": "sft"}])
    assert [job.rule for job in planned(study)] == ["study"]


def test_a_failed_arm_does_not_stop_others_and_is_named_with_its_log(edited):
    folder, answer = edited
    assert answer.returncode != 0
    assert "sft, seed 3: missing round1/" in answer.stdout
    log = str(ROOT / "sft/seed3/round1/logs")
    assert f"log: {log}" in answer.stdout
    assert log in (folder / ROOT / "index.html").read_text()
    assert tries(folder / SHARED / "round1/logs/generate/shard-00000.log") == 1


def test_a_failed_edit_of_an_arm_does_not_show_its_old_result(edited):
    root = edited[0] / ROOT
    assert set(read_table(root / "study.parquet").arm) == {"dpo", "plain", "late"}
    assert json.loads((root / "verdicts.json").read_text())[2]["verdict"] == "no result"


def test_a_study_with_a_failed_arm_is_not_finished(edited):
    jobs = planned(edited[0])
    assert {job.wildcards["run"] for job in jobs if job.rule == "train"} == {"sft/seed3"}
    assert "study" in {job.rule for job in jobs}


def test_a_killed_study_resumes_with_the_same_bytes(study, edited):
    write_study(study, arms=with_arm("late", **LATE))
    process = subprocess.Popen(
        ["snakemake", "--cores", "2", *OF_THE_PROFILES, *CALL],
        cwd=study,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = study / ROOT / "late/seed3/round1/logs/train.log"
    while process.poll() is None and not (log.exists() and "step" in log.read_text(encoding="utf-8")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (study / ROOT / "late/seed3/round1/evaluation/summary.json").exists()
    answer = run_study(study)
    assert answer.returncode == 0, answer.stderr
    names = [name for name in SAME if name.startswith("round1/")]
    late = ROOT / "late/seed3"
    assert {name: sha256_of(study / late / name) for name in names} == {
        name: sha256_of(edited[0] / late / name) for name in names
    }
