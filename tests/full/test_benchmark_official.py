"""The rules of a benchmark's own program, through Snakemake."""

from __future__ import annotations

import json
import os

from tests.conftest import small_run
from tests.support.vbench import Program, write_clips, write_suite
from tests.support.workspace import SIGNS, dry_run, make_workspace, snakemake, without_default_scorers, write_overlay


def test_the_workflow_calls_the_program_on_request_and_compares_its_results(tmp_path, random_model):
    program = Program(tmp_path / "vbench")
    section = {"suite": write_suite(tmp_path), "arms": ["base"], "folders": {"base": write_clips(tmp_path / "clips")}}
    raw = small_run(random_model, "results", evaluate={"benchmark": section})
    raw["prompts"]["source"]["path"] = None
    folder = make_workspace(tmp_path / SIGNS, without_default_scorers(raw))
    arguments = ("benchmark", "--cores", "2", "--configfile", "overlay.yaml")
    assert "benchmark_official" not in {job.rule for job in dry_run(folder, *arguments)}

    section["official"] = True
    write_overlay(folder, raw)
    answer = snakemake(folder, *arguments, **program.environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    benchmark = folder / "results" / "small" / "round1" / "benchmark"
    assert len(program.calls()) == 5
    assert json.loads((benchmark / "official" / "base.json").read_text())["imaging_quality"][0] == 0.5
    assert len(os.listdir(benchmark / "official" / "videos" / "base" / "stills")) == 7
    rows = {row["name"]: row for row in json.loads((benchmark / "summary.json").read_text())["rows"]}
    assert rows["imaging_quality"]["official_base"] == 0.5
    assert rows["imaging_quality"]["official_base_largest"] > 0
    assert dry_run(folder, *arguments, **program.environment) == []
