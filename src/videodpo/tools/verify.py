"""Every product of a run against its digest: what is damaged, missing or unknown, and what to make again."""

from __future__ import annotations

import fcntl
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from videodpo.config.errors import InputError, RunError
from videodpo.storage.clips import file_of, is_intact
from videodpo.storage.digests import digest_path, fault, remove_folder
from videodpo.storage.files import remove_leftover
from videodpo.storage.tables import read_rows, shard_path
from videodpo.storage.tensors import fault_of_parts

ALARM = 3
Kind: TypeAlias = Literal["damaged", "missing", "no digest", "unknown"]
_PRODUCTS = (".parquet", ".safetensors", ".json")
_VIDEOS = re.compile(r"round\d+/(evaluation/)?videos(/base|/aligned)?/shard-\d{5}\.parquet")
_CLIP = re.compile(r"(?P<videos>.*)/clips/shard-(?P<shard>\d{5})(\.tar|/[^/]+\.mp4)")
# What a stage goes on from, and makes again by itself where it is not there; no output of a rule.
_STATE = re.compile(r"round\d+/(state|reference/work|(evaluation/)?scores/(base/|aligned/)?by-clip)/.*|.*/work/.*")
# Of a killed job. Its lines have digests of their own: the job that goes on reads up to one that is damaged.
_JOURNAL = re.compile(r".*/(reference/work|by-clip)/shard-\d{5}\.jsonl")
# Of the workflow engine, of trackers, and what is looked at but never read.
_NOT_READ = re.compile(r"(round\d+/)?(logs|benchmarks|locks|tracking|samples)/.*|(.*/)?([^/]*\.)?lock")


class Finding(NamedTuple):
    """A file or folder, relative to the run's folder, and what is wrong with it."""

    path: Path
    kind: Kind
    what: str


class Report(NamedTuple):
    """What `verify` found.

    Attributes:
        findings: sorted by path. num_fine: files that are what was written.
        targets: files that the workflow has to be asked for, so that it makes again what was taken away.
    """

    findings: list[Finding]
    num_fine: int
    targets: list[Path]

    @property
    def exit_code(self) -> int:
        """0 where all is well: a file that nothing knows of does no harm."""
        return ALARM if any(finding.kind != "unknown" for finding in self.findings) else 0

    def lines(self) -> list[str]:
        lines = [f"{kind:<9}  {path}: {what}" for path, kind, what in self.findings]
        kinds = [finding.kind for finding in self.findings]
        counts = "".join(f", {kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        lines.append(f"{self.num_fine} files are what was written{counts}")
        if self.targets:
            lines.append("make these again, and nothing else, by the run's own options and their names:")
            lines.append(f"  snakemake --profile ... {shlex.join(map(str, self.targets))}")
        return lines


def verify(run: Path, *, discard_damaged: bool = False) -> Report:
    """Check all that a run has made.

    Args:
        run: its folder, for example results/demo.
        discard_damaged: remove what is damaged and, for a damaged clip, the table of its shard, so that the next start
            makes the units concerned again. Good batches of a shard are found in its work folder.

    Raises:
        ValueError: no folder of a run. RuntimeError: with `discard_damaged`, a job of the run is at work.
    """
    if not (run / "config").is_dir():
        raise InputError(f"{run}: no folder of a run, there is no config in it")
    if discard_damaged:
        _refuse_running(run)
    checked = _Checked(run)
    checked.products()
    checked.clips()
    checked.others()
    targets = {target for finding in checked.findings if discard_damaged for target in _take_away(run, finding)}
    return Report(sorted(checked.findings), len(checked.fine), sorted(targets))


def _refuse_running(run: Path) -> None:
    for path in sorted({*run.rglob("*lock"), *run.glob("locks/**/*")}):
        if path.is_file():
            with open(path) as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise RunError(f"{path} is held by {handle.read().strip()}; discard when no job runs") from None


def _take_away(run: Path, finding: Finding) -> Iterator[Path]:
    """Remove what is damaged; gives the files that the workflow has to be asked for."""
    path, name = run / finding.path, finding.path.as_posix()
    if finding.kind == "unknown" and path.suffix == ".partial":
        remove_leftover(path)
    if finding.kind not in ("damaged", "missing"):
        return
    if clip := _CLIP.fullmatch(name):
        if path.suffix != ".tar":  # whose other clips are good
            path.unlink(missing_ok=True)
        path = shard_path(run / clip["videos"], int(clip["shard"]))
        path.unlink(missing_ok=True)
    elif _is_kept(finding.path):  # the stage takes from it what is good
        return
    elif path.name == "report" and path.is_dir():
        path = path / "index.html"
        path.unlink(missing_ok=True)
    elif path.is_dir():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
    if _STATE.fullmatch(name):
        digest_path(path).unlink(missing_ok=True)
    else:
        yield path


def _is_kept(path: Path) -> bool:
    return "videos" in path.parts and "work" in path.parts


class _Checked:
    def __init__(self, run: Path) -> None:
        self.run = run
        self.findings: list[Finding] = []
        self.fine: set[Path] = set()
        self._seen: dict[tuple[int, int], Path] = {}  # hard links

    def products(self) -> None:
        """Whatever has digests beside it."""
        for digests in sorted(self.run.rglob(".*.sha256"), key=lambda path: ("work" in path.parts, path)):
            path = digests.with_name(digests.name[1:].removesuffix(".sha256"))
            if not path.exists():
                self._find(path, "missing", "it was written and is gone")
                continue
            state = path.stat()
            if self._seen.setdefault((state.st_dev, state.st_ino), path) != path:
                self.fine.add(path)  # told of under its other name
            elif found := fault(path) or fault_of_parts(path):
                self._find(path, "damaged", found)
            else:
                self.fine |= {path} if path.is_file() else {path, *path.rglob("*")}

    def clips(self) -> None:
        """Clips by the digests in their tables; a damaged table's are unknown until it is made again."""
        for table in self._tables_of_clips():
            reported = {self.run / finding.path for finding in self.findings}
            for row in read_rows(table) if table in self.fine else ():
                if row["path"] is None:
                    continue
                clip = self.run / row["path"]
                file = file_of(clip)
                if file in reported:  # of the clips in one file, the first that is damaged is told
                    continue
                if is_intact(clip, row["sha256"]):
                    self.fine.add(file)
                    continue
                if file.is_file():
                    what = f"sha256 of {row['video_id']} is not that of {table.relative_to(self.run)}"
                    self._find(file, "damaged", what)
                else:
                    self._find(file, "missing", f"{table.relative_to(self.run)} has it")
                self.fine.discard(file)
                reported.add(file)

    def others(self) -> None:
        """What nothing vouches for."""
        reported = self.fine | {self.run / finding.path for finding in self.findings}
        for path in sorted(self.run.rglob("*")):
            name = path.relative_to(self.run).as_posix()
            if not path.is_file() or path in reported or path.name.endswith(".sha256") or _NOT_READ.fullmatch(name):
                continue
            if _JOURNAL.fullmatch(name):
                continue
            if any(above in reported for above in path.parents):
                continue
            if path.suffix in _PRODUCTS and "/." not in f"/{name}":
                self._find(path, "no digest", "nothing says what was written; an earlier version may have")
            else:
                self._find(path, "unknown", "no stage's product")

    def _tables_of_clips(self) -> Iterator[Path]:
        for path in sorted(self.run.rglob("shard-*.parquet")):
            if _VIDEOS.fullmatch(path.relative_to(self.run).as_posix()):
                yield path

    def _find(self, path: Path, kind: Kind, what: str) -> None:
        self.findings.append(Finding(path.relative_to(self.run), kind, what))
