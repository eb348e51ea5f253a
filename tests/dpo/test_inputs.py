"""A training's identity depends on its input values, not on the code that wrote them."""

from videodpo.dpo.inputs import digest_of_inputs
from videodpo.dpo.visits import read_visits
from videodpo.storage.schemas import PAIRS, VISITS
from videodpo.storage.tables import read_rows, write_table

TABLES = {"pairs.parquet": PAIRS, "visits.parquet": VISITS}


def _digest(run, more=()):
    return digest_of_inputs(read_visits(run.round_folder), run.round_folder, more)


def _rewrite(run, name, change=lambda row: row):
    path = run.round_folder / name
    rows = [change(row) for row in read_rows(path)]
    write_table(path, rows, TABLES[name], stage="other", digest="of other code", seed=1)


def test_the_same_rows_written_by_other_code_have_the_same_digest(own_trainings):
    run = own_trainings.variant()
    before, bytes_before = _digest(run, ["weight"]), (run.round_folder / "pairs.parquet").read_bytes()
    for name in TABLES:
        _rewrite(run, name)
    assert (run.round_folder / "pairs.parquet").read_bytes() != bytes_before
    assert _digest(run, ["weight"]) == before


def test_other_pair_weights_change_the_training_but_not_the_reference_errors(own_trainings):
    run = own_trainings.variant()
    training, reference = _digest(run, ["weight"]), _digest(run)
    _rewrite(run, "pairs.parquet", lambda row: row | {"weight": 2 * row["weight"]})
    assert _digest(run, ["weight"]) != training
    assert _digest(run) == reference
