"""Clips for a benchmark's own program, its call, and its results next to ours."""

from __future__ import annotations

import csv
import json
import os

import pytest

from tests.conftest import small_run
from tests.support.vbench import OVERALL, STILLS, Program, write_clips, write_suite
from videodpo.config import ConfigError, InputError, RunError
from videodpo.preference.suites.vbench import VBench
from videodpo.stages.benchmark import benchmark, format_benchmark, make_benchmark_prompts, make_folder, run_official
from videodpo.stages.generate.sample import copy_benchmark_shard
from videodpo.stages.score import collect_all_shards, score_shard
from videodpo.storage.clips import write_tar
from videodpo.storage.schemas import VIDEOS
from videodpo.storage.tables import read_shards, read_table, shard_path, write_table
from videodpo.workflow.check import check


def clips_of(scores):
    return [{"video_path": f"/data/clips/{name}.mp4", "video_results": score} for name, score in scores.items()]


def results_of(*, score=0.25, **changes):
    """Results in the original's form: every clip of the benchmark has one score."""
    scores = {f"{prompt}-{sample}": score for prompt in OVERALL for sample in range(5)}
    percent = {name: 100 * value for name, value in scores.items()}
    found = {
        "imaging_quality": [score, clips_of(percent)],
        "dynamic_degree": [1.0, clips_of(dict.fromkeys(scores, True))],
        "color": [score, clips_of(scores)],
        "temporal_flickering": [0.5, clips_of({f"{STILLS[0]}-0": 0.5})],
    }
    return found | changes


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def configure(stages, tmp_path):
    """Function that configures a run on clips of the user, whose model is never loaded."""
    (tmp_path / "model").mkdir()
    folders = {"base": write_clips(tmp_path / "clips")}

    def run(**section):
        changes = {"suite": write_suite(tmp_path), "arms": ["base"], "folders": folders} | section
        raw = small_run(tmp_path / "model", tmp_path / "results", evaluate={"benchmark": changes})
        return stages(raw)

    return run


@pytest.fixture
def make(configure):
    """Function that also reads the prompts and copies the clips."""

    def run(**section):
        made = configure(**section)
        for group in made.snapshot("benchmark").settings.suite.groups:
            make_benchmark_prompts(made.snapshot(f"benchmark_prompts/{group}"))
            copy_benchmark_shard(made.snapshot(f"benchmark_copy/{group}"), 1, group, 0, "base")
        return made

    return run


@pytest.fixture
def program(tmp_path, monkeypatch):
    made = Program(tmp_path / "vbench")
    monkeypatch.setenv("PATH", made.environment["PATH"])
    return made


def score(made):
    """Score the clips and write the table; return the summary."""
    settings = made.snapshot("benchmark").settings
    for name in settings.suite.groups:
        folder = made.round_folder / "benchmark" / name
        scorers = [made.snapshot(f"benchmark_score/{one}") for one in settings.suite.scored(name)]
        arguments = folder / "scores" / "base", made.folder / "benchmark_prompts" / f"{name}.parquet"
        score_shard(scorers, shard_path(folder / "videos" / "base", 0), *arguments)
        collect_all_shards(scorers, folder / "videos" / "base", *arguments)
    benchmark(made.snapshot("benchmark"), made.round_folder)
    return json.loads((made.round_folder / "benchmark" / "summary.json").read_text())


def row(summary, name):
    return next(one for one in summary["rows"] if one["name"] == name)


def official(made):
    """Lay the clips out and call the program; return its results."""
    snapshot = made.snapshot("benchmark_official")
    make_folder(snapshot, made.round_folder, "base")
    run_official(snapshot, made.round_folder, "base")
    return json.loads((made.round_folder / "benchmark" / "official" / "base.json").read_text())


def test_results_are_read_on_our_scale(tmp_path):
    found, problems = VBench.read_official(written(tmp_path / "new.json", results_of()), results_of())
    assert problems == {}
    assert found["imaging_quality"].mean == 0.25
    assert set(found["imaging_quality"].clips.values()) == {0.25}
    assert found["imaging_quality"].clips.keys() == {f"{prompt}-{sample}" for prompt in OVERALL for sample in range(5)}
    assert set(found["dynamic_degree"].clips.values()) == {1.0}
    early = results_of()
    early["imaging_quality"][0] = 25.0
    assert VBench.read_official(written(tmp_path / "early.json", early), early) == (found, {})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not readable as JSON"),
        ([0.5], "not VBench's results"),
        ({}, "not VBench's results"),
        ({"Diversity": [0.5, []]}, "Diversity: no dimension of the benchmark"),
        ({"color": 0.5}, "not \\[mean, list of clips\\]"),
        ({"color": [0.5]}, "not \\[mean, list of clips\\]"),
        ({"color": [0.5, {}]}, "not \\[mean, list of clips\\]"),
        ('{"color": [NaN, []]}', "found no clip"),
        ('{"color": [NaN, [{"video_path": "a-0.mp4", "video_results": 0}]]}', "the mean nan is not a finite number"),
        ({"color": ["0.5", clips_of({"a-0": 0.5})]}, "the mean '0.5' is not"),
        ({"color": [True, clips_of({"a-0": 0.5})]}, "the mean True is not"),
        ({"color": [0.5, [0.5]]}, "a clip lacks video_path"),
        ({"color": [0.5, clips_of({"a-0": None})]}, "the score None of /data/clips/a-0.mp4 is not a number"),
    ],
)
def test_other_files_are_refused(content, reason, tmp_path):
    path = written(tmp_path / "results.json", content)
    with pytest.raises(InputError, match=reason) as error:
        VBench.read_official(path, ["color", "imaging_quality"])
    assert str(path) in str(error.value)


def test_the_folder_has_links_named_after_the_prompts_and_a_folder_for_the_filter(make):
    made = make()
    make_folder(made.snapshot("benchmark_official"), made.round_folder, "base")
    folder = made.round_folder / "benchmark" / "official" / "videos" / "base"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.mp4")}
    assert names == {f"videos/{prompt}-{sample}.mp4" for prompt in OVERALL for sample in range(5)} | {
        f"stills/{STILLS[0]}-{sample}.mp4" for sample in range(7)
    }
    texts = read_table(made.folder / "benchmark_prompts" / "overall.parquet").set_index("prompt_id")["prompt"]
    for clip in read_shards(made.round_folder / "benchmark" / "overall" / "videos" / "base").itertuples():
        name = f"{texts[clip.prompt_id]}-{clip.sample}.mp4"
        assert os.path.samefile(folder / "videos" / name, made.folder / clip.path)


def test_clips_in_tar_files_are_extracted_and_failed_clips_are_left_out(make):
    made = make()
    videos = made.round_folder / "benchmark" / "stills" / "videos" / "base"
    table = read_shards(videos)
    contents = [(f"{clip.video_id}.mp4", (made.folder / clip.path).read_bytes()) for clip in table.itertuples()]
    members = write_tar(made.folder / "clips.tar", contents)
    table["path"] = [f"clips.tar{member}" for member in members]
    table.loc[3, ["status", "path", "sha256"]] = ["failed", None, None]
    write_table(shard_path(videos, 0), table, VIDEOS, stage="s", digest="d", seed=0)
    make_folder(made.snapshot("benchmark_official"), made.round_folder, "base")
    folder = made.round_folder / "benchmark" / "official" / "videos" / "base" / "stills"
    sample = table["sample"].to_list()
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {f"{STILLS[0]}-{sample[n]}.mp4": contents[n][1] for n in range(7) if n != 3}


def test_the_program_scores_each_dimension_and_filtered_clips_last(make, program):
    found = official(make(official=True))
    assert program.calls() == [
        "evaluate color",
        "evaluate dynamic_degree",
        "evaluate imaging_quality",
        "static_filter",
        "evaluate temporal_flickering",
    ]
    mean, clips = found["imaging_quality"]
    assert mean == 0.5
    assert len(clips) == 10
    assert clips[0].keys() == {"video_path", "video_results"}
    assert [os.path.basename(clip["video_path"]) for clip in found["temporal_flickering"][1]] == [f"{STILLS[0]}-0.mp4"]


def test_a_dimension_that_fails_is_left_out_and_tried_again_alone(make, program, caplog):
    program.fail("color", "temporal_flickering")
    made = make(official=True)
    assert official(made).keys() == {"imaging_quality", "dynamic_degree"}
    assert "color: left out, vbench wrote no result; its messages above say why" in caplog.messages
    program.calls()
    program.fail()
    assert official(made).keys() == {"imaging_quality", "dynamic_degree", "color", "temporal_flickering"}
    assert program.calls() == ["evaluate color", "static_filter", "evaluate temporal_flickering"]


def test_other_clips_are_scored_again(make, program, tmp_path):
    official(make(official=True))
    program.calls()
    (tmp_path / "clips" / f"{OVERALL[0]}-0.mp4").unlink()
    found = official(make(official=True))
    assert len(program.calls()) == 5
    assert len(found["color"][1]) == 9


def test_a_program_that_is_missing_or_scores_nothing_stops_the_stage(make, program, monkeypatch):
    made = make(official=True)
    program.fail("color", "temporal_flickering", "dynamic_degree", "imaging_quality")
    with pytest.raises(RunError, match="vbench scored no dimension"):
        official(made)
    monkeypatch.setenv("PATH", str(made.folder))
    with pytest.raises(InputError, match="vbench: no such command"):
        official(made)


def test_the_table_shows_both_and_the_clip_that_differs_most(make, tmp_path):
    found = results_of()
    path = written(tmp_path / "results.json", found)
    made = make(official_results={"base": str(path)})
    ours = row(score(made), "imaging_quality")
    best = read_table(made.round_folder / "benchmark" / "clips.parquet")
    best = best[best["dimension"] == "imaging_quality"].assign(off=lambda table: (table["value"] - 0.25).abs())
    worst = best.loc[best["off"].idxmax()]
    assert ours["official_base"] == 0.25
    assert ours["official_base_clips"] == 10
    assert ours["official_base_difference"] == pytest.approx(ours["base"] - 0.25)
    assert ours["official_base_largest"] == pytest.approx(worst["off"])
    assert ours["official_base_largest_clip"] == f"{worst['prompt']}-{worst['sample']}"
    summary = json.loads((made.round_folder / "benchmark" / "summary.json").read_text())
    assert "official_base_largest" not in row(summary, "temporal_flickering")  # the filter renames its clips
    assert [note for note in summary["notes"] if "official" in note] == [
        "official base, temporal_flickering: 1 of 5 clips"
    ]
    quality = (0.5 + 0.25 + 1.0) / 3
    assert row(summary, "total")["official_base"] == pytest.approx(0.8 * quality + 0.2 * 0.25)
    text = format_benchmark(summary)
    assert all(name in text.splitlines()[2] for name in ("official base", "base - official", "largest base"))
    with (made.round_folder / "benchmark" / "table.csv").open() as file:
        csv_rows = {one["name"]: one for one in csv.DictReader(file)}
    assert float(csv_rows["imaging_quality"]["official_base"]) == 0.25


def test_a_dimension_that_only_the_program_scored_has_no_score_of_ours(make, program):
    made = make(official=True, dimensions=["imaging_quality"])
    assert official(made).keys() == {"imaging_quality", "dynamic_degree", "color"}
    summary = score(made)
    assert [one["name"] for one in summary["rows"]] == ["imaging_quality", "color", "dynamic_degree"]
    only = row(summary, "dynamic_degree")
    assert (only["base"], only["official_base"], only["official_base_difference"]) == (None, 1.0, None)
    (line,) = [line for line in format_benchmark(summary).splitlines() if "dynamic_degree" in line and "100.00" in line]
    assert "none" in line


def test_fewer_clips_are_marked(make, tmp_path):
    few = results_of()
    for name in ("imaging_quality", "color"):  # the program leaves out clips without the object
        del few[name][1][3]
    del few["dynamic_degree"]
    path = written(tmp_path / "results.json", few)
    made = make(official_results={"base": str(path)})
    summary = score(made)
    assert [note for note in summary["notes"] if "official" in note] == [
        "official base: no result for dynamic_degree",
        "official base, imaging_quality: incomplete, 9 of 10 clips",
        "official base, color: 9 of 10 clips",
        "official base, temporal_flickering: 1 of 5 clips",
    ]
    assert not row(summary, "imaging_quality")["official_base_complete"]
    assert row(summary, "color")["official_base_complete"]
    assert "25.00*" in format_benchmark(summary)
    assert "official_base" not in row(summary, "total")


def test_a_result_that_cannot_be_used_costs_its_own_cell_only(make, tmp_path):
    others = clips_of({f"{OVERALL[0]}-5": 0.5, "another prompt-0": 1.0})
    path = written(tmp_path / "results.json", results_of(color=[0.5, others], dynamic_degree=0.5, Diversity=0.5))
    made = make(official_results={"base": str(path)})
    summary = score(made)
    assert [note for note in summary["notes"] if "official" in note] == [
        "official base, dynamic_degree: not [mean, list of clips], as VBench 0.1.5 writes it",
        "official base, Diversity: no dimension of the benchmark (color, dynamic_degree, imaging_quality, "
        "temporal_flickering)",
        f"official base, color: not shown, 2 clips are not those of this benchmark, for example '{OVERALL[0]}-5'",
        "official base, temporal_flickering: 1 of 5 clips",
    ]
    assert row(summary, "imaging_quality")["official_base"] == 0.25
    assert all("official_base" not in row(summary, name) for name in ("color", "dynamic_degree", "total"))
    written(path, "{")
    benchmark(made.snapshot("benchmark"), made.round_folder)
    summary = json.loads((made.round_folder / "benchmark" / "summary.json").read_text())
    assert any(note.startswith(f"official base: no results: {path}: not readable as JSON") for note in summary["notes"])
    assert row(summary, "imaging_quality")["base"] is not None


def test_results_for_prompts_that_were_not_sampled_are_not_shown(make, tmp_path):
    path = written(tmp_path / "results.json", results_of())
    summary = score(make(official_results={"base": str(path)}, dimensions=["temporal_flickering"]))
    assert {one["name"] for one in summary["rows"]} == {"temporal_flickering", "static_clip"}
    assert (
        "official base: this run has no clips for imaging_quality, dynamic_degree, color; these results are not shown"
        in summary["notes"]
    )


def test_new_results_are_noticed_and_wrong_keys_are_refused(configure, tmp_path):
    path = written(tmp_path / "results.json", results_of())
    first = configure(official_results={"base": str(path)}).snapshot("benchmark").digest
    written(path, results_of(score=0.5))
    assert configure(official_results={"base": str(path)}).snapshot("benchmark").digest != first
    with pytest.raises(ConfigError, match=r"official_results\.base: .*none.json' is not a file"):
        check(configure(official_results={"base": str(tmp_path / "none.json")}).config)
    for content in ("{", {"Diversity": [0.5, []]}):
        written(path, content)
        with pytest.raises(ConfigError, match=rf"official_results\.base: {path}: "):
            check(configure(official_results={"base": str(path)}).config)
    with pytest.raises(ConfigError, match=r"official_results\.aligned: .*but arms has no aligned"):
        configure(official_results={"aligned": str(path)})
