"""When failures stop a stage, and what its message says."""

import pytest

from videodpo.failures import refuse_too_many


def failed(count):
    return {f"v{number}": "gone" for number in range(count)}


def test_a_tolerable_share_passes():
    refuse_too_many("generate", failed(2), 100, 0.02)
    refuse_too_many("generate", {}, 0, 0.0)


def test_more_than_allowed_stops_with_clip_and_reason():
    with pytest.raises(
        RuntimeError, match=r"generate: 3 of 100 clips failed, max_failed_fraction is 0\.02 .*\n  v0: g"
    ):
        refuse_too_many("generate", failed(3), 100, 0.02)


def test_nothing_left_stops_whatever_is_allowed():
    with pytest.raises(RuntimeError, match="5 of 5"):
        refuse_too_many("generate", failed(5), 5, 1.0)


def test_at_most_ten_are_listed():
    with pytest.raises(RuntimeError) as caught:
        refuse_too_many("generate", failed(25), 30, 0.5)
    assert str(caught.value).count("gone") == 10
    assert "and 15 more" in str(caught.value)
