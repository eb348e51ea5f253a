"""Private names of libraries: each exists in the installed version, and none is used outside of `runtime/compat`."""

from __future__ import annotations

import ast
import atexit
import logging
import os
import pkgutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake.api  # imported first, because its modules import each other
import snakemake_executor_plugin_slurm as plugin
import torch
from accelerate import Accelerator
from peft import LoraConfig, inject_adapter_in_model
from snakemake.scheduling.job_scheduler import JobScheduler

import videodpo
from tests.support import pretend_slurm
from videodpo.runtime.compat import slurm_plugin
from videodpo.runtime.compat.peft import measure_dora_magnitudes

PACKAGE = Path(videodpo.__file__).parent
NAMES = [
    "accelerate.utils:DistributedDataParallelKwargs",
    "diffusers:CogVideoXPipeline._prepare_rotary_positional_embeddings",
    "diffusers:LTXPipeline._pack_latents",
    "diffusers:LTXPipeline._unpack_latents",
    "diffusers:ModelMixin._cp_plan",
    "diffusers:ModelMixin._no_split_modules",
    "diffusers:ModelMixin._repeated_blocks",
    "diffusers:ModelMixin.enable_parallelism",
    "diffusers.loaders.lora_base:LORA_ADAPTER_METADATA_KEY",
    "diffusers.loaders.single_file_utils:convert_ldm_vae_checkpoint",
    "peft.tuners.lora.dora:DoraLinearLayer.update_layer",
    "pyiqa.archs.musiq_arch:MUSIQ",
    "pyiqa.archs.musiq_arch:StdConv",
    "pyiqa.data.multiscale_trans_util:get_hashed_spatial_pos_emb_index",
    "pyiqa.data.multiscale_trans_util:resize_preserve_aspect_ratio",
    "snakemake.dag:DAG.jobs",
    "snakemake.dag:DAG.needrun",
    "snakemake.jobs:Job._log",
    "snakemake.jobs:Job.remove_existing_output",
    "snakemake.jobs:Job.restart_times",
    "snakemake.jobs:Job.wildcards_dict",
    "snakemake.jobs:format_files",
    "snakemake.path_modifier:PathModifier.replace_prefix",
    "snakemake.workflow:Workflow.modifier",
    "snakemake.workflow:Workflow.touch",
    "snakemake_executor_plugin_slurm:Executor.__post_init__",
    "snakemake_executor_plugin_slurm:WorkflowError",
    "snakemake_executor_plugin_slurm:get_min_job_age",
    "snakemake_executor_plugin_slurm:query_job_status",
    "snakemake_executor_plugin_slurm:query_job_status_sacct",
    "torch:accelerator.device_count",
    "torch:ops.aten._scaled_dot_product_cudnn_attention.default",
    "torch:ops.aten._scaled_dot_product_efficient_attention.default",
    "torch:ops.aten._scaled_dot_product_flash_attention.default",
    "torch:ops.aten._scaled_dot_product_flash_attention_for_cpu.default",
    "torchvision.models.optical_flow._utils:make_coords_grid",
    "torchvision.models.optical_flow._utils:upsample_flow",
]


@pytest.mark.parametrize("name", NAMES)
def test_name_exists(name: str) -> None:
    pkgutil.resolve_name(name)


def test_accelerator_has_a_ddp_handler() -> None:
    assert hasattr(Accelerator(cpu=True), "ddp_handler")


def test_workflow_graph_has_its_target_jobs() -> None:
    assert "targetjobs" in snakemake.dag.DAG.__init__.__code__.co_names


def test_rule_has_the_function_of_its_source() -> None:
    assert "run_func" in snakemake.rules.Rule.__init__.__code__.co_names
    assert "__rule_{rulename}" in "".join(map(str, snakemake.parser.Run.start.__code__.co_consts))


def test_scheduler_reads_whether_to_keep_going() -> None:
    assert "keepgoing" in JobScheduler.__init__.__code__.co_names


def test_dora_magnitudes_follow_the_weights() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 4))
    network = inject_adapter_in_model(LoraConfig(target_modules=["0"], use_dora=True), network)
    magnitudes = next(weight for name, weight in network.named_parameters() if "magnitude" in name)
    before = magnitudes.clone()
    network[0].get_base_layer().weight.data.mul_(2)
    measure_dora_magnitudes(network)
    after = next(weight for name, weight in network.named_parameters() if "magnitude" in name)
    torch.testing.assert_close(after, 2 * before)


@pytest.mark.parametrize(("requeue", "excluded"), [(True, {"n7"}), (False, {"n7", "n3"})])
def test_failed_nodes_are_excluded_only_without_requeueing(
    requeue: bool, excluded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin.Executor, "__post_init__", plugin.Executor.__post_init__)
    monkeypatch.setattr(plugin, "query_job_status", plugin.query_job_status)
    monkeypatch.setattr(atexit, "register", lambda _: None)  # the handler would clean up after a workflow
    monkeypatch.setenv("PRETEND_SLURM", str(pretend_slurm.install(tmp_path / "slurm")))
    monkeypatch.setenv("PATH", str(tmp_path / "slurm"), prepend=os.pathsep)
    slurm_plugin.prepare()
    executor = plugin.Executor.__new__(plugin.Executor)
    executor.logger = logging.getLogger("test")
    settings = plugin.ExecutorSettings(requeue=requeue, exclude_failed_nodes="n7", logdir=tmp_path)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.__post_init__()
    executor._failed_nodes.add("n3")
    assert executor._failed_nodes == excluded


def test_private_names_of_libraries_are_used_only_in_compat() -> None:
    trees = {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    own = {name for tree in trees.values() for name in _defined(tree)}
    # Exceptions: methods of NamedTuple, and torch's reader of checkpoints, which has a subclass.
    known = own | {"_asdict", "_fields", "_replace"}
    outside = [
        f"{path}: {name}"
        for path, tree in trees.items()
        if Path("runtime/compat") not in path.parents
        for name in _private_names(tree)
        if name not in known
    ]
    assert outside == []


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def _private_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if _is_private(name):
                yield name
            case ast.ImportFrom(module=str(module)) | ast.Import(names=[ast.alias(name=module)]):
                if not module.startswith(("videodpo", "__future__")):
                    imported = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                    yield from filter(_is_private, [*module.split("."), *imported])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


RATE_LIMIT = """
from videodpo.runtime.compat import snakemake as compat

rule all:
    output: touch("all.txt")

onstart:
    compat.drop_default_rate_limit(workflow)

onsuccess:
    print("limited", workflow.scheduler.job_rate_limiter is not None)
"""


@pytest.mark.parametrize(("arguments", "limited"), [([], False), (["--max-jobs-per-timespan", "50/1s"], True)])
def test_only_the_default_rate_limit_is_dropped(arguments: list[str], limited: bool, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(RATE_LIMIT)
    answer = subprocess.run(
        ["snakemake", "--cores", "1", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert f"limited {limited}" in answer.stdout
