"""Learning rate over the steps of a training."""

from __future__ import annotations

import pytest

from videodpo.config import Train
from videodpo.dpo.optimizers import share_of_learning_rate


@pytest.mark.parametrize(
    ("decay", "shares"),
    [
        ("none", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.8536, 0.5, 0.1464]),
    ],
)
def test_learning_rate_rises_in_the_warmup_and_then_decays(decay, shares):
    train = Train(beta=500.0, warmup_steps=2, learning_rate_decay=decay)
    found = [share_of_learning_rate(train, step, num_steps=6) for step in range(6)]
    assert found == pytest.approx(shares, abs=1e-4)


def test_decay_without_warmup_starts_at_the_full_rate():
    assert share_of_learning_rate(Train(beta=500.0, learning_rate_decay="linear"), 0, num_steps=4) == 1


def test_warmup_as_long_as_the_training_ends_at_the_full_rate():
    train = Train(beta=500.0, warmup_steps=4, learning_rate_decay="cosine")
    assert share_of_learning_rate(train, 3, num_steps=4) == 1
