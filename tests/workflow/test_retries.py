"""A job that gave up is not retried; any other failed job is retried as often as the profile says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workspace import snakemake
from videodpo.runtime.giving_up import clear_marks, has_given_up, mark

SNAKEFILE = """
from pathlib import Path
from videodpo.runtime.compat.snakemake import retry_unless
from videodpo.runtime.giving_up import has_given_up

FOLDER = "run"
retry_unless(lambda rule, wildcards: has_given_up(Path(f"round{wildcards['round']}"), rule), FOLDER)

rule train:
    output: "round{round}/adapter"
    shell: "echo >> tries; [ $(wc -l < tries) -lt 2 ] || install -D /dev/null round1/gave_up/MARK; false"
"""


@pytest.mark.parametrize(("mark", "tries"), [("train", 2), ("other", 4)])
def test_a_job_that_gave_up_is_not_retried(mark: str, tries: int, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("MARK", mark))
    answer = snakemake(tmp_path, "--cores", "1", "--retries", "3", "--", "round1/adapter")
    assert answer.returncode != 0
    assert len((tmp_path / "tries").read_text().splitlines()) == tries


def test_a_new_start_retries_the_job(tmp_path: Path) -> None:
    mark(tmp_path / "round2", "doctor")
    assert has_given_up(tmp_path / "round2", "doctor")
    clear_marks(tmp_path)
    assert not has_given_up(tmp_path / "round2", "doctor")
