"""Export a run's adapter in the format of another tool, with a model card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.runtime import registry
from videodpo.runtime.rounds import adapter_after, round_folder
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import load_snapshot
from videodpo.storage.files import refuse_full_disk, sync_folder
from videodpo.tools.adapter.card import card
from videodpo.tools.adapter.examples import example
from videodpo.tools.adapter.formats import Export, known_formats


def export_adapter(run: Path, name: str, out: Path, number: int | None = None) -> Path:
    """Write the adapter of a round into a new folder, with README.md.

    Args:
        run: folder of the run.
        name: one of `formats.FORMATS`.
        out: folder to create; it may exist if it is empty.
        number: round; None for the last trained one.

    Returns:
        The folder.

    Raises:
        InputError: nothing is trained yet, the format is unknown for this model, or `out` has files.
    """
    if not (run / "config" / "train.json").is_file():
        raise InputError(f"{run}: not the folder of a run: it has no config/train.json; for example results/demo")
    snapshot = load_snapshot(run / "config" / "train.json", "train")
    settings: TrainSettings = snapshot.settings
    number = number or _last_round(run)
    adapter = adapter_after(run, number)
    assert adapter is not None
    if name not in (known := known_formats(settings)):
        what = "a LoRA" if settings.train.method == "lora" else "full fine-tuning"
        raise InputError(
            f"--format {name}: no tool reads {what} of {settings.model.family} in this format; use one of: "
            f"{', '.join(known)}"
        )
    kind = registry.load("videodpo.models", settings.model.family)
    with _new_folder(out) as partial:
        files = Export(settings, kind.networks, adapter, snapshot.run, partial).write(name)
        code = example(kind, settings, name, [partial / file for file in files], out)
        text = card(snapshot, round_folder(run, number), name, files, code)
        (partial / "README.md").write_text(text, encoding="utf-8")
    return out


def _last_round(run: Path) -> int:
    numbers = [int(path.parent.name.removeprefix("round")) for path in run.glob("round*/adapter")]
    if not numbers:
        raise InputError(f"{run}: no round<r>/adapter; finish a training first")
    return max(numbers)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder; rename it to `out` on success.

    Raises:
        InputError: `out` is a file, or a folder with files.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: exists already; name a new folder")
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed export
    partial.mkdir(parents=True)
    try:
        with refuse_full_disk(out):
            yield partial
            os.replace(partial, out)
            sync_folder(out.absolute().parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
