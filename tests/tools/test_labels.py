"""Blind labels: what the page shows, the import of its votes, their agreement with the scores, the fitted weights."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from tests.support.finished_round import HOSTILE
from tests.support.labels import answer, labelled_round, page_data
from videodpo.cli import main
from videodpo.config import InputError
from videodpo.config.loading import merge, read_config
from videodpo.config.schema import parse_config
from videodpo.storage.files import sha256_of
from videodpo.storage.manifests import record_json
from videodpo.storage.tables import read_shards, read_table
from videodpo.tools.labels.draw import draw, read_clips, read_pairs
from videodpo.tools.labels.page import write_page
from videodpo.tools.labels.terminal import format_agreement
from videodpo.tools.labels.votes import import_votes


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A round of 30 training prompts and 12 held-out ones."""
    return labelled_round(tmp_path_factory.mktemp("run"), num_train=30, num_heldout=12)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return labelled_round(tmp_path_factory.mktemp("small"), num_train=3, num_heldout=1)


@pytest.fixture
def own(small, tmp_path):
    """A copy of the small round, which the test may change."""
    return small.copy(tmp_path / "run")


@pytest.fixture(scope="module")
def page(done, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "labels.html"
    write_page(done.folder, file, count=20, repeats=0.25, dimensions=["motion_amount"])
    return file


def left_of(item, question):
    return "left"


def better_by(round_folder, subject_arms, values):
    """Choose the clip with the higher value; `values` by (arm, video_id)."""
    clips = {clip.token(0): clip for arm in subject_arms for clip in read_clips(round_folder, arm).values()}

    def choose(item, question):
        left, right = (values[clips[item[side]].arm, clips[item[side]].video_id] for side in ("left", "right"))
        return "left" if left > right else "right" if left < right else "tie"

    return choose


def omniscores(done, arm="train"):
    table = read_table(done.round / "omniscore.parquet")
    return {(arm, name): value for name, value in zip(table.video_id, table.omniscore, strict=True)}


# --- the page


def test_a_smaller_number_of_pairs_is_a_subset_of_a_larger_one(done):
    pairs = read_pairs(done.round, "pairs", 0)
    assert set(draw(pairs, 5, 0, 1)) < set(draw(pairs, 12, 0, 1))
    assert set(draw(pairs, 5, 0, 1)) != set(draw(pairs, 5, 0, 2))


def test_repeats_swap_the_sides_half_a_page_later(done):
    sides = draw(read_pairs(done.round, "pairs", 0), 20, 0.25, 0)
    places = {pair: place for place, pair in enumerate(sides)}
    repeats = [(place, places[pair[::-1]]) for pair, place in places.items() if pair[::-1] in places]
    assert len(sides) == len(places) == 25
    assert len(repeats) == 2 * 5
    assert min(abs(one - other) for one, other in repeats) >= 10


def test_the_winner_is_left_about_as_often_as_right(done):
    pairs = read_pairs(done.round, "pairs", 0)
    lefts = [left == pair[0] for seed in range(4) for pair in pairs for left, _ in draw([pair], 1, 0, seed)]
    assert 0.35 < np.mean(lefts) < 0.65


def test_random_pairs_are_two_clips_of_each_prompt_that_do_not_follow_the_scores(done):
    drawn = {seed: read_pairs(done.round, "random", seed) for seed in (0, 1)}
    assert [len({left.prompt_id for left, _ in pairs}) for pairs in drawn.values()] == [30, 30]
    assert all(left.prompt_id == right.prompt_id for left, right in drawn[0])
    best_worst = {frozenset(pair) for pair in read_pairs(done.round, "pairs", 0)}
    assert len(best_worst & {frozenset(pair) for pair in drawn[0]}) < 15  # one in six by chance
    assert {frozenset(pair) for pair in drawn[0]} != {frozenset(pair) for pair in drawn[1]}


@pytest.mark.parametrize("subject", ["pairs", "random", "evaluation"])
def test_the_page_tells_neither_winner_nor_model(done, tmp_path, subject):
    write_page(done.folder, tmp_path / "labels.html", subject=subject)
    text = (tmp_path / "labels.html").read_text(encoding="utf-8")
    ids = [row["video_id"] for arm in done.videos.values() for row in arm]
    assert not re.search("winner|loser|aligned|omniscore|score", text)
    assert not re.search(r"\bbase\b", text)
    assert [name for name in ids if name in text] == []
    files = sorted(file.name for file in (tmp_path / "labels-clips").iterdir())
    assert all(re.fullmatch(r"[0-9a-f]{16}\.mp4", name) for name in files)
    shown = {f"{item[side]}.mp4" for item in page_data(tmp_path / "labels.html")["items"] for side in ("left", "right")}
    assert shown == set(files)


def test_the_same_arguments_give_the_same_page(done, page, tmp_path):
    write_page(done.folder, tmp_path / "labels.html", count=20, repeats=0.25, dimensions=["motion_amount"])
    assert sha256_of(tmp_path / "labels.html") == sha256_of(page)


def test_a_hostile_prompt_is_data(done, tmp_path):
    write_page(done.folder, tmp_path / "labels.html", count=100)
    text = (tmp_path / "labels.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert text.count("<script") == 2
    assert HOSTILE in [item["prompt"] for item in page_data(tmp_path / "labels.html")["items"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "labels.htm"], "--out labels.htm: the name of a page must end in .html"),
        (["--out", "x.html", "--ask", "beauty"], "--ask beauty: not a dimension of the OmniScore"),
        (["--out", "x.html", "--round", "2"], "round2/videos: no shard-00000.parquet"),
    ],
)
def test_a_page_that_cannot_be_made_is_refused(done, monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["label", str(done.folder), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- the import


def test_of_a_run_on_own_pairs_only_the_evaluation_is_labelled(own, tmp_path):
    (own.folder / "imported_pairs.parquet").touch()
    (own.folder / "config" / "omniscore.json").unlink()
    document = {"stage": "evaluate", "run": "tiny-run", "folder": "r", "seed": 3, "code_version": "1", "weights": {}}
    settings = own.evaluate_snapshot().settings.model_dump()
    record_json(own.folder / "config" / "evaluate.json", document | {"settings": settings})
    file = tmp_path / "labels.html"
    with pytest.raises(InputError, match=r"--of pairs: the training clips of .*; use --of evaluation"):
        write_page(own.folder, file)
    write_page(own.folder, file, subject="evaluation")
    import_votes([answer(file, left_of)], own.folder)
    assert "aligned is preferred" in format_agreement(own.folder, 1)


def test_votes_become_rows_with_the_real_clips_and_the_repeats(done, page):
    said = import_votes([answer(page, left_of)], done.folder)
    table = read_table(done.folder / "labels.parquet")
    assert said == f"{done.folder}/labels.parquet: 50 votes of 1 rater; 50 are new, 0 replace earlier ones"
    assert (table.repeat.sum(), set(table.question)) == (2 * 5, {"overall", "motion_amount"})
    assert set(table.left_arm) == {"train"}
    videos = read_shards(done.round / "videos").set_index("video_id")
    assert (videos.loc[table.left_id].sha256.to_numpy() == table.left_sha256.to_numpy()).all()
    pairs = read_table(done.round / "pairs.parquet")
    known = {frozenset(pair) for pair in zip(pairs.winner_id, pairs.loser_id, strict=True)}
    assert {frozenset(pair) for pair in zip(table.left_id, table.right_id, strict=True)} <= known


def test_importing_again_changes_nothing_and_later_votes_replace_earlier_ones(own, tmp_path):
    write_page(own.folder, tmp_path / "labels.html", repeats=0)
    votes = answer(tmp_path / "labels.html", left_of)
    import_votes([votes], own.folder)
    before = sha256_of(own.folder / "labels.parquet")
    assert import_votes([votes], own.folder).endswith("0 are new, 0 replace earlier ones")
    assert sha256_of(own.folder / "labels.parquet") == before
    answer(tmp_path / "labels.html", lambda item, question: "tie", time="2026-01-02T00:00:00.000Z")
    assert import_votes([votes], own.folder).endswith("3 votes of 1 rater; 0 are new, 3 replace earlier ones")
    answer(tmp_path / "labels.html", left_of)  # an older file
    import_votes([votes], own.folder)
    assert set(read_table(own.folder / "labels.parquet").choice) == {"tie"}


def test_another_rater_is_added(own, tmp_path):
    write_page(own.folder, tmp_path / "labels.html", repeats=0)
    import_votes([answer(tmp_path / "labels.html", left_of)], own.folder)
    said = import_votes([answer(tmp_path / "labels.html", left_of, rater="Bob")], own.folder)
    assert said.endswith("6 votes of 2 raters; 3 are new, 0 replace earlier ones")


def test_votes_on_a_pair_that_is_gone_are_left_out_and_named(own, tmp_path, caplog):
    write_page(own.folder, tmp_path / "labels.html", repeats=0)
    votes = answer(tmp_path / "labels.html", left_of)
    own.sample_again(own.prompts[0]["prompt_id"])
    assert import_votes([votes], own.folder).endswith("2 votes of 1 rater; 2 are new, 0 replace earlier ones")
    assert "1 of 3 votes are left out: their pairs are gone" in caplog.text
    assert len(json.loads(votes.read_text())["votes"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"run": "other"}, "votes on the run 'other', but .* is the run 'tiny-run'; import them there"),
        (lambda c: c | {"seed": 9}, "none of its 3 votes is about a clip that is in"),
        (lambda c: c | {"votes": [{}]}, r"not a file of votes .*: votes\.0\.left: Field required"),
        (lambda c: c | {"format": "else"}, "not a file of votes .*: format:"),
        (lambda c: c | {"rater": "A\x1b[2J"}, "not a file of votes .*: rater:.*unprintable"),
        (lambda c: c | {"round": 2}, "no shard-00000.parquet"),
        (lambda c: [c], "not a file of votes .*: content:"),
        (lambda c: "x", "not a file of votes"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_written(own, tmp_path, change, message):
    write_page(own.folder, tmp_path / "labels.html", repeats=0)
    good = answer(tmp_path / "labels.html", left_of)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(change(json.loads(good.read_text()))))
    with pytest.raises(InputError, match=message):
        import_votes([good, bad], own.folder)
    assert not (own.folder / "labels.parquet").exists()


def test_a_file_that_is_no_json_is_refused_in_one_line(own, tmp_path, capsys):
    (tmp_path / "votes.json").write_text("{")
    assert main(["labels", "import", str(tmp_path / "votes.json"), "--run", str(own.folder)]) == 1
    assert "not readable as JSON" in capsys.readouterr().err


# --- agreement


def test_agreement_of_a_rater_who_follows_the_omniscore_is_complete(done, page):
    (done.folder / "labels.parquet").unlink(missing_ok=True)
    import_votes([answer(page, better_by(done.round, ["train"], omniscores(done)))], done.folder)
    text = format_agreement(done.folder, 1)
    assert re.search(r"^    omniscore +20  100\.0 %  100\.0 to 100\.0 %$", text, re.MULTILINE)
    assert re.search(r"^    same answer on hidden repeats +5  100\.0 %", text, re.MULTILINE)
    assert re.search(r"^    imaging_quality +20 +\S+ %  \S+ to \S+ %$", text, re.MULTILINE)
    assert "Krippendorff's alpha: undefined" in text


def test_a_rater_who_always_chooses_left_is_inconsistent(done, page):
    (done.folder / "labels.parquet").unlink(missing_ok=True)
    follows = better_by(done.round, ["train"], omniscores(done))
    import_votes(
        [answer(page, left_of, rater="Bob"), answer(page, follows), answer(page, follows, rater="Cy")], done.folder
    )
    bob = format_agreement(done.folder, 1).partition("  Bob\n")[2]
    assert re.search(r"left is preferred +25  100\.0 %", bob)
    assert re.search(r"same answer on hidden repeats +5    0\.0 %", bob)
    alpha = re.search(r"alpha between raters: (\S+) \[(\S+), (\S+)\] on 20 pairs", bob)
    assert float(alpha[2]) < float(alpha[1]) < float(alpha[3])
    assert 0 < float(alpha[1]) < 0.7  # two of three always agree


def test_the_blind_test_of_the_result_counts_votes_for_the_aligned_model(done, tmp_path):
    (done.folder / "labels.parquet").unlink(missing_ok=True)
    write_page(done.folder, tmp_path / "labels.html", subject="evaluation", repeats=0)
    likes = {(arm, row["video_id"]): arm == "aligned" for arm in ("base", "aligned") for row in done.videos[arm]}
    for video_id in [row["video_id"] for row in done.videos["base"]][:6]:
        likes["base", video_id] = likes["aligned", video_id] = True  # a tie
    import_votes([answer(tmp_path / "labels.html", better_by(done.round, ["base", "aligned"], likes))], done.folder)
    text = format_agreement(done.folder, 1)
    assert re.search(r"aligned is preferred \(ties: half\) +24   87\.5 %  \S+ to \S+ %", text)
    assert re.search(r"^    caption_accuracy +18 ", text, re.MULTILINE)  # a judge


def test_the_printed_weights_are_a_valid_overlay_that_fits_the_votes(done, tmp_path):
    """Raters who look at one dimension of the quality alone get a fit that says so."""
    (done.folder / "labels.parquet").unlink(missing_ok=True)
    write_page(done.folder, tmp_path / "labels.html", repeats=0)
    table = read_table(done.round / "omniscore.parquet")
    values = {("train", row.video_id): row.norm_motion_smoothness for row in table.itertuples()}
    import_votes([answer(tmp_path / "labels.html", better_by(done.round, ["train"], values))], done.folder)
    text = format_agreement(done.folder, 1)
    block = yaml.safe_load(text.partition("# Fitted")[2].partition("\n")[2])
    assert block["dimensions"]["motion_smoothness"]["weight"] > 0.7
    assert block["omniscore"]["pillars"]["quality"] > 0.7
    raw = merge(read_config(ROOT / "config.yaml"), {"omniscore": block["omniscore"]})
    assert parse_config(raw).omniscore.pillars.quality == block["omniscore"]["pillars"]["quality"]


def test_too_few_votes_are_said_to_be_too_few(done, tmp_path):
    (done.folder / "labels.parquet").unlink(missing_ok=True)
    write_page(done.folder, tmp_path / "labels.html", count=12, repeats=0)
    rng = np.random.default_rng(0)
    votes = answer(tmp_path / "labels.html", lambda item, question: str(rng.choice(["left", "right"])))
    import_votes([votes], done.folder)
    assert "WARNING: too few votes to tell" in format_agreement(done.folder, 1)
    (done.folder / "labels.parquet").unlink()
    write_page(done.folder, tmp_path / "labels.html", count=4)
    import_votes([answer(tmp_path / "labels.html", left_of)], done.folder)
    assert "none: votes on at least 10 prompts are needed, there are 4" in format_agreement(done.folder, 1)


def test_agreement_without_votes_names_the_missing_table(own, capsys):
    assert main(["labels", "agreement", str(own.folder)]) == 1
    assert "labels.parquet: not there; import votes first" in capsys.readouterr().err
