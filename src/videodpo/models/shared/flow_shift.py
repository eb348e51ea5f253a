"""A flow-matching scheduler with another flow shift: s q / (1 + (s - 1) q) of every noise level q."""

from __future__ import annotations

from typing import Any

from videodpo.config.errors import InputError


def with_flow_shift(scheduler: Any, flow_shift: float | None) -> Any:
    """The scheduler with this shift at every size of the clips; None: as it is.

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
    if scheduler.config.get("use_dynamic_shifting"):  # LTX-Video's, which grows with the number of tokens
        changes["use_dynamic_shifting"] = False
    return type(scheduler).from_config(scheduler.config, **changes)
