"""Map the names of scorers, model families and benchmark suites to their classes, which are imported on demand.

Built-in classes are found by file name: `scorers/<name>.py`, `models/<name>.py` and `preference/suites/<name>.py` each
hold one class with a `version`. Installed packages add others through entry points of the same groups.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from typing import Any

from videodpo.config.errors import InputError

_NO_NAMES = {"base"}  # shared by the other modules of a group


def names(group: str) -> list[str]:
    """Sorted names in a group, for example `videodpo.scorers`, including those of plug-ins."""
    return sorted({*_builtin(group), *(point.name for point in entry_points(group=group))})


def load(group: str, name: str) -> Any:
    """Import the class registered under `name`.

    Raises:
        InputError: the name is unknown; the message has the known names and the nearest match.
    """
    if name in _builtin(group):
        module = importlib.import_module(f"{group}.{name}")
        kinds = [value for value in vars(module).values() if isinstance(value, type) and "version" in vars(value)]
        (kind,) = [kind for kind in kinds if kind.__module__ == module.__name__]
        return kind
    for point in entry_points(group=group, name=name):
        return point.load()
    known = names(group)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    what = group.rpartition(".")[2].rstrip("s")
    raise InputError(f"unknown {what} {name!r}{hint} (known: {', '.join(known)})")


def suite_rules(module: str) -> Any:
    """Import the rules of a benchmark by the key `module` of its suite; errors as `load`."""
    return load("videodpo.preference.suites", module)


@functools.cache
def _builtin(group: str) -> set[str]:
    package = importlib.util.find_spec(group)
    assert package is not None
    found = pkgutil.iter_modules(package.submodule_search_locations)
    return {module.name for module in found if not module.ispkg} - _NO_NAMES
