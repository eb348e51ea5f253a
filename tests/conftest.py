"""Fixtures shared by many tests: a tiny random Wan pipeline, and a small run on it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FULL = ROOT / "tests" / "full"
FOLDERS = {"full": FULL, "browser": ROOT / "tests" / "browser"}
FIGURES = "VIDEODPO_FIGURES"  # file for measured numbers


# Files that share `session_run`, so that one process runs them.
OF_THE_SESSION_RUN = (
    "test_workflow.py",
    "test_verify.py",
    "test_logs.py",
    "test_report_archive.py",
    "hostile/test_prompts.py",
)
# Files that take minutes start first, so that no process waits for another at the end.
SLOW = (
    "test_study.py",
    "test_doc_commands.py",
    *OF_THE_SESSION_RUN,
    "train/test_resume.py",
    "faults/test_kills.py",
    "train/test_trajectories.py",
    "train/test_options_pairwise.py",
    "models/test_families.py",
    "faults/test_work_done_again.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by folder: `full` below tests/full, `browser` below tests/browser, `quick` elsewhere."""
    for item in items:
        marker = next((name for name, folder in FOLDERS.items() if folder in item.path.parents), "quick")
        item.add_marker(marker)
    order = {FULL / name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of one file in one process, in the order of their collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0].removeprefix("tests/full/")
            return "session_run" if file in OF_THE_SESSION_RUN else file

    config.option.loadscopereorder = False  # otherwise the files with the most tests would start first
    return ByFile(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-tries", type=int, default=3, help="how often each fault is tried")


@pytest.fixture(scope="session")
def fault_tries(request: pytest.FixtureRequest) -> int:
    """Number of tries for each fault whose tries take seconds."""
    tries: int = request.config.getoption("--fault-tries")
    return tries


@pytest.fixture(scope="session")
def figures() -> Callable[[str, dict[str, Any]], None]:
    """Print a test's measurements; also write them to the JSON file named by the environment variable, if set."""

    def write(name: str, values: dict[str, Any]) -> None:
        print(name, json.dumps(values))
        if path := os.environ.get(FIGURES):
            known = json.loads(Path(path).read_text()) if Path(path).exists() else {}
            Path(path).write_text(json.dumps(known | {name: values}, indent=2, sort_keys=True) + "\n")

    return write


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-initialised Wan pipeline of the real classes, in diffusers' format; clips of 5 x 32 x 32."""
    import torch

    from tests.support.families import wan

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("random_model")
    wan("2.1").save_pretrained(folder)
    return folder


def small_run(model: Path, results: Path, /, **changes: Any) -> dict[str, Any]:
    """Raw configuration of a run that takes seconds; `changes` replace entire sections or keys in them."""
    raw: dict[str, Any] = {
        "run": "small",
        "results": str(results),
        "seed": 3,
        "device": "cpu",
        "prompts": {
            "source": {"kind": "demo_world"},
            "num_train": 6,
            "num_heldout": 2,
            "near_duplicate_threshold": 1.0,
        },
        "model": {"family": "wan", "weights": str(model), "dtype": "float32", "max_sequence_length": 32},
        "generate": {
            "videos_per_prompt": 3,
            "shards": 1,
            "sampling": {"num_frames": 5, "height": 32, "width": 32, "fps": 8.0, "num_steps": 2, "batch_size": 4},
        },
        "dimensions": {
            "temporal_flickering": {"pillar": "quality", "min": 0.5, "max": 1.0},
            "imaging_quality_sharpness": {"pillar": "quality", "min": 0.0, "max": 1.0},
        },
        "omniscore": {"pillars": {"quality": 1.0, "semantic": 0.0}},
        "reference": {"shards": 1},
        "schedule": {"num_steps": 3, "global_batch_size": 4, "micro_batch_size": 2, "validation": {"num_prompts": 0}},
        "train": {
            "lora": {"rank": 4},
            "beta": 100.0,
            "learning_rate": 1e-3,
            "warmup_steps": 0,
        },
        "train_runtime": {"gradient_checkpointing": "off", "checkpoint_steps": 2, "trackers": []},
        "evaluate": {"bootstrap_resamples": 100, "motion_dimension": None},
    }
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(raw.get(key), dict):
            raw[key] = raw[key] | value
        else:
            raw[key] = value
    return raw


@pytest.fixture
def small_config(random_model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`small_run` with its results in the test's own folder."""
    return lambda results=tmp_path / "results", **changes: small_run(random_model, Path(results), **changes)


def write_execution(folder: Path, *, max_failed_fraction: float = 0.5) -> None:
    """Write the run's `config/execution.json`, for tests that make settings snapshots by hand."""
    from videodpo.storage.manifests import record_json

    settings = {
        "clip_storage": "files",
        "device": "cpu",
        "max_failed_fraction": max_failed_fraction,
        "train_runtime": {},
    }
    document = {"stage": "execution", "run": "r", "folder": str(folder), "seed": 0, "code_version": "1"}
    record_json(folder / "config" / "execution.json", document | {"weights": {}, "settings": settings})


class Stages:
    """Runs stages of one configuration in this process, as the command line would."""

    def __init__(self, raw: dict[str, Any]) -> None:
        from videodpo.config import parse_config

        self.config = parse_config(raw)
        self.folder = Path(self.config.results) / self.config.run
        self.round_folder = self.folder / "round1"

    def snapshot(self, name: str) -> Any:
        """Write a stage's settings snapshot to the run's folder, and read it back."""
        from videodpo.runtime.snapshot import load_snapshot, snapshot_text, write_snapshot

        path = self.folder / "config" / f"{name}.json"
        for part in (name, "execution"):
            write_snapshot(snapshot_text(self.config, part), self.folder / "config" / f"{part}.json")
        return load_snapshot(path, name.partition("/")[0].replace("benchmark_score", "score"))

    def prompts(self) -> None:
        from videodpo.stages.prompts.stage import make_prompts

        make_prompts(self.snapshot("prompts"))

    def generate(self) -> None:
        from videodpo.stages.generate.sample import generate_shard

        for shard in range(self.config.generate.shards):
            generate_shard(self.snapshot("generate"), 1, shard, None)

    def score(self) -> None:
        from videodpo.stages.score import collect_shard, score_shard
        from videodpo.storage.tables import shard_path

        scorers = [self.snapshot(f"score/{dimension}") for dimension in self.config.dimensions]
        for shard in range(self.config.generate.shards):
            videos = shard_path(self.round_folder / "videos", shard)
            score_shard(scorers, videos, self.round_folder / "scores")
            collect_shard(scorers, videos, self.round_folder / "scores")

    def pairs(self) -> None:
        from videodpo.stages.omniscore import aggregate
        from videodpo.stages.pairs.stage import select_pairs

        aggregate(self.snapshot("omniscore"), self.round_folder)
        select_pairs(self.snapshot("pairs"), self.round_folder)

    def visits(self) -> None:
        from videodpo.stages.visits import plan_visits

        plan_visits(self.snapshot("visits"), self.round_folder)

    def reference(self) -> None:
        """Compute the visits and the reference errors."""
        from videodpo.stages.reference import reference_shard

        self.visits()
        for shard in range(self.config.reference.shards):
            reference_shard(self.snapshot("reference"), self.round_folder, shard)

    def train(self) -> None:
        from videodpo.stages.train.stage import train

        train(self.snapshot("train"), self.round_folder, None)

    def copy(self, results: Path) -> None:
        """Copy the run into another results folder."""
        shutil.copytree(self.folder, results / self.config.run)

    def until_pairs(self) -> None:
        self.prompts()
        self.generate()
        self.score()
        self.pairs()


def made(stages: type[Stages], small_config: Callable[..., dict[str, Any]], **changes: Any) -> Stages:
    """Create a run with its prompts and clips."""
    run = stages(small_config(**changes))
    run.prompts()
    run.generate()
    return run


@pytest.fixture(scope="session")
def stages() -> type[Stages]:
    """The class `Stages`, for tests that run stages in this process."""
    return Stages


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Function that writes a raw configuration as YAML and returns the file's path."""

    def write(raw: dict[str, Any]) -> Path:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that open_clip loads as `local-dir:`; random weights, so that no test depends on trained ones."""
    import open_clip
    import torch
    from safetensors.torch import save_model
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("open_clip")
    words = ["a", "red", "blue", "circle", "square", "moves", "left", "on", "black", "background", "."]
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=12
    ).save_pretrained(folder)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": 12,
            "vocab_size": len(vocabulary),
            "hf_tokenizer_name": "local",
            "width": 32,
            "heads": 2,
            "layers": 1,
            "pad_id": 0,
            "eos_id": 1,
            "pool_type": "eos",
        },
    }
    torch.manual_seed(0)
    save_model(open_clip.CLIP(**config), str(folder / "open_clip_model.safetensors"))
    settings = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def session_run(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run every rule on four hostile and two held-out prompts, with two shards of videos, under hostile paths."""
    from tests.full.hostile.texts import WORST
    from tests.support.workspace import BRIGHTNESS, FLICKER, SIGNS, Finished, without_default_scorers

    folder = tmp_path_factory.mktemp("session") / SIGNS
    folder.mkdir()
    lines = [json.dumps({"prompt": text}) + "\n" for text in WORST]
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    overlay = small_run(random_model, Path(SIGNS))
    overlay["prompts"] |= {"source": {"kind": "jsonl", "path": "prompts.jsonl"}, "num_train": 4, "num_heldout": 2}
    overlay["prompts"]["max_chars"] = 12_000
    overlay["generate"]["shards"] = 2
    # All clips are in one shard and the other is empty: saves one model load.
    overlay["generate"]["sampling"]["batch_size"] = 12
    overlay["evaluate"]["shards"] = 1
    dimension = {"pillar": "quality", "min": 0.0, "max": 1.0}
    overlay["dimensions"] = {FLICKER: {**dimension}, BRIGHTNESS: {**dimension, "options": {"gain": 1.0}}}
    return Finished(folder, without_default_scorers(overlay))


@pytest.fixture(scope="session")
def paired(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """The small run up to its pairs, created once per process. Tests read it or change a `copy`."""
    run = Stages(small_run(random_model, tmp_path_factory.mktemp("paired")))
    run.until_pairs()
    return run


@pytest.fixture(scope="session")
def every_stage(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a small run through every stage's command. Tests only read it."""
    from tests.support.every_stage import make_all

    return make_all(random_model, tmp_path_factory.mktemp("every_stage"))


@pytest.fixture(scope="session")
def trainings(random_model: Path, paired: Stages, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trainings on one small round; they share its pairs and reference errors."""
    from tests.support.trainings import Trainings

    folder = tmp_path_factory.mktemp("train")
    paired.copy(folder)
    found = Trainings(random_model, folder)
    found.variant().reference()
    return found


@pytest.fixture
def own_trainings(trainings: Any, tmp_path: Path) -> Any:
    """Trainings on a copy of that round, for a test that changes its tables."""
    return trainings.copy(tmp_path)
