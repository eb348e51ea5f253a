"""Write the settings that one stage reads to a JSON file, so that editing other settings does not affect the stage."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from videodpo.config import (
    Config,
    ConfigError,
    OmniScore,
    Section,
    Source,
    validate,
)
from videodpo.config.benchmark import suite_of
from videodpo.config.errors import RunError
from videodpo.runtime import registry
from videodpo.runtime.benchmark_settings import BENCHMARK_KINDS, PER_GROUP_STAGES
from videodpo.runtime.digests import remembered_sha256
from videodpo.runtime.settings import KINDS, STAGES, Execution, scorer_of, scorer_options, stage_settings
from videodpo.storage.manifests import Damaged, read_json, record_text
from videodpo.weights.locations import PUBLIC_PREFIX, digests, is_published, local_path, read_manifest

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Snapshot(Generic[S]):
    """Settings of one stage, and everything else that identifies its result."""

    stage: str
    run: str
    folder: Path
    seed: int
    settings: S
    digest: str
    weights: dict[str, str]
    """SHA-256 of each weights file, by path or published name."""

    @property
    def execution(self) -> Execution:
        """Content of the run's `config/execution.json`; errors as `load_snapshot`."""
        found: Execution = load_snapshot(self.folder / "config" / "execution.json", "execution").settings
        return found

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance arguments of `write_table`."""
        return {"stage": self.stage, "digest": self.digest, "seed": self.seed}


_BENCHMARK_SCORE = "benchmark_score"  # name of the settings of a benchmark's scorers, whose stage is "score"
_UNKNOWN = "not fetched"
CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
# Increase a stage's number when its code gives other results for the same settings. Scorers and models have their own
# versions.
CODE_VERSIONS = {stage: "1" for stage in STAGES if stage not in ("score", "execution")} | {
    "generate": "3",
    "prompts": "2",
    "visits": "2",
    "train": "2",
    "evaluate": "3",
    "report": "4",
}


def stage_names(config: Config) -> list[str]:
    """Names of all snapshots of a run: the stages, and `score/<dimension>` for each scorer and judge.

    With a benchmark, also `benchmark_score/<dimension>` for each of its dimensions, and `<stage>/<group>` for stages
    that have settings for each of its groups.
    """
    scorers = [f"score/{name}" for name in (*config.dimensions, *config.evaluate.judges)]
    names = [name for name in STAGES if name != "score" and name not in BENCHMARK_KINDS] + scorers
    if (benchmark := config.evaluate.benchmark) is None:
        return names
    suite = suite_of(benchmark)
    stages = [stage for stage in BENCHMARK_KINDS if stage != "benchmark_copy" or benchmark.folders]
    for stage in stages:
        names += [f"{stage}/{group}" for group in suite.groups] if stage in PER_GROUP_STAGES else [stage]
    return names + [f"{_BENCHMARK_SCORE}/{name}" for name in suite.dimensions]


def snapshot_text(config: Config, name: str) -> str:
    """Sorted JSON of one stage's settings.

    Local weights are listed with size and time stamp; `write_snapshot` replaces these by SHA-256.

    Args:
        name: one of `stage_names`.
    """
    stage, _, dimension = name.partition("/")
    if stage == "appearance":
        dimension = config.evaluate.diversity_dimension or ""
    if stage == _BENCHMARK_SCORE:
        assert config.evaluate.benchmark is not None
        own = suite_of(config.evaluate.benchmark).dimensions[dimension]
        stage, scorer = "score", own.scorer or dimension
        # The benchmark reports what could not be scored, so failures do not stop the run, as with a judge.
        settings = {"dimension": dimension, "options": own.options, "is_judge": True}
        settings |= {"scorer": own.scorer} if own.scorer else {}
        version, locations, patterns = _scorer_and_weights(scorer, own.options, dimension)
    else:
        settings = stage_settings(config, stage, dimension)
        version, locations, patterns = _code_and_weights(config, stage, dimension)
    document = {
        "stage": stage,
        "run": config.run,
        "folder": str(Path(config.results) / config.run),
        "seed": config.seed,
        "code_version": version,
        "weights": {name: text for location in locations for name, text in _fingerprints(location, patterns).items()},
        "settings": settings,
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=True)


def write_snapshot(text: str, out: Path) -> None:
    """Write the snapshot with the SHA-256 of each weights file and input.

    Raises:
        NotFetched: a repository was not fetched, so its files are unknown.
    """
    document = json.loads(text)
    run = Path(document["folder"])
    for name, known in document["weights"].items():
        if known == _UNKNOWN:
            read_manifest(name)
        document["weights"][name] = known if is_published(name) else remembered_sha256(Path(name), run)
        file = local_path(name)
        if name.startswith(PUBLIC_PREFIX) and file.is_file() and remembered_sha256(file, run) != known:
            raise ConfigError(
                f"{file}: its sha256 is not the published one of {name!r}; remove the file and fetch it again"
            )
    record_text(out, json.dumps(document, sort_keys=True, indent=2, ensure_ascii=True) + "\n")


def write_planned(planned: Path, sha256: str, out: Path) -> None:
    """Write the snapshot of the text that the driver stored in `planned`.

    Args:
        planned: file that the driver wrote.
        sha256: SHA-256 of that file, as the driver passed it to the rule.
        out: path of the snapshot.

    Raises:
        RunError: the file is missing, or has other settings, from another driver or from an edit.
    """
    if not planned.exists():
        raise RunError(
            f"{planned}: missing; start the workflow again. A workflow that uses this one as a module must call its "
            "onstart (docs/module.md)"
        )
    text = planned.read_bytes()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise RunError(f"{planned}: these settings differ from those of the plan; start the workflow again")
    write_snapshot(text.decode(), out)


def differs(path: Path, text: str) -> bool:
    """True if the snapshot's settings or weight names differ from `text`; the weights' contents are not compared.

    False for a missing or damaged file: the stage that reads it reports the fault.
    """
    wanted = json.loads(text)
    try:
        found = _document(path, wanted["stage"])
    except (ConfigError, FileNotFoundError):
        return False
    return any(
        found[key].keys() != value.keys() if key == "weights" else found[key] != value for key, value in wanted.items()
    )


def load_snapshot(path: Path, stage: str) -> Snapshot[Any]:
    """Read a snapshot that `write_snapshot` wrote.

    Raises:
        ConfigError: the file is not a snapshot of this stage.
    """
    document = _document(path, stage)
    return Snapshot(
        stage=stage,
        run=document["run"],
        folder=Path(document["folder"]),
        seed=document["seed"],
        settings=validate(KINDS[stage], document["settings"], stage),
        digest=settings_digest(document),
        weights=document["weights"],
    )


def load_formula(run_folder: Path) -> OmniScore:
    """Read the OmniScore's settings of a run; a run on own pairs has them for its evaluation only."""
    stage = "omniscore" if (run_folder / "config" / "omniscore.json").exists() else "evaluate"
    formula: OmniScore = load_snapshot(run_folder / "config" / f"{stage}.json", stage).settings.omniscore
    return formula


def settings_digest(document: dict[str, Any]) -> str:
    """SHA-256 of a snapshot's document without the run's name and folder, which do not affect results."""
    canonical = json.dumps({**document, "run": None, "folder": None}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _document(path: Path, stage: str) -> dict[str, Any]:
    try:
        document = read_json(path)
    except Damaged as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"not a settings snapshot: {error}") from error
    keys = {"stage", "run", "folder", "seed", "code_version", "weights", "settings"}
    if not isinstance(document, dict) or document.keys() != keys:
        raise ConfigError(f"{path}: not a settings snapshot (its keys must be {', '.join(sorted(keys))})")
    if document["stage"] != stage:
        raise ConfigError(f"{path}: a snapshot for stage {document['stage']!r}, {stage!r} is needed")
    return document


def weight_files(location: str) -> list[Path]:
    """Files at a path: the file itself, or all visible files in the folder except model cards."""
    path = Path(location)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".md"]
        return sorted(file for file in files if not any(part[0] == "." for part in file.relative_to(path).parts))
    return [path]


def _code_and_weights(config: Config, stage: str, dimension: str) -> tuple[str, list[str], tuple[str, ...]]:
    """Version of the code, names of the weights, and patterns of the repository files that are read."""
    if stage == "score":
        options = scorer_options(config)[dimension]
        return _scorer_and_weights(scorer_of(config, dimension), options, dimension)
    if stage == "appearance" and dimension:
        version, locations, patterns = _code_and_weights(config, "score", dimension)
        return f"{CODE_VERSIONS[stage]}, scorer {version}", locations, patterns
    if stage == "execution":
        return "", [], ()
    source = config.prompts.source
    if stage == "prompts":
        sources = [source, config.prompts.heldout_source]
        return CODE_VERSIONS[stage], [file for one in sources if one for file in _source_files(one)], ()
    if (benchmark := config.evaluate.benchmark) and stage in ("benchmark_prompts", "benchmark"):
        suite = suite_of(benchmark)
        version = f"{CODE_VERSIONS[stage]}, suite {registry.suite_rules(suite.module).version}"
        files = [suite.prompts] if stage == "benchmark_prompts" else list(benchmark.official_results.values())
        return version, files, ()
    if stage == "pairs":
        labels = config.pairs.labels.path
        return CODE_VERSIONS[stage], [labels] if labels else [], ()
    if "model" in KINDS[stage].model_fields:
        model = registry.load("videodpo.models", config.model.family)
        return f"{CODE_VERSIONS[stage]}, model {model.version}", [config.model.weights], model.hub_files
    return CODE_VERSIONS[stage], [], ()


def _scorer_and_weights(scorer: str, options: dict[str, Any], key: str) -> tuple[str, list[str], tuple[str, ...]]:
    kind = registry.load("videodpo.scorers", scorer)
    return kind.version, kind.weights(validate(kind.Options, options, key)), kind.hub_files


def _source_files(source: Source) -> list[str]:
    """Files that determine a source's rows: none for data on the hub; for a folder of pairs, all but its clips."""
    if not source.path or source.is_on_hub:
        return []
    path = Path(source.path)
    if source.kind == "pairs" and path.is_dir():
        return [str(file) for file in weight_files(source.path) if file.suffix.lower() not in CLIP_SUFFIXES]
    return [source.path]


def _fingerprints(location: str, patterns: tuple[str, ...]) -> dict[str, str]:
    """Digest of each published file, or size and time stamp of each local one; the name alone if not fetched yet."""
    if is_published(location):
        return digests(location, patterns) or {location: _UNKNOWN}
    stats = {str(path): path.stat() for path in weight_files(location)}
    return {name: f"{stat.st_size} bytes at {stat.st_mtime_ns}" for name, stat in stats.items()}
