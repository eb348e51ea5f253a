"""Former names of configuration keys and values, so that an old configuration is refused with the new name."""

from __future__ import annotations

KEYS = {
    "scores": "dimensions.<name>.options",
    "trainer": "train_runtime",
    "prompts.near_duplicate": "prompts.near_duplicate_threshold",
    "model.max_text_tokens": "model.max_sequence_length",
    "omniscore.dimensions": "dimensions",
    "pairs.alpha": "pairs.reweight.exponent",
    "pairs.beta": "pairs.reweight.numerator",
    "pairs.bin_width": "pairs.reweight.bin_width",
    "pairs.normalize": "pairs.reweight.normalize",
    "schedule.pairs_per_step": "schedule.global_batch_size",
    "schedule.micro_batch": "schedule.micro_batch_size",
    "train.objective.name": "train.objective.loss",
    "train.objective.safeguard": "train.objective.sdpo_mu",
    "train.max_grad_growth": "train.skip_above_median",
    "evaluate.bootstrap": "evaluate.bootstrap_resamples",
}
VALUES = {
    ("prompts.source.kind", "world"): "demo_world",
    ("train.reference", "table"): "precomputed",
    ("train.reference", "live"): "online",
    ("train.texts", "fresh"): "online",
}
