"""Reads config.yaml with presets and single settings laid over it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from videodpo.config import ConfigError

MAX_BYTES = 2**20  # of one file
MAX_VALUES = 100_000  # of one file, its aliases written out


class _Loader(yaml.SafeLoader):
    """Takes no key twice: PyYAML keeps the last one in silence, and a setting is lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} is there twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node


# What PyYAML makes of bad text, or of a value that is not what its tag says (!!int x).
_NO_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def read_config(path: Path, presets: Sequence[Path] = (), settings: Sequence[str] = ()) -> dict[str, Any]:
    """The raw configuration: `path`, then each preset, then each `key.key=value`, merged key by key.

    Raises:
        ConfigError: a file that is missing or no YAML mapping, or as `with_settings`.
    """
    merged: dict[str, Any] = {}
    for file in (path, *presets):
        merged = _merge(merged, _read(file))
    return with_settings(merged, settings)


def with_settings(raw: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`raw` with each `key.key=value` laid over it; values are YAML.

    Raises:
        ConfigError: a setting without key or `=`, or whose value is no YAML.
    """
    merged = dict(raw)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: write key.key=value")
        try:
            layer: Any = yaml.load(value, _Loader)
        except _NO_YAML:
            raise ConfigError(f"--set {setting!r}: the value is no YAML; put quotes around text") from None
        for part in reversed(key.split(".")):
            layer = {part: layer}
        merged = _merge(merged, layer)
    return merged


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file}: larger than {MAX_BYTES:,} bytes; no configuration is")
        raw = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except RecursionError as error:
        raise ConfigError(f"{file}: not readable as YAML (nested too deeply)") from error
    except (OSError, *_NO_YAML) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file}: not readable as YAML ({error})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: a mapping of keys is needed, this is {type(raw).__name__}")
    if _num_values(raw, {}) > MAX_VALUES:
        raise ConfigError(f"{file}: its aliases (*name) stand for more than {MAX_VALUES:,} values")
    return raw


def _num_values(value: Any, known: dict[int, float]) -> float:
    """Values that the YAML stands for with its aliases written out; each is looked at once."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # for one that holds itself
        children = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_num_values(child, known) for child in children)
    return known[id(value)]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
