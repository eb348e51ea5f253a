"""Names of weights: allowed names, their location, and the error for missing weights."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.workspace import make_workspace, snakemake
from videodpo.cli import main
from videodpo.config import ConfigError
from videodpo.runtime import registry
from videodpo.weights.catalogue import PublishedFile, catalogue
from videodpo.weights.locations import NotFetched, check_name, digests, local_path, resolve
from videodpo.weights.needed import Needed, describe

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEODPO_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("public:ViT-B-23.pt", "did you mean 'ViT-B-32.pt'"),
        ("hub:wan", "<organisation>/<name>@<commit"),
        ("hub:an/id@main", "<organisation>/<name>@<commit"),
        ("hub:an/id", r"name the commit: hub:an/id@<commit, 40 hex digits>"),
        ("hub:microsoft/xclip-base-patch32", "name the commit: hub:microsoft/xclip-base-patch32@a2e27a7"),
        ("nowhere.pth", "does not exist; give a path, public:<file> or hub:"),
    ],
)
def test_a_wrong_name_is_refused_with_the_allowed_ones(location, message):
    with pytest.raises(ConfigError, match=message):
        check_name(location)


def test_published_weights_are_stored_in_one_folder(folder, tmp_path):
    assert local_path("public:amt-s.pth") == folder / "amt-s.pth"
    assert local_path(f"hub:an/id@{COMMIT}") == folder / "hub" / "an--id" / COMMIT
    assert local_path("here/own.pth").as_posix() == "here/own.pth"


def test_the_error_for_missing_weights_says_how_to_get_them(folder):
    for location in ("public:amt-s.pth", f"hub:an/id@{COMMIT}"):
        with pytest.raises(NotFetched, match="videodpo weights fetch"):
            resolve(location)


def test_a_file_of_the_wrong_size_is_not_used(folder, monkeypatch):
    content = b"weights"
    published = PublishedFile(
        what="", url="", sha256=hashlib.sha256(content).hexdigest(), size=len(content), licence="MIT"
    )
    monkeypatch.setitem(catalogue().files, "own.pth", published)
    folder.mkdir()
    (folder / "own.pth").write_bytes(content[:-1])
    with pytest.raises(NotFetched):
        resolve("public:own.pth")
    (folder / "own.pth").write_bytes(content)
    assert resolve("public:own.pth") == folder / "own.pth"


def test_the_digest_of_a_catalogued_file_is_known_before_it_is_fetched(folder):
    assert digests("public:amt-s.pth") == {"public:amt-s.pth": catalogue().files["amt-s.pth"].sha256}
    assert digests(f"hub:an/id@{COMMIT}") == {}


def test_the_default_weights_of_every_scorer_are_in_the_catalogue():
    for name in registry.names("videodpo.scorers"):
        kind = registry.load("videodpo.scorers", name)
        field = kind.Options.model_fields.get("weights")
        if field is not None and not field.is_required():
            for location in kind.weights(kind.Options()):
                check_name(location)


def test_list_has_size_licence_and_location_of_the_default_runs_weights(folder, capsys):
    assert main(["weights", "list"]) == 0
    lines = {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert "1.7 GB missing MIT dimensions.overall_consistency.options" in lines["public:ViClip-InternVid-10M-FLT.pth"]
    non_commercial = {name for name, line in lines.items() if "[NON-COMMERCIAL]" in line}
    assert non_commercial == {"public:amt-s.pth", "public:musiq_spaq_ckpt-358bb6af.pth"}
    assert any(name.startswith("hub:Wan-AI/") for name in lines)


@pytest.mark.parametrize("name", ["amt-s.pth", "amt-s.safetensors", "renamed.pth"])
def test_a_file_given_by_path_keeps_its_licence(tmp_path, monkeypatch, name):
    content = b"weights"
    published = PublishedFile(
        what="",
        url="",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="CC BY-NC 4.0",
        non_commercial=True,
    )
    monkeypatch.setitem(catalogue().files, "amt-s.pth", published)
    (tmp_path / name).write_bytes(content)
    table = describe([Needed(str(tmp_path / name), ("dimensions.motion_smoothness.options",), ())])
    assert "CC BY-NC 4.0 [NON-COMMERCIAL]" in table


@pytest.mark.parametrize(
    "folder",
    [
        "Wan2.1-T2V-1.3B-Diffusers",
        "Wan-AI--Wan2.1-T2V-1.3B-Diffusers/0123",
        "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers/snapshots/0123",
    ],
)
def test_a_folder_given_by_path_has_the_licence_of_its_repository(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    assert "Apache-2.0" in describe([Needed(str(tmp_path / folder), ("model",), ())])


@pytest.mark.parametrize(
    ("card", "terms"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n# A model\n", "cc-by-nc-4.0, according to its model card [NON-COMMERCIAL]"),
        ("---\nlicense: mit\n---\n", "mit, according to its model card"),
        ("---\nlicense: other\nlicense_name: a-non-commercial-license\n---\n", "[NON-COMMERCIAL]"),
        ("# A model\n", "see its model card"),
    ],
)
def test_the_licence_of_an_unknown_folder_is_read_from_its_model_card(tmp_path, card, terms):
    (tmp_path / "README.md").write_text(card)
    assert terms in describe([Needed(str(tmp_path), ("model",), ())])


def test_the_permissive_preset_needs_nothing_non_commercial(folder, capsys):
    assert main(["weights", "list", "--preset", "presets/permissive.yaml"]) == 0
    assert "NON-COMMERCIAL" not in capsys.readouterr().out


def test_missing_weights_stop_the_run_before_any_job_and_name_the_command(tmp_path):
    """All missing weights are named at once; a dry run needs none."""
    folder = make_workspace(tmp_path, {})
    assert snakemake(folder, "--profile", "profiles/local", "--cores", "1", "--dry-run").returncode == 0
    answer = snakemake(folder, "--profile", "profiles/local", "--cores", "1")
    text = answer.stdout + answer.stderr
    assert answer.returncode != 0
    assert "public:dino_vitbase16_pretrain.pth (dimensions.subject_consistency.options)" in text
    assert "hub:Wan-AI/Wan2.1-T2V-1.3B-Diffusers@" in text
    assert "videodpo weights fetch" in text
    assert not (folder / "results").exists()
