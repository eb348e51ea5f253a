"""Weights given by path are read once per run to compute their digest, and again when they change."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

from tests.conftest import small_run
from videodpo.config import parse_config
from videodpo.runtime.digests import MEMORY, remembered_sha256
from videodpo.runtime.snapshot import snapshot_text, write_snapshot
from videodpo.storage.files import sha256_of
from videodpo.workflow.sharing import link_memory


def test_a_model_folder_is_read_once_for_all_its_stages(random_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(random_model, tmp_path / "model"))
    config = parse_config(small_run(model, tmp_path))
    run = tmp_path / "small"
    write_snapshot(snapshot_text(config, "generate"), run / "config" / "generate.json")
    memory = json.loads((run / MEMORY).read_text())
    weights = str(model / "transformer" / "diffusion_pytorch_model.safetensors")
    assert memory[weights]["sha256"] == sha256_of(Path(weights))
    memory[weights]["sha256"] = "remembered"
    (run / MEMORY).write_text(json.dumps(memory))
    for stage in ("visits", "reference", "train", "evaluate_generate"):
        write_snapshot(snapshot_text(config, stage), run / "config" / f"{stage}.json")
        assert json.loads((run / "config" / f"{stage}.json").read_text())["weights"][weights] == "remembered"


def test_an_edit_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    before = file.stat()
    assert remembered_sha256(file, tmp_path) == sha256_of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered_sha256(file, tmp_path) == sha256_of(file)


def test_jobs_that_start_together_read_a_file_one_after_the_other(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.pth" for number in range(4)]
    for file in files:
        file.write_bytes(file.name.encode())
    jobs = [threading.Thread(target=remembered_sha256, args=(file, tmp_path)) for file in files]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert json.loads((tmp_path / MEMORY).read_text()).keys() == {str(file) for file in files}


def test_a_damaged_digest_cache_is_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    (tmp_path / MEMORY).write_text("{")
    assert remembered_sha256(file, tmp_path) == sha256_of(file)


def test_the_runs_of_a_study_read_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    runs = [tmp_path / "study" / arm / "seed0" for arm in ("a", "b")]
    for run in runs:
        link_memory(run, tmp_path / "study")
    assert remembered_sha256(file, runs[0]) == sha256_of(file)
    memory = json.loads((tmp_path / "study" / MEMORY).read_text())
    memory[str(file)]["sha256"] = "remembered"
    (tmp_path / "study" / MEMORY).write_text(json.dumps(memory))
    assert remembered_sha256(file, runs[1]) == "remembered"
    assert all((run / MEMORY).is_symlink() for run in runs)
