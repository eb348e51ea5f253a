"""Download published weights and check them against their published SHA-256, after the download and on request."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from videodpo.config import HUB_PREFIX
from videodpo.config.errors import InputError, RunError
from videodpo.storage.files import files_of, sha256_of, write_json
from videodpo.weights.catalogue import PublishedFile, catalogue, pinned_digests
from videodpo.weights.locations import (
    PUBLIC_PREFIX,
    NotFetched,
    expected_files,
    fetched_patterns,
    hub_name,
    local_path,
    manifest_path,
    resolve,
)
from videodpo.weights.needed import Needed


def fetch_all(needed: Sequence[Needed]) -> None:
    """Fetch all weights and print one line for each.

    Raises:
        RunError: some weights could not be fetched; the message lists them. All others were fetched.
    """
    failures = []
    for number, one in enumerate(needed, start=1):
        print(f"[{number}/{len(needed)}] {one.location}", flush=True)
        try:
            fetch(one.location, one.patterns)
        except RunError as error:
            failures.append(f"{one.location} ({', '.join(one.keys)}): {error}")
    if failures:
        head = f"{len(failures)} of {len(needed)} weights could not be fetched; start again (fetched files are kept):"
        raise RunError("\n  ".join([head, *failures]))


def verify_all(needed: Sequence[Needed]) -> None:
    """Check that all files are as published, and print the result.

    Raises:
        InputError: some files are not as published; the message lists them.
    """
    if problems := [problem for one in needed for problem in damaged(one.location)]:
        raise InputError("\n  ".join(["weights differ from those published; remove these and fetch again:", *problems]))
    print(f"{len(needed)} published weights: all bytes are as published")


def fetch(location: str, patterns: Sequence[str]) -> None:
    """Download published weights; files that exist already are kept.

    Args:
        location: name of the weights, already checked.
        patterns: patterns of the files that are needed from a hub repository.

    Raises:
        RunError: there is no network, or the bytes differ from those published.
    """
    if location.startswith(HUB_PREFIX):
        _fetch_repository(location, patterns)
    else:
        _fetch_file(catalogue().files[location.removeprefix(PUBLIC_PREFIX)], local_path(location))


def damaged(location: str) -> Iterator[str]:
    """Yield one line per file that is missing or whose SHA-256 differs from the published one; read every byte."""
    try:
        expected = expected_files(location)
    except NotFetched:
        yield f"{location}: not fetched"
        return
    for path, published in expected.items():
        if not path.is_file():
            yield f"{path}: missing"
        elif sha256_of(path) != published.sha256:
            yield f"{path}: its sha256 is not the published one"


def _fetch_file(published: PublishedFile, final: Path) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        if published.member is None:
            digest = f"sha256:{published.sha256}"
            pooch.retrieve(published.url, digest, final.name, final.parent, processor=_share, progressbar=True)
        elif not final.is_file() or sha256_of(final) != published.sha256:
            _fetch_member(published, final)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{published.url}: {error}") from error


def _share(name: str, action: str, _: object) -> str:
    """Set a downloaded file's mode from its folder: a temporary file is readable by its owner only."""
    if action != "fetch":
        file = Path(name)
        file.chmod(stat.S_IMODE(file.parent.stat().st_mode) & 0o666)
    return name


def _fetch_member(published: PublishedFile, final: Path) -> None:
    """Download a zip archive and keep one member; the catalogue has the digest of the member, not of the archive."""
    import pooch

    final.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=final.parent) as folder:
        unzip = pooch.Unzip(members=[published.member])
        (member,) = pooch.retrieve(published.url, None, path=folder, processor=unzip, progressbar=True)
        if (found := sha256_of(Path(member))) != published.sha256:
            raise RunError(f"{published.url}: {published.member} has sha256 {found}; {published.sha256} is published")
        os.replace(member, final)


def _fetch_repository(location: str, patterns: Sequence[str]) -> None:
    from huggingface_hub import HfApi, snapshot_download

    with suppress(NotFetched):
        already = fetched_patterns(location)
        resolve(location)
        if set(patterns) <= set(already):
            return
        patterns = [*already, *patterns]
    repository, revision = hub_name(location)
    folder = local_path(location)
    try:
        snapshot_download(repository, revision=revision, allow_patterns=list(patterns), local_dir=folder)
        # The download itself compares sizes only.
        mismatches = HfApi().verify_repo_checksums(repository, revision=revision, local_dir=folder).mismatches
    except Exception as error:  # the hub library's errors and those of its HTTP library have no common base class
        raise RunError(f"{location}: {error}") from error
    wrong = {mismatch["path"] for mismatch in mismatches}
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub library's records of finished downloads
    files = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    if not files:
        raise RunError(f"{location}: has none of {', '.join(patterns)}")
    digests = {name: sha256_of(path) for name, path in files.items()}
    pinned = pinned_digests(repository, revision)
    wrong |= {name for name in pinned.keys() & digests.keys() if pinned[name] != digests[name]}
    if wrong:
        for name in wrong:
            files[name].unlink()
        names = ", ".join(sorted(wrong))
        raise RunError(f"{location}: sha256 is not the published one; these files were removed, fetch again: {names}")
    manifest = {name: {"sha256": digests[name], "size": path.stat().st_size} for name, path in files.items()}
    write_json(manifest_path(location), {"patterns": sorted(set(patterns)), "files": manifest})
