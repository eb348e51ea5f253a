"""Freezes what one stage reads of the configuration into a JSON file, so that an edit elsewhere changes nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from videodpo.config import (
    HUB_PREFIX,
    Config,
    ConfigError,
    Evaluate,
    Generate,
    Model,
    OmniScore,
    Pairs,
    Prompts,
    ReferenceJobs,
    Report,
    Sampling,
    Schedule,
    Section,
    Train,
    TrainRuntime,
    validate,
)
from videodpo.config.errors import RunError
from videodpo.runtime import registry
from videodpo.runtime.digests import remembered_sha256
from videodpo.storage.manifests import Damaged, read_json, record_text
from videodpo.weights.locations import PUBLIC_PREFIX, digests, is_published, local_path, read_manifest


class PromptsSettings(Section):
    """What the prompts stage reads."""

    prompts: Prompts


class GenerateSettings(Section):
    """What sampling, or the import of the user's own clips, reads."""

    from_clips: bool
    generate: Generate
    model: Model


class ScoreSettings(Section):
    """What one dimension's scoring reads."""

    dimension: str
    options: dict[str, Any]
    is_judge: bool
    """A judge need not know every prompt: the evaluation tells what it could judge."""


class OmniScoreSettings(Section):
    """What the aggregation reads."""

    omniscore: OmniScore


class PairsSettings(Section):
    """What the pairing reads."""

    pairs: Pairs


class VisitsSettings(Section):
    """What the plan of visits reads."""

    schedule: Schedule
    model: Model
    """Timesteps follow from its noise schedule."""
    sampler: Sampling | None
    """Gives the noise levels of match_sampler; None for other distributions."""


class ReferenceSettings(Section):
    """What the reference errors read."""

    reference: ReferenceJobs
    model: Model


class TrainSettings(Section):
    """What the fine-tune reads."""

    train: Train
    schedule: Schedule
    model: Model
    sampling: Sampling


class EvaluateGenerateSettings(Section):
    """What sampling for the evaluation reads."""

    sampling: Sampling
    videos_per_prompt: int
    shards: int
    model: Model


class EvaluateSettings(Section):
    """What the comparison of base and aligned reads."""

    evaluate: Evaluate
    omniscore: OmniScore
    dimensions: list[str]


class ReportSettings(Section):
    """What the page reads."""

    report: Report
    dimensions: list[str]


class Execution(Section):
    """How stages run, which changes nothing that they make: an edit here makes nothing again."""

    clip_storage: Literal["files", "tar"]
    device: str
    max_failed_fraction: float
    train_runtime: TrainRuntime


S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Snapshot(Generic[S]):
    """One stage's settings snapshots, and what else names its result."""

    stage: str
    run: str
    folder: Path
    seed: int
    settings: S
    digest: str
    weights: dict[str, str]
    """Weights file, a path or a published name: SHA-256 of its bytes."""

    @property
    def execution(self) -> Execution:
        """The run's `config/execution.json`."""
        return load_execution(self.folder)


_KINDS: dict[str, type[Section]] = {
    "prompts": PromptsSettings,
    "generate": GenerateSettings,
    "score": ScoreSettings,
    "omniscore": OmniScoreSettings,
    "pairs": PairsSettings,
    "visits": VisitsSettings,
    "reference": ReferenceSettings,
    "train": TrainSettings,
    "evaluate_generate": EvaluateGenerateSettings,
    "evaluate": EvaluateSettings,
    "report": ReportSettings,
    "execution": Execution,
}
STAGES = tuple(_KINDS)
_UNKNOWN = "not fetched"
# Raise a stage's number when its code gives other results for the same settings. Scorers and models have their own.
CODE_VERSIONS = {stage: "1" for stage in STAGES if stage not in ("score", "execution")} | {
    "generate": "3",
    "prompts": "2",
    "visits": "2",
    "train": "2",
    "evaluate": "2",
    "report": "2",
}


def stage_names(config: Config) -> list[str]:
    """Names of all snapshots of a run: stages, and `score/<dimension>` for every scorer and judge."""
    scorers = [f"score/{name}" for name in (*config.dimensions, *config.evaluate.judges)]
    return [name for name in STAGES if name != "score"] + scorers


def snapshot_text(config: Config, name: str) -> str:
    """Sorted JSON of one stage's settings; weights by name, size and time, digested later by `write_snapshot`.

    Args:
        name: a stage, or `score/<dimension>`.
    """
    stage, _, dimension = name.partition("/")
    settings = _settings(config, stage, dimension)
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
    """Write the snapshot, every weights file and input named by its SHA-256.

    Raises:
        NotFetched: a repository's files are not known before they were fetched.
    """
    document = json.loads(text)
    run = Path(document["folder"])
    for name, known in document["weights"].items():
        if known == _UNKNOWN:
            read_manifest(name)
        document["weights"][name] = known if is_published(name) else remembered_sha256(Path(name), run)
        file = local_path(name)
        if name.startswith(PUBLIC_PREFIX) and file.is_file() and remembered_sha256(file, run) != known:
            raise ConfigError(f"{file}: sha256 is not that of {name!r} as published; remove it and fetch it again")
    record_text(out, json.dumps(document, sort_keys=True, indent=2, ensure_ascii=True) + "\n")


def write_planned(planned: Path, sha256: str, out: Path) -> None:
    """`write_snapshot` of the text that the driver wrote to `planned`.

    Raises:
        RunError: the file has other settings: those of another driver, or of an edit.
    """
    text = planned.read_bytes()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise RunError(f"{planned}: not the settings that this run was planned with; start the workflow again")
    write_snapshot(text.decode(), out)


def differs(path: Path, text: str) -> bool:
    """Whether a snapshot has other settings than `text`, or names other weights; what those hold is not looked at.

    A file that is missing or damaged does not: whoever reads it says so.
    """
    wanted = json.loads(text)
    try:
        found = _document(path, wanted["stage"])
    except (ConfigError, FileNotFoundError):
        return False
    return any(
        found[key].keys() != value.keys() if key == "weights" else found[key] != value for key, value in wanted.items()
    )


def load_snapshot(path: Path, stage: str, kind: type[S]) -> Snapshot[S]:
    """Read what `write_snapshot` wrote.

    Raises:
        ConfigError: not a snapshot of this stage.
    """
    document = _document(path, stage)
    # What a run is called and where it lies is not what it is.
    canonical = json.dumps({**document, "run": None, "folder": None}, sort_keys=True, ensure_ascii=True)
    return Snapshot(
        stage=stage,
        run=document["run"],
        folder=Path(document["folder"]),
        seed=document["seed"],
        settings=validate(kind, document["settings"], stage),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        weights=document["weights"],
    )


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


def load_execution(folder: Path) -> Execution:
    """`config/execution.json` of a run's folder; errors as `load_snapshot`."""
    return load_snapshot(folder / "config" / "execution.json", "execution", Execution).settings


def weight_files(location: str) -> list[Path]:
    """Files behind a path: itself, or what the folder holds but model cards."""
    path = Path(location)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".md"]
        return sorted(file for file in files if not any(part[0] == "." for part in file.relative_to(path).parts))
    return [path]


def scorer_options(config: Config) -> dict[str, dict[str, Any]]:
    """Options of every scorer and judge, by name."""
    judges = {name: options or {} for name, options in config.evaluate.judges.items()}
    return {name: dimension.options for name, dimension in config.dimensions.items()} | judges


def _settings(config: Config, stage: str, dimension: str) -> dict[str, Any]:
    derived: dict[str, Any] = {
        "from_clips": config.prompts.source.kind == "clips",
        "dimension": dimension,
        "options": scorer_options(config).get(dimension),
        "omniscore": config.formula,
        "sampling": config.generate.sampling,
        "sampler": config.generate.sampling if config.schedule.timesteps.distribution == "match_sampler" else None,
        "videos_per_prompt": config.evaluate.videos_per_prompt,
        "shards": config.evaluate.shards,
        "dimensions": sorted(scorer_options(config)),
        "is_judge": dimension in config.evaluate.judges,
    }
    values = {}
    for field in _KINDS[stage].model_fields:
        value = derived[field] if field in derived else getattr(config, field)
        values[field] = value.model_dump() if isinstance(value, Section) else value
    return values


def _code_and_weights(config: Config, stage: str, dimension: str) -> tuple[str, list[str], tuple[str, ...]]:
    """Version of the code, names of the weights, and which files of a repository are read."""
    if stage == "score":
        scorer = registry.load("videodpo.scorers", dimension)
        options = validate(scorer.Options, _settings(config, stage, dimension)["options"], dimension)
        return scorer.version, scorer.weights(options), scorer.hub_files
    if stage == "execution":
        return "", [], ()
    source = config.prompts.source
    if stage == "prompts":
        # A data set's name has no files of ours behind it.
        files = [source.path] if source.path and not source.path.startswith(HUB_PREFIX) else []
        return CODE_VERSIONS[stage], files, ()
    if "model" in _KINDS[stage].model_fields:
        model = registry.load("videodpo.models", config.model.family)
        return f"{CODE_VERSIONS[stage]}, model {model.version}", [config.model.weights], model.hub_files
    return CODE_VERSIONS[stage], [], ()


def _fingerprints(location: str, patterns: tuple[str, ...]) -> dict[str, str]:
    """File: digest where published, else size and time; what was not fetched yet is known by its name alone."""
    if is_published(location):
        return digests(location, patterns) or {location: _UNKNOWN}
    stats = {str(path): path.stat() for path in weight_files(location)}
    return {name: f"{stat.st_size} bytes at {stat.st_mtime_ns}" for name, stat in stats.items()}
