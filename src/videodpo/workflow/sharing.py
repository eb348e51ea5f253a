"""Find the files that runs of a study share, assign each to the run that makes it, and link it into the others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from videodpo.runtime.digests import MEMORY
from videodpo.runtime.snapshot import settings_digest
from videodpo.storage.files import read_json, write_json
from videodpo.storage.manifests import manifest_path
from videodpo.workflow.run import Workflow

_CHOICE = "pairs without weights"


@dataclass(frozen=True)
class Part:
    """Files of a run that are created, or shared, together.

    Attributes:
        snapshot: settings snapshot that the rules of this part read.
        settings: keys of the digests that determine the files, in addition to those of the parts that are read.
        reads: parts that determine the files; a part's name is the first of its files.
        files: files and folders, relative to the run's folder.
    """

    snapshot: str
    settings: tuple[str, ...]
    reads: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the part: its first file."""
        return self.files[0]


def parts_of(run: Workflow, *, trains: bool) -> Iterator[Part]:
    """All parts of a run that others may share, each after the parts that it reads.

    The comparison and the report are not shared: they take seconds, and they name their run.

    Args:
        trains: include the training and all later parts.
    """

    def part(snapshot: str, reads: Iterable[str], *files: str, settings: tuple[str, ...] = ()) -> Part:
        return Part(snapshot, settings or (snapshot,), tuple(reads), files)

    prompts = "prompts.parquet"
    clips = ["clips.parquet"] if run.has_clips else []
    imported = ["imported_pairs.parquet"] if run.has_pairs else []
    yield part("prompts", (), prompts, "prompts_dropped.parquet", *clips, *imported)
    adapter: list[str] = []
    for number in range(1, run.config.rounds + 1) if trains else [1]:
        above = f"round{number}"
        videos, omniscore, pairs = f"{above}/videos", f"{above}/omniscore.parquet", f"{above}/pairs.parquet"
        visits, reference = f"{above}/visits.parquet", f"{above}/reference"
        yield part("generate", [prompts, *adapter], videos)
        source = videos
        if not run.has_pairs:
            source = omniscore
            for name in run.scorers:
                yield part(f"score/{name}", [videos], f"{above}/scores/{name}")
            scores = [f"{above}/scores/{name}" for name in run.config.formula.dimensions]
            yield part("omniscore", [videos, *scores], omniscore)
        yield part("pairs", [source], pairs, f"{above}/pairs_rejected.parquet")
        # Visits and reference errors depend on which clips are paired, not on the weights of the pairs.
        yield part("visits", [source], visits, settings=("visits", _CHOICE))
        if run.reference_shards:
            yield part("reference", [visits], reference)
        if trains:
            errors = [reference] if run.reference_shards else []
            files = [f"{above}/{name}" for name in ("adapter", "train_log.parquet", "doctor.json")]
            yield part("train", [pairs, visits, *errors, *adapter], *files)
            adapter = [files[0]]
    evaluation = f"round{run.config.rounds}/evaluation"
    for arm, reads in (("base", [prompts]), ("aligned", [prompts, *adapter]))[: 2 if trains else 1]:
        videos = f"{evaluation}/videos/{arm}"
        yield part("evaluate_generate", reads, videos)
        for name in run.scorers + run.judges:
            yield part(f"score/{name}", [videos], f"{evaluation}/scores/{arm}/{name}")
        yield part("appearance", [videos], f"{evaluation}/appearance/{arm}.parquet")


class Sharing:
    """Assigns each part of each run to the run that already owns it, or else to the first run with the same part."""

    def __init__(self, runs: Mapping[str, Workflow], without_training: Collection[str], root: Path) -> None:
        """Compare the runs.

        Args:
            runs: by name, starting with those whose files others share. A run's folder is <root>/<name>.
            without_training: names of the runs that only make files for others.
            root: folder of the study.

        Raises:
            InputError: the file with the owners of earlier starts is not readable.
        """
        self.runs, self._memory = runs, root / "owners.json"
        self.owner_of_key: dict[str, str] = {}
        self._owners: dict[str, dict[str, str]] = {}
        """Owner of each file, by run."""
        self._snapshots: dict[str, dict[str, str]] = {}
        """Owner of each settings snapshot, by run; a run owns the snapshots that its own parts read."""
        before: dict[str, str] = read_json(self._memory) if self._memory.exists() else {}
        parts = {name: list(parts_of(run, trains=name not in without_training)) for name, run in runs.items()}
        all_keys: dict[str, dict[str, str]] = {}
        for name, run in runs.items():
            digests, keys = _digests(run), all_keys.setdefault(name, {})
            for part in parts[name]:
                known = [part.name, *(digests[one] for one in part.settings), *(keys[read] for read in part.reads)]
                keys[part.name] = hashlib.sha256("\n".join(known).encode()).hexdigest()
        for name in runs:
            files, snapshots = self._owners.setdefault(name, {}), self._snapshots.setdefault(name, {})
            for part in parts[name]:
                key = all_keys[name][part.name]
                # An owner keeps its parts when arms are added before it: otherwise they would be re-run.
                stays = before.get(key) in runs and all_keys[before[key]].get(part.name) == key
                owner = self.owner_of_key.setdefault(key, before[key] if stays else name)
                files |= dict.fromkeys(part.files, owner)
                if snapshots.get(part.snapshot) != name:
                    snapshots[part.snapshot] = owner

    def owner(self, run: str, file: str) -> str:
        """Name of the run that makes a file, given relative to the run's folder."""
        owners, path = self._owners[run], PurePosixPath(file)
        return next((owners[str(one)] for one in (path, *path.parents) if str(one) in owners), run)

    def own_snapshots(self, run: str) -> set[str]:
        """Settings snapshots that the run's own jobs read."""
        return {name for name in self.runs[run].snapshots if self._snapshots[run].get(name, run) == run}

    def remove_stale_links(self) -> None:
        """Remove links to files that the run now makes itself, and links that do not point to the file's current owner.

        Otherwise Snakemake would take the link's target for the run's own finished file.
        """
        for path, target in self._links():
            if path.is_symlink() and (target is None or path.readlink() != target):
                path.unlink()

    def make_links(self) -> None:
        """Record the owners, and link every file that another run makes, even if it does not exist yet.

        The run's own files at these paths, left from earlier settings, are removed.
        """
        write_json(self._memory, self.owner_of_key)
        for path, target in self._links():
            if target is None or path.is_symlink():
                continue
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)

    def _links(self) -> Iterator[tuple[Path, Path | None]]:
        """Yield the path of each file, manifest and snapshot in each run, and the target of its link; None: no link."""
        for name, run in self.runs.items():
            owners = self._owners[name] | {f"config/{one}.json": who for one, who in self._snapshots[name].items()}
            for file, owner in owners.items():
                here, there = Path(run.folder) / file, Path(self.runs[owner].folder) / file
                link = None if owner == name else Path(os.path.relpath(there, here.parent))
                yield here, link
                if here.suffix or here.name == "adapter":  # other folders have no manifest
                    yield manifest_path(here), link and manifest_path(link)


def link_memory(folder: Path, root: Path) -> None:
    """Share one cache of weight digests between the runs of a study, so that each file is read once."""
    memory = folder / MEMORY
    if not memory.is_symlink():
        memory.unlink(missing_ok=True)
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.symlink_to(Path(os.path.relpath(root / MEMORY, folder)))


def _digests(run: Workflow) -> dict[str, str]:
    """Digest of each settings snapshot, and of the settings that choose pairs but do not affect their weights."""
    documents = {name: json.loads(text) for name, text in run.snapshots.items()}
    digests = {name: settings_digest(document) for name, document in documents.items()}
    pairs = documents["pairs"]
    choice = {key: value for key, value in pairs["settings"]["pairs"].items() if key != "reweight"}
    return digests | {_CHOICE: settings_digest({**pairs, "settings": choice})}
