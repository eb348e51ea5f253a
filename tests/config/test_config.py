"""Configuration checks before a run; the shipped configuration agrees with its classes."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, small_run
from tests.support.workspace import make_workspace, snakemake
from videodpo.cli import main
from videodpo.config import (
    Config,
    ConfigError,
    Generate,
    Pairs,
    PillarWeights,
    Section,
    parse_config,
    renamed,
    validate,
)
from videodpo.config.loading import read_config
from videodpo.runtime import registry
from videodpo.workflow.run import Workflow

ABSENT = object()
FLICKER = "dimensions.temporal_flickering"
CLIP = "dimensions.overall_consistency_clip"
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Good and bad inputs; `model` is a good model folder."""
    (tmp_path / "three.csv").write_text("prompt\na tram\na bus\na boat\n")
    (tmp_path / "folder").mkdir()
    shutil.copytree(ROOT / "demo" / "text_to_video", tmp_path / "model")
    for name in ("half", "other"):
        shutil.copytree(tmp_path / "model", tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.rmtree(tmp_path / "half" / "vae")
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "CogVideoXPipeline"}')
    return tmp_path


def raw_with(files: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """The small run with dotted keys changed; `{files}` in a value stands for the folder of the inputs."""
    raw = copy.deepcopy(small_run(files / "model", files / "results"))
    for key, value in changes.items():
        *above, name = key.split(".")
        section = raw
        for part in above:
            section = section.setdefault(part, {})
        if value is ABSENT:
            del section[name]
        else:
            section[name] = yaml.safe_load(yaml.safe_dump(value).replace("{files}", str(files)))
    return raw


WRONG = {
    # names
    "unknown section": ({"pair": {}}, "pair", "did you mean 'pairs'"),
    "unknown key": ({"generate.videos_per_promt": 4}, "generate.videos_per_promt", "did you mean 'videos_per_prompt'"),
    "unknown key of a dimension": ({f"{FLICKER}.wieght": 1}, f"{FLICKER}.wieght", "did you mean 'weight'"),
    "missing section": ({"schedule": ABSENT}, "schedule", "missing"),
    "missing key": ({"train.beta": ABSENT}, "train.beta", "missing"),
    "unknown scorer": ({"dimensions.aesthetics": {}}, "dimensions.aesthetics", "unknown scorer"),
    "misspelt scorer": (
        {"dimensions.dynamic_degre_dis": {}},
        "dimensions.dynamic_degre_dis",
        "did you mean 'dynamic_degree_dis'",
    ),
    "unknown judge": ({"evaluate.judges": {"taste": {}}}, "evaluate.judges.taste", "unknown scorer"),
    "unknown option of a scorer": (
        {f"{FLICKER}.options": {"speed": 1}},
        f"{FLICKER}.options.speed",
        "unknown key",
    ),
    "unknown family": ({"model.family": "wann"}, "model.family", "did you mean 'wan'"),
    # types
    "section is text": ({"prompts": "prompts.txt"}, "prompts", "a mapping of keys is needed"),
    "dimension is a number": ({FLICKER: 1}, FLICKER, "a mapping"),
    "exponent is text": ({"pairs.reweight.exponent": "high"}, "pairs.reweight.exponent", "'high'"),
    # ranges
    "N is 1": ({"generate.videos_per_prompt": 1}, "generate.videos_per_prompt", "greater than or equal to 2"),
    "beta is infinite": ({"train.beta": math.inf}, "train.beta", "finite"),
    "unknown policy": ({"pairs.policy": "best"}, "pairs.policy", "best_worst, rank:i-j"),
    "unknown source": ({"prompts.source.kind": "xml"}, "prompts.source.kind", "'jsonl'"),
    "run name with a slash": ({"run": "a/b"}, "run", "letters, digits"),
    "run name that climbs": ({"run": ".."}, "run", "letters, digits"),
    # combinations of keys
    "min above max": ({f"{FLICKER}.min": 2.0}, f"{FLICKER}.min", "not below max"),
    "noise levels in wrong order": ({"schedule.timesteps": {"low": 0.9, "high": 0.1}}, "schedule.timesteps.low", "0.1"),
    "text lengths in wrong order": ({"prompts.min_chars": 9000}, "prompts.min_chars", "max_chars"),
    "ranks in wrong order": ({"pairs.policy": "rank:3-1"}, "pairs.policy", "better one first"),
    "rank beyond N": ({"pairs.policy": "rank:1-4"}, "pairs.policy", "generate.videos_per_prompt is 3"),
    "micro-batch does not divide": ({"schedule.micro_batch_size": 3}, "schedule.micro_batch_size", "does not divide 4"),
    "bounds of the sampler's noise levels": (
        {"schedule.timesteps": {"distribution": "match_sampler", "low": 0.4}},
        "schedule.timesteps.low",
        "0.4 has no effect on match_sampler",
    ),
    "the loser's own noise level from the sampler's": (
        {
            "schedule.timesteps": {"distribution": "match_sampler"},
            "train": {
                "beta": 1.0,
                "reference": "online",
                "objective": {"official_code": {"separate_noise": True}},
            },
        },
        "train.objective.official_code.separate_noise",
        "use uniform",
    ),
    "caption dropout with the reference table": (
        {"train.caption_dropout": 0.2},
        "train.caption_dropout",
        "needs reference: online",
    ),
    "full fine-tuning in bf16": (
        {"train.method": "full", "model.dtype": "bfloat16"},
        "model.dtype",
        "every trained weight is float32",
    ),
    "empty pillar": ({"omniscore.pillars.semantic": 1.0}, "omniscore.pillars.semantic", "no dimension with a weight"),
    "pillars without weight": ({"omniscore.pillars.quality": 0.0}, "omniscore.pillars", "both have weight 0"),
    "pillar without a range": ({FLICKER: {"pillar": "quality", "max": 1.0}}, f"{FLICKER}.min", "a pillar needs it"),
    "motion dimension not among dimensions": (
        {"evaluate.motion_dimension": "dynamic_degree_dis"},
        "evaluate.motion_dimension",
        "not among dimensions",
    ),
    "diversity dimension not among dimensions": (
        {"evaluate.diversity_dimension": "subject_consistency", "evaluate.videos_per_prompt": 2},
        "evaluate.diversity_dimension",
        "not among dimensions",
    ),
    "diversity by a scorer without embeddings": (
        {"evaluate.diversity_dimension": FLICKER.removeprefix("dimensions."), "evaluate.videos_per_prompt": 2},
        "evaluate.diversity_dimension",
        "does not embed frames",
    ),
    "diversity of a single clip per prompt": (
        {"evaluate.diversity_dimension": FLICKER.removeprefix("dimensions."), "evaluate.videos_per_prompt": 1},
        "evaluate.diversity_dimension",
        "use 2 or more",
    ),
    "filter by a dimension outside the OmniScore": (
        {"pairs.filters": {"no_regression": {"taste": 0.1}}},
        "pairs.filters.no_regression.taste",
        "not among the dimensions of the OmniScore",
    ),
    "half a motion floor": ({"pairs.filters": {"min_motion": 0.1}}, "pairs.filters.motion_dimension", "or neither"),
    "judge also among dimensions": (
        {"evaluate.judges": {"temporal_flickering": {}}},
        "evaluate.judges.temporal_flickering",
        "no independent judge",
    ),
    "own clips with two rounds": (
        {"prompts.source": {"kind": "clips", "path": "{files}/three.csv"}, "rounds": 2},
        "rounds",
        "your own clips",
    ),
    # files on disk
    "no prompts file named": ({"prompts.source": {"kind": "text"}}, "prompts.source.path", "'text' needs one"),
    "model does not exist": ({"model.weights": "{files}/none"}, "model.weights", "does not exist"),
    "model folder without an index": ({"model.weights": "{files}/folder"}, "model.weights", "no model_index.json"),
    "model id without an organisation": ({"model.weights": "hub:wan"}, "model.weights", "<organisation>/<name>@"),
    "CLIP weights are not named": (
        {CLIP: {}},
        f"{CLIP}.options.weights",
        "",
    ),
    "CLIP weights are no open_clip folder": (
        {f"{CLIP}.options": {"weights": "{files}/folder"}},
        f"{CLIP}.options.weights",
        "neither a folder with an open_clip_config.json",
    ),
    "model of another family": ({"model.weights": "{files}/other"}, "model.weights", "is a CogVideoXPipeline"),
    "clips are to be fitted and there are none": (
        {"generate.fit_clips": True},
        "generate.fit_clips",
        "prompts.source.kind is 'demo_world', not 'clips'",
    ),
    "flow shift of a family without one": (
        {"model.family": "cogvideox", "generate.sampling.flow_shift": 5.0},
        "generate.sampling.flow_shift",
        "5; the family cogvideox has no flow shift and takes null only",
    ),
    "scheduler of a family that knows one": (
        {"model.options": {"scheduler": "dpm"}},
        "model.options.scheduler",
        "unknown key",
    ),
    "flow shift of 0": ({"generate.sampling.flow_shift": 0.0}, "generate.sampling.flow_shift", "greater than 0"),
    "model folder without its VAE": ({"model.weights": "{files}/half"}, "model.weights", "vae/config.json"),
    "height that the model cannot sample": (
        {"generate.sampling.height": 33},
        "generate.sampling",
        "height and width must be multiples of 8",
    ),
    "frames that the model cannot sample": (
        {"generate.sampling.num_frames": 10},
        "generate.sampling",
        "num_frames 1 more than a multiple of 4",
    ),
    "bucket that the model cannot sample": (
        {"generate.sampling.buckets": [{"num_frames": 5, "height": 32, "width": 36}]},
        "generate.sampling.buckets.0",
        "5 frames of 32 x 36; height and width must be multiples of 8",
    ),
    "bucket of the sampling's own size": (
        {"generate.sampling.buckets": [{"num_frames": 5, "height": 32, "width": 32}]},
        "generate.sampling.buckets.0",
        "5 frames of 32 x 32 are listed already",
    ),
    "bucket named twice": (
        {"generate.sampling.buckets": [{"num_frames": 5, "height": 32, "width": 64}] * 2},
        "generate.sampling.buckets.1",
        "list each size once",
    ),
    "activations of compiled layers offloaded": (
        {"train_runtime.offload_activations": True, "train_runtime.compile": True},
        "train_runtime.offload_activations",
        "true with compile: true",
    ),
    "warm-up beyond the end": ({"train.warmup_steps": 4}, "train.warmup_steps", "more than schedule.num_steps 3"),
}


@pytest.mark.parametrize(("changes", "key", "reason"), WRONG.values(), ids=WRONG.keys())
def test_an_error_names_the_key(files, changes, key, reason):
    with pytest.raises(ConfigError) as caught:
        Workflow(raw_with(files, changes))
    first, *others = str(caught.value).removeprefix("configuration: ").splitlines()
    assert first.startswith(f"{key}: ")
    assert reason in first
    assert not others


@pytest.mark.parametrize(("old", "new"), renamed.KEYS.items())
def test_an_old_key_is_refused_with_its_new_name(files, old, new):
    with pytest.raises(ConfigError) as caught:
        parse_config(raw_with(files, {old: 1}))
    assert f"{old}: this key is now {new}" in str(caught.value)


@pytest.mark.parametrize("new", renamed.KEYS.values())
def test_the_new_name_of_an_old_key_exists(files, new):
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    section, _, key = new.rpartition(".")
    heading = f"## `{section}`" if section else "## Top level"
    assert f"| `{key}` |" in page.partition(heading + "\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("key", "old", "new"), [(key, old, new) for (key, old), new in renamed.VALUES.items()])
def test_an_old_value_is_refused_with_its_new_name(files, key, old, new):
    with pytest.raises(ConfigError, match=f"{re.escape(key)}: '{old}': .*; this value is now '{new}'"):
        parse_config(raw_with(files, {key: old}))


def test_all_wrong_keys_are_named_at_once(files):
    with pytest.raises(ConfigError) as caught:
        Workflow(raw_with(files, {"rounds": 0, "pairs.reweight.exponent": "high", "pairs.policy": "best"}))
    lines = str(caught.value).removeprefix("configuration: ").split("\n")
    found = sorted(line.strip().partition(": ")[0] for line in lines)
    assert found == ["pairs.policy", "pairs.reweight.exponent", "rounds"]


def test_all_missing_files_are_named_at_once(files):
    changes = {"model.weights": "none", "prompts.source": {"kind": "text", "path": "none"}, "dimensions.taste": {}}
    with pytest.raises(ConfigError) as caught:
        Workflow(raw_with(files, changes))
    lines = str(caught.value).removeprefix("configuration: ").split("\n")
    assert [line.strip().partition(": ")[0] for line in lines] == [
        "dimensions.taste",
        "model.weights",
        "prompts.source.path",
    ]


def test_all_wrong_buckets_are_named_at_once(files):
    buckets = [{"num_frames": 6, "height": 32, "width": 32}, {"num_frames": 5, "height": 33, "width": 32}]
    with pytest.raises(ConfigError) as caught:
        Workflow(raw_with(files, {"generate.sampling.buckets": buckets}))
    lines = str(caught.value).removeprefix("configuration: ").split("\n")
    assert [line.strip().partition(": ")[0] for line in lines] == [f"generate.sampling.buckets.{k}" for k in (0, 1)]


def test_a_list_is_not_a_configuration():
    with pytest.raises(ConfigError, match="a mapping of keys is needed"):
        Workflow(["run"])  # type: ignore[arg-type]


def test_a_long_value_is_cut_in_the_message(files):
    with pytest.raises(ConfigError) as caught:
        Workflow(raw_with(files, {"rounds": "x" * 10_000}))
    assert len(str(caught.value)) < 400


def test_the_small_run_itself_is_valid(files):
    assert Workflow(raw_with(files, {})).folder == str(files / "results" / "small")


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts.source": {"kind": "clips", "path": "{files}/three.csv"}, "pairs.policy": "rank:1-8"},
        {"prompts.num_heldout": 0, "evaluate.motion_dimension": "dynamic_degree"},
    ],
    ids=["videos_per_prompt with clips of one's own", "motion_dimension without an evaluation"],
)
def test_a_value_that_the_run_never_uses_is_not_checked(files, changes):
    parse_config(raw_with(files, changes))


@pytest.mark.parametrize("text", ["6e-6", "6E-06", "6.0e-6", "+6e-6", "0.6e-5", ".6e-5"])
def test_numbers_as_yaml_users_write_them_are_numbers(files, text):
    raw = raw_with(files, {"train.learning_rate": yaml.safe_load(text)})
    assert parse_config(raw).train.learning_rate == pytest.approx(6e-6)


def test_null_removes_an_entry_of_the_base_configuration(files):
    flicker, judges = {FLICKER: None}, {"caption_accuracy": None, "world_fidelity": None}
    config = parse_config(
        raw_with(files, flicker | {"evaluate.judges": judges, "pairs.filters": {"no_regression": {"taste": None}}})
    )
    assert config.pairs.filters.no_regression == {}
    assert list(config.dimensions) == list(config.formula.dimensions) == ["imaging_quality_sharpness"]
    assert config.evaluate.judges == {}


# --- the commands


def test_snakemake_stops_at_a_wrong_key_before_any_job(tmp_path):
    make_workspace(tmp_path, {"pairs": {"reweight": {"exponent": "high"}}})
    answer = snakemake(tmp_path, "--dry-run", "--configfile", "overlay.yaml")
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0
    assert "pairs.reweight.exponent: 'high'" in said
    assert "rule " not in said
    assert "Traceback" not in said


def test_check_names_the_wrong_key_in_one_line(files, config_file, capsys):
    assert main(["check", "--config", str(config_file(raw_with(files, {"pairs.reweight.exponent": "high"})))]) == 1
    said = capsys.readouterr()
    assert (
        said.err == "videodpo check: configuration: pairs.reweight.exponent: 'high': Input should be a valid number\n"
    )
    assert said.out == ""


def test_check_passes_a_good_configuration(files, config_file, capsys):
    assert main(["check", "--config", str(config_file(raw_with(files, {})))]) == 0
    assert "valid; run 'small' writes to" in capsys.readouterr().out


def test_check_applies_presets_and_settings_to_the_file(files, config_file, tmp_path, capsys):
    preset = tmp_path / "preset.yaml"
    preset.write_text("run: other\npairs: {policy: all, reweight: {exponent: 2.0}}\n")
    file = str(config_file(raw_with(files, {})))
    assert main(["check", "--config", file, "--preset", str(preset), "--set", "pairs.reweight.exponent=-1"]) == 1
    assert "pairs.reweight.exponent: -1" in capsys.readouterr().err
    assert main(["check", "--config", file, "--preset", str(preset), "--set", "pairs.reweight.exponent=1"]) == 0
    assert "run 'other'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [("- a list\n", "a mapping of keys is needed"), ("a: [\n", "not readable as YAML"), ("", "a mapping of keys")],
)
def test_check_refuses_a_file_that_is_not_a_mapping(tmp_path, capsys, content, said):
    (tmp_path / "config.yaml").write_text(content)
    assert main(["check", "--config", str(tmp_path / "config.yaml")]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    ["pairs.reweight.exponent", "=1", "pairs.policy.deep=1", "a..b=1", "pairs=5", "pairs.reweight.exponent=["],
)
def test_check_refuses_a_setting_that_fits_nowhere(files, config_file, capsys, setting):
    assert main(["check", "--config", str(config_file(raw_with(files, {}))), "--set", setting]) == 1
    assert "Traceback" not in capsys.readouterr().err


# --- what is shipped


def test_the_shipped_configuration_is_valid_without_weights_or_network(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert Workflow(read_config(ROOT / "config.yaml")).config.pairs.reweight.exponent == 0.72


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_validates_over_the_shipped_configuration(preset):
    config = parse_config(read_config(ROOT / "config.yaml", [preset]))
    family = registry.load("videodpo.models", config.model.family)
    validate(family.Options, config.model.options)
    assert family.takes_flow_shift or config.generate.sampling.flow_shift is None


FLOW_SHIFTS = {"wan2.1-14b": 5.0, "wan2.2-a14b": 12.0, "wan2.2-ti2v-5b": 5.0, "hunyuan-video-1.5": 5.0, "paper": 8.0}


@pytest.mark.parametrize(("preset", "shift"), FLOW_SHIFTS.items())
def test_a_preset_samples_at_its_authors_flow_shift(preset, shift):
    config = parse_config(read_config(ROOT / "config.yaml", [ROOT / "presets" / f"{preset}.yaml"]))
    assert config.generate.sampling.flow_shift == shift


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_wan_alone_takes_the_negative_prompt_of_the_shipped_configuration(preset):
    shipped = parse_config(read_config(ROOT / "config.yaml", [])).generate.sampling.negative_prompt
    config = parse_config(read_config(ROOT / "config.yaml", [preset]))
    is_wan = config.model.family == "wan" and config.run != "demo"
    assert len(shipped) > 100
    assert (config.generate.sampling.negative_prompt == shipped) == is_wan


def test_every_models_preset_has_a_run_of_its_own():
    runs = {path.stem: read_config(path).get("run") for path in PRESETS}
    assert {name: run for name, run in runs.items() if run} == {name: name for name in [*MODELS, "demo"]}


COSTS = json.loads((ROOT / "bench" / "results" / "preset_costs.json").read_text(encoding="utf-8"))["presets"]
MODELS = sorted({path.stem for path in PRESETS if "\nmodel:" in path.read_text(encoding="utf-8")} - {"demo"})


@pytest.mark.parametrize("name", MODELS)
def test_every_model_preset_states_the_computed_memory_and_time(name):
    said = _opening(ROOT / "presets" / f"{name}.yaml")
    found = re.search(r"step of one pair ([\d.]+) s and (\d+) GB.* a clip ([\d.]+) s and (\d+) GB", said)
    assert found, said
    step, memory, clip, sampling = map(float, found.groups())
    near = 0.15 if "Measured" in said else 0.03
    assert step == pytest.approx(COSTS[name]["step_seconds"], rel=near)
    assert memory == pytest.approx(COSTS[name]["step_memory_gb"], rel=near, abs=0.5)
    assert clip == pytest.approx(COSTS[name]["denoising_seconds_a_clip"], rel=near)
    assert sampling == pytest.approx(_sampling(_table_of_costs()[name]), abs=1.0)


def test_the_configuration_states_the_computed_memory_and_time():
    said = _opening(ROOT / "config.yaml")
    found = re.search(r"with full checkpointing, ([\d.]+) s and (\d+) GB; sampling (\d+) GB", said)
    assert found, said
    step, memory, sampling = map(float, found.groups())
    row = _table_of_costs()["config.yaml"]
    assert [step, memory, sampling] == [row[1], row[2], _sampling(row)]


@pytest.mark.parametrize("name", ["config.yaml", *MODELS])
def test_the_table_of_costs_has_the_computed_costs(name):
    forward, step, memory, clip, denoiser, text, decoding = _table_of_costs()[name]
    counted = COSTS[name]
    assert forward == pytest.approx(counted["forward_tflop_a_clip"], rel=0.01)
    assert step == pytest.approx(counted["step_seconds"], rel=0.05)
    assert memory == pytest.approx(counted["step_memory_gb"], abs=0.5)
    assert clip == pytest.approx(counted["denoising_seconds_a_clip"], rel=0.05)
    assert denoiser == pytest.approx(counted["denoising_memory_gb"], abs=0.5)
    assert 0.5 < text < 16  # from the sizes of the encoders' weights
    assert decoding == pytest.approx(counted["decoding_memory_gb"], abs=0.5)


def _table_of_defaults() -> dict[str, list[str]]:
    """LoRA's and full fine-tuning's learning rate, beta and noise levels, by preset."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = text.partition("| preset | LoRA: learning rate |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {name: values for names, *values in cells for name in names.split(", ")}


def _of_preset(name: str) -> Config:
    return parse_config(read_config(ROOT / "config.yaml", [ROOT / "presets" / f"{name}.yaml"] * (name != "(default)")))


@pytest.mark.parametrize(("name", "row"), _table_of_defaults().items())
def test_the_table_of_training_defaults_agrees_with_the_presets(name, row):
    lora, full, beta, levels = row
    config = _of_preset(name)
    train, timesteps = config.train, config.schedule.timesteps
    assert train.learning_rate == float(lora if train.method == "lora" else full)
    assert train.beta == float(beta)
    logit_normal = f"logit_normal {timesteps.mean:g}, {timesteps.std:g}, shift {timesteps.shift:g}"
    assert levels == (logit_normal if timesteps.distribution == "logit_normal" else timesteps.distribution)
    assert timesteps.distribution != "uniform" or timesteps.shift == 1
    if name != "t2v-turbo":  # its LoRA is a trained one
        assert train.lora.dropout == 0
        assert config.schedule.num_steps * config.schedule.global_batch_size == 24_000


@pytest.mark.parametrize(("name", "row"), _table_of_defaults().items())
def test_a_fresh_lora_has_a_higher_rate_than_full_fine_tuning(name, row):
    lora, full, *_ = row
    assert full == "-" or float(lora) / float(full) > 4


@pytest.mark.parametrize("name", ["paper", "official-code"])
def test_the_papers_presets_keep_its_fine_tune(name):
    config = _of_preset(name)
    assert (config.train.beta, config.train.learning_rate, config.train.warmup_steps) == (5000, 6e-6, 0)
    assert (config.schedule.timesteps.distribution, config.schedule.timesteps.shift) == ("uniform", 1)


def _opening(path: Path) -> str:
    """Comment at the beginning of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))


def _sampling(row: list[float]) -> float:
    """Peak memory of sampling: prompts are encoded before the denoiser and the VAE are loaded."""
    denoiser, text, decoding = row[4:]
    return max(text, denoiser + decoding)


def _table_of_costs() -> dict[str, list[float]]:
    """TFLOP, seconds and GB of a step, seconds of a clip, and GB of denoiser, text and decoding, by preset."""
    rows = {}
    for line in (ROOT / "docs" / "models.md").read_text(encoding="utf-8").splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[-1].count("+") == 2 and cells[0][0].isdigit():
            numbers = [*cells[:-1], *cells[-1].split("+")]
            rows["config.yaml" if "(default)" in name else name] = [float(cell.replace(",", "")) for cell in numbers]
    return rows


def _keys(values: Any, above: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{above}{name}.")


def _fields(kind: type[Section], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in kind.model_fields.items():
        yield f"{above}{name}", field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{above}{name}.")


def test_the_shipped_configuration_names_every_key():
    there = set(_keys(read_config(ROOT / "config.yaml")))
    assert [key for key, _ in _fields(Config) if key not in there] == []


def test_every_key_is_documented():
    assert [key for key, field in _fields(Config) if not field.description] == []


def test_the_shipped_values_equal_the_defaults_from_the_paper():
    shipped = parse_config(read_config(ROOT / "config.yaml"))
    assert shipped.pairs == Pairs()
    assert shipped.omniscore.pillars == PillarWeights()
    assert shipped.generate.videos_per_prompt == Generate.model_fields["videos_per_prompt"].default
