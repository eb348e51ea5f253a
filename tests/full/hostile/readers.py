"""Every reader of the package: a valid file for it, and the call that reads one.

`make` writes a valid file; `read` is what the stages and commands call. Files that come in a folder of their own
(a training state) are read beside whole copies of the others.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml


@dataclass(frozen=True)
class Reader:
    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    gives: type
    named: str = ""
    """What an error names, where it is not the file."""


def _raw_config() -> dict[str, Any]:
    from tests.conftest import small_run

    return small_run(Path("models/wan"), Path("results"))


def _read_config(path: Path) -> object:
    from videodpo.config import parse_config
    from videodpo.config.loading import read_config

    return parse_config(read_config(path))


def _make_snapshot(path: Path) -> None:
    from videodpo.storage.files import write_json

    settings = {"omniscore": _raw_config()["omniscore"]}
    document = {"stage": "omniscore", "run": "r", "folder": "results/r", "seed": 1, "code_version": "1"}
    write_json(path, document | {"weights": {}, "settings": settings})


def _read_snapshot(path: Path) -> object:
    from videodpo.runtime.snapshot import OmniScoreSettings, load_snapshot

    return load_snapshot(path, "omniscore", OmniScoreSettings)


def _read_prompts(kind: str, path: Path) -> object:
    from videodpo.config import Source
    from videodpo.stages.prompts.cleaning import clean
    from videodpo.stages.prompts.sources import read_rows

    return [clean(row.text) for row in read_rows(Source(kind=kind, path=str(path)), 0) if row.text is not None]


PROMPTS = ["a red circle moves left", 'a "quoted", comma', "ein grüner Kreis", "圆圈", "a" * 80]


def _make_text(path: Path) -> None:
    path.write_text("\n".join(PROMPTS), encoding="utf-8")


def _make_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"prompt": text, "n": 1}) + "\n" for text in PROMPTS), encoding="utf-8")


def _make_csv(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"prompt": PROMPTS, "n": 1}).to_csv(path, index=False)


def _make_vidprom(path: Path) -> None:
    import pandas as pd

    from videodpo.stages.prompts.sources import TOXICITY

    pd.DataFrame({"prompt": PROMPTS} | dict.fromkeys(TOXICITY, 0.01)).to_csv(path, index=False)


def _make_parquet(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"prompt": PROMPTS * 3, "n": 1}).to_parquet(path)


def _make_clips(path: Path) -> None:
    rows = [{"prompt": text, "path": f"clips/{k}.mp4"} for text in PROMPTS[:2] for k in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _read_clips(path: Path) -> object:
    from videodpo.config import Source
    from videodpo.stages.prompts.cleaning import prompt_id
    from videodpo.stages.prompts.clips import clip_rows

    return clip_rows(Source(kind="clips", path=str(path)), {prompt_id(text) for text in PROMPTS})


def _make_data_set(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    _make_jsonl(path)


def _read_data_set(path: Path) -> object:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        datasets.config.HF_DATASETS_CACHE = Path(cache)
        return _read_prompts("huggingface", path.parent)


_IN_TAR = b"the clip's bytes"


def _make_tar(path: Path) -> None:
    from videodpo.storage.clips import write_tar

    (place,) = write_tar(path, [("v0.mp4", _IN_TAR)])
    assert place == f"#512+{len(_IN_TAR)}"


def _read_tar(path: Path) -> object:
    from videodpo.storage.clips import read_clip

    return read_clip(path.with_name(f"{path.name}#512+{len(_IN_TAR)}"), hashlib.sha256(_IN_TAR).hexdigest())


def _make_table(path: Path) -> None:
    from videodpo.storage.schemas import SCORES
    from videodpo.storage.tables import write_table

    rows = [
        {"video_id": f"v{k}", "prompt_id": "p", "dimension": "d", "value": k / 3, "status": "ok", "scorer": "s"}
        for k in range(20)
    ]
    write_table(path, rows, SCORES, stage="score", digest="", seed=0, extra={"num_shards": "1"})


def _read_table(path: Path) -> object:
    from videodpo.storage.tables import read_metadata, read_table

    read_metadata(path)
    return read_table(path)


def _make_store(path: Path) -> None:
    from videodpo.storage.schemas import MEASURED
    from videodpo.storage.tables import write_table

    row = {"video_id": "v", "sha256": "s", "dimension": "d", "scorer_digest": "x", "value": 0.5, "retry": False}
    write_table(path, [row], MEASURED, stage="score", digest="", seed=0)


def _read_store(path: Path) -> object:
    from videodpo.stages.score.store import Store

    return Store(path, [{"video_id": "v", "sha256": "s"}])


def _make_video(path: Path) -> None:
    from videodpo.storage.video import write_mp4

    frames = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    write_mp4(path, frames, 8.0, crf=40)


def _read_video(path: Path) -> object:
    from videodpo.storage.video import read_mp4

    return read_mp4(path)[0]


def _tensors() -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    return {"0": torch.randn(2, 3, 4), "1": torch.randn(2, 3, 4)}


def _make_latents(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(_tensors(), path)


def _read_latents(path: Path) -> object:
    from videodpo.storage.tensors import TensorFile

    file = TensorFile(path)
    return [file.get(name) for name in ("0", "1")]


def _make_texts(path: Path) -> None:
    import torch

    from videodpo.models.shared.prompt_embeds import write_texts

    write_texts(path, {"empty": {"embeds": (torch.ones(2, 3), 4)}, "a1": {"embeds": (torch.ones(3, 3), 4)}})


def _read_texts(path: Path) -> object:
    from videodpo.models.shared.prompt_embeds import read_texts, restore_padding

    return [restore_padding(text) for text in read_texts(path).values()]


def _make_pt(path: Path, **options: Any) -> None:
    import torch

    torch.save({"state_dict": _tensors()}, path, **options)


def _make_torchscript(path: Path) -> None:
    import torch

    torch.jit.script(torch.nn.Linear(3, 2)).save(str(path))


def _read_checkpoint(path: Path) -> object:
    from videodpo.weights.checkpoints import read_checkpoint

    return read_checkpoint(path)


@functools.cache
def _wan() -> Any:
    """A tiny random model, made once a process."""
    import torch

    from tests.support.families import wan
    from videodpo.config import Model
    from videodpo.models import load_model

    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    wan("2.1").save_pretrained(folder)
    model = load_model(Model(family="wan", weights=str(folder), dtype="float32"), "cpu", denoiser_only=True)
    shutil.rmtree(folder)
    return model


def _make_adapter(path: Path) -> None:
    from videodpo.config import Lora

    model = _wan()
    model.add_lora(Lora(rank=2, target_modules=["blocks.0.attn1.to_q"]), 0)
    model.save_adapter(path.parent / "adapter")
    model.pipe.unload_lora_weights()
    shutil.move(path.parent / "adapter" / path.name, path)


def _read_adapter(path: Path) -> object:
    model = _wan()
    try:
        model.load_adapter(path.parent)
        return model
    finally:
        model.pipe.unload_lora_weights()


def _state(folder: Path) -> Any:
    import torch

    from videodpo.dpo.checkpoints import Checkpoints

    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoints(folder, "trained-on", network, optimizer)


def _make_state(path: Path) -> None:
    _state(path.parent / "whole").save(2, [{"step": 1}, {"step": 2}])
    (step,) = (path.parent / "whole" / "trained-on").glob("step-*")
    shutil.copy(step / path.name, path)


def _read_state(path: Path) -> object:
    from videodpo.storage.manifests import manifest_path

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(path.parent / "whole", folder, dirs_exist_ok=True)
        (step,) = (Path(folder) / "trained-on").glob("step-*")
        manifest_path(step).unlink()  # else another file is refused before it is parsed
        shutil.copy(path, step / path.name)
        return _state(Path(folder)).load()


def _make_done(path: Path) -> None:
    path.write_text(json.dumps({"d": {"scorer_digest": "x", "num_clips": 1, "failed": {"v": "why"}}}))


def _read_done(path: Path) -> object:
    from videodpo.stages.score.stage import read_done

    return read_done(path.parent, 0)


def _prompts(kind: str, file: str, make: Callable[[Path], None]) -> Reader:
    return Reader(file, make, functools.partial(_read_prompts, kind), list)


def _make_journal(path: Path) -> None:
    from videodpo.storage.progress import Progress

    for number in range(10):
        Progress(path, ["fields"]).append([{"video_id": f"v{number}", "value": number / 3}])


def _read_journal(path: Path) -> object:
    from videodpo.storage.progress import Progress

    return Progress(path, ["fields"]).found


READERS: dict[str, Reader] = {
    "config": Reader("config.yaml", lambda path: path.write_text(yaml.safe_dump(_raw_config())), _read_config, object),
    "snapshot": Reader("omniscore.json", _make_snapshot, _read_snapshot, object),
    "text": _prompts("text", "p.txt", _make_text),
    "jsonl": _prompts("jsonl", "p.jsonl", _make_jsonl),
    "csv": _prompts("csv", "p.csv", _make_csv),
    "vidprom": _prompts("vidprom", "v.csv", _make_vidprom),
    "parquet": _prompts("parquet", "p.parquet", _make_parquet),
    "data set": Reader("set/train.jsonl", _make_data_set, _read_data_set, list, "prompts.source"),
    "tar": Reader("shard-00000.tar", _make_tar, _read_tar, bytes),
    "clips": Reader("clips.jsonl", _make_clips, _read_clips, list),
    "table": Reader("shard-00000.parquet", _make_table, _read_table, object),
    "journal": Reader("shard-00000.jsonl", _make_journal, _read_journal, list),
    "store": Reader("shard-00000.parquet", _make_store, _read_store, object),
    "measured": Reader("shard-00000.json", _make_done, _read_done, dict),
    "video": Reader("clip.mp4", _make_video, _read_video, np.ndarray),
    "latents": Reader("shard-00000.safetensors", _make_latents, _read_latents, list),
    "texts": Reader("shard-00000.safetensors", _make_texts, _read_texts, list),
    "adapter": Reader("pytorch_lora_weights.safetensors", _make_adapter, _read_adapter, object),
    "safetensors": Reader("weights.safetensors", _make_latents, _read_checkpoint, dict),
    "checkpoint": Reader("weights.pt", _make_pt, _read_checkpoint, dict),
    "old checkpoint": Reader(
        "weights.ckpt", lambda path: _make_pt(path, _use_new_zipfile_serialization=False), _read_checkpoint, dict
    ),
    "torchscript": Reader("weights.ts", _make_torchscript, _read_checkpoint, dict),
    "state metadata": Reader(".metadata", _make_state, _read_state, tuple, "step-"),
    "state tensors": Reader("__0_0.distcp", _make_state, _read_state, tuple, "step-"),
    "state progress": Reader("progress.json", _make_state, _read_state, tuple, "step-"),
}
