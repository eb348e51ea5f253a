"""Networks shared by scorers: their calls, batches and failures."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Backbone, NetworkScorer, Unavailable, arithmetic, score_clips
from videodpo.scorers.temporal_flickering import TemporalFlickering


class Means(Backbone):
    """Mean of every frame; records its batches as (number of the clip, frame)."""

    def __init__(self, batch_size: int, memory: int | None = None) -> None:
        self.batches: list[list[tuple[str, int]]] = []
        self._batch_size, self._memory = batch_size, memory

    def batch_size(self, height: int, width: int) -> int:
        return self._batch_size

    def num_parts(self, clip: Clip) -> int:
        return len(clip.frames_THWC)

    def outputs(self, parts):
        if self._memory is not None and len(parts) > self._memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.batches.append([(clip.prompt, number) for clip, number in parts])
        return [float(clip.frames_THWC[number].mean()) for clip, number in parts]


class First(NetworkScorer):
    """Scorer: mean of the first frame."""

    version = "1"

    def __init__(self, backbone: Means) -> None:
        self.backbone = backbone

    def wanted(self, clip, outputs):
        return [0]

    def value(self, clip, outputs):
        return outputs[0]


class All(First):
    """Scorer: mean of all frames; refuses clips of one frame."""

    def wanted(self, clip, outputs):
        return range(len(clip.frames_THWC))

    def refuse(self, clip):
        if len(clip.frames_THWC) < 2:
            raise ValueError("one frame")

    def value(self, clip, outputs):
        return float(np.mean([outputs[number] for number in range(len(clip.frames_THWC))]))


def clip(name: str, num_frames: int, side: int = 4) -> Clip:
    frames = np.full((num_frames, side, side, 3), 10 * int(name), np.uint8)
    return Clip(frames, 8.0, name)


def test_scorers_of_one_backbone_compute_each_part_once():
    means = Means(batch_size=100)
    first, all_frames = score_clips([First(means), All(means)], [clip("1", 3), clip("2", 2)])
    assert (first, all_frames) == ([10.0, 20.0], [10.0, 20.0])
    assert means.batches == [[("1", 0), ("1", 1), ("1", 2), ("2", 0), ("2", 1)]]


def test_only_requested_parts_are_computed():
    means = Means(batch_size=100)
    score_clips([First(means)], [clip("1", 3), clip("2", 2)])
    assert means.batches == [[("1", 0), ("2", 0)]]


def test_a_batch_may_mix_clips_but_not_sizes():
    means = Means(batch_size=4)
    score_clips([All(means)], [clip("1", 3), clip("2", 2, side=8), clip("3", 3)])
    assert means.batches == [[("1", 0), ("1", 1), ("1", 2), ("3", 0)], [("3", 1), ("3", 2)], [("2", 0), ("2", 1)]]


def test_a_clip_that_one_scorer_refuses_stays_in_the_batches():
    """Otherwise the last bits of other clips in its batch would depend on the requested scorers."""
    means = Means(batch_size=100)
    ((refused, score),) = score_clips([All(means)], [clip("1", 1), clip("2", 2)])
    assert str(refused) == "one frame"
    assert score == 20.0
    assert means.batches == [[("1", 0), ("2", 0), ("2", 1)]]


def test_a_clip_that_the_network_refuses_is_not_computed(monkeypatch):
    def refuse(clip):
        if len(clip.frames_THWC) < 2:
            raise ValueError("too short")

    means = Means(batch_size=100)
    monkeypatch.setattr(means, "refuse", refuse)
    ((refused, score),) = score_clips([First(means)], [clip("1", 1), clip("2", 2)])
    assert (str(refused), score) == ("too short", 20.0)
    assert means.batches == [[("2", 0)]]


def fail_for(monkeypatch, means, prompt, error):
    """Let every batch with a clip of this prompt fail."""
    compute = means.outputs

    def outputs(parts):
        if any(clip.prompt == prompt for clip, _ in parts):
            raise error
        return compute(parts)

    monkeypatch.setattr(means, "outputs", outputs)


def test_a_failed_part_does_not_affect_the_others_of_its_batch(monkeypatch):
    means = Means(batch_size=100)
    fail_for(monkeypatch, means, "2", ValueError("cannot say"))
    ((one, two, three),) = score_clips([All(means)], [clip("1", 2), clip("2", 2), clip("3", 2)])
    assert (one, str(two), three) == (10.0, "cannot say", 30.0)


def test_out_of_memory_halves_the_batch_with_a_warning(caplog):
    means = Means(batch_size=8, memory=3)
    with caplog.at_level(logging.WARNING):
        assert score_clips([All(means)], [clip("1", 5), clip("2", 4)]) == [[10.0, 20.0]]
    assert [len(batch) for batch in means.batches] == [2, 2, 2, 2, 1]
    assert [record.message for record in caplog.records] == [
        "Means: out of memory at 4 x 4; batch size 4 from now on",
        "Means: out of memory at 4 x 4; batch size 2 from now on",
    ]


def test_a_reduced_batch_size_stays_for_the_next_clips_of_this_size():
    means = Means(batch_size=8, memory=3)
    score_clips([All(means)], [clip("1", 5)])
    means.batches.clear()
    means._memory = None
    score_clips([All(means)], [clip("1", 5), clip("2", 5, side=8)])
    assert [len(batch) for batch in means.batches] == [2, 2, 1, 5]


def test_an_unavailable_clip_does_not_reduce_the_batch_size(monkeypatch, caplog):
    means = Means(batch_size=8)
    fail_for(monkeypatch, means, "2", Unavailable("2.mp4: no such file"))
    ((one, two),) = score_clips([First(means)], [clip("1", 1), clip("2", 1)])
    assert (one, str(two)) == (10.0, "2.mp4: no such file")
    means.batches.clear()
    score_clips([First(means)], [clip("1", 1)] * 8)
    assert [len(batch) for batch in means.batches] == [8]
    assert not caplog.records


def test_a_part_that_does_not_fit_alone_fails_with_a_reason():
    means = Means(batch_size=8, memory=0)
    ((result,),) = score_clips([All(means)], [clip("1", 2)])
    assert isinstance(result, Unavailable)
    assert str(result) == "out of memory at 4 x 4"


def test_other_errors_of_a_network_stop_the_stage(monkeypatch):
    means = Means(batch_size=8)
    monkeypatch.setattr(means, "outputs", lambda parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_clips([All(means)], [clip("1", 2)])


def test_nan_from_a_network_is_a_failure_with_a_reason(monkeypatch):
    means = Means(batch_size=8)
    monkeypatch.setattr(means, "outputs", lambda parts: [float("nan")] * len(parts))
    ((result,),) = score_clips([First(means)], [clip("1", 2)])
    assert str(result) == "the scorer returned nan"


def test_scorers_without_a_network_work_next_to_the_others():
    means = Means(batch_size=8)
    plain, first = score_clips([TemporalFlickering(TemporalFlickering.Options(), "cpu"), First(means)], [clip("1", 2)])
    assert (plain, first) == ([1.0], [10.0])


def test_arithmetic_flags_are_restored_also_after_an_error():
    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    with pytest.raises(ZeroDivisionError), arithmetic(tf32=not before[0]):
        1 / 0  # noqa: B018
    assert flags() == before
    with arithmetic(tf32=True):
        assert flags() == (True, True)
        with arithmetic(tf32=False):
            assert flags() == (False, False)
        assert flags() == (True, True)
    assert flags() == before
