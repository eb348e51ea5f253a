"""Pairs from votes: the stage, its identity, and the commands that show other settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.support.labels import answer, labelled_round
from videodpo.cli import main
from videodpo.config import ConfigError, InputError, Pairs, parse_config, validate
from videodpo.runtime.settings import PairsSettings
from videodpo.runtime.snapshot import Snapshot, snapshot_text, stage_names, write_snapshot
from videodpo.stages.pairs.stage import select_pairs
from videodpo.storage.files import sha256_of
from videodpo.storage.tables import read_table
from videodpo.tools.labels.page import write_page
from videodpo.tools.labels.votes import import_votes
from videodpo.workflow.check import check


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """A round of three pairs: the rater prefers the left clip of two of them and finds a tie in the third."""
    folder = tmp_path_factory.mktemp("run")
    finished = labelled_round(folder / "run", num_train=3, num_heldout=1)
    write_page(finished.folder, folder / "labels.html", repeats=0)
    choices = iter(["left", "left", "tie"])
    import_votes([answer(folder / "labels.html", lambda item, question: next(choices))], finished.folder)
    return finished


def pair(finished, **labels):
    """Run the stage; return the pairs and the rejected candidates."""
    settings = validate(Pairs, {"labels": labels} if labels else {}, "pairs")
    snapshot = Snapshot("pairs", "tiny-run", finished.folder, 3, PairsSettings(pairs=settings), "d", weights={})
    select_pairs(snapshot, finished.round)
    return (read_table(finished.round / f"{name}.parquet") for name in ("pairs", "pairs_rejected"))


def test_human_pairs_are_the_clips_that_won_the_votes(voted, tmp_path):
    run = voted.copy(tmp_path / "run")
    table = run.folder / "labels.parquet"
    pairs, rejected = pair(run, source="human", path=str(table))
    votes = read_table(table)
    won = votes[votes.choice == "left"]
    assert set(zip(pairs.winner_id, pairs.loser_id, strict=True)) == set(zip(won.left_id, won.right_id, strict=True))
    assert set(pairs.label_source) == {"human"}
    assert (pairs.weight > 0).all()
    assert rejected.reason.tolist() == ["labels: a tie"]


def test_votes_on_another_run_with_the_same_prompts_are_refused(voted, tmp_path):
    """The ids of its clips are the same, but not their bytes."""
    run = voted.copy(tmp_path / "run")
    run.sample_again(*(prompt["prompt_id"] for prompt in run.prompts))
    with pytest.raises(InputError, match=r"labels.parquet: none of its 3 votes \(run tiny-run\) is about the clips in"):
        pair(run, source="mixed", path=str(run.folder / "labels.parquet"))


def test_a_vote_on_a_pair_that_is_gone_is_left_out_with_a_warning(voted, tmp_path, caplog):
    run = voted.copy(tmp_path / "run")
    run.sample_again(read_table(run.folder / "labels.parquet").prompt_id[0])
    pairs, rejected = pair(run, source="human", path=str(run.folder / "labels.parquet"))
    assert len(pairs) + len(rejected) == 2
    assert "1 votes are left out" in caplog.text


def test_a_round_without_votes_needs_the_omniscore(voted, tmp_path, caplog):
    run = voted.copy(tmp_path / "run")
    run.round = run.round.rename(run.folder / "round2")
    with pytest.raises(InputError, match=r"has no vote on a pair of .*round2; label it with `videodpo label`"):
        pair(run, source="human", path=str(run.folder / "labels.parquet"))
    pairs, _ = pair(run, source="mixed", path=str(run.folder / "labels.parquet"))
    assert set(pairs.label_source) == {"omniscore"}
    assert "the OmniScore decides all" in caplog.text


def test_a_changed_label_file_changes_the_identity_of_the_pairs_alone(voted, tmp_path):
    table = Path(tmp_path / "labels.parquet")
    table.write_bytes((voted.folder / "labels.parquet").read_bytes())
    raw = small_run(tmp_path / "no-model", tmp_path, pairs={"labels": {"source": "human", "path": str(table)}})
    config = parse_config(raw)
    names = [name for name in stage_names(config) if "score" in name or name in ("pairs", "prompts", "execution")]
    before = {name: snapshot_text(config, name) for name in names}
    os.utime(table, ns=(1, 1))
    after = {name: snapshot_text(config, name) for name in names}
    assert [name for name in names if before[name] != after[name]] == ["pairs"]
    write_snapshot(after["pairs"], tmp_path / "pairs.json")
    assert json.loads((tmp_path / "pairs.json").read_text())["weights"] == {str(table): sha256_of(table)}


@pytest.mark.parametrize("name", ["missing.parquet", "votes.json"])
def test_a_label_file_that_is_no_table_is_refused_before_the_run(tmp_path, name):
    (tmp_path / "votes.json").write_text("{}")
    raw = small_run(
        tmp_path / "no-model", tmp_path, pairs={"labels": {"source": "human", "path": str(tmp_path / name)}}
    )
    with pytest.raises(ConfigError, match=r"pairs.labels.path: .* is no table of votes; `videodpo labels import`"):
        check(parse_config(raw))


def test_what_if_shows_the_pairs_that_votes_would_flip(voted, capsys):
    table = voted.folder / "labels.parquet"
    tries = ["--set", "pairs.labels.source=human", "--set", f"pairs.labels.path={table}"]
    assert main(["what-if", "--run", str(voted.folder), *tries]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pairs 3 2" in said
    assert "rejected 0 1" in said
