"""Untrusted configurations are refused by `videodpo check` and by Snakemake, and no code in them runs."""

from __future__ import annotations

import pytest

from tests.support.workspace import make_workspace, snakemake
from videodpo.cli import main
from videodpo.config.loading import read_config

TAGS = {
    "a call": "run: !!python/object/apply:os.system ['touch {0}']",
    "a new object": "run: !!python/object/new:os.system ['touch {0}']",
    "a module": "run: !!python/module:antigravity",
    "a name": "run: !!python/name:os.system",
    "a template": "__use_yte__: true\nrun: ?open('{0}', 'w') and 'x'",
}


@pytest.mark.parametrize("tag", TAGS)
def test_check_refuses_what_would_run_code(tag, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(TAGS[tag].format(tmp_path / "touched"))
    assert main(["check", "--config", str(file)]) == 1
    assert capsys.readouterr().err.startswith("videodpo check: ")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("text", ["!!int x", "2001-99-99", "&a [*a]"])
def test_check_refuses_odd_values_in_one_message(text, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(f"run: {text}")
    assert main(["check", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("videodpo check: ")
    assert len(said) < 2000


def test_check_refuses_a_duplicate_key(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("run: one\nseed: 1\nrun: two\n")
    assert main(["check", "--config", str(file)]) == 1
    assert "duplicate key 'run'" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ['"a\\0b"', '"a\\nb"', "~/runs", "a{round}", "'{'", "a}", "a<round>", "a>", "-a"])
def test_check_refuses_a_results_folder_with_special_characters(folder, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(f"results: {folder}\n")
    assert main(["check", "--config", str(file)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "results: " in line]
    assert "Folder of all runs. It must not contain control characters, `{`, `}`" in line


def test_a_key_may_override_one_of_a_merged_mapping(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: {b: &b {x: 0}, c: {d: &d {<<: *b, x: 1}}}\ne: {<<: *d, x: 2}\n")
    assert read_config(file) == {"a": {"b": {"x": 0}, "c": {"d": {"x": 1}}}, "e": {"x": 2}}


def test_snakemake_refuses_a_duplicate_key(tmp_path):
    folder = make_workspace(tmp_path / "work", {})
    (folder / "overlay.yaml").write_text("seed: 1\nrun: two\nseed: 2\n")
    answer = snakemake(folder, "--dry-run", "--configfile", "overlay.yaml")
    assert answer.returncode != 0
    assert "duplicate key 'seed'" in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("place", "results", "said"),
    [
        ("a {round} of {{it}}", "results", "the workflow's path must not contain { or }; move or"),
        ("workspace", "results of {round}", "results: 'results of {round}' is not allowed; Folder of all runs."),
    ],
    ids=["the workspace", "the results"],
)
def test_snakemake_refuses_a_folder_with_wildcards_before_any_job(place, results, said, tmp_path):
    folder = make_workspace(tmp_path / place, {"results": results})
    before = {path.name for path in folder.iterdir()}
    answer = snakemake(folder, "--cores", "1", "--configfile", "overlay.yaml")
    assert answer.returncode != 0
    assert [line for line in answer.stderr.splitlines() if said in line]
    assert "Traceback" not in answer.stderr
    assert {path.name for path in folder.iterdir()} - before <= {".snakemake"}
