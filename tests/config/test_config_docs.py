"""Files generated from the configuration classes are up to date and complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from videodpo.cli import main
from videodpo.config.docs import markdown_text, schema_text

ROOT = Path(__file__).resolve().parents[2]
BOUNDS = {"gt", "ge", "lt", "le"}  # pydantic's names; those of JSON schema differ


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


@pytest.mark.parametrize(
    ("path", "options"), [("config.schema.json", []), ("docs/configuration.md", ["--markdown"])], ids=["schema", "page"]
)
def test_committed_file_is_what_the_command_prints(
    path: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", *options]) == 0
    assert capsys.readouterr().out == (ROOT / path).read_text(encoding="utf-8"), "out of date: run make docs"


def test_schema_states_bounds_in_json_schema_keywords() -> None:
    assert not BOUNDS & set(_keys(json.loads(schema_text())))


def test_page_explains_every_key() -> None:
    rows = [line for line in markdown_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    for row in rows:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        assert len(cells) == 4, row
        assert cells[1], row
        assert cells[3], row


def test_links_of_the_page_point_to_its_headings() -> None:
    page = markdown_text()
    headings = {re.sub(r"[^a-z0-9_-]", "", line[3:].lower()) for line in page.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\(#([^)]*)\)", page)) <= headings
