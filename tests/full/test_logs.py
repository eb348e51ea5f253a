"""Logs of a run contain every try of a job, and no noise of libraries."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import small_run
from tests.support.workspace import Finished, make_workspace, snakemake, without_default_scorers

NOISE = re.compile(r"FutureWarning|DeprecationWarning|torchao|_pytree|it/s\]|\d+%\||^\S+ \S+ root: ", re.MULTILINE)


def test_the_logs_of_a_run_contain_no_noise_of_libraries(session_run: Finished) -> None:
    logs = sorted(session_run.folder.glob("*/small/**/logs/**/*.log"))
    assert {"generate", "reference", "evaluate_generate"} <= {log.parent.name for log in logs} | {
        log.parent.parent.name for log in logs
    }
    assert {log.name: found for log in logs if (found := NOISE.findall(log.read_text(encoding="utf-8")))} == {}


def test_a_retry_keeps_the_log_of_the_earlier_try(random_model: Path, tmp_path: Path) -> None:
    """The stage prompts fails at each try. One log has all tries, each with a first line of time, host and process."""
    overlay = small_run(random_model, Path("results"), prompts={"min_chars": 900, "max_chars": 1000})
    folder = make_workspace(tmp_path, without_default_scorers(overlay))
    target = "results/small/prompts.parquet"
    answer = snakemake(folder, "--cores", "1", "--configfile", "overlay.yaml", "--retries", "1", "--", target)
    assert answer.returncode != 0, answer.stdout + answer.stderr
    lines = (folder / "results/small/logs/prompts.log").read_text().splitlines()
    started = [number for number, line in enumerate(lines) if "started on" in line]
    assert len(started) == 2
    assert re.match(r"\d{4}-\d\d-\d\d [\d:,]+ INFO videodpo.*: started on \S+, process \d+: videodpo prompts", lines[0])
    for last in (started[1] - 1, len(lines) - 1):
        assert lines[last].startswith("videodpo prompts: ")
