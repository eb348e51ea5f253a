"""How many shards work is cut into where the configuration says `auto`: from the configuration alone.

A workflow of a thousand jobs is planned in seconds, one of a million never; a job of a hundred clips loads its model
once for an hour or two of work. So shards have a wanted size until there are as many as a round may have. From there on
they grow, and a job that outlasts its time limit goes on where it was when it is submitted again (docs/scale.md).
"""

from __future__ import annotations

AUTO = "auto"
# Of a round's clips, sampled, then scored: two jobs a shard.
CLIPS_A_SHARD, MOST_SHARDS = 200, 1000
UNKNOWN_SHARDS = 200  # of a source that is sampled whole: its length is not known before it is read
# Of a model's held-out clips, sampled, then scored: four jobs a shard of base and aligned.
HELDOUT_CLIPS_A_SHARD, MOST_HELDOUT_SHARDS = 50, 100
VISITS_A_SHARD, MOST_REFERENCE_SHARDS = 750, 200


def sampling_shards(num_prompts: int | None, videos_per_prompt: int) -> int:
    """For the clips of one round; num_prompts: None where all of a source are sampled.

    How many rounds there are counts for nothing: a further one must not change what the first was cut into.
    """
    if num_prompts is None:
        return UNKNOWN_SHARDS
    return _number_of(num_prompts * videos_per_prompt, CLIPS_A_SHARD, MOST_SHARDS)


def heldout_shards(num_prompts: int, videos_per_prompt: int) -> int:
    """For the held-out clips of one model."""
    return _number_of(num_prompts * videos_per_prompt, HELDOUT_CLIPS_A_SHARD, MOST_HELDOUT_SHARDS)


def reference_shards(num_visits: int) -> int:
    """For the reference errors of one round; num_visits: of the training to its pairs."""
    return _number_of(num_visits, VISITS_A_SHARD, MOST_REFERENCE_SHARDS)


def _number_of(count: int, wanted: int, most: int) -> int:
    return max(1, min(-(-count // wanted), most))
