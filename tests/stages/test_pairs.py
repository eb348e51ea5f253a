"""OmniScores to pairs: values of the re-weighting, every policy, every filter."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from videodpo.config import Pairs, validate
from videodpo.preference import pair_weights
from videodpo.preference.pairs import choose_pairs
from videodpo.runtime.settings import PairsSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.pairs.stage import select_pairs
from videodpo.storage.schemas import CLIP_SIZE, PROMPTS, VIDEOS, omniscore_schema
from videodpo.storage.tables import read_metadata, read_table, shard_path, write_table

PRESETS = Path(__file__).resolve().parents[2] / "presets"
# Bins of width 0.1: bin 3 has 4 scores, bin 5 has 3, bin 9 has 1; the shares are 0.5, 0.375, 0.125.
WIDE, TALL = (5, 32, 64), (5, 64, 32)
EIGHT = [0.31, 0.32, 0.33, 0.34, 0.51, 0.52, 0.53, 0.91]


def scores(*prompts: list[float], **raw: list[float]) -> pd.DataFrame:
    """An omniscore table from one list of OmniScores per prompt; `raw` columns are for all videos (scaled = raw)."""
    rows = [
        {"video_id": f"p{prompt}-{sample}", "prompt_id": f"p{prompt}", "sample": sample, "omniscore": value}
        for prompt, values in enumerate(prompts)
        for sample, value in enumerate(values)
    ]
    table = pd.DataFrame(rows)
    for name, values in raw.items():
        table[f"raw_{name}"] = table[f"norm_{name}"] = values
    return table


def choose(table: pd.DataFrame, sizes=None, *, seed: int = 0, **settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores = pa.Table.from_pandas(table, preserve_index=False)
    labels = pa.array(["{} x {} x {}".format(*sizes[name]) for name in table.video_id]) if sizes else None
    pairs, rejected = choose_pairs(scores, labels, validate(Pairs, settings, "pairs"), seed)
    return pairs.to_pandas(), rejected.to_pandas()


def ids(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(pairs.winner_id, pairs.loser_id, strict=True))


def samples(pairs: pd.DataFrame) -> list[tuple[int, int]]:
    return [(int(winner[-1]), int(loser[-1])) for winner, loser in ids(pairs)]


# --- re-weighting


def test_signature_of_pair_weights_is_the_published_one():
    assert str(inspect.signature(pair_weights)).startswith(
        "(all_scores: 'ArrayLike', winner_scores: 'ArrayLike', loser_scores: 'ArrayLike', *,"
        " bin_width: 'float' = 0.01, alpha: 'float' = 0.72, beta: 'float | None' = None)"
    )


def test_there_is_one_float64_weight_per_pair():
    weights = pair_weights(EIGHT, EIGHT[:3], EIGHT[3:6])
    assert weights.dtype == np.float64
    assert weights.shape == (3,)


def test_weight_follows_the_formula():
    weights = pair_weights(EIGHT, [0.91], [0.32], bin_width=0.1, alpha=0.72, beta=0.6)
    assert weights[0] == pytest.approx((0.6 / (0.125 * 0.5) ** 0.5) ** 0.72, rel=1e-12)


def test_a_known_weight_has_its_recorded_value():
    assert pair_weights(EIGHT, [0.91], [0.32], bin_width=0.1)[0] == pytest.approx(1.64718203, rel=1e-8)


def test_without_beta_the_numerator_is_the_largest_bins_share():
    given = pair_weights(EIGHT, [0.91, 0.51], [0.32, 0.32], bin_width=0.1, beta=0.5)
    assert pair_weights(EIGHT, [0.91, 0.51], [0.32, 0.32], bin_width=0.1).tolist() == given.tolist()


def test_alpha_zero_gives_every_pair_weight_one():
    assert pair_weights(EIGHT, EIGHT[4:], EIGHT[:4], bin_width=0.1, alpha=0.0).tolist() == [1.0] * 4


def test_scores_on_a_bin_edge_belong_to_the_upper_bin():
    """0.29 / 0.01 is 28.999999999999996 in binary; the other score is in bin k with any rounding."""
    for k in range(-120, 321):
        weights = pair_weights([k / 100, (k + 0.5) / 100], [k / 100], [(k + 0.5) / 100], alpha=1.0, beta=1.0)
        assert weights[0] == 1.0, k


def test_a_score_just_below_a_bin_edge_belongs_to_the_lower_bin():
    weights = pair_weights([0.2899, 0.29], [0.29], [0.2899], alpha=1.0, beta=1.0)
    assert weights[0] == pytest.approx(2.0)


def test_scores_below_zero_and_above_one_have_their_own_bins():
    everything = [-0.005, 0.005, 1.005, 0.995]
    weights = pair_weights(everything, [1.005, 0.005], [-0.005, 0.995], alpha=1.0, beta=1.0)
    assert weights.tolist() == [4.0, 4.0]


def test_order_of_the_scores_does_not_matter():
    forward = pair_weights(EIGHT, [0.91], [0.32], bin_width=0.1)
    assert pair_weights(EIGHT[::-1], [0.91], [0.32], bin_width=0.1).tobytes() == forward.tobytes()


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        (([], [], []), {}, "all_scores"),
        (([0.1, float("nan")], [0.1], [0.1]), {}, "all_scores"),
        (([0.1], [float("inf")], [0.1]), {}, "winner_scores"),
        (([0.1, 0.2], [0.2, 0.1], [0.1]), {}, "winner_scores"),
        (([0.1, 0.2], [0.3], [0.1]), {}, "winner_scores"),
        (([0.1, 0.2], [0.2], [0.15]), {}, "loser_scores"),
        (([0.1, 0.2], [0.2], [0.1]), {"bin_width": 0.0}, "bin_width"),
        (([0.1, 0.2], [0.2], [0.1]), {"alpha": -1.0}, "alpha"),
        (([0.1, 0.2], [0.2], [0.1]), {"beta": 0.0}, "beta"),
    ],
)
def test_wrong_weighting_is_refused_by_name(arguments, options, named):
    with pytest.raises(ValueError, match=named):
        pair_weights(*arguments, **options)


def _preset(name: str) -> Pairs:
    return validate(Pairs, yaml.safe_load((PRESETS / f"{name}.yaml").read_text())["pairs"], "pairs")


def test_preset_paper_is_the_papers_weighting():
    paper = _preset("paper")
    reweight = paper.reweight
    assert paper.policy == "best_worst"
    assert (reweight.bin_width, reweight.exponent, reweight.numerator) == (0.01, 0.72, None)


def test_preset_official_code_is_the_released_loaders_weighting():
    released = _preset("official-code").reweight
    options = {"bin_width": released.bin_width, "alpha": released.exponent, "beta": released.numerator}
    weight = pair_weights(EIGHT, [0.91], [0.32], **options)
    assert weight[0] == pytest.approx(0.72 / 0.125, rel=1e-12)  # every score has its own bin of 1 in 8


# --- policies

FOUR = [0.2, 0.9, 0.4, 0.6]  # samples from best to worst: 1, 3, 2, 0


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("best_worst", [(1, 0)]),
        ("rank:1-4", [(1, 0)]),
        ("rank:1-2", [(1, 3)]),
        ("rank:2-3", [(3, 2)]),
        ("all", [(1, 3), (1, 2), (1, 0), (3, 2), (3, 0), (2, 0)]),
    ],
)
def test_policy_pairs_the_expected_ranks(policy, expected):
    pairs, _ = choose(scores(FOUR), policy=policy)
    assert samples(pairs) == expected


def test_mixed_ranks_uses_every_rank_pair_equally_often():
    pairs, _ = choose(scores(*[FOUR] * 12), policy="mixed_ranks")
    assert samples(pairs) == [(1, 3), (1, 2), (1, 0), (3, 2), (3, 0), (2, 0)] * 2


def test_random_takes_one_pair_of_two_different_videos():
    pairs, _ = choose(scores(*[FOUR] * 60), policy="random")
    assert len(set(samples(pairs))) == 6
    assert (pairs.gap > 0).all()


def test_random_follows_the_seed():
    table = scores(*[FOUR] * 20)
    first, again, other = (choose(table, policy="random", seed=seed)[0] for seed in (1, 1, 2))
    assert ids(first) == ids(again) != ids(other)


def test_random_choice_of_a_prompt_does_not_depend_on_the_other_prompts():
    table = scores(*[FOUR] * 9)
    alone = table[table.prompt_id == "p7"].reset_index(drop=True)
    pairs, _ = choose(table, policy="random")
    assert ids(choose(alone, policy="random")[0]) == ids(pairs[pairs.prompt_id == "p7"])


@pytest.mark.parametrize("policy", ["best_worst", "all", "random", "mixed_ranks"])
def test_a_prompt_with_one_video_is_rejected_with_the_reason(policy):
    pairs, rejected = choose(scores([0.5], [0.1, 0.2]), policy=policy)
    assert list(pairs.prompt_id) == ["p1"]
    assert rejected.reason[0] == f"too few scored videos (1) for policy {policy}"
    assert rejected.loc[0, ["winner_id", "loser_id"]].isna().all()


def test_a_rank_above_a_prompts_number_of_videos_is_rejected_not_replaced():
    pairs, rejected = choose(scores([0.1, 0.2], FOUR), policy="rank:1-4")
    assert list(pairs.prompt_id) == ["p1"]
    assert list(rejected.prompt_id) == ["p0"]


# --- fewer samples, fewer prompts


def test_first_samples_gives_the_pairs_and_histogram_of_a_run_with_fewer_samples():
    full, few = scores(FOUR, EIGHT[:4]), scores(FOUR[:2], EIGHT[:2])
    pairs, rejected = choose(full, first_samples=2)
    pd.testing.assert_frame_equal(pairs, choose(few)[0])
    assert rejected.winner_id.tolist() == ["p0-2", "p0-3", "p1-2", "p1-3"]
    assert rejected.loser_id.isna().all()
    assert set(rejected.reason) == {"first_samples: not among the first 2 samples"}


def test_first_samples_filters_the_sizes_too():
    table = scores(FOUR)
    sizes = {"p0-0": TALL, "p0-1": WIDE, "p0-2": TALL, "p0-3": WIDE}
    pairs, _ = choose(table, sizes, first_samples=3)
    assert samples(pairs) == [(2, 0)]


def test_a_smaller_share_of_the_prompts_is_a_subset_of_a_larger_one():
    table = scores(*[FOUR] * 40)
    kept = {share: set(choose(table, prompt_share=share)[0].prompt_id) for share in (0.25, 0.5, 1.0)}
    assert [len(kept[share]) for share in (0.25, 0.5, 1.0)] == [10, 20, 40]
    assert kept[0.25] < kept[0.5] < kept[1.0]
    assert kept[0.5] != set(choose(table, prompt_share=0.5, seed=1)[0].prompt_id)


def test_prompts_outside_the_share_are_rejected_and_not_in_the_histogram():
    table = scores(*np.random.default_rng(4).random((12, 3)).tolist())
    pairs, rejected = choose(table, prompt_share=0.5)
    alone = table[table.prompt_id.isin(pairs.prompt_id)].reset_index(drop=True)
    pd.testing.assert_frame_equal(pairs, choose(alone)[0])
    assert set(rejected.prompt_id) == set(table.prompt_id) - set(pairs.prompt_id)
    assert set(rejected.reason) == {"prompt_share: not among the 50 % of the prompts that count"}


def test_defaults_are_not_in_the_settings_snapshot():
    """Digests of runs from before these keys stay the same, so that these runs are not re-run."""
    assert Pairs().model_dump().keys() == {"policy", "filters", "reweight"}
    changed = Pairs(first_samples=2, prompt_share=0.5).model_dump()
    assert (changed["first_samples"], changed["prompt_share"]) == (2, 0.5)


def test_a_rank_beyond_the_first_samples_is_refused():
    with pytest.raises(ValueError, match=r"pairs.first_samples: 2; policy 'rank:1-3' needs at least 3"):
        validate(Pairs, {"policy": "rank:1-3", "first_samples": 2}, "pairs")


# --- sizes


def test_only_videos_of_one_size_are_paired():
    """The best video is wide and the worst is tall: each size has its own best and worst."""
    table = scores(FOUR, FOUR)
    sizes = dict.fromkeys(table.video_id, WIDE) | {"p0-0": TALL, "p0-3": TALL}
    pairs, rejected = choose(table, sizes)
    assert ids(pairs) == [("p0-3", "p0-0"), ("p0-1", "p0-2"), ("p1-1", "p1-0")]
    assert rejected.empty


@pytest.mark.parametrize("policy", ["all", "random", "mixed_ranks"])
def test_no_policy_pairs_two_sizes(policy):
    table = scores(*np.random.default_rng(3).random((20, 6)).tolist())
    sizes = {video_id: TALL if number % 3 else WIDE for number, video_id in enumerate(table.video_id)}
    pairs, _ = choose(table, sizes, policy=policy)
    assert len(pairs) == {"all": 20 * (1 + 6)}.get(policy, 40)
    assert all(sizes[winner] == sizes[loser] for winner, loser in ids(pairs))


def test_the_only_video_of_a_size_is_rejected_with_the_reason():
    table = scores(FOUR)
    pairs, rejected = choose(table, dict.fromkeys(table.video_id, WIDE) | {"p0-1": TALL})
    assert ids(pairs) == [("p0-3", "p0-0")]
    assert rejected.reason.tolist() == ["too few scored videos of 5 x 64 x 32 (1) for policy best_worst"]


# --- ties and order


def test_of_equal_best_videos_the_lower_sample_wins():
    pairs, _ = choose(scores([0.1, 0.9, 0.9, 0.3]))
    assert samples(pairs) == [(1, 0)]


def test_of_equal_worst_videos_the_higher_sample_loses():
    pairs, _ = choose(scores([0.1, 0.9, 0.1, 0.3]))
    assert samples(pairs) == [(1, 2)]


def test_equal_scores_are_no_preference():
    pairs, rejected = choose(scores([0.5, 0.5], [0.1, 0.2]))
    assert list(pairs.prompt_id) == ["p1"]
    assert list(rejected.reason) == ["equal scores: no preference"]


def test_rows_follow_the_prompts_of_the_omniscore_table():
    table = scores([0.1, 0.2], [0.5, 0.5], [0.1], [0.3, 0.2], [0.4, 0.4])
    pairs, rejected = choose(table)
    assert list(pairs.prompt_id) == ["p0", "p3"]
    assert list(pairs.pair_id) == [0, 1]
    assert list(rejected.prompt_id) == ["p1", "p2", "p4"]


def test_gap_and_scores_belong_to_the_videos():
    pairs, _ = choose(scores(FOUR))
    row = pairs.iloc[0]
    assert (row.score_winner, row.score_loser, row.gap) == (0.9, 0.2, 0.9 - 0.2)


def test_the_histogram_counts_every_video_not_only_the_paired():
    table = scores([0.105, 0.505, 0.105, 0.105, 0.905], [0.105, 0.505])
    pairs, _ = choose(table, reweight={"bin_width": 0.1})
    # shares: 0.1 bin 4/7, 0.5 bin 2/7, 0.9 bin 1/7
    assert pairs.probability.tolist() == pytest.approx([2 / 7, 8**0.5 / 7])


def test_normalize_divides_by_the_mean():
    table = scores([0.11, 0.91], [0.12, 0.52], [0.13, 0.53])
    plain, _ = choose(table, reweight={"bin_width": 0.1})
    normalized, _ = choose(table, reweight={"bin_width": 0.1, "normalize": True})
    assert normalized.weight.mean() == pytest.approx(1.0)
    assert (normalized.weight * plain.weight.mean()).tolist() == pytest.approx(plain.weight.tolist())


# --- filters


def test_min_gap_rejects_smaller_gaps_only():
    pairs, rejected = choose(scores([0.25, 0.75], [0.25, 0.5], [0.25, 0.375]), filters={"min_gap": 0.25})
    assert list(pairs.prompt_id) == ["p0", "p1"]
    assert list(rejected.reason) == ["min_gap: below 0.25"]


def test_drop_percentile_rejects_the_smallest_gaps():
    table = scores(*[[0.1, 0.1 + gap] for gap in (0.3, 0.1, 0.4, 0.2)])
    pairs, rejected = choose(table, filters={"drop_percentile": 50.0})
    assert list(pairs.prompt_id) == ["p0", "p2"]
    assert set(rejected.reason) == {"drop_percentile: gap among the lowest 50 %"}


def test_drop_percentile_applies_after_the_other_filters():
    table = scores(*[[0.1, 0.1 + gap] for gap in (0.01, 0.02, 0.3, 0.4)])
    pairs, rejected = choose(table, filters={"min_gap": 0.1, "drop_percentile": 50.0})
    assert list(pairs.prompt_id) == ["p3"]
    assert [reason.split(":")[0] for reason in rejected.reason] == ["min_gap", "min_gap", "drop_percentile"]


def test_no_regression_rejects_a_winner_that_is_worse_in_the_dimension():
    table = scores([0.2, 0.9], [0.2, 0.9], motion=[0.8, 0.3, 0.8, 0.75])
    pairs, rejected = choose(table, filters={"no_regression": {"motion": 0.25}})
    assert list(pairs.prompt_id) == ["p1"]
    assert list(rejected.reason) == ["no_regression: winner is lower in motion by more than 0.25"]


def test_motion_floor_rejects_still_winners():
    table = scores([0.2, 0.9], [0.2, 0.9], motion=[0.5, 0.01, 0.0, 0.5])
    pairs, rejected = choose(table, filters={"min_motion": 0.1, "motion_dimension": "motion"})
    assert list(pairs.prompt_id) == ["p1"]
    assert list(rejected.reason) == ["min_motion: winner's motion is below 0.1"]


def test_a_rejected_pair_names_both_videos():
    _, rejected = choose(scores([0.1, 0.2], [0.1, 0.9]), filters={"min_gap": 0.5})
    assert rejected.loc[0, ["winner_id", "loser_id"]].tolist() == ["p0-1", "p0-0"]


def test_every_candidate_is_either_a_pair_or_rejected():
    rng = np.random.default_rng(0)
    table = scores(*rng.random((30, 4)).round(1).tolist())
    pairs, rejected = choose(table, policy="all", filters={"min_gap": 0.2, "drop_percentile": 10.0})
    assert len(pairs) + len(rejected) == 30 * 6
    assert not set(ids(pairs)) & set(ids(rejected))


def test_no_pair_left_is_refused_with_the_reasons_counted():
    with pytest.raises(ValueError, match=r"none left of 2 candidates \(2 x min_gap: below 0.5\); loosen pairs.filters"):
        choose(scores([0.1, 0.2], [0.1, 0.2]), filters={"min_gap": 0.5})


def test_no_prompt_with_two_videos_is_refused():
    with pytest.raises(ValueError, match=r"none left of 0 candidates \(2 x too few scored videos"):
        choose(scores([0.1], [0.2]))


# --- the stage


def _round(folder: Path, table: pd.DataFrame, sizes=None, *, shuffled: bool = False) -> Path:
    """Videos of the table in two shards; if `shuffled`, the first one has every other row."""
    full = table.assign(quality=table.omniscore, semantic=table.omniscore)
    full["sample"] = full["sample"].astype("int32")
    dimensions = [name.removeprefix("raw_") for name in table.columns if name.startswith("raw_")]
    schema = omniscore_schema(dimensions)
    write_table(folder / "omniscore.parquet", full, schema, stage="omniscore", digest="d", seed=0)
    _prompts(folder, list(dict.fromkeys(table.prompt_id)))
    rows = full[["video_id", "prompt_id", "sample"]].assign(seed=0, status="ok", model="m")
    rows[list(CLIP_SIZE)] = [(sizes or {}).get(video_id, WIDE) for video_id in rows.video_id]
    half = len(rows) // 2
    for shard, part in enumerate([rows[::2], rows[1::2]] if shuffled else [rows[:half], rows[half:]]):
        path, extra = shard_path(folder / "videos", shard), {"num_shards": "2"}
        write_table(path, part.to_dict("records"), VIDEOS, stage="generate", digest="d", seed=0, extra=extra)
    return folder


def _prompts(folder: Path, prompt_ids: list[str]) -> None:
    rows = [
        {"prompt_id": name, "prompt": name, "source": "t", "split": "train", "position": k}
        for k, name in enumerate(prompt_ids)
    ]
    write_table(folder / "prompts.parquet", rows, PROMPTS, stage="prompts", digest="d", seed=0)


def _snapshot(folder: Path, **settings) -> Snapshot[PairsSettings]:
    wanted = PairsSettings(pairs=validate(Pairs, settings, "pairs"))
    return Snapshot("pairs", "run", folder, 5, wanted, digest="0" * 64, weights={})


def test_table_has_the_policy_and_the_seed(tmp_path):
    select_pairs(_snapshot(tmp_path, policy="random"), _round(tmp_path, scores(FOUR)))
    assert set(read_table(tmp_path / "pairs.parquet").policy) == {"random"}
    assert read_metadata(tmp_path / "pairs.parquet")["seed"] == "5"


def test_the_same_settings_give_the_same_bytes(tmp_path):
    table = scores(*np.random.default_rng(1).random((20, 4)).tolist())
    written = []
    for name in ("first", "second"):
        select_pairs(
            _snapshot(tmp_path / name, policy="random", filters={"min_gap": 0.1}), _round(tmp_path / name, table)
        )
        written.append([(tmp_path / name / f"{file}.parquet").read_bytes() for file in ("pairs", "pairs_rejected")])
    assert written[0] == written[1]


def test_a_training_prompt_without_a_scored_video_is_a_rejected_row(tmp_path):
    folder = _round(tmp_path, scores(FOUR))
    known = read_table(folder / "omniscore.parquet").prompt_id[0]
    _prompts(folder, [known, "f" * 16])
    select_pairs(_snapshot(tmp_path), folder)
    rejected = read_table(folder / "pairs_rejected.parquet")
    assert rejected[["prompt_id", "reason"]].values.tolist() == [["f" * 16, "no video of it has an OmniScore"]]


@pytest.mark.parametrize("shuffled", [False, True])
def test_sizes_are_found_for_any_order_of_the_shards_rows(tmp_path, shuffled):
    rng = np.random.default_rng(0)
    table = scores(*rng.random((30, 4)).tolist())
    sizes = {video_id: TALL if rng.random() < 0.4 else WIDE for video_id in table.video_id}
    folder = _round(tmp_path, table, sizes, shuffled=shuffled)
    select_pairs(_snapshot(tmp_path), folder)
    for name, frame in zip(("pairs", "pairs_rejected"), choose(table, sizes, seed=5), strict=True):
        pd.testing.assert_frame_equal(read_table(folder / f"{name}.parquet"), frame)


def test_an_omniscore_table_in_another_order_than_the_prompts_is_refused(tmp_path):
    folder = _round(tmp_path, scores(FOUR, FOUR))
    _prompts(folder, ["p1", "p0"])
    with pytest.raises(RuntimeError, match=r"omniscore\.parquet: prompt p1"):
        select_pairs(_snapshot(tmp_path), folder)
