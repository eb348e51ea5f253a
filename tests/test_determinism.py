"""The same bytes for every shard count and after every kill."""

import os
import random
import shutil
import signal
import subprocess

import pytest
import yaml

from tests.conftest import ROOT, small_run

TABLES = ("prompts.parquet", "round1/omniscore.parquet", "round1/pairs.parquet")


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def test_tables_are_byte_identical_for_1_3_and_8_shards(stages, random_model, tmp_path):
    results = {}
    for shards in (1, 3, 8):
        raw = small_run(random_model, tmp_path / str(shards))
        raw["generate"]["shards"] = shards
        run = stages(raw)
        run.until_pairs()
        results[shards] = bytes_of(run.folder)
    assert results[1] == results[3] == results[8]


@pytest.fixture
def workplace(random_model, tmp_path):
    """A folder to start Snakemake in, with a small configuration on two shards."""
    for name in ("rules", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "Snakefile").symlink_to(ROOT / "Snakefile")
    raw = small_run(random_model, "results")
    raw["generate"]["shards"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return tmp_path


def start(workplace, run, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [
        "snakemake",
        "--cores",
        "2",
        "--rerun-incomplete",
        "--quiet",
        "all",
        "--config",
        f"run={run}",
        *arguments,
    ]
    return subprocess.Popen(
        command,
        cwd=workplace,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_tables_are_byte_identical_after_10_sigkills_at_random_moments(workplace):
    whole = start(workplace, "whole", "--", "tables")
    output, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, output.decode()

    expected = bytes_of(workplace / "results" / "whole")
    rng, kills = random.Random(7), 0
    while kills < 10:
        process = start(workplace, "killed", "--", "tables")
        try:
            process.wait(timeout=rng.uniform(3.0, 14.0))
        except subprocess.TimeoutExpired:
            kills += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # over before the kill: its tables count, and the next kills hit a fresh run
            assert bytes_of(workplace / "results" / "killed") == expected
            shutil.rmtree(workplace / "results" / "killed")
        else:
            assert start(workplace, "killed", "--unlock").wait(timeout=120) == 0
    last = start(workplace, "killed", "--", "tables")
    output, _ = last.communicate(timeout=600)
    assert last.returncode == 0, output.decode()
    actual = bytes_of(workplace / "results" / "killed")
    for name in TABLES:
        assert actual[name] == expected[name], name
