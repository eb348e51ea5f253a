"""The adapter that a round starts from."""

import pytest

from videodpo.runtime.rounds import adapter_after


def test_the_first_round_starts_from_the_base_model(tmp_path):
    assert adapter_after(tmp_path, 0) is None


def test_a_round_that_was_not_trained_has_no_adapter(tmp_path):
    with pytest.raises(ValueError, match="train round 2 first"):
        adapter_after(tmp_path, 2)
    (tmp_path / "round2" / "adapter").mkdir(parents=True)
    assert adapter_after(tmp_path, 2) == tmp_path / "round2" / "adapter"
