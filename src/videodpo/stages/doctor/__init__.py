"""Stage: a round's pairs and the model to findings before a training, and its log to findings during or after it."""

from videodpo.stages.doctor.stage import diagnose, diagnose_log, report

__all__ = ["diagnose", "diagnose_log", "report"]
