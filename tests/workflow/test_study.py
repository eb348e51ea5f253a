"""Planned jobs of a study: no arm computes files that another has, and no job writes through a link."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, small_run
from tests.support.studies import CALL, STUDY, make_study, planned, runs_of, with_arm
from tests.support.workspace import make_workspace, snakemake, without_default_scorers
from videodpo.config import ConfigError
from videodpo.config.loading import read_config
from videodpo.workflow.sharing import Sharing
from videodpo.workflow.study import StudyRuns, read_runs

SHARED, ARMS = "shared/seed3", ["dpo/seed3", "plain/seed3", "sft/seed3"]


@pytest.fixture
def study(random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function that reads the study of `STUDY` with some keys replaced."""

    def read(**changes: Any) -> StudyRuns:
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY | changes, sort_keys=False), encoding="utf-8")
        runs = read_runs({**small_run(random_model, Path("results")), "study": "study.yaml"})
        assert isinstance(runs, StudyRuns)
        return runs

    monkeypatch.chdir(tmp_path)
    return read


def owners(runs: StudyRuns, file: str) -> dict[str, str]:
    """Run that computes a file, by arm."""
    return {name.partition("/")[0]: runs.sharing.owner(name, file).partition("/")[0] for name in runs.arms}


def test_arms_share_all_files_that_depend_on_equal_settings(random_model, tmp_path):
    jobs = planned(make_study(tmp_path, random_model))
    for rule in ("prompts", "generate", "score", "omniscore", "visits", "reference"):
        assert runs_of(jobs, rule) == [SHARED], rule
    assert runs_of(jobs, "pairs") == ["plain/seed3", SHARED]
    for rule in ("doctor", "train", "evaluate", "report"):
        assert runs_of(jobs, rule) == ARMS, rule
    assert runs_of(jobs, "evaluate_generate") == [*ARMS[:2], *sorted([ARMS[2], SHARED])]
    assert not (tmp_path / "results").exists()


def test_visits_are_shared_exactly_by_arms_with_equal_inputs(study):
    arms = {
        "same": {"about": "-"},
        "shift": {"about": "-", "overlay": {"schedule": {"timesteps": {"shift": 2.0}}}},
        "random": {"about": "-", "overlay": {"pairs": {"policy": "random"}}},
        "weights": {"about": "-", "overlay": {"pairs": {"reweight": {"exponent": 0.0}}}},
        "online": {"about": "-", "overlay": {"train": {"reference": "online"}}},
    }
    runs = study(arms=arms, findings=[])
    assert owners(runs, "round1/pairs.parquet")["shift"] == "shared"
    visits = {"same": "shared", "shift": "shift", "random": "random", "weights": "shared", "online": "shared"}
    assert owners(runs, "round1/visits.parquet") == visits
    assert owners(runs, "round1/reference/shard-00000.parquet") == visits | {"online": "online"}


def test_an_arm_with_an_additional_scorer_scores_only_that_one(study):
    added = {"dimensions": {"dynamic_degree_dis": {}}}
    runs = study(arms={"same": {"about": "-"}, "more": {"about": "-", "overlay": added}}, findings=[])
    assert owners(runs, "round1/scores/temporal_flickering") == {"same": "shared", "more": "shared"}
    assert owners(runs, "round1/scores/dynamic_degree_dis")["more"] == "more"
    configs = runs.score_configs("round{round}/scores", judges=False)
    assert callable(configs)
    assert configs({"run": "more/seed3", "round": "1"}) == [
        "results/tiny/more/seed3/config/score/dynamic_degree_dis.json"
    ]
    assert len(configs({"run": SHARED, "round": "1"})) == 2


def test_arms_with_the_same_training_share_it(study):
    arms = {"one": {"about": "-"}, "two": {"about": "-", "overlay": {"report": {"num_pairs": 1}}}}
    runs = study(arms=arms, findings=[])
    for file in ("round1/adapter", "round1/evaluation/videos/aligned/shard-00000.parquet"):
        assert owners(runs, file) == {"one": "one", "two": "one"}
    assert owners(runs, "round1/evaluation/summary.json") == {"one": "one", "two": "two"}


def test_seeds_share_nothing(study):
    runs = study(seeds=[3, 4])
    assert runs.sharing.owner("dpo/seed3", "prompts.parquet") == "shared/seed3"
    assert runs.sharing.owner("dpo/seed4", "prompts.parquet") == "shared/seed4"


def test_a_later_round_is_shared_if_its_adapter_is(study):
    arms = {name: {"about": "-", "overlay": {"rounds": 2}} for name in ("one", "two")}
    runs = study(arms=arms, findings=[])
    assert owners(runs, "round2/videos") == {"one": "one", "two": "one"}
    assert owners(runs, "round1/reference") == {"one": "shared", "two": "shared"}


def test_a_new_first_arm_does_not_take_over_files_of_earlier_arms(study):
    plain = STUDY["arms"]["plain"]
    before = study(arms={"a": plain, "b": plain}, findings=[])
    before.sharing.make_links()
    after = study(arms={"new": plain, "a": plain, "b": plain}, findings=[])
    assert owners(after, "round1/pairs.parquet") == {"new": "a", "a": "a", "b": "a"}


def test_links_are_updated_after_an_edit_and_no_file_is_written_through_one(study):
    study().sharing.make_links()
    link = Path("results/tiny/dpo/seed3/round1/videos")
    assert link.readlink() == Path("../../../shared/seed3/round1/videos")
    changed = study(arms=with_arm("dpo", generate={"sampling": {"num_steps": 3}}))
    changed.remove_stale_files()
    assert not link.is_symlink()
    assert Path("results/tiny/plain/seed3/round1/videos").is_symlink()
    link.mkdir()
    (link / "own.txt").touch()
    study().sharing.make_links()
    assert link.is_symlink()
    assert not (link / "own.txt").exists()


def test_a_target_that_is_a_link_is_refused(random_model, tmp_path):
    make_study(tmp_path, random_model)
    target = "results/tiny/dpo/seed3/round1/videos/shard-00000.parquet"
    answer = snakemake(tmp_path, "--cores", "1", target, *CALL[1:])
    assert answer.returncode != 0
    assert (
        f"{target}: is a link to results/tiny/shared/seed3/round1/videos/shard-00000.parquet; request" in answer.stderr
    )


def test_problems_of_all_arms_are_listed_at_once_with_their_arm(study):
    arms = {
        "good": {"about": "-"},
        "typo": {"about": "-", "overlay": {"pairs": {"polcy": "all"}}},
        "shards": {"about": "-", "overlay": {"generate": {"shards": 2}}},
        "preset": {"about": "-", "overlay": {"presets": ["gone.yaml"]}},
    }
    with pytest.raises(ConfigError) as caught:
        study(arms=arms, findings=[])
    message = str(caught.value)
    assert "arm typo: pairs.polcy: unknown key (value 'all'); did you mean 'policy'?" in message
    assert "arm shards: generate.shards: 2, but 1 without the arm's overlay; set it in `common`" in message
    assert "arm preset: gone.yaml: not readable" in message
    assert "good" not in message


def test_a_problem_of_the_base_is_listed_once(study):
    with pytest.raises(ConfigError) as caught:
        study(common={"rounds": 0, "train": {"beta": -1.0}})
    message = str(caught.value)
    assert message.count("rounds: 0") == message.count("train.beta: -1.0") == 1
    assert "study.yaml: base and common: " in message
    assert "arm" not in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": [1, 1]}, "seeds: 1 is listed twice"),
        ({"seeds": []}, "seeds: []: List should have at least 1 item"),
        ({"name": "a/b"}, "name: 'a/b' is not allowed"),
        ({"arms": {"shared": {"about": "-"}}, "findings": []}, "arms.shared: the name 'shared' is reserved"),
        ({"arms": {"a b": {"about": "-"}}, "findings": []}, "arms.a b: a name has letters"),
        ({"arms": {"a": {"about": "-", "overlay": {"seed": 1}}}, "findings": []}, "arms.a.overlay.seed: 1; the study"),
        ({"findings": [{"claim": "-", "arm": "dop"}]}, "findings.0.arm: 'dop' is not among the arms (dpo, plain, sft)"),
        (
            {"findings": [{"claim": "-", "arm": "dpo", "against": "x"}]},
            "findings.0.against: 'x' is neither base nor an",
        ),
        ({"arm": {}}, "arm: unknown key (value {}); did you mean 'arms'?"),
    ],
)
def test_a_wrong_study_is_refused_by_key(study, changes, expected):
    with pytest.raises(ConfigError) as caught:
        study(**changes)
    assert str(caught.value).startswith("study.yaml: ")
    assert expected in str(caught.value)


def test_extended_arms_and_their_findings_are_left_out_by_default(study, random_model):
    plain = STUDY["arms"]["plain"] | {"extended": True}
    runs = study(arms=STUDY["arms"] | {"plain": plain})
    assert list(runs.arms) == ["dpo/seed3", "sft/seed3"]
    assert [finding.against for finding in runs.study.findings] == ["base", "sft"]
    raw = small_run(random_model, Path("results"))
    extended = read_runs({**raw, "study": "study.yaml", "study_extended": "true"})
    assert len(extended.runs) == 4


def test_the_target_benchmark_of_a_study_is_refused(study):
    with pytest.raises(ConfigError, match="benchmark: a study has none"):
        study().benchmark(None)


def test_the_target_study_without_a_study_file_is_refused(random_model, tmp_path):
    make_workspace(tmp_path, without_default_scorers(small_run(random_model, Path("results"))))
    answer = snakemake(tmp_path, "--dry-run", "study", "--configfile", "overlay.yaml")
    assert answer.returncode != 0
    assert "study: missing; choose one, for example --config study=studies/core.yaml" in answer.stdout


def test_the_core_study_is_valid_and_sixteen_arms_with_three_seeds_are_read_in_seconds(monkeypatch):
    monkeypatch.chdir(ROOT)
    raw = read_config(Path("config.yaml")) | {"study": "studies/core.yaml"}
    begun = time.perf_counter()
    runs = read_runs(raw)
    assert time.perf_counter() - begun < 10
    assert isinstance(runs, StudyRuns)
    assert len(runs.arms) <= 16 * 3
    assert len({finding.claim for finding in runs.study.findings}) >= 9
    assert owners(runs, "round1/videos") == dict.fromkeys((name.partition("/")[0] for name in runs.arms), "shared")
    assert len(read_runs(raw | {"study_extended": "true"}).runs) > len(runs.runs)


def test_the_plan_is_stored_without_settings_of_file_locations(study):
    runs = study()
    assert json.loads(json.dumps(runs.plan)) == runs.plan
    assert [run["folder"] for run in runs.plan["runs"]] == ARMS
    assert Sharing(runs.runs, [SHARED], Path(runs.root)).owner_of_key == runs.sharing.owner_of_key


def test_a_study_cannot_have_the_name_of_a_run(study):
    Path("results/tiny/config").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"study\.yaml: name: 'tiny': results/tiny is the folder of a run"):
        study()
