"""Draws depend only on the run's seed and the draw's name."""

import pytest

from videodpo.runtime.seeds import derive_seed


def test_a_known_seed_has_its_recorded_value():
    """A changed derivation would change every run, so this number must never change."""
    assert derive_seed(0, "video", "0123456789abcdef", 3) == 664019095566816461


def test_every_part_of_the_name_counts():
    names = [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a", "1"), (0, "a"), (0, "a", 1, 0), (0, "a1")]
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_seeds_fit_a_signed_64_bit_column():
    seeds = [derive_seed(0, "x", number) for number in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    assert len(set(seeds)) == len(seeds)


def test_a_negative_root_is_refused():
    with pytest.raises(ValueError, match="seed: -1 is negative"):
        derive_seed(-1, "x")
