"""Benchmark of both models: its prompts, and its table of dimensions and totals from the scores of their clips."""

from videodpo.stages.benchmark.folder import make_folder
from videodpo.stages.benchmark.official import run_official
from videodpo.stages.benchmark.prompts import make_benchmark_prompts
from videodpo.stages.benchmark.stage import benchmark
from videodpo.stages.benchmark.table import format_benchmark

__all__ = ["benchmark", "format_benchmark", "make_benchmark_prompts", "make_folder", "run_official"]
