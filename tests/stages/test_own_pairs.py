"""The user's own pairs instead of scored ones."""

import csv
import io
import json
import logging
import random
import tarfile

import pandas as pd
import pytest

from tests.conftest import small_run
from videodpo.cli import main
from videodpo.config import ConfigError, Pairs, Reweight, Source
from videodpo.demo_world.captions import all_scenes
from videodpo.demo_world.render import render
from videodpo.stages.doctor.pairs import check_policy
from videodpo.stages.generate.import_clips import import_shard
from videodpo.stages.generate.sample import generate_shard
from videodpo.stages.pairs.imported import pair_weights_of
from videodpo.stages.pairs.stage import select_pairs
from videodpo.stages.prompts.check import check_prompts
from videodpo.stages.prompts.pair_sources import read_pairs
from videodpo.storage.tables import read_rows, read_shards, read_table
from videodpo.storage.video import write_mp4

NUM_PROMPTS = 4
DROPPED = "its prompt was dropped or not drawn, see prompts_dropped.parquet and prompts.num_train"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with two clips of each of 4 prompts; returns it and the prompts."""
    folder, rng = tmp_path_factory.mktemp("mine"), random.Random(0)
    scenes = random.Random(1).sample([scene for scene in all_scenes() if scene.other_shape is None], NUM_PROMPTS)
    for number, scene in enumerate(scenes):
        for name in ("good", "bad"):
            write_mp4(folder / f"{name}{number}.mp4", render(scene, rng)[:5], 8.0)
    return folder, [scene.caption for scene in scenes]


@pytest.fixture
def table(clips, tmp_path):
    """Function that writes a table of pairs next to the clips of a fresh folder; returns its path."""
    folder, prompts = clips
    rows = [
        {"prompt": prompt, "winner": f"{folder}/good{number}.mp4", "loser": f"{folder}/bad{number}.mp4"}
        for number, prompt in enumerate(prompts)
    ]

    def write(change=lambda rows: rows, name="pairs.csv"):
        changed = change([dict(row) for row in rows])
        path = tmp_path / name
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(changed[0]))
                writer.writeheader()
                writer.writerows(changed)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in changed))
        else:
            pd.DataFrame(changed).to_parquet(path)
        return path

    return write


def prompts_of(path, **changes):
    source = {"kind": "pairs", "path": str(path)} | changes.pop("source", {})
    keys = {"source": source, "num_train": None, "num_heldout": 0, "near_duplicate_threshold": 1.0}
    return {"prompts": keys | changes}


@pytest.fixture
def listed(stages, small_config):
    """Function that runs the stage prompts and returns its table of imported pairs."""

    def run(path, **prompts):
        made = stages(small_config(**prompts_of(path, **prompts)))
        made.prompts()
        return pd.DataFrame(read_rows(made.folder / "imported_pairs.parquet"), dtype=object)

    return run


@pytest.fixture
def imported(stages, small_config):
    """Function that runs the stages up to the pairs."""

    def run(path, generate=None, prompts=None, **changes):
        changes = prompts_of(path, **(prompts or {})) | changes
        made = stages(small_config(generate=generate or {}, **changes))
        made.prompts()
        for shard in range(made.config.generate.shards):
            import_shard(made.snapshot("generate"), 1, shard)
        select_pairs(made.snapshot("pairs"), made.round_folder)
        return made

    return run


def pairs_of(run):
    return read_table(run.round_folder / "pairs.parquet")


def reasons(run):
    return read_table(run.round_folder / "pairs_rejected.parquet")["reason"].tolist()


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_all_kinds_of_tables_give_the_same_pairs(listed, table, name):
    pd.testing.assert_frame_equal(listed(table()), listed(table(name=name)))


def test_a_table_becomes_pairs_in_its_order(imported, table, clips):
    run = imported(table())
    pairs, videos = pairs_of(run), read_shards(run.round_folder / "videos").set_index("video_id")
    texts = read_table(run.folder / "prompts.parquet").set_index("prompt_id")["prompt"]
    assert pairs["prompt_id"].map(texts).tolist() == clips[1]
    assert pairs["pair_id"].tolist() == [0, 1, 2, 3]
    for number, pair in pairs.iterrows():
        for side, file in (("winner", "good"), ("loser", "bad")):
            stored = run.folder / videos.loc[pair[f"{side}_id"], "path"]
            assert stored.read_bytes() == (clips[0] / f"{file}{number}.mp4").read_bytes()
    assert set(pairs["policy"]) == set(pairs["label_source"]) == {"imported"}
    assert pairs[["score_winner", "score_loser", "gap", "probability"]].isna().all(axis=None)
    assert pairs["weight"].tolist() == [1.0] * 4


def test_a_clip_of_several_pairs_is_imported_once(listed, table, clips, tmp_path):
    folder = clips[0]
    pairs = listed(table(lambda rows: [*rows, rows[0] | {"loser": f"{folder}/bad1.mp4"}]))
    assert len(read_table(tmp_path / "results/small/clips.parquet")) == 2 * NUM_PROMPTS + 1
    assert pairs["winner_id"][0] == pairs["winner_id"][4]


def test_columns_are_mapped_and_optional_ones_are_found_by_their_name(listed, table):
    def change(rows):
        models = ["wan m"] * 3 + [""]
        return [
            {"text": row["prompt"], "best": row["winner"], "worst": row["loser"], "w": number + 1.0}
            | {"label_source": "human" if number else "", "winner_model": models[number]}
            for number, row in enumerate(rows)
        ]

    columns = {"prompt": "text", "winner": "best", "loser": "worst", "weight": "w"}
    pairs = listed(table(change, "pairs.parquet"), source={"columns": columns})
    assert pairs["weight"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert pairs["label_source"].tolist() == ["imported", "human", "human", "human"]
    assert pairs["winner_model"].tolist() == ["wan m"] * 3 + [None]


def test_weights_follow_from_probabilities(listed, table):
    def change(rows):
        return [row | {"p": share} for row, share in zip(rows, (0.1, 0.2, 0.4, 0.2), strict=True)]

    pairs = listed(table(change), source={"columns": {"probability": "p"}}).to_dict("records")
    pairs = [pair | {"weight": None} for pair in pairs]
    plain = Reweight(exponent=1.0)
    assert weights(pairs, plain) == pytest.approx([4.0, 2.0, 1.0, 2.0])
    assert weights(pairs, Reweight(exponent=1.0, numerator=0.8)) == pytest.approx([8.0, 4.0, 2.0, 4.0])
    assert weights([*pairs[:3], pairs[3] | {"weight": 5.0}], plain)[3] == 5.0
    assert weights([pair | {"probability": None} for pair in pairs], plain) == [1.0] * 4


def weights(pairs, reweight):
    return pair_weights_of(pairs, Pairs(reweight=reweight)).tolist()


VOTES = [("A", "A", "B"), ("B", "B", "same"), ("A", "same", "B"), ("same", "", "A")]


def test_the_larger_sum_of_votes_wins_and_ties_are_rejected(listed, table):
    def change(rows):
        return [
            {"caption": row["prompt"], "path_A": row["winner"], "path_B": row["loser"]}
            | dict(zip(("VQ", "MQ", "TA"), votes, strict=True))
            for row, votes in zip(rows, VOTES, strict=True)
        ]

    votes = {"VQ": 1.0, "MQ": 1.0, "TA": 1.0}
    columns = {"prompt": "caption", "clip_a": "path_A", "clip_b": "path_B", "votes": votes}
    path = table(change)
    assert listed(path, source={"columns": columns})["reason"].tolist() == [
        None,
        None,
        "the votes are tied",
        "no vote in column MQ",
    ]
    assert winners(path, columns) == ["good0.mp4", "bad1.mp4"]
    assert winners(path, columns | {"votes": votes | {"TA": 3.0}}) == ["bad0.mp4", "bad1.mp4"]


def winners(path, columns):
    source = Source.model_validate({"kind": "pairs", "path": str(path), "columns": columns})
    return [pair.winner.name for pair in read_pairs(source)][:2]


def ratings_of(clips, *rows):
    """Function that turns the table of pairs into one of rated clips: prompt number, file, two ratings."""
    prompts = clips[1]

    def change(_):
        return [
            {"text prompt": prompts[prompt], "id": f"{clips[0]}/{name}", "visual quality": first, "motion": second}
            for prompt, name, first, second in rows
        ]

    return change


RATED = {"prompt": "text prompt", "clip": "id", "clip_suffix": ".mp4", "ratings": {"visual quality": 1.0}}
FOUR_CLIPS = [(0, "bad0", 2, 4), (1, "bad1", 1, 3), (0, "good1", 3, 1), (0, "good0", 4, 2), (1, "good2", 1, 2)]


def files_of(path, columns):
    """Row, files of both clips, and reason of each pair."""
    source = Source.model_validate({"kind": "pairs", "path": str(path), "columns": columns})
    return [(pair.row, pair.winner.stem, pair.loser and pair.loser.stem, pair.reason) for pair in read_pairs(source)]


@pytest.mark.parametrize("name", ["rated.csv", "rated.jsonl", "rated.parquet"])
def test_the_best_rated_clip_of_a_prompt_wins_against_the_worst(table, clips, name):
    path = table(ratings_of(clips, *FOUR_CLIPS), name)
    equal = (1, "bad1", "good2", "the ratings are equal")
    assert files_of(path, RATED) == [(3, "good0", "bad0", None), equal]
    by_motion = RATED | {"ratings": {"visual quality": 1.0, "motion": 2.0}}
    assert files_of(path, by_motion) == [(0, "bad0", "good1", None), (1, "bad1", "good2", None)]
    lower_is_better = RATED | {"ratings": {"motion": -1.0}}
    assert files_of(path, lower_is_better)[0] == (2, "good1", "bad0", None)
    assert files_of(path, RATED | {"rated_pairs": "all"}) == [
        (3, "good0", "good1", None),
        (3, "good0", "bad0", None),
        (2, "good1", "bad0", None),
        equal,
    ]


def test_rated_clips_become_pairs_and_rows_without_a_pair_say_why(imported, table, clips):
    rows = [*FOUR_CLIPS, (2, "bad2", 1, 1), (3, "bad3", "", 1), (0, "good0", 1, 1)]
    run = imported(table(ratings_of(clips, *rows)), prompts={"source": {"columns": RATED}})
    videos = read_shards(run.round_folder / "videos").set_index("video_id")
    assert len(videos) == 2
    (pair,) = pairs_of(run).to_dict("records")
    for side in ("good", "bad"):
        stored = run.folder / videos.loc[pair["winner_id" if side == "good" else "loser_id"], "path"]
        assert stored.read_bytes() == (clips[0] / f"{side}0.mp4").read_bytes()
    assert reasons(run) == [
        "no rating in column visual quality",
        "its clip has an earlier row; one row per clip is used",
        "the ratings are equal",
        "its prompt has one rated clip",
    ]


def test_unusable_pairs_are_rejected_with_the_reason_and_lose_no_other_pair(imported, table, clips, tmp_path, caplog):
    folder = clips[0]
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((folder / "good2.mp4").read_bytes())

    def change(rows):
        rows[0]["loser"] = f"{folder}/missing.mp4"
        rows[1]["loser"] = rows[1]["winner"]
        rows[2]["loser"] = str(copy)
        return [row | {"weight": 1.0} for row in rows] + [rows[3] | {"weight": 0.0}]

    with caplog.at_level(logging.WARNING):
        run = imported(table(change), max_failed_fraction=0.5)
    assert "1 of 1 winners were not made by this run's model" in caplog.text
    assert reasons(run) == [
        f"the loser failed: {folder}/missing.mp4: no such file",
        "winner and loser are the same clip, good1.mp4",
        "winner and loser are the same clip",
        "its weight 0 is not above 0",
    ]
    assert len(pairs_of(run)) == 1


def test_clips_of_two_sizes_are_no_pair(imported, table, clips, tmp_path):
    rng = random.Random(2)
    scene = next(iter(all_scenes()))
    write_mp4(tmp_path / "long.mp4", render(scene, rng), 8.0)
    buckets = [{"num_frames": 9, "height": 32, "width": 32}]
    sampling = {"num_frames": 5, "height": 32, "width": 32, "fps": 8.0, "num_steps": 2, "buckets": buckets}

    def change(rows):
        rows[0]["loser"] = str(tmp_path / "long.mp4")
        return rows

    run = imported(table(change), generate={"sampling": sampling})
    assert reasons(run) == ["the winner has 5 x 32 x 32, the loser 9 x 32 x 32"]


def test_pairs_of_held_out_and_dropped_prompts_say_so(listed, table):
    pairs = listed(table(lambda rows: [*rows, rows[0] | {"prompt": "a"}]), num_heldout=1)
    assert sorted(filter(None, pairs["reason"])) == [
        "its prompt is held out",
        DROPPED,
    ]


def test_another_source_gives_the_held_out_prompts(listed, table, clips, tmp_path):
    path = tmp_path / "heldout.txt"
    path.write_text(f"{clips[1][0].upper()}\na slow boat\n")
    pairs = listed(table(), heldout_source={"kind": "text", "path": str(path)}, num_heldout=2)
    prompts = read_table(tmp_path / "results/small/prompts.parquet").set_index("prompt")
    assert prompts.query("split == 'heldout'")["source"].to_dict() == {
        "a slow boat": "text:heldout.txt",
        clips[1][0].upper(): "text:heldout.txt",
    }
    assert sorted(prompts.query("split == 'train'").index) == sorted(clips[1][1:])
    assert pairs["reason"].tolist() == [DROPPED, None, None, None]


def test_an_edited_table_imports_its_own_clips(imported, table, clips):
    folder = clips[0]
    run = imported(table())
    before = read_shards(run.round_folder / "videos")["sha256"].tolist()
    run = imported(table(lambda rows: [row | {"loser": f"{folder}/bad3.mp4"} for row in rows]))
    after = read_shards(run.round_folder / "videos")["sha256"].tolist()
    assert len(set(before)) == 8
    assert len(set(after)) == 5


def test_webdataset_shards_are_read_without_unpacking(imported, clips, tmp_path):
    folder, prompts = clips
    (tmp_path / "shards").mkdir()
    for number, prompt in enumerate(prompts):
        with tarfile.open(tmp_path / "shards" / f"{number}.tar", "w") as tar:
            tar.add(folder / f"good{number}.mp4", "000.winner.mp4")
            tar.add(folder / f"bad{number}.mp4", "000.loser.mp4")
            text = json.dumps({"prompt": prompt, "weight": 2.0}).encode()
            member = tarfile.TarInfo("000.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    run = imported(tmp_path / "shards")
    assert pairs_of(run)["weight"].tolist() == [2.0] * NUM_PROMPTS
    videos = read_shards(run.round_folder / "videos").set_index("video_id")
    stored = (run.folder / videos.loc[pairs_of(run)["winner_id"][0], "path"]).read_bytes()
    assert stored == (folder / "good0.mp4").read_bytes()
    assert not list((run.round_folder / "videos" / "work").rglob("*.mp4"))


def test_a_folder_with_a_data_set_is_read(listed, table, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    data = tmp_path / "set"
    data.mkdir()
    table(name="set/train.parquet")
    assert listed(data)["reason"].tolist() == [None] * NUM_PROMPTS
    snapshot = json.loads((tmp_path / "results/small/config/prompts.json").read_text())
    assert list(snapshot["weights"]) == [str(data / "train.parquet")]


REFUSED = {
    "no column": (lambda rows: [{"prompt": "a tram", "winner": "a", "b": "b"}], {}, r"columns: no 'loser' in p.*'b'"),
    "a vote": (
        lambda rows: [{"prompt": "a tram", "a": "1", "b": "2", "VQ": "C"}],
        {"clip_a": "a", "clip_b": "b", "votes": {"VQ": 1.0}},
        r"columns\.votes: 'VQ' is 'C' in row 0; A, B, same are allowed",
    ),
    "a weight": (lambda rows: [row | {"weight": "much"} for row in rows], {}, r"'weight' is 'much' in row 0; a finite"),
    "one clip": (
        lambda rows: [row | {"loser": row["winner"]} for row in rows],
        {},
        r"none of its 4 pairs can be used \(.*winner and loser are the same clip",
    ),
    "no rating": (
        lambda rows: [{"text prompt": "a tram", "id": "1"}],
        RATED,
        r"columns: no 'visual quality' in p.*'text prompt', 'id'",
    ),
    "a rating": (
        lambda rows: [{"text prompt": "a tram", "id": "1", "visual quality": "good"}],
        RATED,
        r"'visual quality' is 'good' in row 0; a finite number is needed",
    ),
    "one rated clip": (
        lambda rows: [{"text prompt": row["prompt"], "id": row["winner"], "visual quality": 1} for row in rows],
        RATED,
        r"none of its 4 pairs can be used \(4 x its prompt has one rated clip",
    ),
    "no path": (lambda rows: [row | {"loser": ""} for row in rows], {}, r"\(4 x no path of the loser\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_unusable_table_is_refused_in_one_sentence(stages, small_config, table, kind):
    change, columns, said = REFUSED[kind]
    run = stages(small_config(**prompts_of(table(change), source={"columns": columns})))
    with pytest.raises(ConfigError, match=said) as error:
        run.prompts()
    assert "\n" not in str(error.value)


def test_a_check_finds_missing_clips_before_the_run(stages, small_config, table):
    run = stages(small_config(**prompts_of(table(lambda rows: [row | {"loser": "gone.mp4"} for row in rows]))))
    with pytest.raises(ConfigError, match=r"pairs\.csv: 4 of the first 8 clips are missing: .*gone\.mp4"):
        check_prompts(run.config.prompts, 0.02)
    check_prompts(run.config.prompts, 0.5)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ({"video1": 0, "video2": 9}, r"pair 0: not in the VideoDPO format \(IndexError"),
        ({"video1": -1, "video2": 1}, r"pair 0: not in the VideoDPO format \(IndexError: video -1"),
        ({"video1": 0}, r"pair 0: not in the VideoDPO format \(KeyError: 'video2'"),
        ({"video1": 0, "video2": 1, "label": 1}, r"pair 0: label 1; only 0 is known"),
    ],
)
def test_a_broken_file_in_the_videodpo_format_is_refused(tmp_path, pair, said):
    clip = {"basic": {"clip_path": "a.mp4", "clip_duration": 1.0}, "misc": {"frame_caption": ["a tram"]}}
    (tmp_path / "metadata.json").write_text(json.dumps([clip, clip]))
    (tmp_path / "pair.json").write_text(json.dumps([{"frame_caption": "a tram", "label": 0} | pair]))
    with pytest.raises(ConfigError, match=said):
        list(read_pairs(Source(kind="pairs", path=str(tmp_path))))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"columns": {"clip_a": "a", "clip_b": "b"}}, "columns.clip_a: 'a' has no effect without votes"),
        ({"columns": {"votes": {"VQ": 1.0}}}, "columns.clip_a: missing; votes needs the column of each clip"),
        ({"columns": {"clip": "path"}}, "columns.clip: 'path' has no effect without ratings"),
        ({"columns": {"ratings": {"VQ": 1.0}}}, "columns.clip: missing; ratings needs the column of each clip"),
        ({"columns": {"clip": "a", "ratings": {"VQ": 0.0}}}, "columns.ratings.VQ: 0 has no effect"),
        ({"columns": {"rated_pairs": "all"}}, "columns.rated_pairs: 'all' has no effect without ratings"),
        ({"columns": {"votes": {"a": 1.0}, "ratings": {"b": 1.0}}}, "columns.ratings: give either votes or ratings"),
        ({"column": "text"}, "column: 'text' has no effect on the kind 'pairs'; use columns.prompt"),
        ({"path": f"hub:a/b@{40 * '0'}"}, "clips: missing; a data set on the hub needs the folder"),
        ({"kind": "csv", "clips": "here"}, "clips: 'here' has no effect on the kind 'csv'"),
    ],
)
def test_keys_without_effect_are_refused(small_config, stages, source, said):
    with pytest.raises(ConfigError, match=f"prompts.source.{said}"):
        stages(small_config(**prompts_of("pairs.csv", source=source)))


def test_labels_for_pairs_that_have_winners_are_refused(small_config, stages):
    labels = {"source": "human", "path": "votes.parquet"}
    with pytest.raises(ConfigError, match=r"pairs\.labels\.source: 'human' has no effect on the kind 'pairs'"):
        stages(small_config(**prompts_of("pairs.csv"), pairs={"labels": labels}))


@pytest.fixture(scope="module")
def with_winners(stages, random_model, clips, tmp_path_factory):
    """A run whose winners are the user's clips, and whose losers are sampled. Tests only read it."""
    folder, prompts = clips
    lines = [f'good{number}.mp4,"{prompt}"\n' for number, prompt in enumerate(prompts)]
    (folder / "winners.csv").write_text("path,prompt\n" + "".join(lines) + f'bad0.mp4,"{prompts[0]}"\n')
    changes = prompts_of(folder / "winners.csv", source={"kind": "winners"})
    run = stages(small_run(random_model, tmp_path_factory.mktemp("winners"), **changes))
    run.prompts()
    generate_shard(run.snapshot("generate"), 1, 0, None)
    select_pairs(run.snapshot("pairs"), run.round_folder)
    return run


def test_real_winners_win_against_every_sample_of_their_prompt(with_winners, clips):
    run, folder = with_winners, clips[0]
    videos = read_shards(run.round_folder / "videos").set_index("video_id")
    assert len(videos) == NUM_PROMPTS * run.config.generate.videos_per_prompt
    own = videos.query("sample == 0")
    assert set(own["model"]) == {"import"}
    assert set(own["seed"]) == {0}
    assert set(videos.query("sample > 0")["model"]) == {f"wan {run.config.model.weights}"}
    stored = {(run.folder / path).read_bytes() for path in own["path"]}
    assert stored == {(folder / f"good{number}.mp4").read_bytes() for number in range(NUM_PROMPTS)}
    pairs = pairs_of(run)
    assert len(pairs) == NUM_PROMPTS * (run.config.generate.videos_per_prompt - 1)
    assert set(pairs["policy"]) == {"winners"}
    assert (pairs["winner_id"] == pairs["prompt_id"] + "-0").all()
    assert pairs["loser_id"].nunique() == len(pairs)
    assert reasons(run) == ["its prompt has an earlier clip in the list; one clip per prompt is used"]


def test_a_finished_shard_with_winners_is_not_made_again(with_winners, stages, random_model, tmp_path):
    with_winners.copy(tmp_path)
    run = stages(small_run(random_model, tmp_path))
    run.config = with_winners.config.model_copy(update={"results": str(tmp_path)})
    table = run.round_folder / "videos" / "shard-00000.parquet"
    before = {path: path.stat().st_mtime_ns for path in (run.round_folder / "videos" / "clips").rglob("*.mp4")}
    table.unlink()
    generate_shard(run.snapshot("generate"), 1, 0, None)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_own_pairs_are_trained_on_and_the_doctor_compares_the_sides(imported, table, tmp_path, capsys, random_model):
    run = imported(table())
    run.reference()
    run.train()
    assert len(read_table(run.round_folder / "train_log.parquet")) == run.config.schedule.num_steps
    assert main(["doctor", "--config", str(run.folder / "config" / "train.json"), "--json"]) == 0
    findings = {line["check"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    errors = read_shards(run.round_folder / "reference")
    ratio = errors["ref_error_winner"].sum() / errors["ref_error_loser"].sum()
    assert findings["off_policy"]["value"] == pytest.approx(ratio)
    assert findings["off_policy"]["status"] == "fine"


@pytest.mark.parametrize(("winner", "status"), [(0.4, "fine"), (0.9, "warning"), (0.1, "warning")])
def test_the_doctor_warns_if_one_side_is_far_from_the_model(winner, status):
    reference = pd.DataFrame({"ref_error_winner": [winner, winner, None], "ref_error_loser": [0.3, 0.5, 0.4]})
    finding = check_policy(reference)
    assert (finding.check, finding.status, finding.value) == ("off_policy", status, pytest.approx(winner / 0.4))
    assert check_policy(None).status == "fine"


def test_what_if_says_that_imported_pairs_do_not_depend_on_scores(with_winners, capsys):
    assert main(["what-if", "--run", str(with_winners.folder), "--set", "pairs.policy=all"]) == 1
    assert "its pairs are imported, so no OmniScore or pair setting changes them" in capsys.readouterr().err


def test_settings_snapshots_of_other_runs_stay_as_they_were(random_model, stages, tmp_path):
    run = stages(small_run(random_model, tmp_path))
    assert "columns" not in json.loads(run_text(run, "prompts"))["settings"]["prompts"]["source"]
    assert set(json.loads(run_text(run, "pairs"))["settings"]) == {"pairs"}
    assert set(json.loads(run_text(run, "generate"))["settings"]) == {"from_clips", "generate", "model"}
    assert set(json.loads(run_text(run, "report"))["settings"]) == {"report", "dimensions"}


def run_text(run, name):
    run.snapshot(name)
    return (run.folder / "config" / f"{name}.json").read_text()
