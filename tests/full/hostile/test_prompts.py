"""Hostile prompts in a small round stay text, in the tables and on the page."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.full.hostile.texts import HOSTILE
from tests.support.finished_round import FinishedRound
from tests.support.workspace import SIGNS
from videodpo.runtime.seeds import prompt_id
from videodpo.stages.omniscore import aggregate
from videodpo.stages.prompts.cleaning import clean
from videodpo.stages.report import make_report
from videodpo.storage.tables import read_shards, read_table

CLEAN = [clean(text) for text in HOSTILE]


@pytest.fixture(scope="module")
def sampled(random_model, tmp_path_factory, stages):
    """Prompts, clips, scores and pairs of the hostile prompts."""
    from tests.conftest import small_run

    folder = tmp_path_factory.mktemp("hostile prompts")
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in HOSTILE), encoding="utf-8")
    source = {"kind": "jsonl", "path": str(file)}
    prompts = {"source": source, "num_train": 14, "num_heldout": 2, "max_chars": 12_000}
    run = stages(small_run(random_model, folder / "results", prompts=prompts, generate={"videos_per_prompt": 2}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run.until_pairs()
    return run


def test_every_prompt_is_in_the_table_as_cleaned(sampled):
    table = read_table(sampled.folder / "prompts.parquet")
    assert sorted(table.prompt) == sorted(CLEAN)
    assert max(map(len, table.prompt)) > 10_000
    assert list(table.prompt_id) == [prompt_id(text) for text in table.prompt]


def test_a_long_prompt_is_dropped_with_its_length_by_default(sampled, stages, tmp_path):
    raw = sampled.config.model_dump()
    del raw["prompts"]["max_chars"]
    raw |= {"results": str(tmp_path), "prompts": raw["prompts"] | {"num_train": 13}}
    run = stages(raw)
    run.prompts()
    dropped = read_table(run.folder / "prompts_dropped.parquet")
    (reason,) = dropped.reason[dropped.step == "length"]
    assert reason == f"{max(map(len, CLEAN))} characters after cleaning, 3 to 2000 are allowed"


def test_no_part_of_a_prompt_ran_or_became_a_file_name(sampled):
    names = [path.name for path in Path(sampled.config.results).parent.rglob("*")]
    assert "owned" not in names
    for word in ("touch", "etc", "passwd", "script", "wildcard", "cmd", "long", "سوق", "夜"):
        assert not [name for name in names if word in name and name != "prompts.jsonl"]
    clips = list(sampled.round_folder.rglob("*.mp4"))
    assert len(clips) == 28
    assert all(path.stem.rpartition("-")[0] in {prompt_id(text) for text in CLEAN} for path in clips)


def test_a_run_of_hostile_prompts_executes_none_of_them(session_run):
    """Every rule, through Snakemake and its shell."""
    run = session_run.folder / SIGNS / "small"
    asked = {row["prompt"] for row in map(json.loads, (session_run.folder / "prompts.jsonl").read_text().splitlines())}
    assert set(read_table(run / "prompts.parquet").prompt) == {clean(text) for text in asked}
    assert "owned" not in [path.name for path in session_run.folder.rglob("*")]
    assert read_table(run / "round1" / "train_log.parquet").loss.notna().all()
    assert set(read_shards(run / "round1" / "evaluation" / "videos" / "aligned").status) == {"ok"}
    page = (run / "round1" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "touch owned" in page


class Page(HTMLParser):
    """Parser for tags, and for the text outside of style and script; and the prompts of the page's lists."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.listed = [], [], "", set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_hostile_prompts_as_text(tmp_path):
    def page(texts):
        shutil.rmtree(tmp_path, ignore_errors=True)
        finished = FinishedRound(tmp_path, num_train=8, num_heldout=8, samples=2, clips=False)
        for row, text in zip(finished.prompts, texts, strict=True):
            row["prompt"] = text
        finished.write()
        aggregate(finished.omniscore_snapshot(), finished.round)
        finished.write_training(read_table(finished.round / "omniscore.parquet"))
        from videodpo.stages.evaluate import evaluate

        evaluate(finished.evaluate_snapshot(), finished.round)
        make_report(finished.report_snapshot(num_pairs=8, num_comparisons=16), finished.round)
        parsed = Page()
        parsed.feed((finished.round / "report/index.html").read_text(encoding="utf-8"))
        for name in ("pairs", "before-after"):  # JSON, which a script of the page shows as text
            data = (finished.round / f"report/data/{name}.js").read_text(encoding="ascii")
            parsed.listed.update(json.loads(data.partition(" = ")[2].rstrip(";\n"))["prompts"])
        return parsed

    hostile, plain = page(CLEAN), page([f"a tram {k}" for k in range(16)])
    assert (hostile.tags, hostile.attributes) == (plain.tags, plain.attributes)
    shown = " ".join(hostile.text.split())
    assert [text for text in hostile.listed if " ".join(text.split()) in shown]  # the samples of the first view
    assert hostile.listed == set(CLEAN)
