"""The shards of a folder as one small file, for a workflow that would look at each of a thousand in every job."""

from __future__ import annotations

from pathlib import Path

from videodpo.storage.digests import read_digests, record_json
from videodpo.storage.files import sha256_of
from videodpo.storage.tables import count_shards, shard_path

BESIDE = ("latents", "texts")


NAME = "shards.json"


def write_shard_list(out: Path) -> None:
    """List the shards in the folder of `out`: it changes when one of the table, or a file of tensors beside it, does.

    Raises:
        ValueError: there are no shards.
    """
    folder = out.parent
    tables = [shard_path(folder, shard) for shard in range(count_shards(folder))]
    beside = [folder / kind / f"{table.stem}.safetensors" for kind in BESIDE for table in tables]
    listed = {table.name: sha256_of(table) for table in tables}
    for path in beside:
        if path.exists():  # gigabytes, but what was written is on record
            known = read_digests(path)
            listed[f"{path.parent.name}/{path.name}"] = known[-1].files[path.name] if known else sha256_of(path)
    record_json(out, listed)
