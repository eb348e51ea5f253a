"""Derive the id of each prompt, and the seed of each random draw from its name, independent of the order of work."""

from __future__ import annotations

import hashlib
import json

from videodpo.config.errors import InputError


def prompt_id(text: str) -> str:
    """16 hex digits that identify a prompt everywhere."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def derive_seed(root: int, *name: str | int) -> int:
    """Seed of one random draw, from the run's seed and the draw's name and counters.

    The same name gives the same seed on every machine, in every process and in every order. Therefore a resumed or
    re-sharded run draws the same values.

    Args:
        root: the run's seed, at least 0.
        name: what is drawn, then its counters, for example `"video", prompt_id, sample`.

    Returns:
        An integer in [0, 2**63), which fits a torch.Generator and a signed 64-bit column.

    Raises:
        InputError: `root` is negative.
    """
    if root < 0:
        raise InputError(f"seed: {root} is negative; use 0 or more")
    text = json.dumps([root, *name], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
