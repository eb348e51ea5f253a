"""The table of reference errors: in shards, for one plan, and re-computed only if necessary."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import small_run
from videodpo.dpo import batches
from videodpo.storage.tables import read_shards, read_table

VISITS_A_PASS = 2


def test_the_reference_table_does_not_depend_on_its_shard_count(own_trainings):
    run = own_trainings.variant()
    columns = ["pair_id", "visit", "noise_seed", "ref_error_winner", "ref_error_loser"]
    one = read_shards(run.round_folder / "reference")[columns]
    run.config = run.config.model_copy(update={"reference": run.config.reference.model_copy(update={"shards": 3})})
    run.reference()
    assert read_shards(run.round_folder / "reference")[columns].equals(one)


@pytest.mark.parametrize("schedule", [{"num_steps": 60}, {"timesteps": {"shift": 3.0}}])
def test_a_table_for_the_visits_of_another_schedule_is_refused(own_trainings, schedule):
    run = own_trainings.fresh(schedule=schedule)
    with pytest.raises(ValueError, match="re-run the stage reference"):
        run.train()


def test_a_new_alpha_reuses_the_reference_errors(own_trainings, monkeypatch):
    run = own_trainings.variant()
    before = read_shards(run.round_folder / "reference")
    pairs = run.config.pairs
    run.config = run.config.model_copy(
        update={"pairs": pairs.model_copy(update={"reweight": pairs.reweight.model_copy(update={"exponent": 0.0})})}
    )
    visits = (run.round_folder / "visits.parquet").read_bytes()
    run.pairs()
    assert (read_table(run.round_folder / "pairs.parquet")["weight"] == 1).all()
    with monkeypatch.context() as patch:
        patch.setattr("videodpo.stages.reference.load_model", None)
        run.reference()
    assert (run.round_folder / "visits.parquet").read_bytes() == visits
    assert read_shards(run.round_folder / "reference").equals(before)


def test_latents_stored_in_another_dtype_need_new_reference_errors(stages, random_model, tmp_path):
    """The clips are equal bit for bit, but the latents that the training reads are not."""
    tables = []
    for dtype in ("float32", "bfloat16"):
        raw = small_run(random_model, tmp_path)
        raw["generate"]["sampling"]["latents_dtype"] = dtype
        run = stages(raw)
        run.until_pairs()
        run.reference()
        tables.append(read_shards(run.round_folder / "reference"))
    assert tables[0]["noise_seed"].equals(tables[1]["noise_seed"])
    assert not tables[0]["ref_error_winner"].equals(tables[1]["ref_error_winner"])


class Killed(BaseException):
    """Simulated kill of a job during its work."""


class Passes:
    """Counts the forward passes of one shard, and kills the job after a given number."""

    def __init__(self, run, monkeypatch):
        self._run, self._monkeypatch = run, monkeypatch
        self.table = run.round_folder / "reference" / "shard-00000.parquet"
        self.log = self.table.parent / "work" / f"{self.table.stem}.jsonl"

    def until(self, most: int | None = None) -> int:
        original, done = batches.model_errors, []

        def counted(model, batch):
            if len(done) == most:
                raise Killed
            done.append(batch)
            return original(model, batch)

        with self._monkeypatch.context() as patch:
            patch.setattr(batches, "model_errors", counted)
            if most is None:
                self._run.reference()
            else:
                with pytest.raises(Killed):
                    self._run.reference()
        return len(done)


@pytest.fixture
def passes(own_trainings, monkeypatch):
    """Passes of a shard without finished work."""
    found = Passes(own_trainings.variant(), monkeypatch)
    shutil.rmtree(found.table.parent)
    return found


def test_a_killed_job_resumes_after_its_last_pass_and_ends_with_the_same_bytes(passes):
    num_passes = passes.until()
    expected = passes.table.read_bytes()
    shutil.rmtree(passes.table.parent)
    assert passes.until(3) == 3
    assert passes.until(0) == 0
    assert passes.until(2) == 2
    assert passes.until() == num_passes - 5
    assert passes.table.read_bytes() == expected
    passes.table.unlink()
    assert passes.until() == 0
    assert passes.table.read_bytes() == expected


def test_a_progress_log_of_other_noise_levels_is_ignored(passes, own_trainings, monkeypatch):
    num_passes = passes.until()
    expected = passes.table.read_bytes()
    shutil.rmtree(passes.table.parent)
    other = Passes(own_trainings.variant(schedule={"timesteps": {"shift": 3.0}}), monkeypatch)
    assert other.until(3) == 3
    assert other.log.exists()
    assert passes.until() == num_passes
    assert passes.table.read_bytes() == expected
