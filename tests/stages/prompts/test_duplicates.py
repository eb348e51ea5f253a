"""Prompts that count as duplicates."""

import random

import pytest

from videodpo.stages.prompts.duplicates import NearDuplicates, exact_key, shingles

LONG = "a small red tram climbs the steep street behind the old harbour while gulls circle over the quiet water"


def _jaccard(one, other):
    one, other = shingles(one), shingles(other)
    return len(one & other) / len(one | other)


def test_exact_duplicates_ignore_case_and_whitespace():
    assert exact_key("A  Red\ttram") == exact_key("a red TRAM")


def test_another_word_is_no_exact_duplicate():
    assert exact_key("a red tram") != exact_key("a red train")


def test_shingles_ignore_punctuation():
    assert shingles("A tram, climbing: slowly!") == shingles("a tram climbing slowly")


def test_scripts_without_spaces_are_split_into_characters():
    assert shingles("路面電車") == {"路 面 電", "面 電 車"}


def test_marks_of_indic_scripts_do_not_split_words():
    assert shingles("बारिश में ट्राम") == {"बारिश में ट्राम"}


@pytest.mark.parametrize("text", ["tram", "!!!", "\U0001f697"])
def test_short_texts_have_one_shingle(text):
    assert len(shingles(text)) == 1


def test_a_prompt_with_one_additional_word_is_a_near_duplicate():
    near = NearDuplicates(0.8)
    assert near.add(LONG) is None
    found, similarity = near.add(LONG + " today")
    assert found == LONG
    assert similarity == pytest.approx(17 / 18)


def test_the_threshold_applies_to_the_exact_similarity():
    other = LONG.replace("quiet", "calm")
    similarity = _jaccard(LONG, other)
    at, above = NearDuplicates(similarity), NearDuplicates(similarity + 0.001)
    at.add(LONG), above.add(LONG)
    assert at.add(other) is not None
    assert above.add(other) is None


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_decisions_equal_a_comparison_of_all_pairs(threshold):
    rng = random.Random(3)
    words = LONG.split()
    texts = []
    for _ in range(150):
        copy = list(words)
        for _ in range(rng.randrange(5)):
            copy[rng.randrange(len(copy))] = rng.choice(["fog", "snow", "night"])
        texts.append(" ".join(copy))
    near, kept = NearDuplicates(threshold), []
    for text in texts:
        expected = next((old for old in kept if _jaccard(old, text) >= threshold), None)
        answer = near.add(text)
        assert (answer[0] if answer else None) == expected
        if answer is None:
            kept.append(text)
