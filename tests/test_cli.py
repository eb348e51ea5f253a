"""The command line: light imports, one line for a user's error, and tools for tables and files."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
import torch

from tests.conftest import write_execution
from tests.support.vbench import write_suite
from videodpo.cli import main
from videodpo.config import Model, VideodpoError
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import FPS, render
from videodpo.models.wan import WanModel
from videodpo.storage.schemas import PROMPTS
from videodpo.storage.tables import write_table
from videodpo.storage.video import write_mp4

STAGES = (
    "prompts",
    "generate",
    "score",
    "omniscore",
    "pairs",
    "visits",
    "reference",
    "doctor",
    "train",
    "appearance",
    "evaluate",
    "benchmark-prompts",
    "benchmark-folder",
    "benchmark-official",
    "benchmark",
    "report",
)


@pytest.fixture
def clips(tmp_path):
    paths = [tmp_path / "moving.mp4", tmp_path / "flickering.mp4"]
    for path, defect in zip(paths, (None, "flicker"), strict=True):
        write_mp4(path, render(random_scene(random.Random(1)), random.Random(1), defect=defect), FPS)
    return [str(path) for path in paths]


@pytest.fixture
def table(tmp_path):
    rows = [
        {"prompt_id": f"{k:016x}", "prompt": f"tram {k}", "source": "s", "split": "train", "position": k}
        for k in range(9)
    ]
    write_table(tmp_path / "prompts.parquet", rows, PROMPTS, stage="prompts", digest="abc", seed=4)
    return tmp_path / "prompts.parquet"


def test_help_groups_its_commands_and_ends_with_those_of_the_workflow(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    groups = [
        [line.split()[0] for line in group.splitlines() if line.startswith("  ")]
        for group in capsys.readouterr().out.strip().split("\n\n")[4:]
    ]
    assert [name for name in groups[0] if name != "collect-scores"] == list(STAGES)
    assert "what-if" in groups[1]
    assert "score-files" in groups[2]
    assert groups[3] == ["snapshot", "list-shards"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_takes_config_preset_and_set(stage, capsys):
    with pytest.raises(SystemExit):
        main([stage, "--help"])
    said = capsys.readouterr().out
    assert all(option in said for option in ("--config", "--preset", "--set", "--round"))


def test_help_imports_nothing_heavy():
    code = "import sys, videodpo.cli\ntry: videodpo.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'pandas', 'pyarrow', 'numpy', 'av', 'diffusers'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith("\n[]\n")


# --- inspect


def test_inspect_shows_provenance_counts_and_rows(table, capsys):
    assert main(["inspect", str(table), "--rows", "2"]) == 0
    said = capsys.readouterr().out
    assert f"{table}: 9 rows, 5 columns" in said
    assert "config_digest: abc" in said
    assert "seed: 4" in said
    assert "tram 1" in said
    assert "tram 2" not in said


def test_inspect_summarises_every_column(table, capsys):
    main(["inspect", str(table)])
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["position"][1:] == ["int64", "0", "9", "0", "4.0", "8"]
    assert lines["prompt"][2:] == ["0", "9"]


def test_inspect_refuses_other_files_in_one_line(tmp_path, capsys):
    (tmp_path / "x.parquet").write_text("no table")
    assert main(["inspect", str(tmp_path / "x.parquet")]) == 1
    assert capsys.readouterr().err.startswith(f"videodpo inspect: {tmp_path / 'x.parquet'}: not a readable table")


def test_inspect_refuses_a_folder(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 1
    assert "name one table in it" in capsys.readouterr().err


# --- score-files


def test_score_files_prints_one_json_object_per_line(clips, capsys):
    assert main(["score-files", *clips, "--dimension", "temporal_flickering", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["file"] for answer in answers] == clips
    assert {answer["dimension"] for answer in answers} == {"temporal_flickering"}
    assert answers[0]["value"] > answers[1]["value"]
    assert set(answers[0]) == {"file", "dimension", "value"}


def test_score_files_continues_after_a_bad_clip_and_fails_at_the_end(clips, tmp_path, capsys):
    (tmp_path / "cut.mp4").write_bytes(b"cut")
    files = [str(tmp_path / "cut.mp4"), clips[0]]
    assert main(["score-files", *files, "--dimension", "temporal_flickering", "--json"]) == 1
    said = capsys.readouterr()
    bad, good = (json.loads(line) for line in said.out.splitlines())
    assert bad["value"] is None
    assert "cut.mp4" in bad["error"]
    assert good["value"] is not None
    assert "1 of 2 files could not be scored" in said.err


def test_score_files_refuses_a_scorer_without_its_weights(clips, capsys):
    assert main(["score-files", *clips, "--dimension", "overall_consistency_clip"]) == 1
    assert "--weights: overall_consistency_clip takes exactly one" in capsys.readouterr().err


@pytest.mark.parametrize("info", ["cat", '["cat"]', '{"object": 1}'])
def test_score_files_refuses_info_that_is_not_an_object_of_texts(info, clips, capsys):
    with pytest.raises(SystemExit):
        main(["score-files", *clips, "--dimension", "temporal_flickering", "--info", info])
    assert "argument --info" in capsys.readouterr().err


# --- a user's error


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "score"])
def test_a_stage_names_a_missing_configuration(stage, tmp_path, capsys):
    arms = {name: ["--arm", "base"] for name in ("appearance", "benchmark-folder", "benchmark-official")}
    options = (arms | {"benchmark-prompts": ["--group", "scene"]}).get(stage, [])
    assert main([stage, "--config", str(tmp_path / "none.yaml"), *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"videodpo {stage}: {tmp_path / 'none.yaml'}: not readable as YAML")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["benchmark"],
        ["benchmark-folder", "--arm", "base"],
        ["benchmark-official", "--arm", "base"],
        ["benchmark-prompts", "--group", "scene"],
        ["generate", "--arm", "base", "--group", "scene"],
        ["score", "--arm", "base", "--group", "scene", "--dimension", "scene"],
    ],
)
def test_commands_of_a_benchmark_refuse_a_configuration_without_one(command, small_config, config_file, capsys):
    assert main([*command, "--config", str(config_file(small_config()))]) == 1
    said = capsys.readouterr().err
    assert "evaluate.benchmark: null, and this command needs a benchmark; did you forget a preset?" in said
    assert said.count("\n") == 1


def test_an_unknown_dimension_is_refused_with_the_known_ones(small_config, config_file, tmp_path, capsys):
    raw = small_config(evaluate={"benchmark": {"suite": write_suite(tmp_path)}})
    config = str(config_file(raw))
    assert main(["score", "--config", config, "--dimension", "none"]) == 1
    assert f"--dimension: 'none' is not among {', '.join(sorted(raw['dimensions']))}" in capsys.readouterr().err
    of_the_group = ["--arm", "base", "--group", "overall", "--dimension", "static_clip"]
    assert main(["collect-scores", "--config", config, *of_the_group]) == 1
    assert "'static_clip' is not among imaging_quality, dynamic_degree, color" in capsys.readouterr().err


def test_a_stage_refuses_the_snapshot_of_another(tmp_path, capsys):
    write_execution(tmp_path)
    assert main(["pairs", "--config", str(tmp_path / "config" / "execution.json")]) == 1
    assert "a snapshot for stage 'execution', 'pairs' is needed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", '{"stage": "pairs"}', "{"])
def test_a_stage_refuses_json_that_is_not_a_snapshot(tmp_path, capsys, text):
    (tmp_path / "pairs.json").write_text(text)
    assert main(["pairs", "--config", str(tmp_path / "pairs.json")]) == 1
    assert "not a settings snapshot" in capsys.readouterr().err


def test_a_librarys_error_keeps_its_traceback(random_model):
    """Compiled code has no Python frame, so the error seems to come from the adapter's line."""
    model = WanModel(Model(family="wan", weights=str(random_model), dtype="float32"), "cpu")
    with pytest.raises(RuntimeError) as caught:
        model.noise_schedule.add_noise(torch.zeros(1, 2, 3, 4, 5), torch.zeros(1, 2, 3, 4, 6), torch.zeros(1))
    assert not isinstance(caught.value, VideodpoError)


def test_a_damaged_table_is_named_in_one_line(tmp_path, stages, small_config, capsys):
    run = stages(small_config())
    run.snapshot("score/temporal_flickering")
    config = str(run.folder / "config" / "score" / "temporal_flickering.json")
    assert main(["score", "--config", config, "--dimension", "temporal_flickering"]) == 1
    assert "shard-00000.parquet: not a readable table" in capsys.readouterr().err


def test_the_aligned_arm_requires_an_adapter(stages, small_config, capsys):
    run = stages(small_config())
    run.prompts()
    run.snapshot("evaluate_generate")
    config = str(run.folder / "config" / "evaluate_generate.json")
    assert main(["generate", "--config", config, "--arm", "aligned"]) == 1
    assert "train round 1 first" in capsys.readouterr().err


def test_rounds_count_from_1(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--round", "0"])
    assert "0 is below 1" in capsys.readouterr().err


def test_scoring_takes_a_configuration_or_snapshots_not_both(capsys):
    assert main(["score", "--config", "config.yaml", "a.json"]) == 1
    assert "give one config.yaml, or snapshot files only" in capsys.readouterr().err


def test_summary_of_a_folder_without_results_says_so(tmp_path, capsys):
    assert main(["summary", str(tmp_path)]) == 1
    assert "finish the run first" in capsys.readouterr().err


def test_traceback_is_shown_with_the_option(tmp_path):
    with pytest.raises(ValueError, match="not readable"):
        main(["check", "--traceback", "--config", str(tmp_path / "none.yaml")])


@pytest.fixture
def said_in_emoji(tmp_path):
    rows = [
        {
            "prompt_id": f"{k:016x}",
            "prompt": f"a caf\u00e9 \U0001f436 {k}",
            "source": "s",
            "split": "train",
            "position": k,
        }
        for k in range(3000)
    ]
    write_table(tmp_path / "prompts.parquet", rows, PROMPTS, stage="prompts", digest="abc", seed=4)
    return str(tmp_path / "prompts.parquet")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_the_terminal_lacks_are_escaped(said_in_emoji, encoding):
    command = [sys.executable, "-m", "videodpo", "inspect", said_in_emoji]
    answer = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=True)
    assert "caf\u00e9 \U0001f436".encode(encoding, "backslashreplace") in answer.stdout
    assert answer.stderr == b""


@pytest.mark.parametrize("arguments", [["inspect", "TABLE", "--rows", "3000"], ["schema"], ["inspect", "--help"]])
def test_a_closed_pipe_ends_the_command_quietly(said_in_emoji, arguments):
    command = [sys.executable, "-m", "videodpo", *(said_in_emoji if word == "TABLE" else word for word in arguments)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered)
    job.stdout.close()  # long before the command prints anything
    assert job.stderr.read() == b""
    assert job.wait() == 141


def test_another_broken_pipe_is_an_error(monkeypatch, capfd):
    def fail(arguments):
        raise BrokenPipeError

    monkeypatch.setattr("videodpo.cli.own_files._schema", fail)
    with pytest.raises(BrokenPipeError):
        main(["schema"])
