"""`videodpo sql` and `videodpo inspect` on the tables of a run: names, formats, errors, and nothing but reading."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from videodpo.cli import main
from videodpo.storage.files import sha256_of
from videodpo.storage.schemas import BENCHMARK_PROMPTS, EVALUATION, PAIRS_REJECTED, PROMPTS, SCORES
from videodpo.storage.tables import shard_path, write_table

HOSTILE = "a \x1b[31mred\x1b[0m <b>tram</b>"
ABOUT = {"stage": "s", "digest": "d", "seed": 0}


def scores(folder: Path, dimension: str, shard: int, values: list[float], num_shards: int = 2) -> None:
    rows = [
        {
            "video_id": f"{shard}-{number}",
            "prompt_id": "p",
            "dimension": dimension,
            "value": value,
            "status": "ok",
            "error": None,
            "scorer": "1",
        }
        for number, value in enumerate(values)
    ]
    shards = {"shard": str(shard), "num_shards": str(num_shards)}
    write_table(shard_path(folder / dimension, shard), rows, SCORES, **ABOUT, extra=shards)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of two rounds, in a folder whose name has the signs of a pattern and of a string."""
    run = tmp_path_factory.mktemp("results") / "it's [a] x=1 *"
    (run / "config").mkdir(parents=True)
    prompts = [
        {"prompt_id": f"{k}", "prompt": HOSTILE, "source": "s", "split": "train", "position": k} for k in range(3)
    ]
    write_table(run / "prompts.parquet", prompts, PROMPTS, **ABOUT)
    shutil.copy(run / "prompts.parquet", run / "prompts.edited-0123abcd.parquet")
    for number in (1, 2):
        above = run / f"round{number}"
        for shard in (0, 1):
            scores(above / "scores", "flicker", shard, [number + 0.5, 1.0])
            scores(above / "scores", "motion", shard, [2.0])
        scores(above / "scores", "motion", 2, [99.0], num_shards=3)  # of an earlier, larger number of shards
        for arm, value in (("base", 0.25), ("aligned", 0.75)):
            scores(above / "evaluation/scores" / arm, "flicker", 0, [value], num_shards=1)
            scores(above / "benchmark/scene/scores" / arm, "flicker", 0, [value], num_shards=1)
        row = {"prompt_id": "0", "sample": 0, "dimension": "flicker", "base": 0.25, "aligned": 0.75, "delta": 0.5}
        write_table(above / "evaluation/prompts.parquet", [row], EVALUATION, **ABOUT)
    for group in ("scene", "color"):
        row = {"prompt_id": group, "prompt": group, "position": 0, "info": "{}"}
        write_table(run / f"benchmark_prompts/{group}.parquet", [row], BENCHMARK_PROMPTS, **ABOUT)
    write_table(run / "round1/pairs_rejected.parquet", [], PAIRS_REJECTED, **ABOUT)
    return run


@pytest.fixture
def ask(made, capsys):
    """Function that runs a query and returns the rows."""

    def run(query: str, *arguments: str) -> list[dict]:
        assert main(["sql", str(made), query, "--json", *arguments]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def refused(made, capsys):
    """Function that runs a query that fails and returns the message."""

    def run(*arguments: str, run: Path = made) -> str:
        assert main(["sql", str(run), *arguments]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return run


def test_tables_of_a_benchmark_have_the_group_as_a_column(ask):
    found = ask("select round, arm, benchmark_group, value from benchmark_scores order by arm")
    assert found == [
        {"round": 2, "arm": "aligned", "benchmark_group": "scene", "value": 0.75},
        {"round": 2, "arm": "base", "benchmark_group": "scene", "value": 0.25},
    ]
    found = ask("select benchmark_group, prompt from benchmark_prompts order by all")
    assert found == [{"benchmark_group": "color", "prompt": "color"}, {"benchmark_group": "scene", "prompt": "scene"}]


def test_shards_and_dimensions_are_united_without_leftovers(ask):
    found = ask("select dimension, count(*) as n, max(value) as most from scores group by all order by all")
    assert found == [{"dimension": "flicker", "n": 4, "most": 2.5}, {"dimension": "motion", "n": 2, "most": 2.0}]


def test_tables_are_those_of_the_last_round_or_of_a_chosen_one(ask):
    query = "select distinct round, max(value) as most from scores where dimension = 'flicker' group by all"
    assert ask(query) == [{"round": 2, "most": 2.5}]
    assert ask(query, "--round", "1") == [{"round": 1, "most": 1.5}]


def test_held_out_scores_have_their_arm(ask):
    found = ask("select arm, value from evaluation_scores order by all")
    assert found == [{"arm": "aligned", "value": 0.75}, {"arm": "base", "value": 0.25}]
    assert ask("select delta from evaluation join prompts using (prompt_id)") == [{"delta": 0.5}]


def test_without_a_query_the_tables_are_listed_with_rows_and_columns(made, capsys):
    assert main(["sql", str(made)]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1}
    assert set(lines) - {"table"} == {
        "prompts",
        "scores",
        "evaluation",
        "evaluation_scores",
        "benchmark_prompts",
        "benchmark_scores",
    }
    assert lines["prompts"][1:] == ["3", "prompt_id,", "prompt,", "source,", "split,", "position"]


def test_the_terminal_gets_no_control_characters_and_all_columns(made, capsys):
    assert main(["sql", str(made), "select prompt, position, null as nothing, 1/3 as third from prompts"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.count("a ?[31mred?[0m <b>tram</b>") == 3
    assert "NULL" in said
    assert "0.333333" in said


def test_a_long_answer_is_cut_on_the_terminal_and_says_so(made, capsys):
    assert main(["sql", str(made), "select unnest(range(201)) as n"]) == 0
    said = capsys.readouterr().out
    assert " 199 " in said
    assert said.split().count("200") == 1  # in the line below
    assert "only the first 200 rows" in said


def test_csv_and_parquet_keep_every_digit(made, tmp_path, capsys):
    query = "select round, video_id, value / 3 as third from scores order by all"
    assert main(["sql", str(made), query, "--csv"]) == 0
    (tmp_path / "a.csv").write_text(capsys.readouterr().out)
    assert main(["sql", str(made), query, "--out", str(tmp_path / "a.parquet")]) == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a.csv"), pd.read_parquet(tmp_path / "a.parquet"), check_dtype=False, check_exact=True
    )


def test_json_has_null_for_what_is_not_a_number(ask):
    assert ask("select 0::double / 0 as x, [1, 2] as l") == [{"x": None, "l": [1, 2]}]


def test_errors_list_the_tables_or_columns_that_exist(refused):
    tables = "tables: benchmark_prompts, benchmark_scores, evaluation, evaluation_scores, prompts, scores\n"
    assert refused("select * from pairs").endswith(tables)
    assert refused("selec 1").endswith(tables)
    assert refused("select foo from prompts").endswith(
        "columns of prompts: prompt_id, prompt, source, split, position\n"
    )
    assert "the rounds of" in refused("select 1", "--round", "3")


def test_other_folders_and_damaged_tables_are_refused(refused, made, tmp_path):
    assert "has no tables; give the folder of a run" in refused(run=tmp_path)
    run = shutil.copytree(made, tmp_path / "run")
    (run / "prompts.parquet").write_text("no table")
    assert "prompts.parquet" in refused("select * from prompts", run=run)


@pytest.mark.parametrize(
    "query",
    [
        "copy prompts to 'x.csv'",
        "copy prompts to '{table}' (use_tmp_file false)",
        "explain analyze copy prompts to '{table}' (use_tmp_file false)",
        "create table x as select 1; copy x to 'x.csv'",
        "select * from query('copy prompts to ''x.csv'' ')",
        "attach 'x.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "select * from read_csv('{other}')",
        "select * from read_text('{other}')",
        "select * from '{other}'",
        "select * from glob('/*')",
        "select * from 'http://127.0.0.1:9/x.parquet'",
        "",
    ],
)
def test_a_query_only_reads_the_tables(refused, made, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    before = {path: sha256_of(path) for path in made.rglob("*") if path.is_file()}
    refused(query.format(table=str(made / "prompts.parquet").replace("'", "''"), other=ROOT / "README.md"))
    assert {path: sha256_of(path) for path in made.rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path) == []


def test_out_is_not_written_into_the_run(refused, made, tmp_path):
    assert "is in the folder of the run" in refused("select 1", "--out", str(made / "prompts.parquet"))
    assert "is a folder" in refused("select 1", "--out", str(tmp_path))


# --- inspect


def test_inspect_of_a_run_lists_its_tables(made, capsys):
    assert main(["inspect", str(made)]) == 0
    assert "evaluation_scores" in capsys.readouterr().out


def test_inspect_unites_shards_and_draws_histograms(made, capsys):
    assert main(["inspect", str(made / "round2/scores/flicker"), "--rows", "1"]) == 0
    said = capsys.readouterr().out
    assert ": 4 rows, 7 columns in 2 shards\n" in said
    assert said.splitlines()[-1].strip() == f"█{' ' * 18}█  1 to 2.5  value"


def test_inspect_prints_no_control_characters(made, capsys):
    assert main(["inspect", str(made / "prompts.parquet")]) == 0
    said = capsys.readouterr().out
    assert "a ?[31mred" in said
    assert "\x1b" not in said
