"""Code blocks of the pages: commands run, or say what they need; snippets and YAML are what their reader accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.conftest import ROOT
from tests.support.doc_pages import BLOCK, NEEDS, PAGES, Block, read_blocks
from videodpo.config import validate
from videodpo.config.benchmark import Suite
from videodpo.config.loading import merge, read_config
from videodpo.config.schema import parse_config

# `text` is for output, formulas and drawings; the last two are directives of the documentation site.
LANGUAGES = {"bash", "yaml", "python", "toml", "text", "{eval-rst}", "{toctree}"}
COMMAND = re.compile(r"^\s*(make|videodpo|snakemake|python|pip|git|export|source|tar) \S", re.MULTILINE)
# Python without a file name, and the test that runs it.
SNIPPETS = {"docs/models.md": "tests/models/test_families.py", "docs/module.md": "tests/support/own_workflow.py"}
RULES = {
    name for file in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)
}


def blocks(*languages: str) -> Iterator[object]:
    for page in PAGES:
        for number, block in enumerate(read_blocks(page)):
            if block.language in languages:
                yield pytest.param(page, block, id=f"{page} {number}")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_fenced_and_names_a_known_language(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert {block.language for block in read_blocks(page)} <= LANGUAGES
    prose = BLOCK.sub("", text)
    assert "```" not in prose
    assert not re.findall(r"^\n {4,}(?![-*\d]).*", prose, flags=re.MULTILINE)  # an indented block


@pytest.mark.parametrize(("page", "block"), blocks("text"))
def test_no_command_hides_in_a_block_of_text(page: str, block: Block) -> None:
    assert not COMMAND.search(block.text)


@pytest.mark.parametrize(("page", "block"), blocks("bash"))
def test_a_command_that_is_not_run_says_what_it_needs(page: str, block: Block) -> None:
    assert set(block.needs) <= set(NEEDS)
    assert "<" not in block.commands  # a placeholder that a shell cannot run


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_a_snippet_names_its_file_or_a_test_runs_it(page: str, block: Block) -> None:
    assert block.file or page in (ROOT / SNIPPETS[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "block"), blocks("yaml"))
def test_yaml_is_a_profile_a_study_a_suite_or_a_valid_overlay(page: str, block: Block) -> None:
    values = yaml.safe_load(block.text)
    if "set-resources" in values:
        assert set(values["set-resources"]) <= RULES
    elif "module" in values:
        validate(Suite, values)
    elif "arms" not in values:  # studies are read by the commands of their page
        presets = [ROOT / "presets/demo.yaml"] if "results/demo" in (ROOT / page).read_text() else []
        parse_config(merge(read_config(ROOT / "config.yaml", presets), values))
