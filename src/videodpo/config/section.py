"""Base of all configuration sections: strict types, no unknown keys, one readable message for each wrong key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from videodpo.config import renamed
from videodpo.config.errors import ConfigError
from videodpo.config.shard_counts import AUTO


class WrongKeys(ValueError):
    """Keys below a section that contradict other keys, each with the reason."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{key}: {reason}" for key, reason in problems))
        self.problems = problems


def _scientific(value: Any) -> Any:
    """Convert text such as 6e-6 to a number, because YAML 1.1 reads it as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)[eE][+-]?\d+", value):
        return float(value)
    return value


Real = Annotated[float, BeforeValidator(_scientific), Field(allow_inf_nan=False)]
# For numbers that may also be null: pydantic writes a bound on such a field into the JSON schema under an unknown name.
PositiveReal = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_scientific)]


def number_or_auto(value: Any, number: ValidatorFunctionWrapHandler) -> Any:
    """Accept `auto`, or whatever the field's own validator `number` accepts."""
    return value if value == AUTO else number(value)


# `Config` replaces `auto` by a number once all sections are known.
Shards = Annotated[
    int,
    Field(ge=1),
    WrapValidator(number_or_auto),
    PlainSerializer(lambda value: value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "enum": [AUTO]}]}),
]


class Section(BaseModel):
    """Section of the configuration: frozen, with strict types and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        """Keys that contradict other keys of the section, each with the reason."""
        yield from ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if problems := list(self._disagreements()):
            raise WrongKeys(*problems)
        return self


S = TypeVar("S", bound=Section)


def validate(kind: type[S], raw: Mapping[str, Any], prefix: str = "") -> S:
    """Validate one section.

    Args:
        kind: class of the section.
        raw: mapping as read from YAML or JSON.
        prefix: path of the section, which messages put in front of its keys.

    Raises:
        ConfigError: a key is wrong; the message has one line per wrong key, with its value and what is allowed.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        lines = [line for issue in error.errors(include_url=False) for line in _explain(issue, prefix, kind)]
        raise ConfigError("configuration: " + "\n  ".join(lines)) from None


def without_nulls(raw: Any, key: str) -> Any:
    """Return `raw` without the null entries of its mapping `key`, so that an overlay can remove an entry."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get(key), Mapping):
        return raw
    return {**raw, key: {name: block for name, block in raw[key].items() if block is not None}}


def _explain(issue: Any, prefix: str, kind: type[Section]) -> Iterator[str]:
    loc: tuple[Any, ...] = issue["loc"]
    index = ".".join([part for part in (prefix, *map(str, loc)) if part])
    key, value = index or "(top level)", repr(issue["input"])
    if len(value) > 120:
        value = f"{value[:117]}..."
    error = issue.get("ctx", {}).get("error")
    if isinstance(error, WrongKeys):
        yield from (f"{index}.{below}: {reason}".removeprefix(".") for below, reason in error.problems)
    elif issue["type"] == "missing":
        yield f"{key}: missing, and it has no default"
    elif issue["type"] == "extra_forbidden" and key in renamed.KEYS:
        yield f"{key}: this key is now {renamed.KEYS[key]}"
    elif issue["type"] == "extra_forbidden":
        yield f"{key}: unknown key (value {value}){_nearest(str(loc[-1]), _section_at(kind, loc[:-1]))}"
    elif issue["type"] in ("model_type", "dict_type"):
        yield f"{key}: {value}: a mapping of keys is needed"
    elif issue["type"] == "string_pattern_mismatch":
        section = _section_at(kind, loc[:-1])
        assert section is not None
        yield f"{key}: {value} is not allowed; {section.model_fields[str(loc[-1])].description}"
    else:
        new = renamed.VALUES.get((key, str(issue["input"])))
        yield f"{key}: {value}: {issue['msg']}{f'; this value is now {new!r}' if new else ''}"


def _nearest(name: str, section: type[BaseModel] | None) -> str:
    if section is None:
        return ""
    near = difflib.get_close_matches(name, section.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(section.model_fields) or 'none'}"


def _section_at(kind: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel] | None:
    """Section at the path `loc` through sections and mappings of sections; None if there is none."""
    here: Any = kind
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        else:
            here = (get_args(here) or (None,))[-1]
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None
