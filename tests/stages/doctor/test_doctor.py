"""A healthy round raises no alarm; one fault raises the alarm of its check and no other."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import small_run
from videodpo.cli import main
from videodpo.dpo import batches
from videodpo.models.wan import WanModel
from videodpo.runtime.giving_up import has_given_up
from videodpo.stages.doctor import diagnose_log
from videodpo.storage.manifests import manifest_path
from videodpo.storage.schemas import PAIRS, REFERENCE, TRAIN_LOG, VIDEOS
from videodpo.storage.tables import read_shards, read_table, shard_path, write_table
from videodpo.storage.tensors import write_tensors

OWN = {"stage": "test", "digest": "d", "seed": 0}


@pytest.fixture(scope="module")
def healthy(paired, random_model, stages, tmp_path_factory):
    """The small run with pairs and reference errors; tests copy it."""
    results = tmp_path_factory.mktemp("healthy")
    paired.copy(results)
    run = stages(small_run(random_model, results))
    run.reference()
    return run


@pytest.fixture
def round_folder(healthy, tmp_path):
    healthy.copy(tmp_path)
    return tmp_path / "small" / "round1"


@pytest.fixture
def doctor(round_folder, random_model, tmp_path, capsys):
    """Function that runs the command on the copy; it returns the exit code and the findings by check."""

    def call(*options, **train):
        raw = small_run(random_model, tmp_path)
        raw["train"] |= train
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
        assert main(["visits", "--config", str(tmp_path / "config.yaml"), *options]) == 0
        code = main(["doctor", "--config", str(tmp_path / "config.yaml"), "--json", *options])
        said = capsys.readouterr()
        assert code in (0, 3), said.err
        return code, {finding["check"]: finding for finding in map(json.loads, said.out.splitlines())}

    return call


def alarms(findings):
    return {name for name, finding in findings.items() if finding["status"] == "alarm"}


def rewrite(path, table, schema, extra=None):
    write_table(path, table, schema, **OWN, extra=extra)


def rewrite_reference(round_folder, change):
    table = read_shards(round_folder / "reference")
    rewrite(
        shard_path(round_folder / "reference", 0), change(table).astype(table.dtypes), REFERENCE, {"num_shards": "1"}
    )


def rescale_latents(round_folder, factor):
    file = round_folder / "videos" / "latents" / "shard-00000.safetensors"
    write_tensors(file, {name: value * factor for name, value in load_file(file).items()})


# --- healthy


@pytest.mark.parametrize(
    "train",
    [{}, {"beta": "auto"}, {"reference": "online", "lora": {"rank": 4, "dropout": 0.5}}, {"method": "full"}],
    ids=["precomputed", "auto", "online", "full"],
)
def test_a_healthy_round_has_no_alarm(doctor, train):
    code, findings = doctor(**train)
    assert code == 0
    not_fine = {name for name, one in findings.items() if one["status"] != "fine"}
    assert not_fine - {"movement"} == {"vae_round_trip"}  # three steps change little, and the VAE is random
    assert findings["step_0_loss"]["value"] <= 1e-5
    assert findings["same_model"]["value"] == 0


def test_mixed_precision_raises_no_alarm(doctor):
    mixed = ("--set", "model.dtype=bfloat16", "--set", "model.mixed_precision=true")
    code, findings = doctor(*mixed, reference="online", method="full", learning_rate=1e-4)
    assert (code, alarms(findings)) == (0, set())
    assert findings["forward"]["status"] == "fine"
    assert "not judged" not in findings["movement"]["measured"]


def test_the_doctor_loads_no_text_encoder(doctor, round_folder, random_model, tmp_path):
    weights, out = tmp_path / "weights", tmp_path / "doctor.json"
    shutil.copytree(random_model, weights)
    doctor("--set", f"model.weights={weights}")
    shutil.rmtree(weights / "text_encoder")
    config = round_folder.parent / "config" / "train.json"
    assert main(["doctor", "--config", str(config), "--out", str(out)]) == 0
    findings = {line["check"] for line in map(json.loads, out.read_text().splitlines())}
    assert {"forward", "vae_round_trip", "movement"} <= findings


def test_a_snapshot_is_accepted_and_the_findings_are_written(doctor, round_folder, tmp_path, capsys):
    doctor()
    config, out = round_folder.parent / "config" / "train.json", tmp_path / "deep" / "doctor.json"
    assert main(["doctor", "--config", str(config), "--round", "1", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line.split()[:2] for line in lines] == [[one["status"], one["check"]] for one in written]
    (line,) = [line for line in lines if "vae_round_trip" in line]
    assert "imported clips only" in line


def test_a_round_without_reference_errors_is_refused(doctor, round_folder, tmp_path, capsys):
    doctor()
    shutil.rmtree(round_folder / "reference")
    assert main(["doctor", "--config", str(tmp_path / "config.yaml")]) == 1
    assert "run the stage that writes it first" in capsys.readouterr().err


# --- one fault


@pytest.mark.parametrize("weight", [float("nan"), 0.0])
def test_a_pair_weight_that_is_not_finite_and_positive_is_an_alarm(doctor, round_folder, weight):
    file = round_folder / "pairs.parquet"
    table = pq.read_table(file)
    weights = pa.array(np.r_[weight, table["weight"].to_numpy()[1:]], from_pandas=False)
    column = table.schema.get_field_index("weight")
    pq.write_table(table.set_column(column, table.schema.field(column), weights), file)
    manifest_path(file).unlink()
    code, findings = doctor()
    assert (code, alarms(findings)) == (3, {"weights"})


def test_one_dominant_pair_and_many_epochs_are_warnings(doctor, round_folder):
    file = round_folder / "pairs.parquet"
    pairs = read_table(file)
    many = pairs.iloc[np.arange(300) % len(pairs)].assign(pair_id=np.arange(300), weight=1.0)
    many.loc[many["pair_id"] == 7, "weight"] = 1e6
    rewrite(file, many, PAIRS)
    code, findings = doctor(reference="online")
    assert (code, findings["effective_pairs"]["status"]) == (0, "warning")
    rewrite(file, pairs, PAIRS)
    code, findings = doctor("--set", "schedule.num_steps=100", reference="online")
    assert (code, findings["epochs"]["status"]) == (0, "warning")
    validation = "schedule.validation={num_prompts: 1, draws: 1}"
    _, held_back = doctor("--set", "schedule.num_steps=100", "--set", validation, reference="online")
    assert held_back["epochs"]["value"] > findings["epochs"]["value"]


def test_reference_errors_of_another_model_are_an_alarm(doctor, round_folder):
    rewrite_reference(round_folder, lambda table: table.assign(ref_error_winner=table["ref_error_winner"] * 1.01))
    code, findings = doctor()
    assert (code, alarms(findings)) == (3, {"step_0_loss", "same_model"})


def test_reference_errors_of_another_machine_are_a_warning(doctor, round_folder):
    rewrite_reference(round_folder, lambda table: table.assign(ref_error_winner=table["ref_error_winner"] * (1 + 2e-7)))
    code, findings = doctor(beta=5000.0)
    assert (code, findings["same_model"]["status"], findings["step_0_loss"]["status"]) == (0, "warning", "warning")


def test_a_reference_table_of_another_plan_is_an_alarm(doctor, round_folder):
    rewrite_reference(round_folder, lambda table: table[::-1])
    code, findings = doctor()
    assert (code, alarms(findings)) == (3, {"reference_table"})


def test_a_pair_without_finite_reference_errors_is_a_warning_and_most_of_them_an_alarm(doctor, round_folder):
    """The training skips their steps; all other checks use the pairs with finite errors."""
    visited = read_shards(round_folder / "reference")["pair_id"]

    def lose(pairs):
        errors = ["ref_error_winner", "ref_error_loser"]

        def change(table):
            table.loc[table["pair_id"].isin(pairs), errors] = np.nan
            return table

        rewrite_reference(round_folder, change)

    lose(visited[:1])
    code, findings = doctor()
    assert (code, findings["reference_table"]["status"]) == (0, "warning")
    assert alarms(findings) == set()
    lose(visited)
    code, findings = doctor()
    assert (code, "reference_table" in alarms(findings)) == (3, True)


def test_a_beta_far_off_is_a_warning_and_no_spread_an_alarm(doctor, round_folder):
    code, findings = doctor(beta=1e5)
    assert (code, findings["beta"]["status"]) == (0, "warning")
    rewrite_reference(round_folder, lambda table: table.assign(ref_error_loser=table["ref_error_winner"]))
    _, findings = doctor()
    assert "beta" in alarms(findings)


def test_separate_noise_for_winner_and_loser_is_an_alarm(doctor, monkeypatch):
    make = batches.PairData.batch

    def separate(self, *arguments, **options):
        batch = make(self, *arguments, **options)
        return dataclasses.replace(batch, noise=torch.cat([batch.noise.chunk(2)[0], -batch.noise.chunk(2)[1]]))

    monkeypatch.setattr(batches.PairData, "batch", separate)
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"shared_draws"})
    code, findings = doctor(reference="online", objective={"official_code": {"separate_noise": True}})
    assert (code, findings["shared_draws"]["status"]) == (0, "warning")


def test_one_error_per_latent_column_is_an_alarm(doctor, monkeypatch):
    def per_column(prediction, target):
        return (prediction - target).square().mean(dim=(1, 2, 3))

    monkeypatch.setattr(batches, "denoising_errors", per_column)
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"one_logit"})


def test_an_error_that_depends_on_the_batch_is_an_alarm(doctor, monkeypatch):
    errors = batches.denoising_errors
    monkeypatch.setattr(batches, "denoising_errors", lambda *given: errors(*given) * len(given[0]))
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"one_logit"})


@pytest.mark.parametrize("reference", ["precomputed", "online"])
def test_an_adapter_that_is_not_zero_at_the_start_is_an_alarm(doctor, monkeypatch, reference):
    add = WanModel.add_lora

    def noisy(self, *arguments):
        add(self, *arguments)
        for name, parameter in self.denoiser.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)

    monkeypatch.setattr(WanModel, "add_lora", noisy)
    code, findings = doctor(reference=reference)
    assert (code, alarms(findings)) == (3, {"step_0_loss", "same_model"})


def test_a_timestep_on_another_scale_is_an_alarm(doctor, monkeypatch):
    predict = WanModel.predict
    monkeypatch.setattr(
        WanModel, "predict", lambda self, noisy, noise_level, text: predict(self, noisy, noise_level / 1000, text)
    )
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"forward"})
    assert "differing inputs: timestep)" in findings["forward"]["measured"]


def test_a_text_that_does_not_reach_the_denoiser_is_an_alarm(doctor, monkeypatch):
    predict = WanModel.predict

    def silent(self, noisy, noise_level, text):
        return predict(self, noisy, noise_level, {name: value * 0 for name, value in text.items()})

    monkeypatch.setattr(WanModel, "predict", silent)
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"forward"})
    assert "encoder_hidden_states" in findings["forward"]["measured"]


def test_a_denoiser_other_than_the_pipelines_is_an_alarm(doctor, monkeypatch):
    monkeypatch.setattr(WanModel, "make_denoiser", lambda self: copy.deepcopy(self.pipe.transformer))
    code, findings = doctor(reference="online", method="full")
    assert (code, alarms(findings)) == (3, {"forward"})
    assert "never called" in findings["forward"]["measured"]


@pytest.mark.parametrize(("factor", "said"), [(3.0, "halved"), (0.3, "doubled")])
def test_latents_on_another_scale_are_an_alarm(doctor, round_folder, factor, said):
    rescale_latents(round_folder, factor)
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"latents_fit_clips"})
    assert has_given_up(round_folder, "doctor")
    assert said in findings["latents_fit_clips"]["advice"]


def test_latents_that_are_not_finite_are_an_alarm(doctor, round_folder):
    rescale_latents(round_folder, float("nan"))
    code, findings = doctor(reference="online")
    assert code == 3
    assert "latent_scale" in alarms(findings)


def test_latents_that_are_not_normalised_are_a_warning(doctor, round_folder):
    rescale_latents(round_folder, 6.0)
    _, findings = doctor(reference="online")
    assert findings["latent_scale"]["status"] == "warning"


def test_swapped_latents_of_a_pair_are_an_alarm(doctor, round_folder):
    file = shard_path(round_folder / "videos", 0)
    videos = read_shards(round_folder / "videos")
    pairs = read_table(round_folder / "pairs.parquet")
    rows = videos.set_index("video_id").loc
    swapped = {}
    for pair in pairs.itertuples():
        swapped |= {
            pair.winner_id: rows[pair.loser_id]["latents"],
            pair.loser_id: rows[pair.winner_id]["latents"],
        }
    videos["latents"] = [
        swapped.get(video_id, own) for video_id, own in zip(videos["video_id"], videos["latents"], strict=True)
    ]
    rewrite(file, videos, VIDEOS, {"num_shards": "1"})
    code, findings = doctor(reference="online")
    assert (code, alarms(findings)) == (3, {"latents_fit_clips"})
    assert "other clip" in findings["latents_fit_clips"]["advice"]


def test_the_log_of_another_objective_need_not_start_at_ln_2(round_folder, stages, random_model, tmp_path):
    snapshot = stages(small_run(random_model, tmp_path, train={"objective": {"loss": "ipo"}})).snapshot("train")
    row = dict.fromkeys(TRAIN_LOG.names, 0.0) | {"step": 0, "loss": 5.0, "weight_mean": 1.0}
    log = pd.DataFrame([row]).astype({"step": int})
    for file in (round_folder / "train_log.parquet", round_folder / "state" / "train_log.parquet"):
        for digest, is_checked in ((snapshot.digest, False), ("of other settings", True)):
            write_table(file, log, TRAIN_LOG, stage="train", digest=digest, seed=0)
            assert ("step_0_loss" in {finding.check for finding in diagnose_log(file)}) == is_checked
