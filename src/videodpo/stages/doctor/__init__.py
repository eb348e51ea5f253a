"""Stage: checks of a round's pairs and model before a training, and of its log during or after it."""

from videodpo.stages.doctor.stage import diagnose, diagnose_log, report

__all__ = ["diagnose", "diagnose_log", "report"]
