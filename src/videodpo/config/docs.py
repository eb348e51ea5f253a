"""Generate the JSON schema for editors and docs/configuration.md from the configuration's classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from videodpo.config import Config

_HEAD = """\
# Every key of the configuration

This page is generated from the classes in `src/videodpo/config/` by `make docs`. `config.yaml` configures the full run.
Each file in `presets/` overrides some of its keys. The column *default* is for a key that no file sets; on all other
pages, *default* means the value in `config.yaml`. Unknown keys and invalid values are refused with a message that has
the key, the value and what is allowed. To check a configuration before anything runs, use
`videodpo check --config config.yaml --preset presets/demo.yaml`. An editor with a YAML language server can check while
you type: give it `config.schema.json`.

The keys of `dimensions.<name>.options` and below `evaluate.judges` depend on the scorer ([scorers](scorers.md)).
"""
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "mapping"}


def schema_text() -> str:
    """JSON schema of the configuration."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def markdown_text() -> str:
    """Markdown page with one table per section: key, values, default, meaning."""
    schema = Config.model_json_schema()
    return "\n".join([_HEAD, *_sections("", schema, schema["$defs"], {})])


def _sections(
    path: str, section: Mapping[str, Any], definitions: Mapping[str, Any], shown: dict[str, str]
) -> Iterator[str]:
    """Yield the lines of a section and those below it; `shown` has the key at which each definition is shown."""
    yield f"## `{path}`\n" if path else "## Top level\n"
    yield "| key | values | default | meaning |\n|---|---|---|---|"
    inner: list[tuple[str, Mapping[str, Any]]] = []
    for name, field in section["properties"].items():
        key = f"{path}.{name}" if path else name
        default = "required" if name in section.get("required", []) else f"`{json.dumps(field.get('default', {}))}`"
        if target := _reference(field):
            values, default = f"[section](#{_anchor(key)})", default if default == "required" else ""
            inner.append((key, definitions[target]))
            shown[target] = key
        elif target := next(filter(None, map(_reference, field.get("anyOf", []))), None):
            if target not in shown:
                inner.append((key, definitions[target]))
            like = shown.setdefault(target, key)
            values = f"null, or a section like [{like}](#{_anchor(like)})"
        elif target := _reference(field.get("items")):
            key = f"{key}.<number>"
            values = f"list of [section](#{_anchor(key)})"
            inner.append((key, definitions[target]))
        elif target := _reference(field.get("additionalProperties")):
            key = f"{key}.<name>"
            values = f"name: [section](#{_anchor(key)})"
            inner.append((key, definitions[target]))
        else:
            values = _values(field)
        yield f"| `{name}` | {values} | {default} | {_escaped(field['description'])} |"
    yield ""
    for key, definition in inner:
        yield from _sections(key, definition, definitions, shown)


def _values(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_values(option) for option in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "null":
        return "null"
    if field.get("type") == "array":
        return f"list of {_values(field['items'])}"
    text = _TYPES[field["type"]]
    if isinstance(field.get("additionalProperties"), Mapping):
        text = f"name: {_values(field['additionalProperties'])}"
    bounds = [f"{word} {field[bound]:g}" for bound, word in _BOUNDS.items() if bound in field]
    if field.get("minLength") or field.get("minProperties"):
        bounds.append("not empty")
    if "pattern" in field:
        pattern = field["pattern"].replace("|", r"\|")  # the only character that ends a cell inside backticks
        bounds.append(f"pattern `{pattern}`")
    return ", ".join([text, *bounds])


def _escaped(text: str) -> str:
    """Escape text for a table cell: outside of backticks, <name> would be taken for HTML."""
    parts = " ".join(text.split()).replace("|", "&#124;").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _reference(field: Any) -> str | None:
    return field["$ref"].rpartition("/")[2] if isinstance(field, Mapping) and "$ref" in field else None


def _anchor(heading: str) -> str:
    """Anchor of a heading in a Markdown page."""
    return "".join(letter for letter in heading.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")
