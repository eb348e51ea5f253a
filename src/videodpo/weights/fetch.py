"""Downloads published weights, checks every byte against its digest, and checks them again when asked."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from videodpo.config import HUB_PREFIX
from videodpo.config.errors import InputError, RunError
from videodpo.storage.files import atomic_path, sha256_of, write_json
from videodpo.weights.catalogue import PublishedFile, catalogue
from videodpo.weights.locations import (
    PUBLIC_PREFIX,
    NotFetched,
    expected_sizes,
    fetched_patterns,
    hub_name,
    is_read,
    local_path,
    manifest_path,
    read_manifest,
    resolve,
)
from videodpo.weights.needed import Needed


def fetch_all(needed: Sequence[Needed]) -> None:
    """`fetch` of every one, each with a line on the terminal."""
    for number, one in enumerate(needed, start=1):
        print(f"[{number}/{len(needed)}] {one.location}", flush=True)
        fetch(one.location, one.patterns)


def verify_all(needed: Sequence[Needed]) -> None:
    """Says on the terminal that all is as published, or raises ValueError, which lists what is `damaged`."""
    if problems := [problem for one in needed for problem in damaged(one.location)]:
        raise InputError("\n  ".join(["weights are not as published; remove these and fetch again:", *problems]))
    print(f"{len(needed)} published weights: every byte is as published")


def fetch(location: str, patterns: Sequence[str]) -> None:
    """Bring published weights to this disk; what is there already stays.

    Args:
        location: a checked name. patterns: files of a hub repository that are needed.

    Raises:
        RuntimeError: no network, or bytes that are not those published.
    """
    already: list[str] = []
    with suppress(NotFetched):
        if location.startswith(HUB_PREFIX):
            already = fetched_patterns(location)
        resolve(location)
        if location.startswith(PUBLIC_PREFIX) or set(patterns) <= set(already):
            return
    if location.startswith(HUB_PREFIX):
        _fetch_repository(location, list(dict.fromkeys([*already, *patterns])))
    else:
        _fetch_file(catalogue().files[location.removeprefix(PUBLIC_PREFIX)], local_path(location))


def damaged(location: str) -> Iterator[str]:
    """Files of published weights that are missing or not what was published, and why: every byte is read."""
    if location.startswith(HUB_PREFIX) and not manifest_path(location).is_file():
        yield f"{location}: not fetched"
        return
    if location.startswith(PUBLIC_PREFIX):
        published = {local_path(location): catalogue().files[location.removeprefix(PUBLIC_PREFIX)].sha256}
    else:
        published = {local_path(location) / file: sha256 for file, (sha256, _) in read_manifest(location).items()}
    for path, size in expected_sizes(location).items():
        if not path.is_file():
            yield f"{path}: missing"
        elif path.stat().st_size != size:
            yield f"{path}: {path.stat().st_size:,} bytes, published are {size:,}"
        elif sha256_of(path) != published[path]:
            yield f"{path}: sha256 is not that published"


def _fetch_file(published: PublishedFile, final: Path) -> None:
    import torch

    with atomic_path(final) as partial:
        archive = partial.with_suffix(".zip") if published.member else partial
        try:
            # An archive's own digest does not matter: its member's is checked.
            torch.hub.download_url_to_file(
                published.url, str(archive), hash_prefix=None if published.member else published.sha256
            )
            if published.member:
                with zipfile.ZipFile(archive) as box, box.open(published.member) as member, open(partial, "wb") as out:
                    out.write(member.read(published.size + 1))  # whatever the archive says of its size
        except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
            raise RunError(f"{published.url}: {error}") from error
        finally:
            if archive != partial:
                archive.unlink(missing_ok=True)
        if (found := sha256_of(partial)) != published.sha256:
            raise RunError(f"{published.url}: sha256 {found}, published is {published.sha256}")


def _fetch_repository(location: str, patterns: Sequence[str]) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    repository, revision = hub_name(location)
    known = catalogue().repositories.get(repository)
    pinned = known.files if known and known.revision == revision else {}
    folder = local_path(location)
    manifest = {}
    try:
        listing = HfApi().model_info(repository, revision=revision, files_metadata=True).siblings or []
        wanted = [file for file in listing if is_read(file.rfilename, patterns)]
        if not wanted:
            raise RunError(f"{location}: holds none of {', '.join(patterns)}")
        for file in wanted:
            path = Path(hf_hub_download(repository, file.rfilename, revision=revision, local_dir=folder))
            sha256 = sha256_of(path)
            if not _is_published(path, sha256, file, pinned):
                path.unlink()
                raise RunError(
                    f"{location}: {file.rfilename}: sha256 {sha256} is not that published; it was removed, fetch again"
                )
            manifest[file.rfilename] = {"sha256": sha256, "size": path.stat().st_size}
    except RuntimeError:
        raise
    except Exception as error:  # the hub library changes its errors' base class with its HTTP library
        raise RunError(f"{location}: {error}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub library's notes on its downloads
    about = {"repository": repository, "revision": revision, "patterns": patterns}
    write_json(manifest_path(location), {**about, "files": manifest})


def _is_published(path: Path, sha256: str, file: Any, pinned: dict[str, str]) -> bool:
    """Against the catalogue, else against what the hub says of this commit: SHA-256, or git's own digest if small."""
    if file.rfilename in pinned:
        return sha256 == pinned[file.rfilename]
    if file.lfs is not None:
        return sha256 == str(file.lfs.sha256)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == str(file.blob_id)
