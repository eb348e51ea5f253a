"""Flow shift s of a flow-matching scheduler: noise level q becomes s q / (1 + (s - 1) q)."""

from __future__ import annotations

from typing import Any

from videodpo.config.errors import InputError


def with_flow_shift(scheduler: Any, flow_shift: float | None) -> Any:
    """Return the scheduler with this shift for clips of every size; None returns it unchanged.

    Raises:
        InputError: the scheduler's class has no flow shift.
    """
    if flow_shift is None:
        return scheduler
    keys = [key for key in ("flow_shift", "shift") if key in scheduler.config]
    if not keys:
        raise InputError(
            f"generate.sampling.flow_shift: {flow_shift:g}; the model's {type(scheduler).__name__} has no flow shift "
            "and takes null only"
        )
    changes: dict[str, Any] = {keys[0]: flow_shift}
    if scheduler.config.get("use_dynamic_shifting"):  # LTX-Video's shift grows with the number of tokens
        changes["use_dynamic_shifting"] = False
    return type(scheduler).from_config(scheduler.config, **changes)
