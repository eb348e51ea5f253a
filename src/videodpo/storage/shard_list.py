"""One manifest of all shards in a folder, so that rules depend on one file instead of a thousand."""

from __future__ import annotations

from pathlib import Path

from videodpo.storage.files import sha256_of
from videodpo.storage.manifests import read_manifest, record_json
from videodpo.storage.tables import shard_paths

NAME = "shards.json"


def write_shard_list(out: Path) -> None:
    """Write the SHA-256 of each shard's table, and of the files that belong to it, in the folder of `out`.

    Raises:
        InputError: there are no shards.
    """
    listed: dict[str, str] = {}
    for table in shard_paths(out.parent):
        listed |= read_manifest(table) | {table.name: sha256_of(table)}
    record_json(out, listed)
