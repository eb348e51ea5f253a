"""Run the checks in the order in which a fault would show, and report the findings."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from videodpo.config import ConfigError, Train
from videodpo.config.errors import InputError
from videodpo.dpo.findings import Finding, worst
from videodpo.dpo.log_checks import check_log, is_plain
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot
from videodpo.storage.manifests import record_text
from videodpo.storage.tables import read_metadata, read_shards, read_table

log = logging.getLogger(__name__)
# Exit code 1 is a user's error, 2 is wrong usage.
ALARM_EXIT_CODE = 3
NUM_PARTS = 5


def diagnose(snapshot: Snapshot[TrainSettings], round_folder: Path) -> list[Finding]:
    """Run all checks before a training, on the round's tables and on a few of its pairs with the real model.

    Args:
        snapshot: settings of the training.
        round_folder: has pairs, visits, videos and, for `reference: precomputed`, the errors.

    Raises:
        InputError: a table does not exist yet.
    """
    from videodpo.dpo.visits import read_visits
    from videodpo.stages.doctor.beta import check_beta, numeric_beta
    from videodpo.stages.doctor.pairs import check_epochs, check_policy, check_weights

    settings = snapshot.settings
    reference = read_shards(round_folder / "reference") if settings.train.reference == "precomputed" else None
    pairs = read_table(round_folder / "pairs.parquet")
    findings = check_weights(pairs)
    if worst(findings) == "alarm":  # with invalid weights, no other check means anything
        return findings
    plan = read_visits(round_folder)
    plan.require(settings.schedule)
    findings.append(check_epochs(plan.num_pairs, settings.schedule))
    from videodpo.stages.doctor.forward import check_forward
    from videodpo.stages.doctor.latents import check_latents
    from videodpo.stages.doctor.probe import check_movement
    from videodpo.stages.doctor.start import Start

    findings += [check_beta(settings.train, reference), check_policy(reference)]
    with Countdown(log, "doctor", NUM_PARTS, "parts") as countdown:
        start = Start(snapshot, round_folder, plan, reference, numeric_beta(settings.train, reference))
        countdown.add(item="loading the model")
        findings += start.check()
        countdown.add(item="the first losses")
        findings.append(check_forward(start.model, start.text, start.sampling))
        countdown.add(item="the pipeline's own calls")
        findings += check_latents(start.model, start.clips())
        countdown.add(item="latents and VAE")
        if worst(findings) != "alarm":  # the probe's steps on broken inputs mean nothing
            findings += check_movement(start.model, snapshot, round_folder, start.runs, countdown)
        countdown.add(item="the probe")
    return findings


def diagnose_log(path: Path) -> list[Finding]:
    """Run all checks on the `train_log.parquet` of a finished training or of its last checkpoint.

    Raises:
        InputError: not a readable table, or another stage's table.
    """
    log = read_table(path)
    stage = read_metadata(path).get("stage")
    if stage != "train":
        raise InputError(f"{path}: a table of the stage {stage!r}; a train_log.parquet is needed")
    round_folder = path.resolve().parent
    if round_folder.name == "state":  # of the last checkpoint
        round_folder = round_folder.parent
    number = re.fullmatch(r"round(\d+)", round_folder.name)
    is_first = not number or number[1] == "1"
    train = _settings(path, round_folder.parent / "config" / "train.json")
    if train is None:
        return check_log(log, starts_at_ln_2=is_first)
    return check_log(log, starts_at_ln_2=is_first and is_plain(train.objective), max_grad_norm=train.max_grad_norm)


def _settings(path: Path, snapshot: Path) -> Train | None:
    """Settings of the training that wrote the log; None if the run's snapshot is missing or has changed since."""
    try:
        known = load_snapshot(snapshot, "train")
    except ConfigError:
        return None
    return known.settings.train if known.digest == read_metadata(path)["config_digest"] else None


def report(findings: Sequence[Finding], *, as_json: bool, out: Path | None) -> int:
    """Print one line per finding, and return the exit code.

    Args:
        findings: results of the checks.
        as_json: print JSON objects instead of text.
        out: also write the findings to this file, one JSON object per line.

    Returns:
        3 if there is an alarm, otherwise 0.
    """
    lines = [finding.json for finding in findings]
    if out:
        record_text(out, "".join(f"{line}\n" for line in lines))
    print("\n".join(lines if as_json else [finding.line for finding in findings]))
    return ALARM_EXIT_CODE if worst(findings) == "alarm" else 0
