"""Checks of a configuration before any job: names of plug-ins, their options, weights, prompts. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from videodpo.config import Config, ConfigError, InputError, Prompts, validate
from videodpo.config.benchmark import Benchmark, Suite, official_groups, read_suite, suite_of
from videodpo.runtime import registry
from videodpo.runtime.settings import scorer_of, scorer_options
from videodpo.stages.prompts.check import check_prompts
from videodpo.weights.locations import check_name, is_published

BENCHMARK = "evaluate.benchmark"


def check(config: Config) -> None:
    """Check what types cannot express: plug-in names and options, weights, prompts.

    Raises:
        ConfigError: something is wrong; one message lists all problems.
    """
    tests: list[Callable[[], None]] = []
    tests += [
        partial(_check_scorer, options_key(config, name), scorer_of(config, name), block)
        for name, block in scorer_options(config).items()
    ]
    tests.append(partial(_check_diversity, config))
    tests.append(partial(_check_benchmark, config.evaluate.benchmark))
    tests.append(partial(_check_model, config))
    tests.append(partial(_check_labels, config))
    tests.append(partial(_check_prompts, config.prompts.model_dump_json(), config.max_failed_fraction))
    _run_all(tests)


def _run_all(tests: Iterable[Callable[[], None]]) -> None:
    """Run all tests, and raise one ConfigError for the problems of all."""
    problems: list[str] = []
    for test in tests:
        try:
            test()
        except ConfigError as error:
            problems.append(str(error).removeprefix("configuration: "))
    if problems:
        raise ConfigError("configuration: " + "\n  ".join(problems))


def options_key(config: Config, name: str) -> str:
    """Key of the options of a scorer or judge in the configuration."""
    return f"dimensions.{name}.options" if name in config.dimensions else f"evaluate.judges.{name}"


def _check_scorer(key: str, name: str, block: Mapping[str, Any]) -> None:
    try:
        scorer = registry.load("videodpo.scorers", name)
        options = validate(scorer.Options, block, key)
        for location in scorer.weights(options):
            _check_weights(f"{key}.weights", location)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key.removesuffix('.options')}: {error}") from error
    try:
        scorer.check(options)
    except ValueError as error:
        raise ConfigError(f"{key}.{error}") from error


def _check_benchmark(benchmark: Benchmark | None) -> None:
    if benchmark is None:
        return
    suite = suite_of(benchmark)
    tests: list[Callable[[], None]] = [
        partial(_check_scorer, f"{benchmark.suite}: dimensions.{name}.options", one.scorer or name, one.options)
        for name, one in suite.dimensions.items()
    ]
    _run_all([*tests, partial(_check_suite, benchmark, suite)])


def _check_suite(benchmark: Benchmark, suite: Suite) -> None:
    try:
        rules = registry.suite_rules(suite.module)
    except ValueError as error:
        raise ConfigError(f"{benchmark.suite}: module: {error}") from error
    try:
        rules.check(read_suite(benchmark.suite))
    except ConfigError as error:
        raise ConfigError(f"{benchmark.suite}: {error}") from error
    _check_weights(f"{benchmark.suite}: prompts", suite.prompts)
    if benchmark.official_files and not rules.official_program:
        raise ConfigError(
            f"{BENCHMARK}.official: {benchmark.suite} has no program of its own; remove the official keys"
        )
    for arm, file in benchmark.official_results.items():
        if not Path(file).is_file():
            raise ConfigError(f"{BENCHMARK}.official_results.{arm}: {file!r} is not a file")
        try:
            rules.read_official(Path(file), official_groups(benchmark))
        except InputError as error:
            raise ConfigError(f"{BENCHMARK}.official_results.{arm}: {error}") from error
    for arm, folder in benchmark.folders.items():
        if not Path(folder).is_dir():
            raise ConfigError(f"{BENCHMARK}.folders.{arm}: {folder!r} is not a folder")


def _check_diversity(config: Config) -> None:
    name = config.evaluate.diversity_dimension
    if name is not None and not registry.load("videodpo.scorers", scorer_of(config, name)).embeds_frames:
        reason = "does not embed frames; use subject_consistency, background_consistency, or their *_clip variant"
        raise ConfigError(f"evaluate.diversity_dimension: {name!r} {reason}")


def _check_model(config: Config) -> None:
    try:
        model = registry.load("videodpo.models", config.model.family)
    except ValueError as error:
        raise ConfigError(f"model.family: {error}") from error
    _check_weights("model.weights", config.model.weights, model.index)
    validate(model.Options, config.model.options, "model.options")
    if config.generate.sampling.flow_shift is not None and not model.takes_flow_shift:
        raise ConfigError(
            f"generate.sampling.flow_shift: {config.generate.sampling.flow_shift:g}; the family "
            f"{config.model.family} has no flow shift and takes null only"
        )
    problems = []
    for number, sampling in enumerate(config.generate.sampling.sizes):
        try:
            model.check(config.model, sampling)
        except ValueError as error:
            if not number:  # the sampling's own size; the problem may concern all sizes
                raise ConfigError(str(error)) from error
            reason = str(error).removeprefix("generate.sampling: ")
            problems.append(f"generate.sampling.buckets.{number - 1}: {reason}")
    if problems:
        raise ConfigError("\n  ".join(problems))


def _check_labels(config: Config) -> None:
    path = config.pairs.labels.path
    if path and (not Path(path).is_file() or path.endswith(".json")):
        raise ConfigError(
            f"pairs.labels.path: {path!r} is no table of votes; `videodpo labels import` writes one to "
            "<results>/<run>/labels.parquet"
        )


@cache
def _check_prompts(prompts: str, max_missing: float) -> None:
    """Check the source of the prompts, given as JSON; once for all runs of a study."""
    check_prompts(Prompts.model_validate_json(prompts), max_missing)


def _check_weights(key: str, location: str, needed: str | None = None) -> None:
    try:
        check_name(location)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    if needed and not is_published(location) and not (Path(location) / needed).is_file():
        raise ConfigError(f"{key}: {location!r} has no {needed}; give a model folder of this family")
