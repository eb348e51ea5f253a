"""The page of a finished round: complete, safe against hostile prompts, and identical on a second run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_round import HOSTILE, FinishedRound
from videodpo.stages.evaluate import evaluate
from videodpo.stages.omniscore import aggregate
from videodpo.stages.report import gallery, make_report
from videodpo.stages.report.clips import ClipFolder, even_spread
from videodpo.stages.report.figures import expected_gaps
from videodpo.stages.report.hacking import hacking_notes, hacking_rows
from videodpo.stages.report.inputs import read_round
from videodpo.stages.report.views import pair_gallery
from videodpo.storage.clips import write_tar
from videodpo.storage.files import sha256_of
from videodpo.storage.manifests import read_json, record_json
from videodpo.storage.schemas import APPEARANCE, STATISTICS, omniscore_schema
from videodpo.storage.tables import read_table


def finish(finished):
    finished.write()
    aggregate(finished.omniscore_snapshot(), finished.round)
    finished.write_training(read_table(finished.round / "omniscore.parquet"))
    evaluate(finished.evaluate_snapshot(), finished.round)
    return finished


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    finished = FinishedRound(tmp_path_factory.mktemp("run"), num_train=4, num_heldout=3)
    for number, prompt in enumerate(finished.prompts):
        prompt["prompt"] = f"{HOSTILE} {number}"
    make_report(finish(finished).report_snapshot(num_pairs=3), finished.round)
    return finished


@pytest.fixture(scope="module")
def page(done):
    return (done.round / "report" / "index.html").read_text(encoding="utf-8")


def test_official_results_have_mark_difference_and_largest_difference(tmp_path):
    finished = finish(FinishedRound(tmp_path))
    row = {"name": "color", "kind": "dimension", "base": 0.75, "base_complete": True, "base_clips": 4}
    official = {"": 0.5, "_complete": False, "_clips": 3, "_difference": 0.25, "_largest": 0.375}
    row |= {f"official_base{key}": value for key, value in official.items()}
    total = {"name": "total", "kind": "total", "base": None, "base_complete": False}
    summary = {"suite": "s", "folders": {}, "arms": ["base"], "official": ["base"], "published": {}, "notes": []}
    record_json(finished.round / "benchmark" / "summary.json", summary | {"rows": [total, row]})
    snapshot = finished.report_snapshot(num_pairs=0, num_comparisons=0)
    settings = snapshot.settings.model_copy(update={"has_benchmark": True})
    make_report(replace(snapshot, settings=settings), finished.round)
    page = (finished.round / "report" / "index.html").read_text(encoding="utf-8")
    table = page[page.index("Totals and dimensions") :]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, flags=re.DOTALL) for line in table.split("<tr")[1:4]]
    assert cells == [
        ["score", "base", "clips", "official base", "base - official", "largest base"],
        ["total", "none", "", "", "", ""],
        ["color", "75.00", "4", "50.00*", "+25.00", "37.50"],
    ]


class Elements(HTMLParser):
    """All tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def columns(folder, name):
    """Columns of a gallery, from the script that assigns them."""
    text = (folder / "data" / f"{name}.js").read_text(encoding="utf-8")
    before, _, columns = text.partition(" = ")
    assert before == f'(window.galleries ??= {{}})["{name}"]'
    return json.loads(columns.removesuffix(";\n"))


def test_every_file_that_the_page_names_is_next_to_it(done, page):
    folder, elements = done.round / "report", Elements(page)
    names = [element["src"] for tag in ("img", "video", "script") for element in elements.all(tag)]
    names += [element["srcset"] for element in elements.all("source")]
    names += [element["href"] for tag in ("a", "link") for element in elements.all(tag) if element["href"][0] != "#"]
    for name in ("before-after", "pairs"):
        names += [file for side in columns(folder, name)["clips"] for file in side if file]
    assert len(names) > 50
    assert all((folder / name).is_file() for name in names)


def test_page_loads_nothing_from_other_sites(done, page):
    scripts = [file.read_text(encoding="utf-8") for file in (done.round / "report" / "web").iterdir()]
    for text in (page, *scripts):
        assert not re.search(r"""(src|href|srcset)\s*=\s*["'](https?:|//|/|file:)""", text)
        assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)


def test_a_hostile_prompt_is_shown_as_text(done, page):
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(&#39;owned&#39;)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert all("src" in script for script in Elements(page).all("script"))
    assert sum(HOSTILE in prompt for prompt in columns(done.round / "report", "pairs")["prompts"]) == 4


def test_lists_have_all_rows_and_the_folder_the_clips_of_some(done, page):
    found = columns(done.round / "report", "pairs")
    assert found["total"] == len(found["ids"]) == 4
    gaps = [winner - loser for winner, loser in zip(*(side[0] for side in found["values"]), strict=True)]
    with_clips = [gap for gap, file in zip(gaps, found["clips"][0], strict=True) if file]
    assert len(with_clips) == 3
    assert {min(gaps), max(gaps)} < set(with_clips)
    assert "The folder has the clips of 3, from the largest difference" in page
    comparison = columns(done.round / "report", "before-after")
    assert len(comparison["ids"]) == 6
    assert [measure["name"] for measure in comparison["measures"]][-6:] == list(STATISTICS)


def test_a_long_list_keeps_rows_at_equal_distances(done, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_LISTED", 3)
    facts = gallery.write_gallery(pair_gallery(read_round(done.report_snapshot(), done.round)), tmp_path, 2)
    assert facts == {"noun": "pairs", "total": 4, "listed": 3, "with_clips": 2}
    assert len(columns(tmp_path, "pairs")["ids"]) == 3


def test_clips_are_copies_which_damage_of_the_run_does_not_reach(done, tmp_path):
    video = {"video_id": "a-0", **{key: done.videos["train"][0][key] for key in ("path", "sha256")}}
    copied = ClipFolder(tmp_path / "clips").add(done.folder, "pair", video)
    assert not (tmp_path / copied).samefile(done.folder / video["path"])
    assert sha256_of(tmp_path / copied) == video["sha256"]


def test_clips_inside_a_tar_file_are_copied(done, tmp_path):
    content = (done.folder / done.videos["train"][0]["path"]).read_bytes()
    (suffix,) = write_tar(tmp_path / "shard-00000.tar", [("a.mp4", content)])
    video = {"video_id": "a-0", "path": f"shard-00000.tar{suffix}", "sha256": hashlib.sha256(content).hexdigest()}
    assert (tmp_path / ClipFolder(tmp_path / "clips").add(tmp_path, "pair", video)).read_bytes() == content


def test_each_figure_has_a_png_and_its_data(done, page):
    figures = done.round / "report" / "figures"
    names = {file.name.removesuffix("-light.svg") for file in figures.glob("*-light.svg")}
    assert {"by-dimension", "reward-hacking", "motion", "training", "omniscore"} <= names
    for name in names:
        assert f'href="figures/{name}.png"' in page
        assert len(pd.read_csv(figures / f"{name}.csv")) > 0
    table = pd.read_csv(figures / "reward-hacking.csv").set_index("name")
    assert table.delta["saturation"] == pytest.approx(0.1)  # as the fixture has it
    assert table.relative["saturation"] == pytest.approx(0.1 / table.base["saturation"])


def test_a_clear_change_of_the_pixels_is_marked(page):
    row = page.partition('<a href="#before-after?sort=saturation">')[2].partition("</tr>")[0]
    assert "look" in row


def test_pairs_of_the_users_own_need_no_scores(done, tmp_path):
    found = read_round(done.report_snapshot(), done.round)
    names = ["score_winner", "score_loser", "gap", "probability"]
    own = replace(
        found, scores=omniscore_schema(()).empty_table().to_pandas(), pairs=found.pairs.assign(**dict.fromkeys(names))
    )
    assert gallery.write_gallery(pair_gallery(own), tmp_path, 2)["with_clips"] == 2
    written = columns(tmp_path, "pairs")
    assert [measure["name"] for measure in written["measures"]] == ["omniscore"]
    assert written["values"] == [[[None] * 4]] * 2


def test_a_panel_without_diversity_says_how_to_measure_it(tmp_path):
    finished = finish(FinishedRound(tmp_path, num_train=2, num_heldout=2, clips=False))
    for arm in ("base", "aligned"):
        table = read_table(finished.round / f"evaluation/appearance/{arm}.parquet").assign(seed_distance=None)
        finished.save(f"round1/evaluation/appearance/{arm}.parquet", table, APPEARANCE, "appearance")
    found = read_round(finished.report_snapshot(), finished.round)
    assert [row["name"] for row in hacking_rows(found)] == [*STATISTICS[:-1], "motion_amount"]
    assert any("evaluate.diversity_dimension" in note for note in hacking_notes(found, hacking_rows(found)))


def test_prompts_never_reach_a_file_name(done):
    names = {file.name for file in (done.round / "report" / "clips").iterdir()}
    assert all(re.fullmatch(r"(base|aligned|pair)-[0-9a-f]{16}-\d+\.mp4", name) for name in names)


def test_page_has_every_section(page):
    for text in ("OmniScore of every video", "Gap within pairs", "Gap against the number of samples"):
        assert text in page
    for text in ("Correlation of the dimensions", "Before and after, by dimension", "Drift by noise level"):
        assert text in page
    for text in ("near duplicate", "gap below min gap", "Provenance", "independent judge", "Motion"):
        assert text in page


def test_provenance_names_the_settings_and_the_scorer_of_each_table(page):
    assert "round1/scores/imaging_quality/shard-00000.parquet" in page
    assert "imaging_quality 1" in page
    assert "caption_accuracy 1" in page


def test_a_second_run_writes_the_same_bytes_and_removes_leftovers(done):
    folder = done.round / "report"
    files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    (folder / "clips" / "old.mp4").write_bytes(b"old")
    make_report(done.report_snapshot(num_pairs=3), done.round)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == files


@pytest.fixture(scope="module")
def poor_page(tmp_path_factory):
    """The page of a run without clips, whose model lost motion and whose judge could not score two clip pairs."""
    finished = FinishedRound(tmp_path_factory.mktemp("poor"), num_train=4, num_heldout=3, clips=False)
    for row in finished.scores["aligned"]["motion_amount"]:
        row["value"] *= 0.1
    for number in (0, 3):
        finished.scores["base"]["caption_accuracy"][number] |= {"status": "failed", "value": None, "error": "unknown"}
    make_report(finish(finished).report_snapshot(num_pairs=1, num_comparisons=1), finished.round)
    return (finished.round / "report" / "index.html").read_text(encoding="utf-8")


def test_the_share_of_the_headroom_is_next_to_the_scores(done, page):
    row = read_json(done.round / "evaluation" / "summary.json")["dimensions"]["omniscore"]
    low, high = (f"{100 * row[key]:.0f}".replace("-", "\N{MINUS SIGN}") for key in ("gain_low", "gain_high"))
    assert page.count(f"{100 * row['gain']:.0f}&nbsp;% [{low}, {high}]") == 2  # in the headline and in the table
    for count, source in ((4, "training prompts"), (2, "held-out prompts")):
        said = rf"Of headroom, from {source}: 100&nbsp;% is as good as picking the best of {count} samples"
        assert re.search(said, page)


def test_the_strength_of_the_change_is_next_to_the_training(done, page):
    moved = read_json(done.round / "evaluation" / "summary.json")["strength"]
    assert f"<b>{100 * moved['loser']:+.2f}&nbsp;%</b> for losers" in page


def test_a_missing_clip_leaves_a_note_on_the_page(poor_page):
    assert poor_page.count("The clip is not in the run") == 2


def test_a_loss_of_motion_is_announced(poor_page):
    assert "The aligned model moves less" in poor_page


def test_a_judge_that_could_not_score_all_clips_is_shown_with_its_count(poor_page):
    assert re.search(r"caption accuracy: could score 4 of 6 clip\s+pairs", poor_page)
    assert not re.search(r"\bnan\b", poor_page, flags=re.IGNORECASE)


def test_a_single_heldout_prompt_and_a_pillar_of_weight_0_make_no_claim_on_the_page(tmp_path):
    finished = FinishedRound(tmp_path, num_heldout=1, clips=False)
    finished.pillars = {"quality": 1.0, "semantic": 0.0}
    make_report(finish(finished).report_snapshot(), finished.round)
    page = (finished.round / "report" / "index.html").read_text(encoding="utf-8")
    assert "<h1>No claim: a single held-out prompt has no interval.</h1>" in page
    assert "95&nbsp;% interval " not in page
    assert not re.search(r"semantic\b", page)


def test_a_missing_table_is_an_error_that_names_it(tmp_path):
    finished = finish(FinishedRound(tmp_path, num_train=2, num_heldout=2, clips=False))
    (finished.round / "train_log.parquet").unlink()
    with pytest.raises(ValueError, match=r"train_log\.parquet"):
        make_report(finished.report_snapshot(), finished.round)


def test_expected_gaps_equal_the_mean_over_all_subsets():
    scores = np.random.default_rng(0).random((3, 5))
    gaps = expected_gaps(scores)
    for row, size in itertools.product(range(3), range(2, 6)):
        subsets = [np.ptp(np.array(subset)) for subset in itertools.combinations(scores[row], size)]
        assert gaps[row, size - 2] == pytest.approx(np.mean(subsets))


@pytest.mark.parametrize(
    ("count", "chosen"), [(0, []), (1, [5]), (2, [0, 9]), (4, [0, 3, 6, 9]), (20, list(range(10)))]
)
def test_shown_clips_are_spread_evenly_from_best_to_worst(count, chosen):
    assert even_spread(list(range(10)), count) == chosen
