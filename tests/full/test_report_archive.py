"""`snakemake --report` on a finished run: everything that a reader needs is in the archive."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

from tests.support.workspace import SIGNS, Finished, snakemake, write_overlay


@pytest.fixture(scope="module")
def archive(session_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[PurePosixPath, bytes]:
    """Files of the archive, by path."""
    write_overlay(session_run.folder, session_run.overlay)
    file = tmp_path_factory.mktemp("report") / "report.zip"
    arguments = ("--configfile", "overlay.yaml", "--report", str(file))
    answer = snakemake(session_run.folder, *arguments, **session_run.environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    with ZipFile(file) as opened:
        return {PurePosixPath(name): opened.read(name) for name in opened.namelist()}


def test_page_is_there_with_its_clips_and_figures(archive: dict[PurePosixPath, bytes]) -> None:
    (page,) = (path for path in archive if path.name == "index.html")
    text = archive[page].decode()
    assert "held-out prompts" in text
    loaded = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert {PurePosixPath(name).suffix for name in loaded} == {".js", ".mp4", ".svg"}
    for name in ("before-after", "pairs"):
        loaded += re.findall(r'"(clips/[^"]+)"', archive[page.parent / f"data/{name}.js"].decode())
    assert all(archive[page.parent / name] for name in loaded)


def test_figures_are_there_one_by_one(archive: dict[PurePosixPath, bytes]) -> None:
    index = archive[PurePosixPath("report/report.html")].decode()
    (page,) = (path for path in archive if path.name == "index.html")
    figures = [path for path in archive if path.match("figures/*-light.svg") and page.parent not in path.parents]
    assert len(figures) > 5
    for figure in figures:
        assert ElementTree.fromstring(archive[figure]).tag.endswith("svg")
        assert f"Figure <em>{figure.name.removesuffix('-light.svg')}</em>" in index


def test_summary_and_settings_are_there(archive: dict[PurePosixPath, bytes], session_run: Finished) -> None:
    run = session_run.folder / SIGNS / "small"
    by_name = {path.name: content for path, content in archive.items()}
    assert by_name["summary.json"] == (run / "round1/evaluation/summary.json").read_bytes()
    assert [json.loads(line) for line in by_name["doctor.json"].splitlines()]
    for snapshot in ("prompts", "generate", "train", "evaluate", "report"):
        assert by_name[f"{snapshot}.json"] == (run / "config" / f"{snapshot}.json").read_bytes()


def test_each_result_has_a_category_and_a_caption(archive: dict[PurePosixPath, bytes]) -> None:
    index = archive[PurePosixPath("report/report.html")].decode()
    categories = re.search(r"var categories = (\{.*\})", index)
    assert categories
    found = json.loads(categories[1])
    assert found.keys() == {"Result", "Figures", "Settings"}
    assert all(list(runs) == [f"{SIGNS}/small"] for runs in found.values())
    assert '"caption": ""' not in index


def test_the_run_stays_finished(archive: dict[PurePosixPath, bytes], session_run: Finished) -> None:
    assert session_run.jobs() == []
