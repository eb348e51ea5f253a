"""Registry: names to classes, including plug-ins of other packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.workspace import install_plugin
from videodpo.runtime import registry
from videodpo.scorers.base import Scorer


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package of another author: its module and its dist-info are on the path."""
    monkeypatch.syspath_prepend(str(install_plugin(tmp_path)))


@pytest.mark.parametrize("name", registry.names("videodpo.scorers"))
def test_every_file_of_a_scorer_is_a_scorer_with_a_version(name):
    scorer = registry.load("videodpo.scorers", name)
    assert issubclass(scorer, Scorer)
    assert scorer.version


def test_every_file_of_a_model_family_is_one_with_a_version():
    assert "wan" in registry.names("videodpo.models")
    assert all(registry.load("videodpo.models", name).version for name in registry.names("videodpo.models"))


def test_shared_modules_are_not_scorers():
    assert not {"base", "shared", "networks"} & set(registry.names("videodpo.scorers"))


def test_an_unknown_name_is_refused_with_the_nearest_and_the_known():
    with pytest.raises(
        ValueError, match=r"unknown scorer 'dynamic_degre_dis'; did you mean 'dynamic_degree_dis'\?"
    ) as caught:
        registry.load("videodpo.scorers", "dynamic_degre_dis")
    assert "temporal_flickering" in str(caught.value)


def test_a_plugin_is_among_the_names(plugin):
    assert "brightness" in registry.names("videodpo.scorers")
    assert "brightness" not in registry.names("videodpo.models")


def test_a_plugin_is_configured_like_any_scorer(plugin, tmp_path):
    from tests.conftest import ROOT, small_run
    from videodpo.workflow.run import Workflow

    raw = small_run(ROOT / "demo" / "text_to_video", tmp_path / "results")
    raw["dimensions"]["brightness"] = {}
    assert '"code_version": "1"' in Workflow(raw).snapshots["score/brightness"]


def test_looking_up_a_name_imports_no_other_scorer():
    code = "import sys; from videodpo.runtime import registry; registry.load('videodpo.scorers', 'temporal_flickering')"
    code += "; print([m for m in sys.modules if m.startswith('videodpo.scorers.')])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "caption_accuracy" not in answer.stdout
