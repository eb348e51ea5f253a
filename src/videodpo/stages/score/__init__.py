"""Videos to scores: networks measure what a store lacks, and each dimension's table is written from the store."""

from videodpo.stages.score.measure import measure_shard
from videodpo.stages.score.single_files import score_files
from videodpo.stages.score.write import score_all_shards, score_shard

__all__ = ["measure_shard", "score_all_shards", "score_files", "score_shard"]
