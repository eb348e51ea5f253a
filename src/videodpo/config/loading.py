"""Read config.yaml and merge presets and single settings over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from videodpo.config import ConfigError

MAX_BYTES = 2**20  # per file


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys. PyYAML keeps the last one silently, so a setting would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_config(path: Path, presets: Sequence[Path] = (), settings: Sequence[str] = ()) -> dict[str, Any]:
    """Read the raw configuration and merge it key by key.

    Args:
        path: configuration file.
        presets: files that override keys of `path`; later ones have precedence.
        settings: `key.key=value`, which override all files; values are YAML.

    Raises:
        ConfigError: a file is missing or not a YAML mapping, or `with_settings` refuses a setting.
    """
    merged: dict[str, Any] = {}
    for file in (path, *presets):
        merged = merge(merged, read_yaml(file))
    return with_settings(merged, settings)


def with_settings(raw: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Merge each `key.key=value` over `raw`; values are YAML.

    Raises:
        ConfigError: a setting has no key, no `=`, or a value that is not YAML.
    """
    merged = dict(raw)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: write key.key=value")
        try:
            layer: Any = yaml.load(value, _Loader)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"--set {setting!r}: the value is not YAML; put quotes around text") from None
        for part in reversed(key.split(".")):
            layer = {part: layer}
        merged = merge(merged, layer)
    return merged


def read_yaml(file: Path) -> dict[str, Any]:
    """Read one YAML mapping; raise ConfigError if the file is missing or has other content."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file}: larger than {MAX_BYTES:,} bytes; give a configuration file")
        raw = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except ConfigError:
        raise
    except (OSError, yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date like 2001-99-99
        raise ConfigError(f"{file}: not readable as YAML ({error})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: contains a {type(raw).__name__}; a mapping of keys is needed")
    return raw


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings key by key; `over` has precedence."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
