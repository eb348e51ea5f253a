"""Check every file of a run against its manifest, and remove damaged files so that a re-run re-creates them."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from videodpo.config.errors import InputError, RunError
from videodpo.runtime.locks import held
from videodpo.storage.clips import file_of, is_intact
from videodpo.storage.files import remove_folder, sha256_of
from videodpo.storage.manifests import Damaged, is_editable, manifest_path, read_manifest, run_of
from videodpo.storage.tables import read_rows, shard_path

ALARM = 3
Kind: TypeAlias = Literal["damaged", "missing", "edited"]
_VIDEOS = re.compile(r"round\d+/((evaluation|benchmark/\w+)/)?videos(/base|/aligned)?/shard-\d{5}\.parquet")
_OF_VIDEOS = re.compile(r"(?P<videos>.*)/(?:clips|latents|texts)/shard-(?P<shard>\d{5})\b.*")


class Finding(NamedTuple):
    """A file, relative to the run's folder, and what is wrong with it."""

    path: Path
    kind: Kind
    what: str


class Report(NamedTuple):
    """Result of `verify`.

    Attributes:
        findings: sorted by path.
        num_fine: number of files that are unchanged since they were written.
        targets: files to request from the workflow, so that it re-creates what was removed.
        links: number of files made by other runs of the study, by the folder of that run. They are checked there.
    """

    findings: list[Finding]
    num_fine: int
    targets: list[Path]
    links: dict[str, int]

    @property
    def exit_code(self) -> int:
        """0 if nothing is damaged or missing; an edited table does no harm."""
        return ALARM if any(finding.kind != "edited" for finding in self.findings) else 0

    def lines(self) -> list[str]:
        lines = [f"{kind:<9}  {path}: {what}" for path, kind, what in self.findings]
        lines += [
            f"linked     {count} of {run}: videodpo verify {shlex.quote(run)}" for run, count in self.links.items()
        ]
        kinds = [finding.kind for finding in self.findings]
        counts = "".join(f", {kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        lines.append(f"{self.num_fine} files are intact{counts}")
        if self.targets:
            lines.append("to re-make only these, run this with the run's own options:")
            lines.append(f"  snakemake --profile ... {shlex.join(map(str, self.targets))}")
        return lines


def runs_in(folder: Path) -> list[Path]:
    """Folders of the runs in a study's folder; for the folder of a run, only that folder."""
    if not (folder / "study.json").is_file():
        return [folder]
    return sorted(found.parent for found in folder.glob("*/seed*/config"))


def verify(run: Path, *, discard_damaged: bool = False) -> Report:
    """Check all files that a run has written.

    Args:
        run: its folder, for example results/demo.
        discard_damaged: remove damaged files; for a clip, latents or texts, also the table of the shard, so that the
            next run re-creates them. Intact batches of a shard are not sampled again.

    Raises:
        InputError: not the folder of a run.
        RunError: with `discard_damaged`, a job of the run is running.
    """
    if not (run / "config").is_dir():
        raise InputError(f"{run}: not a run's folder (no config folder); give <results>/<run>")
    if discard_damaged and (holders := held(run)):
        raise RunError(
            f"{run}: jobs are running; wait for them or stop them before you discard files:\n  " + "\n  ".join(holders)
        )
    findings: dict[Path, Finding] = {}
    fine: set[Path] = set()
    for path, finding in (*_products(run), *_clips(run)):
        if finding is None:
            fine.add(path)
        else:
            findings.setdefault(path, finding)
    broken = sorted(findings.values())
    removed = [_remove(run, finding) for finding in broken if discard_damaged and finding.kind != "edited"]
    return Report(broken, len(fine - findings.keys()), sorted(set(removed)), _links(run))


def _links(run: Path) -> dict[str, int]:
    """Number of linked files and folders by the run that made them."""
    links = [path for path in sorted(run.rglob("*")) if path.is_symlink() and not path.name.startswith(".")]
    made_by = [run_of(path) for path in links if path.suffix != ".json"]
    return Counter(os.path.relpath(other) for other in made_by if other != run and (other / "config").is_dir())


def _products(run: Path) -> Iterator[tuple[Path, Finding | None]]:
    """Yield every file that a manifest lists, and what is wrong with it."""
    for manifest in sorted(run.rglob(".*.sha256")):
        if manifest.is_symlink():
            continue
        product = manifest.with_name(manifest.name[1:].removesuffix(".sha256"))
        try:
            known = read_manifest(product)
        except Damaged:
            yield product, _finding(run, product, "damaged", f"{manifest.name} holds no digests")
            continue
        for name, digest in known.items():
            path = product.parent / name
            if not path.is_file():
                yield path, _finding(run, path, "missing", f"{manifest.name} lists it")
            elif sha256_of(path) == digest:
                yield path, None
            elif is_editable(path) and _is_readable(path):
                yield path, _finding(run, path, "edited", "edited after its stage wrote it; the edited table is used")
            else:
                yield path, _finding(run, path, "damaged", "differs from what was written")


def _clips(run: Path) -> Iterator[tuple[Path, Finding | None]]:
    """Check every clip against the digest in its table; clips of a damaged table cannot be checked."""
    for table in sorted(run.rglob("shard-*.parquet")):
        if not _VIDEOS.fullmatch(table.relative_to(run).as_posix()) or not _is_readable(table):
            continue
        for row in read_rows(table, ["video_id", "path", "sha256"]):
            if row["path"] is None:
                continue
            file = file_of(run / row["path"])
            if is_intact(run / row["path"], row["sha256"]):
                yield file, None
            elif file.is_file():
                yield file, _finding(run, file, "damaged", f"{row['video_id']} is not the clip of {table.name}")
            else:
                yield file, _finding(run, file, "missing", f"{table.relative_to(run)} lists it")


def _is_readable(table: Path) -> bool:
    try:
        read_rows(table)
    except InputError:
        return False
    return True


def _finding(run: Path, path: Path, kind: Kind, what: str) -> Finding:
    return Finding(path.relative_to(run), kind, what)


def _remove(run: Path, finding: Finding) -> Path:
    """Remove what is damaged; return the file to request from the workflow."""
    path = run / finding.path
    if part := _OF_VIDEOS.fullmatch(finding.path.as_posix()):
        if path.suffix != ".tar":  # other clips in it may be intact
            path.unlink(missing_ok=True)
        table = shard_path(run / part["videos"], int(part["shard"]))
        if path.suffix == ".safetensors":  # the copy kept for a re-run is a hard link to the same file
            kind = path.parent.name
            (table.parent / "work" / table.stem / f"{kind}.safetensors").unlink(missing_ok=True)
        path = table
    inside = [above for above in path.parents if above.is_relative_to(run) and above != run]
    folder = next((above for above in inside if manifest_path(above).is_file()), None)
    if folder is None:
        path.unlink(missing_ok=True)
        manifest_path(path).unlink(missing_ok=True)
        return path
    if folder.exists():
        remove_folder(folder)
    manifest_path(folder).unlink(missing_ok=True)
    return folder
