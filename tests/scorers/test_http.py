"""The scorer http against a real service on the loopback address: good, slow, failing, wrong and half answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.reward_server import POISON, VERSION, requests_to, running
from videodpo.config import ConfigError, validate
from videodpo.config.errors import RunError
from videodpo.scorers.base import Clip
from videodpo.scorers.http import HttpScorer
from videodpo.scorers.shared.backbone import Unavailable, score_clips
from videodpo.storage.clips import write_tar
from videodpo.storage.video import write_mp4

QUICK = {"retries": 2, "retry_delay": 0.01}


@pytest.fixture(scope="module")
def address():
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "a b.mp4"
    write_mp4(path, np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), 8.0)
    return path


def scorer(address: str, path: str = "good", **options: Any) -> HttpScorer:
    raw = {"url": f"{address}/{path}", "version": VERSION, **QUICK, **options}
    return HttpScorer(validate(HttpScorer.Options, raw), "cpu")


def clips_of(file: Path, *prompts: str) -> list[Clip]:
    return [Clip(np.zeros((3, 32, 32, 3), np.uint8), 8.0, prompt, file) for prompt in prompts]


def score(address: str, file: Path, path: str = "good", *prompts: str, **options: Any) -> list[Any]:
    return score_clips([scorer(address, path, **options)], clips_of(file, *(prompts or ("a", "é\n{}"))))[0]


@pytest.mark.parametrize("send", ["bytes", "path"])
def test_the_service_gets_prompt_file_and_frame_rate(address, file, send):
    expected = {"score": [1.0, 4.0], "size": [file.stat().st_size] * 2, "fps": [8.0] * 2}
    for value, numbers in expected.items():
        assert score(address, file, send=send, value=value) == numbers
    assert "fps, score, size" in str(score(address, file, send=send, value="by_path")[0])  # true is not a number


def test_clips_are_sent_in_batches(address, file):
    assert len(score(address, file, "batches", *"abcde", batch_size=2)) == 5
    assert requests_to(address)["/batches"] == [2, 2, 1]


def test_dimensions_of_one_service_share_their_requests(address, file):
    scorers = [scorer(address, "shared", value=value) for value in ("score", "size")]
    found = score_clips(scorers, clips_of(file, "a", "bc"))
    assert found == [[1.0, 2.0], [file.stat().st_size] * 2]
    assert requests_to(address)["/shared"] == [2]


def test_a_clip_without_a_file_is_refused(address):
    (found,) = score_clips([scorer(address)], [Clip(np.zeros((3, 32, 32, 3), np.uint8), 8.0, "a")])[0]
    assert str(found) == "the clip has no file to send to the service"


def test_a_clip_in_a_tar_file_is_sent_as_bytes(address, file, tmp_path):
    content = file.read_bytes()
    index = write_tar(tmp_path / "clips.tar", [("x.mp4", b"other"), ("y.mp4", content)])[1]
    clips = clips_of(Path(f"{tmp_path / 'clips.tar'}{index}"), "a")
    assert score_clips([scorer(address, value="size")], clips) == [[len(content)]]
    with pytest.raises(RunError, match="is in a tar file; use `send: bytes` or `clip_storage: files`"):
        score_clips([scorer(address, send="path")], clips)


def test_a_clip_that_the_service_cannot_score_is_an_error_of_this_clip(address, file):
    good, bad, other = score(address, file, "good", "a", POISON, "bc")
    assert (good, other) == (1.0, 2.0)
    assert str(bad) == "the service could not score the clip: too dark [31mto see"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("refuses", 'the service answered 422 Unprocessable .*: {"detail": "cannot decode"}'),
        ("crashes", r"the service answered 500 Internal Server Error: .*index out of"),
    ],
)
def test_a_clip_that_fails_its_batch_does_not_cost_the_others(address, file, path, message):
    *good, bad = score(address, file, path, "a", "bc", "def", POISON)
    assert good == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=message):
        raise bad
    assert isinstance(bad, Unavailable) == (path == "crashes")  # only an internal error may pass
    # Wrong input is sent once more alone; an internal error in halves, and repeated for a single clip only.
    sizes = {"refuses": [4, 1, 1, 1, 1], "crashes": [4, 2, 2, 1, 1, 1, 1]}
    assert requests_to(address)[f"/{path}"] == sizes[path]


def test_an_internal_error_does_not_reduce_the_batches_of_later_clips(address, file):
    service = scorer(address, "crashes")
    score_clips([service], clips_of(file, "a", "bc", "def", POISON))
    before = len(requests_to(address)["/crashes"])
    assert score_clips([service], clips_of(file, "a", "bc", "def", "ghij")) == [[1.0, 2.0, 3.0, 4.0]]
    assert requests_to(address)["/crashes"][before:] == [4]


def test_a_missing_file_fails_its_own_clip_only(address, file, tmp_path):
    clips = [*clips_of(file, "a", "bc", "def"), *clips_of(tmp_path / "none.mp4", "ghij")]
    *good, lost = score_clips([scorer(address, "missing")], clips)[0]
    assert good == [1.0, 2.0, 3.0]
    assert isinstance(lost, Unavailable)
    assert requests_to(address)["/missing"] == [1, 1, 1]  # not in halves, as for an internal error


def test_a_busy_service_is_asked_again(address, file):
    assert score(address, file, "busy") == [1.0, 4.0]
    assert requests_to(address)["/busy"] == [2, 2, 2]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("overloaded", "the service answered 503 Service Unavailable, 3 times; check the service"),
        ("half", "the connection ended within the answer, 3 times"),
        ("absent", "404 Not Found.*check the option `url`"),
        ("moved", "302 Found.*check the option `url`"),
        ("old", "the service has version '2.0', the option `version` is '2.1'"),
    ],
)
def test_a_service_that_is_gone_or_another_one_stops_the_work(address, file, path, message):
    with pytest.raises(RunError, match=message):
        score(address, file, path)


@pytest.mark.parametrize("path", ["slow", "drips"])
def test_a_request_ends_at_the_time_limit(address, file, path):
    with pytest.raises(RunError, match=r"no complete answer in 0\.4 s \(time_limit\), 2 times"):
        score(address, file, path, time_limit=0.4, retries=1)


def test_a_service_that_does_not_run_is_named(file):
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9/good: no connection, 3 times; check the service"):
        score("http://127.0.0.1:9", file)


def test_a_service_with_internal_errors_only_stops_the_work(address, file):
    with pytest.raises(RunError, match=r"500 Internal Server Error: .*, 2 times each for 3 clips in a row"):
        score(address, file, "broken", *"abcd", retries=1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("unversioned", "has no version"),
        ("text", "is not JSON: '<html>hello'"),
        ("list", "scores are no objects"),
        ("words", "gave no finite number 'score' for the clip; its entry has score"),
        ("nan", "gave no finite number"),
        ("huge", "gave no finite number"),
    ],
)
def test_a_wrong_answer_is_an_error_of_each_clip(address, file, path, message):
    results = score(address, file, path)
    assert len(results) == 2
    assert all(message in str(result) for result in results)


def test_too_few_scores_are_never_matched_to_clips(address, file):
    assert all("gave 0 scores for 1 clips" in str(result) for result in score(address, file, "fewer"))


def test_the_address_may_be_in_the_environment(address, file, monkeypatch):
    monkeypatch.setenv("REWARDS_URL", f"{address}/good")
    assert score_clips([scorer("", url="env:REWARDS_URL")], clips_of(file, "abc"))[0] == [3.0]
    with pytest.raises(ValueError, match="environment variable NO_SUCH_URL is not set"):
        scorer("", url="env:NO_SUCH_URL")


@pytest.mark.parametrize(
    "options", [{"url": "ftp://x"}, {"version": "2 1"}, {"batch_size": 0}, {"time_limit": math.inf}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        scorer("http://x", **options)
