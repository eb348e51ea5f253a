"""Number of shards for the setting `auto`, computed from the configuration alone.

Snakemake plans a workflow of a thousand jobs in seconds, but never finishes planning one of a million. A job of a
hundred clips loads its model once for an hour or two of work. Therefore shards have a target size until their number
reaches the maximum for a round. Beyond that, shards grow, and a job that exceeds its time limit resumes when it is
resubmitted (docs/scale.md).
"""

from __future__ import annotations

AUTO = "auto"
# Clips of a round. Each shard is two jobs: sampling and scoring.
CLIPS_A_SHARD, MOST_SHARDS = 200, 1000
UNKNOWN_SHARDS = 200  # if all prompts of a source are sampled: its length is unknown before it is read
# Held-out clips of one model. Each shard is two jobs, so base and aligned together are four.
HELDOUT_CLIPS_A_SHARD, MOST_HELDOUT_SHARDS = 50, 100
VISITS_A_SHARD, MOST_REFERENCE_SHARDS = 750, 200


def shard_numbers(count: int) -> list[str]:
    """Numbers of the shards, formatted as in file names."""
    return [f"{shard:05d}" for shard in range(count)]


def sampling_shards(num_prompts: int | None, videos_per_prompt: int) -> int:
    """Number of shards for the clips of one round.

    Independent of `rounds`, so that adding a round does not re-cut the first one's shards.

    Args:
        num_prompts: training prompts; None if all prompts of a source are sampled.
        videos_per_prompt: clips per prompt.
    """
    if num_prompts is None:
        return UNKNOWN_SHARDS
    return _number_of(num_prompts * videos_per_prompt, CLIPS_A_SHARD, MOST_SHARDS)


def heldout_shards(num_prompts: int, videos_per_prompt: int) -> int:
    """Number of shards for the held-out clips of one model."""
    return _number_of(num_prompts * videos_per_prompt, HELDOUT_CLIPS_A_SHARD, MOST_HELDOUT_SHARDS)


def reference_shards(num_visits: int) -> int:
    """Number of shards for the reference errors of one round; num_visits counts the training's visits to pairs."""
    return _number_of(num_visits, VISITS_A_SHARD, MOST_REFERENCE_SHARDS)


def _number_of(count: int, wanted: int, most: int) -> int:
    return max(1, min(-(-count // wanted), most))
