"""Malformed files for every reader: a value of the right type, or one error that names the file.

VIDEODPO_FUZZ_TRIES sets how many files a reader is given.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.full.hostile.readers import READERS
from videodpo.storage.manifests import manifest_path

TRIES = int(os.environ.get("VIDEODPO_FUZZ_TRIES", "40"))
MEGABYTES = 512  # of memory that one small file may take


@st.composite
def malformed(draw: st.DrawFn, valid: bytes) -> bytes:
    """Arbitrary bytes, or the valid file with bytes changed, cut out, put in or copied to another place."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=2048))
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["change", "cut", "end", "insert", "copy"]))
        if kind == "change":
            content[start : start + 1] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut":
            del content[start : start + length]
        elif kind == "end":
            del content[start:]
        elif kind == "insert":
            content[start:start] = draw(st.binary(min_size=1, max_size=length))
        else:
            other = draw(st.integers(0, max(0, len(content) - 1)))
            content[start : start + length] = content[other : other + length]
    return bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_a_malformed_file_is_read_or_refused(name, tmp_path, worker, tally):
    reader = READERS[name]
    path = tmp_path / reader.file
    reader.make(path)
    valid = path.read_bytes()
    manifest_path(path).unlink(
        missing_ok=True
    )  # else it is refused before it is parsed, as tests/test_verify.py has it
    whole = worker.ask(name, path, seconds=120)
    assert whole["outcome"] == "read", whole
    tried: set[bytes] = set()
    outcomes: Counter[str] = Counter()
    most = {"seconds": 0.0, "megabytes": 0.0}

    @settings(
        max_examples=TRIES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(malformed(valid))
    def attempt(content: bytes) -> None:
        assume(content != valid and content not in tried)
        tried.add(content)
        answer = ask(content)
        outcomes[answer["outcome"]] += 1
        assert answer["outcome"] in ("read", "refused"), answer["message"]
        for key in most:
            most[key] = max(most[key], answer[key])
        assert answer["megabytes"] < MEGABYTES

    def ask(content: bytes) -> dict[str, object]:
        Path(path).write_bytes(content)
        return worker.ask(name, path)

    attempt()
    assert len(tried) >= TRIES
    tally[name] = {"tries": len(tried), **outcomes} | {key: round(value, 3) for key, value in most.items()}
