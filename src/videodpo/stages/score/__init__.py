"""Stage: networks score the clips that a store lacks, and each dimension's table is written from the store."""

from videodpo.stages.score.collect import collect_all_shards, collect_shard
from videodpo.stages.score.single_files import score_files
from videodpo.stages.score.stage import score_shard

__all__ = ["collect_all_shards", "collect_shard", "score_files", "score_shard"]
