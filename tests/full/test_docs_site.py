"""The documentation site builds without a warning, needs no network, and knows every rule of the workflow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Attributes that make a browser load something by itself; links are not among them.
LOADED = re.compile(
    r"<(?:script|img|source|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*\"|@import|url\([\"']?http"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(folder / "html")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return folder / "html"


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    files = [file for suffix in ("html", "css") for file in site.rglob(f"*.{suffix}")]
    assert len(files) > 20
    for file in files:
        assert not LOADED.search(file.read_text(encoding="utf-8")), file


def test_equations_are_in_the_page_itself(site: Path) -> None:
    page = (site / "method.html").read_text(encoding="utf-8")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') > 10
    assert "\\frac" not in page


def test_search_finds_words_of_every_page(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f'"{page.stem}"' in index, page
    assert re.search(r"\bsatur\"?:", index)  # the stem of a word on the doctor's page


def _rules() -> set[str]:
    return {
        name for file in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)
    }


def test_every_rule_has_a_section() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "stages.md").read_text(encoding="utf-8"), re.M)
    assert sorted(headings) == sorted(_rules())


def test_rule_graph_is_that_of_the_rules() -> None:
    """`make rule-graph` draws it; a rule has another number in each call, so arrows are compared by name."""
    picture = (ROOT / "docs/images/rules.svg").read_text(encoding="utf-8")
    drawn = dict(re.findall(r"<title>(\d+)</title>.*?<text [^>]*>(\w+)</text>", picture, re.DOTALL))
    arrows = {(drawn[one], drawn[other]) for one, other in re.findall(r"<title>(\d+)&#45;&gt;(\d+)<", picture)}
    command = "snakemake --profile profiles/demo --rulegraph dot | python docs/rule_graph.py"
    graph = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    assert arrows == {(names[one], names[other]) for one, other in re.findall(r"(\d+) -> (\d+)", graph)}
    optional = {name for name in _rules() if name.startswith("benchmark_")}
    assert set(drawn.values()) == _rules() - {"snapshot", "study"} - optional | {"all"}
