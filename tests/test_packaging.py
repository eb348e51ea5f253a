"""Facts that several files of the repository state are the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

import videodpo
from tests.support.doc_pages import read_blocks
from videodpo.runtime import registry
from videodpo.storage import schemas
from videodpo.weights.catalogue import catalogue

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
APACHE_2 = "Apache License\n                           Version 2.0, January 2004"


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _locked() -> dict[str, tuple[Version, str]]:
    """Version and lines of the lock by package name, for packages that are installed on Linux."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        match = re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; (.*?))? \\", block)
        if match and (not match[3] or Marker(match[3]).evaluate({"sys_platform": "linux", "python_version": PYTHON})):
            found[_canonical(match[1])] = (Version(match[2]), block)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements() -> list[Requirement]:
    project = _project()
    names = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [Requirement(name) for name in names]


@pytest.mark.parametrize("requirement", _requirements(), ids=lambda requirement: requirement.name)
def test_lock_has_every_dependency_within_its_bound(requirement: Requirement) -> None:
    version, _ = _locked()[_canonical(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} but {version} is locked: run make lock"


def test_lock_has_a_hash_for_every_package() -> None:
    locked = _locked()
    assert len(locked) > 100
    assert [name for name, (_, block) in locked.items() if "--hash=sha256:" not in block] == []


def test_lock_has_no_index_and_no_url() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links|--trusted-host| @ ", text)


def test_lock_omits_the_packages_that_the_overrides_omit() -> None:
    lines = (ROOT / "overrides.txt").read_text(encoding="utf-8").splitlines()
    left_out = [Requirement(line).name for line in lines if line and not line.startswith("#")]
    assert left_out
    assert not set(left_out) & set(_locked())


def test_python_version_is_the_same_everywhere() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    conda = yaml.safe_load((ROOT / "envs" / "videodpo.yaml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert settings["project"]["requires-python"] == f">={PYTHON}"
    assert settings["tool"]["mypy"]["python_version"] == PYTHON
    assert settings["tool"]["ruff"]["target-version"] == f"py{PYTHON.replace('.', '')}"
    assert f"python={PYTHON}" in conda["dependencies"]
    assert set(re.findall(r"--python(?:-version)? (\S+)", makefile)) == {PYTHON}


def test_conda_environment_takes_its_packages_from_the_lock_alone() -> None:
    conda = yaml.safe_load((ROOT / "envs" / "videodpo.yaml").read_text(encoding="utf-8"))
    assert conda["dependencies"] == [f"python={PYTHON}", "pip"]
    script = (ROOT / "envs" / "videodpo.post-deploy.sh").read_text(encoding="utf-8")
    installs = [line for line in script.splitlines() if "pip install" in line]
    assert installs == [
        "python -m pip install --no-deps --require-hashes -r requirements.lock",
        "python -m pip install --no-deps --editable .",
    ]


def test_apptainer_image_takes_its_packages_from_the_lock_alone() -> None:
    definition = (ROOT / "envs" / "videodpo.def").read_text(encoding="utf-8")
    assert re.findall(r"^From: python:(\d+\.\d+)", definition, flags=re.MULTILINE) == [PYTHON]
    installs = [line.split("pip install ")[1] for line in definition.splitlines() if "pip install" in line]
    assert installs == [
        "--no-cache-dir --no-deps --require-hashes -r requirements.lock",
        "--no-cache-dir --no-deps --no-build-isolation .",
    ]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for requirement in map(Requirement, build):  # without isolation, the build uses the locked packages
        assert requirement.specifier.contains(_locked()[_canonical(requirement.name)][0])
    copied = re.findall(r"^    (\S+) /opt/videodpo/(\S+)$", definition, flags=re.MULTILINE)
    assert {"requirements.lock", "pyproject.toml", "src"} <= {source for source, _ in copied}
    assert [source for source, target in copied if source != target or not (ROOT / source).exists()] == []
    assert not re.search(r"https?://|index-url|find-links|trusted-host", definition)
    snakefile = (ROOT / "Snakefile").read_text(encoding="utf-8")
    (image,) = re.findall(r'^container: "(\S+)"', snakefile, flags=re.MULTILINE)
    assert f"apptainer build {image} envs/videodpo.def" in definition


def _profile() -> dict[str, Any]:
    text = (ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    profile: dict[str, Any] = yaml.safe_load(text)
    return profile


def _rules() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))


def _submitted() -> set[str]:
    """Rules that run as jobs of a cluster: all but the local rules."""
    bodies = re.split(r"^rule (\w+):$", _rules(), flags=re.MULTILINE)[1:]
    return {name for name, body in zip(bodies[::2], bodies[1::2], strict=True) if "localrule: True" not in body}


def _asked_for(rule: str, attempt: int) -> tuple[int, int]:
    """Megabytes and minutes that a rule requests from SLURM for one process."""
    values = _profile()["default-resources"] | _profile()["set-resources"].get(rule, {})
    memory, minutes = (eval(values[name], {"attempt": attempt, "threads": 1}) for name in ("mem_mb", "runtime"))
    return memory, minutes


def test_slurm_page_has_the_resources_of_each_rule_in_the_profile() -> None:
    page = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z_, ]+) \|[^|]*\| (\d+) GB[^|]*\| (\d+) (h|min) \|$", page, flags=re.MULTILINE)
    minutes = {"h": 60, "min": 1}
    documented = {
        rule: (1000 * int(memory), int(time) * minutes[unit])
        for names, memory, time, unit in rows
        for rule in names.split(", ")
    }
    assert documented == {rule: _asked_for(rule, 1) for rule in _submitted()}


def test_a_second_try_requests_twice_the_memory_and_time() -> None:
    for rule in _submitted():
        memory, minutes = _asked_for(rule, 1)
        assert _asked_for(rule, 2) == (2 * memory, 2 * minutes), rule


def test_memory_and_time_of_jobs_are_only_in_the_slurm_profile() -> None:
    assert set(_profile()["set-resources"]) <= _submitted()
    assert not re.search(r"\b(mem_mb|runtime)=", _rules())


def test_every_rule_names_a_conda_environment() -> None:
    for rules in sorted((ROOT / "rules").glob("*.smk")):
        text = rules.read_text(encoding="utf-8")
        named = re.findall(r'"\.\./envs/(\w+)\.yaml"', text)
        assert text.count("\nrule ") + text.startswith("rule ") == len(named), rules.name
        assert set(named) <= {"videodpo", "vbench"}


def test_the_benchmarks_own_program_has_an_environment_and_an_image_of_its_own() -> None:
    rule = _rules().partition("rule benchmark_official:")[2].partition("\nrule ")[0]
    assert ('"../envs/vbench.yaml"' in rule, '"vbench.sif"' in rule) == (True, True)
    definition = (ROOT / "envs" / "vbench.def").read_text(encoding="utf-8")
    assert "apptainer build vbench.sif envs/vbench.def" in definition
    assert "From: videodpo.sif" in definition
    for file in (definition, (ROOT / "envs" / "vbench.post-deploy.sh").read_text(encoding="utf-8")):
        assert re.search(r"pip install .*-r \S*vbench\.txt", file)
    lines = (ROOT / "envs" / "vbench.txt").read_text(encoding="utf-8").splitlines()
    pins = {one.name: str(one.specifier) for one in map(Requirement, _without_comments(lines))}
    assert (pins["vbench"], pins["transformers"], pins["numpy"]) == ("==0.1.5", "==4.33.2", "<2")


def _without_comments(lines: list[str]) -> list[str]:
    return [text for line in lines if (text := line.partition("#")[0].strip())]


def test_the_licence_file_is_the_one_named_in_pyproject() -> None:
    project = _project()
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert APACHE_2 in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_slurm_profile_is_found_from_a_fresh_clone() -> None:
    link = ROOT / "slurm"
    assert link.is_symlink()
    assert link.readlink() == Path("profiles/slurm")
    assert (link / "config.yaml").is_file()


@pytest.mark.parametrize(("page", "profile"), [("local", "profiles/local"), ("slurm", "slurm")])
def test_pages_show_the_commands_of_each_environment(page: str, profile: str) -> None:
    blocks = [block.text for block in read_blocks(f"docs/{page}.md") if block.language == "bash"]
    commands = [line.partition(" #")[0].rstrip() for line in "".join(blocks).splitlines()]
    image = next(line for line in commands if line.startswith("apptainer build"))
    assert image.split()[2] in re.findall(r'"(\S+\.sif)"', (ROOT / "Snakefile").read_text(encoding="utf-8"))
    assert {"make setup", f"snakemake --profile {profile} --sdm conda"} <= set(commands)
    assert any(line.startswith(f"snakemake --profile {profile} --sdm apptainer --apptainer-args") for line in commands)
    files = [word for line in commands for word in line.split() if word.startswith("envs/")]
    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_catalogue_names_a_profile_and_software_that_are_there() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    flag, profile = usage["mandatory-flags"]["flags"].split()
    assert flag == "--profile"
    assert (ROOT / profile / "config.yaml").is_file()
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": True}  # the two tests above
    assert usage["report"] is True  # tests/full/test_report_archive.py


def test_no_profile_is_loaded_by_default() -> None:
    assert not (ROOT / "profiles" / "default").exists()


def test_extending_page_lists_the_subpackages_in_the_order_of_the_import_contract() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    names = [name for layer in layers for name in layer.split(" | ") if name != "__main__"]
    assert len(names) == 13
    assert re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE) == names


def test_licences_page_has_the_licence_of_every_weights_file_in_the_catalogue() -> None:
    rows = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8").splitlines()
    known = catalogue()
    for name, published in {**known.files, **known.repositories}.items():
        (row,) = [row for row in rows if row.startswith("|") and f"`{name}`" in row]
        licence = row.split("|")[3]
        assert published.licence.partition(";")[0] in licence, name
        assert ("non-commercial" in licence) == published.non_commercial, name


def test_licences_page_has_every_dependency() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    extras = _project()["optional-dependencies"]
    needed = [Requirement(name).name for name in (*_project()["dependencies"], *extras["judge"], *extras["lowbit"])]
    assert [name for name in needed if f"`{name}`" not in page] == []


def test_citation_has_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == videodpo.__version__
    assert citation["license"] == _project()["license"]
    assert {"cff-version", "message", "title", "authors", "references"} <= citation.keys()


def test_readme_and_contributing_are_short() -> None:
    lines = {
        name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in ("README.md", "CONTRIBUTING.md")
    }
    assert lines["README.md"] <= 150
    assert lines["CONTRIBUTING.md"] < 60


def test_scorers_page_has_a_line_for_every_scorer() -> None:
    page = (ROOT / "docs" / "scorers.md").read_text(encoding="utf-8")
    assert [name for name in registry.names("videodpo.scorers") if f"| {name} |" not in page] == []


def test_tables_page_has_every_column() -> None:
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    listed = {
        name.strip() for row in re.findall(r"^\| ([^|]*) \|", page, flags=re.MULTILINE) for name in row.split(",")
    }
    drift = {f"{side}_drift_{bucket}" for side in ("winner", "loser") for bucket in range(schemas.DRIFT_BUCKETS)}
    assert {"winner_drift_0..3", "loser_drift_0..3"} <= listed
    tables = [value for value in vars(schemas).values() if isinstance(value, pa.Schema)]
    assert len(tables) >= 10
    assert {name for table in tables for name in table.names} - drift - listed == set()
