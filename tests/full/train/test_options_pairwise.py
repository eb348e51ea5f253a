"""Pairwise options of a training: any two values either train together, or the configuration refuses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from tests.support.trainings import Trainings, log_of
from videodpo.config import ConfigError, TrainRuntime, validate

FACTORS: dict[str, tuple[Any, ...]] = {
    "strategy": ("ddp", "fsdp"),
    "gradient_checkpointing": ("off", "selective", "full"),
    "offload_activations": (False, True),
    "offload_optimizer": (False, True),
    "compile": (False, True),
    "precision": ("float32", "bfloat16", "bfloat16 mixed", "float16", "float16 mixed"),
    "method": ("lora", "full"),
}
RUNTIME = [name for name in FACTORS if name not in ("precision", "method")]
Pair = frozenset[tuple[str, Any]]
Choice = Mapping[str, Any]


class AtPrecision(Trainings):
    """Two steps of the small run in one precision."""

    precision = "float32"

    def variant(self, **changes: Any) -> Any:
        run = super().variant(schedule={"num_steps": 2}, **changes)
        dtype, _, mixed = self.precision.partition(" ")
        update = {"dtype": dtype, "mixed_precision": bool(mixed)}
        run.config = run.config.model_copy(update={"model": run.config.model.model_copy(update=update)})
        return run


def runtime_of(choice: Choice) -> dict[str, Any]:
    """Keys of `train_runtime`, with two processes or, if enough, one."""
    return {"processes": 1 if choice["offload_optimizer"] else 2} | {name: choice[name] for name in RUNTIME}


def reason_against(choice: Choice) -> str | None:
    """Reason why the configuration refuses the choice; None if it accepts it."""
    try:
        validate(TrainRuntime, runtime_of(choice), "train_runtime")
    except ConfigError as error:
        return str(error)
    return None


def pairs_of(choice: Choice) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(choice.items(), 2)}


def covering(choices: list[Choice]) -> Iterator[Choice]:
    """Greedy cover: repeatedly take the choice with the most new pairs, until all pairs are covered."""
    missing = set[Pair]().union(*map(pairs_of, choices))
    while missing:
        best = max(choices, key=lambda choice: len(pairs_of(choice) & missing))
        missing -= pairs_of(best)
        yield best


ALL: list[Choice] = [dict(zip(FACTORS, values, strict=True)) for values in product(*FACTORS.values())]
ACCEPTED = [choice for choice in ALL if reason_against(choice) is None]
RUNS = list(covering(ACCEPTED))
COVERED = set[Pair]().union(*map(pairs_of, RUNS))
REFUSED = sorted(set[Pair]().union(*map(pairs_of, ALL)) - COVERED, key=lambda pair: sorted(map(str, pair)))


def name_of(values: Choice) -> str:
    return " ".join(name if value is True else str(value) for name, value in values.items() if value is not False)


@pytest.fixture(scope="module")
def at(random_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trainings by precision, each with its own pairs and reference errors."""
    known: dict[str, AtPrecision] = {}

    def find(precision: str) -> AtPrecision:
        if precision not in known:
            known[precision] = AtPrecision(random_model, tmp_path_factory.mktemp(precision))
            known[precision].precision = precision
            run = known[precision].variant()
            run.until_pairs()
            run.reference()
        return known[precision]

    return find


@pytest.mark.parametrize("choice", RUNS, ids=name_of)
def test_accepted_options_train(at: Any, server: Any, choice: Choice) -> None:
    run = at(choice["precision"]).fresh(train_runtime=runtime_of(choice), method=choice["method"], learning_rate=1e-4)
    server.finish(run)
    log = log_of(run)
    assert len(log) == 2
    # In float16 the first steps may only lower the loss scale, because so small a model has large gradients.
    assert not log["skipped"][log["loss_scale"].isna()].any()
    assert log["loss"].notna().all()
    np.testing.assert_allclose(log["loss"][0], log["weight_mean"][0] * np.log(2), rtol=0.05)
    assert (run.round_folder / "adapter").is_dir()


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: name_of(dict(sorted(pair))))
def test_refusal_names_an_option_of_the_pair(pair: Pair) -> None:
    reason = reason_against({name: values[0] for name, values in FACTORS.items()} | dict(pair))
    assert any(name in str(reason) for name, _ in pair)
