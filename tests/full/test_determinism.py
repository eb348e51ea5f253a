"""The same bytes for every shard count."""

from tests.conftest import small_run

TABLES = ("prompts.parquet", "round1/omniscore.parquet", "round1/pairs.parquet")


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def test_tables_are_byte_identical_for_1_3_and_8_shards(paired, stages, random_model, tmp_path):
    for shards in (3, 8):
        raw = small_run(random_model, tmp_path / str(shards))
        raw["generate"]["shards"] = shards
        run = stages(raw)
        run.until_pairs()
        assert bytes_of(run.folder) == bytes_of(paired.folder)
