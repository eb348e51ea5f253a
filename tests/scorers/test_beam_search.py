"""Beam search on made-up probabilities."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from videodpo.scorers.networks.beam_search import best_texts

WORDS, END = 4, 3


def random_logits(tokens: tuple[int, ...], seed: int = 0) -> list[float]:
    """Logits of the token after these ones."""
    draw = random.Random(f"{seed} {tokens}")
    return [draw.gauss(0, 1.5) for _ in range(WORDS)]


class Model:
    """Remembers the tokens of each beam as a cache does, and looks up the logits of the next token."""

    def __init__(self, num_beams: int, logits=random_logits, num_texts: int = 1) -> None:
        self.tokens: list[tuple[int, ...]] = [()] * (num_texts * num_beams)
        self.logits, self.num_beams, self.steps = logits, num_beams, 0

    def __call__(self, tokens_NL: torch.Tensor, parents_N: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        before = [self.tokens[parent] for parent in parents_N.tolist()]
        self.tokens = [(*old, *new) for old, new in zip(before, tokens_NL.tolist(), strict=True)]
        return torch.tensor([self.logits(one, number // self.num_beams) for number, one in enumerate(self.tokens)])


def search(model: Model, prompt=(0, 1), num_texts=1, min_length=3, max_length=6):
    return best_texts(
        model,
        prompt,
        num_texts=num_texts,
        num_beams=model.num_beams,
        min_length=min_length,
        max_length=max_length,
        end=END,
    )


def best_of_all(seed: int, prompt=(0, 1), min_length=3, max_length=6) -> tuple[float, list[int]]:
    """Best of all texts: those that end, divided by the length before the end, and those that are cut."""
    found = []
    for length in range(min_length, max_length + 1):
        for more in itertools.product(range(END), repeat=length - len(prompt)):
            tokens = (*prompt, *more)
            total = 0.0
            for place in range(len(prompt), length + 1 if length < max_length else length):
                scores = torch.tensor(random_logits(tokens[:place], seed)).log_softmax(-1)
                if place < min_length:
                    scores[END] = -torch.inf
                total += float(scores[tokens[place] if place < length else END])
            found.append((total / length, list(tokens)))
    return max(found)


@pytest.mark.parametrize("seed", range(5))
def test_with_enough_beams_the_best_of_all_texts_is_found(seed):
    ((score, tokens),) = search(Model(200, lambda tokens, _: random_logits(tokens, seed)))
    expected = best_of_all(seed)
    assert tokens == expected[1]
    assert score == pytest.approx(expected[0], abs=1e-5)


def test_texts_of_a_batch_are_those_of_each_alone():
    together = search(Model(3, num_texts=4), num_texts=4)
    alone = [search(Model(3, lambda tokens, _, seed=seed: random_logits(tokens, seed)))[0] for seed in range(4)]
    assert [tokens for _, tokens in together] == [tokens for _, tokens in alone]
    assert len({tuple(tokens) for _, tokens in together}) > 1


def test_prompt_counts_for_the_length_and_the_end_token_does_not():
    """One text ends after 3 tokens at -3 in all, another after 6 tokens at -6.6.

    The first is better by -3 / 3 to -6.6 / 6. By the numbers of new tokens, -3 / 2 to -6.6 / 5, the second would be.
    """
    likely = {2: {2: 0.0}, 3: {2: -1.5, END: -3.0}, 4: {2: -1.5}, 5: {2: -1.8}, 6: {END: -1.8}}

    def logits(tokens, _):
        known = {word: math.exp(score) for word, score in likely[len(tokens)].items()}
        rest = max(1 - sum(known.values()), 1e-9) / 2000
        return [math.log(known.get(word, rest)) for word in range(2000)]

    ((score, tokens),) = search(Model(3, logits), max_length=7)
    assert tokens == [0, 1, 2]
    assert score == pytest.approx(-1.0, abs=1e-2)


def test_no_text_ends_before_the_least_length():
    def logits(tokens, _):
        return [0.0, -9.0, -9.0, 9.0]

    ((_, tokens),) = search(Model(3, logits), min_length=4)
    assert tokens == [0, 1, 0, 0]


def test_search_stops_when_no_beam_can_become_better():
    def logits(tokens, _):
        return [0.0, -1.0, -2.0, 9.0]

    model = Model(3, logits)
    search(model, max_length=30)
    assert model.steps < 8
