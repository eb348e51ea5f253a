"""The benchmark of a tiny model: prompts, clips, scores and the table."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil

import pytest
import yaml

from videodpo.config import ConfigError, InputError
from videodpo.config.benchmark import Benchmark, suite_of
from videodpo.runtime.snapshot import snapshot_text, stage_names
from videodpo.scorers.base import NoResult
from videodpo.scorers.imaging_quality_sharpness import ImagingQualitySharpness
from videodpo.stages.benchmark import benchmark, format_benchmark, make_benchmark_prompts
from videodpo.stages.benchmark.clips import unknown_files
from videodpo.stages.benchmark.prompts import read_group_prompts
from videodpo.stages.generate.sample import copy_benchmark_shard, generate_benchmark_shard
from videodpo.stages.score import collect_all_shards, score_shard
from videodpo.storage.manifests import product_folder
from videodpo.storage.tables import read_shards, read_table, shard_path
from videodpo.tools.summary import summary as summary_of
from videodpo.tools.verify import verify
from videodpo.workflow.check import check

PROMPTS = ["a red cat", "A red cat", "a blue dog, walking"]
SHARP, SMOOTH = "imaging_quality_sharpness", "motion_smoothness_dis"
FEW = f"no interval for total, semantic, {SMOOTH}: too few prompts have clips that count"


def write_suite(folder, **changes):
    rows = [{"prompt_en": prompt, "dimension": [SHARP]} for prompt in PROMPTS]
    rows += [{"prompt_en": PROMPTS[0], "dimension": [SMOOTH], "auxiliary_info": {SMOOTH: {"object": "cat"}}}]
    if not (folder / "list.json").exists():  # a new time stamp would be an edit
        (folder / "list.json").write_text(json.dumps(rows))
    suite = {
        "module": "vbench",
        "prompts": str(folder / "list.json"),
        "groups": {
            "sharp": {"dimensions": [SHARP], "num_prompts": 3, "samples": 2},
            "smooth": {"dimensions": [SMOOTH], "num_prompts": 1, "samples": 1},
        },
        "dimensions": {
            SHARP: {"pillar": "quality", "min": 0.0, "max": 1.0},
            SMOOTH: {"pillar": "semantic", "min": 0.0, "max": 1.0},
        },
        "published": {"Another model": {"total": 0.8}},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite | changes))
    return str(folder / "suite.yaml")


@pytest.fixture
def make(stages, small_config, tmp_path):
    """Function that samples, scores and compares; with clips of the user for the arm aligned."""

    def run(**section):
        suite = write_suite(tmp_path, **section.pop("suite", {}))
        made = stages(small_config(evaluate={"bootstrap_resamples": 100, "benchmark": {"suite": suite} | section}))
        for group in suite_of(made.config.evaluate.benchmark).groups:
            make_benchmark_prompts(made.snapshot(f"benchmark_prompts/{group}"))
        return made

    return run


def finish(made):
    """Run all later stages of both arms; return the summary."""
    settings = made.snapshot("benchmark").settings
    for arm in settings.arms:
        for name in settings.suite.groups:
            folder = made.round_folder / "benchmark" / name
            videos, scores = folder / "videos" / arm, folder / "scores" / arm
            if arm in settings.folders:
                copy_benchmark_shard(made.snapshot(f"benchmark_copy/{name}"), 1, name, 0, arm)
            else:
                generate_benchmark_shard(made.snapshot(f"benchmark_generate/{name}"), 1, name, 0, arm, None)
            scorers = [made.snapshot(f"benchmark_score/{one}") for one in settings.suite.scored(name)]
            prompts = made.folder / "benchmark_prompts" / f"{name}.parquet"
            score_shard(scorers, shard_path(videos, 0), scores, prompts)
            collect_all_shards(scorers, videos, scores, prompts)
    benchmark(made.snapshot("benchmark"), made.round_folder)
    return json.loads((made.round_folder / "benchmark" / "summary.json").read_text())


@pytest.fixture
def clips_of_the_user(make, tmp_path):
    """Folder with the benchmark's clips, named after their prompts, and the run that sampled them."""
    made = make(arms=["base"])
    finish(made)
    folder = tmp_path / "clips"
    folder.mkdir()
    prompts = read_table(made.folder / "benchmark_prompts" / "sharp.parquet")
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    for group in ("sharp", "smooth"):
        for _, row in read_shards(made.round_folder / "benchmark" / group / "videos" / "base").iterrows():
            shutil.copy(made.folder / row["path"], folder / f"{texts[row['prompt_id']]}-{row['sample']}.mp4")
    shutil.rmtree(made.folder)
    return folder


def row(summary, name):
    return next(one for one in summary["rows"] if one["name"] == name)


def test_a_prompt_belongs_to_the_groups_of_its_dimensions_and_case_distinguishes_prompts(make):
    made = make(arms=["base"])
    sharp, smooth = (read_table(made.folder / "benchmark_prompts" / f"{name}.parquet") for name in ("sharp", "smooth"))
    assert sharp["prompt"].tolist() == PROMPTS
    assert sharp["prompt_id"].nunique() == 3
    assert smooth["prompt"].tolist() == PROMPTS[:1]
    assert sharp["info"][0] == smooth["info"][0] == '{"object": "cat"}'


def test_a_list_with_another_number_of_prompts_is_refused(make):
    groups = {
        "sharp": {"dimensions": [SHARP], "num_prompts": 4, "samples": 2},
        "smooth": {"dimensions": [SMOOTH], "num_prompts": 1, "samples": 1},
    }
    with pytest.raises(InputError, match=f"3 prompts for {SHARP}; the suite's num_prompts is 4"):
        make(suite={"groups": groups})


def test_both_models_are_compared_on_the_same_seeds(make):
    made = make()
    with product_folder(made.round_folder / "adapter") as adapter:
        adapter.mkdir(parents=True)
        (adapter / "weights").write_bytes(b"")
    summary = finish(made)  # samples without the adapter, so that both models are the same
    assert [one["name"] for one in summary["rows"]] == ["total", "quality", "semantic", SHARP, SMOOTH]
    assert row(summary, SHARP)["base_clips"] == 6
    assert {one["delta"] for one in summary["rows"]} == {0.0}
    assert row(summary, "quality")["ci_low"] == 0.0
    assert row(summary, SMOOTH)["ci_low"] is None  # a single prompt
    assert row(summary, "total")["base"] == pytest.approx(
        0.8 * row(summary, SHARP)["base"] + 0.2 * row(summary, SMOOTH)["base"]
    )
    assert summary["notes"] == [FEW]
    assert summary["sampled"]["sampling"]["num_steps"] == 2
    assert summary["sampled"]["model"] == made.config.model.model_dump()
    assert summary["adapter"] == {"adapter/weights": hashlib.sha256(b"").hexdigest()}
    clips = read_table(made.round_folder / "benchmark" / "clips.parquet")
    assert clips.groupby("arm").size().to_dict() == {"aligned": 7, "base": 7}
    assert clips[clips["arm"] == "base"]["seed"].tolist() == clips[clips["arm"] == "aligned"]["seed"].tolist()
    assert clips["seed"].nunique() == 6


def test_the_table_is_text_csv_and_latex(make):
    made = make(arms=["base"])
    summary = finish(made)
    text = format_benchmark(summary)
    assert f"{100 * row(summary, 'total')['base']:.2f}" in text
    assert "published, Another model: total 80.00" in text
    folder = made.round_folder / "benchmark"
    with (folder / "table.csv").open() as file:
        found = {one["name"]: one for one in csv.DictReader(file)}
    assert float(found[SHARP]["base"]) == row(summary, SHARP)["base"]
    latex = (folder / "table.tex").read_text()
    assert r"imaging\_quality\_sharpness" in latex
    assert latex.count(r"\\") == 6
    assert "Another model (published)" in latex
    assert "80.00" in latex
    assert float(found["total"]["published Another model"]) == 0.8
    assert found[SHARP]["published Another model"] == ""


def test_clips_of_the_user_are_copied_and_scored_like_sampled_ones(clips_of_the_user, make):
    summary = finish(make(folders={"aligned": str(clips_of_the_user)}))
    assert {one["delta"] for one in summary["rows"]} == {0.0}
    assert summary["notes"] == [FEW]


def test_verify_finds_a_damaged_clip_and_discards_it_with_its_table(clips_of_the_user, make):
    made = make(arms=["base"], folders={"base": str(clips_of_the_user)})
    finish(made)
    assert verify(made.folder).findings == []
    table = made.round_folder / "benchmark" / "sharp" / "videos" / "base" / "shard-00000.parquet"
    clip = made.folder / read_table(table)["path"][0]
    clip.write_bytes(b"damaged")
    (found,) = verify(made.folder, discard_damaged=True).findings
    assert (made.folder / found.path, found.kind) == (clip, "damaged")
    assert not clip.exists()
    assert not table.exists()


def test_missing_clips_mark_the_mean_and_the_totals(clips_of_the_user, make):
    (clips_of_the_user / "A red cat-1.mp4").unlink()
    (clips_of_the_user / "a blue dog, walking-0.mp4").write_bytes(b"cut")
    made = make(folders={"aligned": str(clips_of_the_user)})
    summary = finish(made)
    sharp = row(summary, SHARP)
    assert (sharp["aligned_clips"], sharp["aligned_complete"], sharp["base_complete"]) == (4, False, True)
    assert not row(summary, "total")["aligned_complete"]
    assert row(summary, SMOOTH)["aligned_complete"]
    assert f"aligned, {SHARP}: incomplete, 2 clips have no score; the first one: " in summary["notes"][0]
    assert "A red cat-1.mp4: no such file" in summary["notes"][0]
    assert "*" in format_benchmark(summary)
    latex = (made.round_folder / "benchmark" / "table.tex").read_text()
    assert latex.splitlines()[-2].endswith(r"{* incomplete: clips are missing or have no score} \\")


def test_files_with_other_names_are_listed(clips_of_the_user, make):
    for name in ("a red cat.mp4", "a green cat-0.mp4", "notes.txt"):
        (clips_of_the_user / name).write_bytes(b"")
    summary = finish(make(folders={"aligned": str(clips_of_the_user)}))
    note = summary["notes"][0]
    assert note.startswith("aligned: 3 files in ")
    assert ": a green cat-0.mp4, a red cat.mp4, notes.txt; names must be <prompt>-<number>.mp4" in note


def test_a_folder_without_any_clip_gives_no_mean_and_no_total(make, tmp_path):
    (tmp_path / "empty").mkdir()
    summary = finish(make(folders={"aligned": str(tmp_path / "empty")}))
    assert row(summary, SHARP)["aligned"] is None
    assert row(summary, SHARP)["delta"] is None
    assert summary["rows"][0]["name"] == "total"
    assert row(summary, "total")["aligned"] is None
    assert "none" in format_benchmark(summary)
    assert f"no total for aligned: no score in {SHARP}, {SMOOTH}" in summary["notes"]


def test_without_all_dimensions_there_is_no_total(make):
    summary = finish(make(arms=["base"], dimensions=[SHARP]))
    assert [one["name"] for one in summary["rows"]] == [SHARP]
    assert summary["notes"] == [f"no total: 1 dimensions were not scored ({SMOOTH})"]


def test_clips_without_a_result_are_left_out_but_the_table_is_complete(make, monkeypatch):
    score = ImagingQualitySharpness.score

    def no_dog(self, clip):
        if "dog" in clip.prompt:
            raise NoResult("no frame shows the dog")
        return score(self, clip)

    monkeypatch.setattr(ImagingQualitySharpness, "score", no_dog)
    summary = finish(make(arms=["base"]))
    assert (row(summary, SHARP)["base_clips"], row(summary, SHARP)["base_complete"]) == (4, True)
    assert summary["notes"] == [f"base, {SHARP}: 2 clips without a result, which the benchmark leaves out"]


def test_scorers_see_what_the_list_says_about_the_prompt(make, monkeypatch):
    seen = {}

    def record(self, clip):
        seen[clip.prompt] = dict(clip.info)
        return 0.5

    monkeypatch.setattr(ImagingQualitySharpness, "score", record)
    finish(make(arms=["base"]))
    assert seen == {PROMPTS[0]: {"object": "cat"}, PROMPTS[1]: {}, PROMPTS[2]: {}}


def test_the_clips_keep_no_latents(make):
    made = make(arms=["base"])
    finish(made)
    videos = made.round_folder / "benchmark" / "sharp" / "videos" / "base"
    assert not list(videos.rglob("*.safetensors"))
    assert read_shards(videos)["latents"].isna().all()


def test_wrong_names_in_a_suite_are_found_before_any_job(stages, small_config, tmp_path):
    def problem(**changes):
        folders = changes.pop("folders", {})
        suite = write_suite(tmp_path, **changes)
        with pytest.raises(ConfigError) as error:
            check(stages(small_config(evaluate={"benchmark": {"suite": suite, "folders": folders}})).config)
        return str(error.value)

    assert "unknown" in problem(module="vbnech")
    assert "does not exist" in problem(prompts="none.json")
    assert "groups.smooth.samples: 6, but only 5 clips" in problem(
        groups={
            "sharp": {"dimensions": [SHARP], "num_prompts": 3, "samples": 2},
            "smooth": {"dimensions": [SMOOTH], "num_prompts": 1, "samples": 6},
        }
    )
    assert "is not a folder" in problem(folders={"base": str(tmp_path / "none")})


def test_the_summary_command_prints_the_benchmark(make):
    made = make(arms=["base"])
    summary = finish(made)
    assert summary_of(made.folder) == format_benchmark(summary)


def test_a_failed_filter_marks_only_clips_that_could_count(make, monkeypatch):
    """Of seven clips, the filter failed for the first one, which may be one of the first five, and for the last one."""

    def fail(self, clip):
        if clip.path.stem.endswith(("-0", "-6")):
            raise ValueError("the filter failed")
        return 1.0

    monkeypatch.setattr(ImagingQualitySharpness, "score", fail)
    dimensions = {
        SMOOTH: {"pillar": "quality", "min": 0.0, "max": 1.0},
        "reported": {"scorer": SMOOTH},
        SHARP: {},
    }
    group = {"dimensions": list(dimensions), "num_prompts": 3, "samples": 7}
    suite = {"groups": {"one": group}, "dimensions": dimensions, "gates": {SMOOTH: SHARP}}
    summary = finish(made := make(arms=["base"], suite=suite))
    gated, reported, gate = (row(summary, name) for name in (SMOOTH, "reported", SHARP))
    assert [(one["base_clips"], one["base_complete"]) for one in (gated, reported, gate)] == [
        (15, False),
        (15, True),
        (15, False),
    ]
    assert summary["notes"] == [
        f"base, {SHARP}: incomplete, 6 clips have no score; the first one: the filter failed",
        f"base, {SMOOTH}: incomplete, 3 clips have no score; the first one: the filter failed",
    ]
    clips = read_table(made.round_folder / "benchmark" / "clips.parquet")
    counted = clips[clips["counted"]].groupby("dimension")["sample"].unique()
    assert {name: sorted(samples) for name, samples in counted.items()} == {
        SMOOTH: [1, 2, 3, 4, 5],
        "reported": [0, 1, 2, 3, 4],
        SHARP: [0, 1, 2, 3, 4, 5, 6],
    }


def test_an_edit_of_a_scale_or_of_another_group_samples_nothing_again(stages, small_config, tmp_path):
    def texts(**changes):
        suite = write_suite(tmp_path, **changes)
        config = stages(small_config(evaluate={"benchmark": {"suite": suite}})).config
        names = [name for name in stage_names(config) if name.startswith(("benchmark_", "score/"))]
        return {name: snapshot_text(config, name) for name in names}

    def changed(after):
        return {name for name in before | after if before.get(name) != after.get(name)}

    before = texts()
    dimensions = {
        SHARP: {"pillar": "quality", "min": 0.1, "max": 1.0},
        SMOOTH: {"pillar": "semantic", "min": 0.0, "max": 1.0},
    }
    assert changed(texts(dimensions=dimensions)) == set()
    groups = {
        "sharp": {"dimensions": [SHARP], "num_prompts": 3, "samples": 2},
        "smooth": {"dimensions": [SMOOTH], "num_prompts": 1, "samples": 3},
    }
    assert changed(texts(groups=groups)) == {
        "benchmark_prompts/smooth",
        "benchmark_generate/smooth",
    }


def test_files_with_numbers_above_the_samples_of_their_group_are_odd(make, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in (f"{PROMPTS[0]}-2.mp4", f"{PROMPTS[1]}-1.mp4", f"{PROMPTS[1]}-2.mp4", f"{PROMPTS[2]}-x.mp4"):
        (folder / name).touch()

    def odd(*dimensions):
        suite = suite_of(Benchmark(suite=str(tmp_path / "suite.yaml"), dimensions=list(dimensions)))
        (note,) = unknown_files("base", str(folder), suite, read_group_prompts(made.folder, suite))
        return note.partition(" are not used: ")[2].partition(";")[0]

    made = make()
    assert odd(SHARP, SMOOTH) == f"{PROMPTS[1]}-2.mp4, {PROMPTS[2]}-x.mp4, {PROMPTS[0]}-2.mp4"
    # The other group may have any number of samples: `a red cat` is in both groups, the other prompts are not.
    assert odd(SHARP) == f"{PROMPTS[1]}-2.mp4, {PROMPTS[2]}-x.mp4"
    assert odd(SMOOTH) == f"{PROMPTS[2]}-x.mp4"


def test_a_prompt_that_is_listed_with_two_values_is_refused(make, tmp_path):
    make()
    path = tmp_path / "list.json"
    again = {"prompt_en": PROMPTS[0], "dimension": [SHARP], "auxiliary_info": {SMOOTH: {"object": "dog"}}}
    path.write_text(json.dumps([*json.loads(path.read_text()), again]))
    with pytest.raises(InputError, match="'a red cat' is listed with two values of 'object', 'cat' and 'dog'"):
        make()


def test_a_wrong_suite_hides_no_other_problem(stages, small_config, tmp_path):
    suite = write_suite(tmp_path, module="vbnech", dimensions={})
    config = small_config(evaluate={"benchmark": {"suite": suite}})
    config["model"]["family"] = "wann"
    with pytest.raises(ConfigError) as error:
        check(stages(config).config)
    assert "suite.yaml" in str(error.value)
    assert "model.family" in str(error.value)


def test_a_changed_folder_of_clips_is_noticed_at_the_next_start(make, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()

    def digest():
        return make(folders={"base": str(folder)}).snapshot("benchmark_copy/sharp").digest

    first = digest()
    assert digest() == first
    (folder / "a.mp4").touch()
    assert digest() != first
