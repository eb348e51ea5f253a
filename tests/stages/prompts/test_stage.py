"""The prompts table: its content and order, and the dropped prompts with their reasons."""

import hashlib
import json
import logging

import pytest

from videodpo.storage.tables import read_metadata

ANIMALS = ("otter", "heron", "badger", "lynx", "marten", "osprey", "beaver", "falcon")
PLACES = ("in a flooded quarry", "on a frozen lake", "under an iron bridge", "behind the greenhouse", "by a lighthouse")


@pytest.fixture
def forty(tmp_path):
    path = tmp_path / "forty.txt"
    path.write_text("".join(f"one {a} {p}\n" for a in ANIMALS for p in PLACES))
    return path


def _lines(tmp_path, *lines):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": line}) + "\n" for line in lines))
    return path


def _dropped(tables):
    return tables[1][["row", "step"]].values.tolist()


def test_training_prompts_come_first_then_the_heldout_ones(run, forty):
    prompts, _ = run("text", forty, num_train=10, num_heldout=4)
    assert prompts["split"].tolist() == ["train"] * 10 + ["heldout"] * 4
    assert prompts["position"].tolist() == list(range(14))


def test_without_num_train_all_remaining_prompts_are_for_training(run, forty):
    prompts, _ = run("text", forty, num_heldout=4)
    assert prompts["split"].value_counts().to_dict() == {"train": 36, "heldout": 4}


def test_prompt_ids_are_hashes_of_the_cleaned_text(run, tmp_path):
    prompts, _ = run("jsonl", _lines(tmp_path, " a tram &amp; a bus -ar 16:9"))
    assert prompts["prompt"].tolist() == ["a tram & a bus"]
    assert prompts["prompt_id"].tolist() == [hashlib.sha256(b"a tram & a bus").hexdigest()[:16]]


def test_the_source_is_named_without_its_folder(run, forty):
    prompts, _ = run("text", forty)
    assert set(prompts["source"]) == {"text:forty.txt"}


def test_same_seed_gives_the_same_bytes(run, forty, tmp_path):
    for folder in ("one", "two"):
        run("text", forty, folder=folder, num_train=10, num_heldout=4)
    for name in ("prompts.parquet", "prompts_dropped.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_another_seed_draws_other_prompts(run, forty):
    first, _ = run("text", forty, num_train=10)
    second, _ = run("text", forty, num_train=10, seed=1)
    assert first["prompt"].tolist() != second["prompt"].tolist()


def test_heldout_prompts_stay_with_a_larger_num_train(run, forty):
    few, _ = run("text", forty, num_train=5, num_heldout=4)
    more, _ = run("text", forty, num_train=30, num_heldout=4)
    assert few["prompt"].tolist()[-4:] == more["prompt"].tolist()[-4:]


def test_too_short_and_too_long_prompts_are_dropped_with_their_length(run, tmp_path):
    tables = run("jsonl", _lines(tmp_path, "ok prompt", "x", "-ar 16:9", "y" * 10_000))
    assert _dropped(tables) == [[1, "length"], [2, "length"], [3, "length"]]
    assert tables[1]["reason"][1] == "0 characters after cleaning, 3 to 2000 are allowed"
    assert tables[1]["prompt"][1] == "-ar 16:9"


def test_no_two_prompts_of_either_split_are_near_duplicates(run, tmp_path):
    base = "a small red tram climbs the steep street behind the old harbour while gulls circle over the water"
    tables = run("jsonl", _lines(tmp_path, base, base + " slowly", base + " at night", "a calm lake"), num_heldout=1)
    assert len(tables[0]) == 2
    assert set(tables[1]["step"]) == {"near_duplicate"}


def test_a_near_duplicate_names_the_prompt_that_was_kept(run, tmp_path):
    base = "a small red tram climbs the steep street behind the old harbour while gulls circle over the water"
    prompts, dropped = run("jsonl", _lines(tmp_path, base, base + " slowly"))
    assert dropped["reason"].tolist() == [f"similarity 0.941 to prompt {prompts['prompt_id'][0]}"]


def test_near_duplicates_in_the_sample_are_replaced(run, tmp_path, forty):
    base = "a small red tram climbs the steep street behind the old harbour while gulls circle over the water"
    forty.write_text(forty.read_text() + "".join(f"{base} {i}\n" for i in range(40)))
    prompts, _ = run("text", forty, num_train=41)
    assert len(prompts) == 41


def test_hostile_texts_are_written_and_read_back(run, tmp_path):
    shell = "$(touch owned); `id` | cat && \"x\" 'y' ../../z"
    texts = ["a\x00null cat", "a lone \ud800 half", shell, "<script>alert(1)</script>", "夜の電車"]
    prompts, _ = run("jsonl", _lines(tmp_path, *texts))
    assert set(prompts["prompt"]) == {"a null cat", "a lone half", *texts[2:]}


def test_dropped_texts_that_arrow_refuses_are_written(run, tmp_path):
    _, dropped = run("jsonl", _lines(tmp_path, "a red tram", "\x00\ud800\x00"))
    assert dropped["prompt"].tolist() == ["  "]


def test_nulls_are_dropped_with_a_reason(run, tmp_path):
    tables = run("jsonl", _lines(tmp_path, "a red tram", None))
    assert _dropped(tables) == [[1, "null"]]


def test_unsampled_prompts_are_counted_and_not_listed(run, forty, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "videodpo.stages.prompts"):
        _, dropped = run("text", forty, num_train=10, num_heldout=4)
    assert len(dropped) == 0
    assert "unsampled               26" in caplog.text
    assert json.loads(read_metadata(tmp_path / "run" / "prompts.parquet")["counts"])["unsampled"] == 26


def test_the_error_for_too_few_prompts_says_what_was_dropped_and_what_to_change(run, tmp_path):
    path = _lines(tmp_path, "x", "A red tram", "a red tram", "a blue bus")
    with pytest.raises(
        ValueError, match=r"prompts\.num_train.*2 are left of 4.*1 by length, 1 by duplicate.*min_chars"
    ):
        run("jsonl", path, num_train=2, num_heldout=1)
    assert not (tmp_path / "run").exists()
