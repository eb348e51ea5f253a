"""`videodpo status`: what plan, products, logs, locks and benchmarks on the disk say about each job."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from videodpo.cli import main
from videodpo.runtime.giving_up import mark
from videodpo.runtime.locks import take_run
from videodpo.workflow.plan import NAME, read_plan, write_plan

START = "2026-01-01 00:00:00,000 INFO videodpo.runtime.logs: started on node7, process 12, SLURM job 5: videodpo {}\n"


def job(run: Path, rule: str, output: str, log: str, *, will_run: bool = True) -> SimpleNamespace:
    above = run if output.startswith("prompts") else run / "round1"
    return SimpleNamespace(
        rule=rule,
        run="",
        outputs=[str(above / output)],
        log=str(above / f"logs/{log}.log"),
        benchmark=str(above / f"benchmarks/{log}.tsv"),
        will_run=will_run,
    )


class Run:
    """A run of four shards and a training, as a start of Snakemake leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config").mkdir(parents=True)
        self.write("prompts.parquet")
        self.write("round1/videos/shard-00003.parquet")  # of earlier settings
        self.write("round1/logs/train.log", START.format("train") + "videodpo train: an error of an earlier start\n")
        self.age(folder / "round1/logs/train.log")
        jobs = [job(folder, "prompts", "prompts.parquet", "prompts", will_run=False)]
        jobs += [
            job(folder, "generate", f"videos/shard-{shard:05d}.parquet", f"generate/shard-{shard:05d}")
            for shard in range(4)
        ]
        write_plan(folder, [*jobs, job(folder, "train", "adapter", "train"), self.target()])
        self.age(folder / NAME)

    def target(self) -> SimpleNamespace:
        return SimpleNamespace(rule="all", run="", outputs=[], log=None, benchmark=None, will_run=True)

    def age(self, path: Path) -> None:
        """Make a file a minute older."""
        seconds = path.stat().st_mtime - 60
        os.utime(path, (seconds, seconds))

    def write(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def finish(self, shard: int, seconds: float) -> None:
        self.write(f"round1/videos/shard-{shard:05d}.parquet", "new")
        self.write(f"round1/benchmarks/generate/shard-{shard:05d}.tsv", f"s\th:m:s\n{seconds}\t0:00:00\n")

    def log(self, shard: int, *lines: str) -> Path:
        text = START.format("generate --shard 1") + "".join(f"{line}\n" for line in lines)
        return self.write(f"round1/logs/generate/shard-{shard:05d}.log", text)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "results" / "demo")


@pytest.fixture
def look(run, capsys):
    """Function that returns what status prints."""

    def said(*arguments: str) -> str:
        assert main(["status", str(run.folder), *arguments]) == 0
        return capsys.readouterr().out

    return said


def counts(said: str, stage: str) -> list[int]:
    """Numbers of done, all, running, failed and remaining jobs."""
    words = next(line for line in said.splitlines() if line.startswith(stage)).removeprefix(stage).split()
    return [int(word) for word in (words[0], *words[2:6])]


def test_a_product_that_the_start_replaces_is_not_done_until_it_is_replaced(run, look):
    assert counts(look(), "prompts") == [1, 1, 0, 0, 0]
    assert counts(look(), "round1 generate") == [0, 4, 0, 0, 4]
    run.finish(3, 10.0)
    assert counts(look(), "round1 generate") == [1, 4, 0, 0, 3]


def test_a_failed_job_is_named_with_its_reason_and_its_log(run, look):
    log = run.log(1, "a line", "videodpo generate: first\x1b[31m line", "  second line")
    run.log(0, "videodpo generate: the cause", "Traceback (most recent call last):", "LauncherError: rank 1 failed")
    run.log(2, "Traceback (most recent call last):", '  File "x.py", line 1', "ZeroDivisionError: division by zero")
    said = look()
    assert counts(said, "round1 generate") == [0, 4, 0, 3, 1]
    assert "failed: round1 generate shard-00000: the cause " in said
    assert f"failed: round1 generate shard-00001: first?[31m line second line\n  log: {log}\n" in said
    assert "failed: round1 generate shard-00002: ZeroDivisionError: division by zero\n" in said


def test_an_error_of_an_earlier_start_does_not_count(look):
    said = look()
    assert counts(said, "round1 train") == [0, 1, 0, 0, 1]
    assert "an error of an earlier start" not in said


def test_an_alarm_of_a_stage_that_gave_up_is_a_failure(run, look):
    run.write("round1/logs/train.log", START.format("train") + "alarm: the loss is not ln 2\n")
    mark(run.folder / "round1", "train")
    assert "failed: round1 train: alarm: the loss is not ln 2\n" in look()


def test_a_job_that_was_killed_or_stopped_remains(run, look):
    run.log(0, "shard-00000: batch 1 done, 2 of 9 batches; 1.00 s each, 0:00:07 to go, ends 2026-01-01 00:00")
    run.log(1, "videodpo generate: SIGTERM after batch 3 of 9: the state is saved; start again to resume")
    said = look()
    assert counts(said, "round1 generate") == [0, 4, 0, 0, 4]
    assert "stopped: round1 generate shard-00000: its log ends without an error: it was killed" in said
    assert "stopped: round1 generate shard-00001: SIGTERM after batch 3 of 9" in said


def test_running_jobs_show_their_progress_and_the_end_is_estimated(run, look):
    run.finish(0, 100.0)
    run.finish(1, 300.0)
    log = run.log(2, "x: shard-00002: batch 1 done, 2 of 9 batches; 10.00 s each, 0:01:10 to go, ends 2026-01-01 00:00")
    seconds = time.time() - 20
    os.utime(log, (seconds, seconds))
    take_run(run.folder)
    with open(log) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = look("--shards")
    assert counts(said, "round1 generate") == [2, 4, 1, 0, 1]
    assert f"Snakemake runs (pid {os.getpid()} on " in said
    assert "round1 generate shard-00002  running  2 of 9 batches (node7, process 12, SLURM job 5)\n" in said
    assert "round1 generate shard-00003  waiting\n" in said
    # 7 batches of 10 s, 20 s ago; and a shard of 200 s, the mean of two, after it.
    assert "about 0:04:10 to go with 1 job at a time, ends 20" in said
    assert said.endswith("not counted, as none of their jobs has finished yet: round1 train\n")


def test_a_finished_run_says_so(run, look):
    for shard in range(4):
        run.finish(shard, 1.0)
    (run.folder / "round1/adapter").mkdir()
    assert look().endswith("\nnothing is left to do\n")


def test_jobs_are_listed_by_round_with_names_that_tell_them_apart(tmp_path):
    (tmp_path / "config").mkdir()
    both = [f"round{number}/evaluation/videos/{arm}" for number in (1, 2) for arm in ("base", "aligned")]
    jobs = [
        SimpleNamespace(
            rule="evaluate_generate",
            outputs=[str(tmp_path / path / "shard-00000.parquet")],
            log=str(tmp_path / path[:6] / f"logs/evaluate_generate/{Path(path).name}/shard-00000.log"),
            benchmark=None,
            will_run=True,
        )
        for path in both
    ]
    report = job(tmp_path, "report", "report", "report")
    write_plan(tmp_path, [*jobs, report, job(tmp_path, "prompts", "prompts.parquet", "prompts")])
    assert [one.name for one in read_plan(tmp_path)] == [
        "prompts",
        "round1 evaluate_generate base shard-00000",
        "round1 evaluate_generate aligned shard-00000",
        "round1 report",
        "round2 evaluate_generate base shard-00000",
        "round2 evaluate_generate aligned shard-00000",
    ]


def test_many_failures_are_cut_and_listed_with_shards(tmp_path, capsys):
    (tmp_path / "config").mkdir()
    names = [f"shard-{number:05d}" for number in range(12)]
    write_plan(tmp_path, [job(tmp_path, "score", f"scores/{name}.json", f"score/{name}") for name in names])
    for name in names:
        log = tmp_path / f"round1/logs/score/{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(START.format("score") + "videodpo score: no memory\n")
    assert main(["status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("failed: ") == 10
    assert "and 2 other failed or stopped jobs; --shards lists all" in said
    assert main(["status", str(tmp_path), "--shards"]) == 0
    assert capsys.readouterr().out.count("  failed   no memory\n") == 12


@pytest.mark.parametrize(("made", "said"), [((), "not a run's folder"), (("config",), "no plan.json")])
def test_other_folders_are_refused_in_one_line(tmp_path, capsys, made, said):
    for name in made:
        (tmp_path / name).mkdir()
    assert main(["status", str(tmp_path)]) == 1
    answer = capsys.readouterr().err
    assert said in answer
    assert answer.count("\n") == 1
