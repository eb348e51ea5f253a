"""Names of the actions that human_action knows, and the one that a prompt names."""

from __future__ import annotations

from pathlib import Path

from videodpo.config.errors import InputError


def named_action(prompt: str) -> str:
    """Return the action that a prompt names, as VBench reads it from the name of a clip's file."""
    return prompt.lower().partition("-")[0].split("person is ")[-1].partition("_")[0]


def read_actions(path: Path) -> tuple[str, ...]:
    """Read the names of the actions in lower case, by number, from lines of name, tab, and number.

    Raises:
        InputError: the file is not such a list, or its numbers are not 0, 1, 2 and so on.
    """
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        actions = {int(number): name.lower() for name, number in rows}
    except (OSError, ValueError) as error:
        raise InputError(f"weights: {path}: not a list of actions, with a name, a tab and a number per line") from error
    if sorted(actions) != list(range(len(rows))):
        raise InputError(f"weights: {path}: the numbers of the {len(rows)} actions are not 0, 1, 2 and so on")
    return tuple(actions[number] for number in range(len(actions)))
