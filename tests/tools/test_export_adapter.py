"""The command `export-adapter`: the model card, DoRA, and one sentence for what cannot be exported."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
import yaml
from diffusers import WanTransformer3DModel

from tests.conftest import Stages, small_run
from tests.support.adapters import Trained, aligned_weights, run_example
from tests.support.families import FAMILIES
from videodpo.cli import main
from videodpo.config import Model
from videodpo.storage.manifests import read_json, record_json
from videodpo.tools.adapter.formats import known_formats
from videodpo.tools.adapter.merge import read_network

LORA = {"lora": {"rank": 2}}


@pytest.fixture
def train(paired, random_model, tmp_path):
    return lambda **train: Trained(paired, FAMILIES["wan-2.1"], random_model, tmp_path / "results", **LORA | train)


def export(run, out, name="comfyui", *more):
    return main(["export-adapter", str(run), "--format", name, "--out", str(out), *more])


def read_card(out):
    text = (out / "README.md").read_text(encoding="utf-8")
    head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    return yaml.safe_load(head), body


def set_base(run, weights):
    """Let the run have been trained on other weights."""
    file = run.folder / "config" / "train.json"
    settings = read_json(file)
    settings["settings"]["model"]["weights"] = str(weights)
    record_json(file, settings)


def test_the_model_card_has_settings_counts_scores_and_licences(every_stage, tmp_path, capsys):
    assert export(every_stage / "small", tmp_path / "out") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'README.md'}\n"
    head, body = read_card(tmp_path / "out")
    assert head["library_name"] == "diffusers"
    assert head["license"] == "other"
    assert head["license_name"] == "see-base-model"
    assert head["pipeline_tag"] == "text-to-video"
    assert {"lora", "dpo", "comfyui"} < set(head["tags"])
    assert "base_model" not in head  # a folder on this disk is no name on a hub
    for row in ("training prompts | 3", "held-out prompts | 2", "clips | 9, of which 0 failed"):
        assert f"| {row} |" in body
    assert "| train.beta | `100.0` |" in body
    assert "| train.lora.rank | `4` |" in body
    assert "| prompts | `demo_world` | Apache-2.0 |" in body
    summary = read_json(every_stage / "small" / "round1" / "evaluation" / "summary.json")
    row = summary["dimensions"]["omniscore"]
    interval = f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}"
    assert (
        f"| omniscore | total | {row['base']:.4f} | {row['aligned']:.4f} | {row['delta']:+.4f} | {interval} |" in body
    )
    assert str(every_stage) not in body


def test_the_header_names_a_base_model_of_the_hub(train, tmp_path):
    run = train()
    set_base(run, f"hub:Wan-AI/Wan2.1-T2V-1.3B-Diffusers@{'0' * 40}")
    assert export(run.folder, tmp_path / "out") == 0
    head, body = read_card(tmp_path / "out")
    assert head["base_model"] == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert head["license"] == "apache-2.0"
    assert f'from_pretrained("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", revision="{"0" * 40}")' in body
    assert "This round has not been evaluated" in body


def test_a_dora_is_merged_exactly_and_refused_where_no_tool_reads_it(train, tmp_path, capsys):
    run = train(lora={"rank": 2, "dora": True})
    assert export(run.folder, tmp_path / "merged", "merged") == 0
    found = run_example(tmp_path / "merged")["pipe"].transformer.state_dict()
    for name, value in aligned_weights(run.networks["transformer"]).items():
        if "magnitude" not in name:
            torch.testing.assert_close(found[name], value, rtol=0, atol=3e-6)
    assert export(run.folder, tmp_path / "out", "original") == 1
    assert "train.lora.dora: true; no tool reads a DoRA" in capsys.readouterr().err


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_merged_model_keeps_the_types_and_files_of_the_base_model(train, random_model, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(random_model, base)
    WanTransformer3DModel.from_pretrained(base / "transformer").to(torch.bfloat16).save_pretrained(
        base / "transformer", max_shard_size="20KB"
    )
    (base / "transformer" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    assert len(list((base / "transformer").glob("*.safetensors"))) > 1
    run = train()
    set_base(run, base)
    assert export(run.folder, tmp_path / "out", "merged") == 0
    assert files(tmp_path / "out") == files(base) | {"README.md"}
    merged, before = (read_network(folder / "transformer") for folder in (tmp_path / "out", base))
    assert {name: value.dtype for name, value in merged.items()} == {
        name: value.dtype for name, value in before.items()
    }
    assert not torch.equal(merged["blocks.0.ffn.net.2.weight"], before["blocks.0.ffn.net.2.weight"])
    assert torch.equal(merged["proj_out.weight"], before["proj_out.weight"])


def test_what_cannot_be_exported_is_refused_in_one_sentence(train, tmp_path, capsys):
    run = train(method="full", lora={})

    def refused(*arguments):
        assert export(*arguments) == 1
        return capsys.readouterr().err

    message = "no tool reads full fine-tuning of wan in this format; use one of: diffusers, original, merged"
    assert message in refused(run.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "train round 2 first" in refused(run.folder, tmp_path / "out", "diffusers", "--round", "2")
    assert "it has no config/train.json" in refused(tmp_path, tmp_path / "out", "diffusers")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    assert "notes: exists already; name a new folder" in refused(run.folder, tmp_path / "notes", "diffusers")
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    shutil.rmtree(run.folder / "round1" / "adapter")
    assert "finish a training first" in refused(run.folder, tmp_path / "out", "diffusers")


def test_a_damaged_adapter_is_refused(train, tmp_path, capsys):
    run = train()
    file = run.folder / "round1" / "adapter" / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"spam")
    assert export(run.folder, tmp_path / "out") == 1
    assert "pytorch_lora_weights.safetensors: differs from what was written" in capsys.readouterr().err


def test_an_adapter_of_another_model_is_refused_and_leaves_no_folder(train, random_model, tmp_path, capsys):
    run = train()
    base = shutil.copytree(random_model, tmp_path / "base")
    config = dict(WanTransformer3DModel.load_config(base / "transformer"), num_layers=1)
    shutil.rmtree(base / "transformer")
    WanTransformer3DModel.from_config(config).save_pretrained(base / "transformer")
    set_base(run, base)
    assert export(run.folder, tmp_path / "out", "merged") == 1
    assert "no layer blocks.1.attn1.to_k" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize(
    ("family", "options", "lora", "full"),
    [
        ("wan", {}, "diffusers comfyui original merged", "diffusers original merged"),
        ("ltx_video", {}, "diffusers comfyui original merged", "diffusers original merged"),
        ("hunyuan_video15", {}, "diffusers comfyui original merged", "diffusers original merged"),
        ("cogvideox", {}, "diffusers comfyui merged", "diffusers original merged"),
        ("text_to_video_sd", {}, "diffusers merged", "diffusers merged"),
        ("videocrafter2", {}, "diffusers merged", "diffusers merged"),
        ("t2v_turbo", {}, "diffusers merged", "diffusers"),
        ("t2v_turbo", {"distilled_lora": "trained"}, "diffusers original merged", "diffusers"),
    ],
)
def test_known_formats(tmp_path, family, options, lora, full):
    """The table of docs/adapters.md."""
    for method, known in (("lora", lora), ("full", full)):
        run = Stages(small_run(tmp_path, tmp_path, train={"method": method}))
        settings = run.snapshot("train").settings
        model = Model(family=family, weights=str(tmp_path), options=options)
        assert known_formats(settings.model_copy(update={"model": model})) == known.split()
