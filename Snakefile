"""Workflow from prompts to an aligned text-to-video model: targets and included rules."""

import signal
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

from videodpo.config import ConfigError
from videodpo.config.loading import read_config
from videodpo.runtime.compat import slurm_plugin
from videodpo.runtime.compat import snakemake as compat
from videodpo.workflow.run import check_location, heldout_scores, heldout_videos, once_settled, put_command_first
from videodpo.workflow.study import read_runs

min_version("9.8")


# For `--sdm apptainer`; built from envs/videodpo.def.
container: "videodpo.sif"


# A cluster that warns a job by SIGUSR1 sends the signal to Snakemake too, which would end Snakemake and the stage.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


slurm_plugin.prepare()
compat.keep_logs()
compat.shorten_lists()


# Jobs call the `videodpo` of the environment that runs this Snakemake, even if that environment is not activated.
try:
    put_command_first()
except ConfigError as error:
    raise WorkflowError(str(error)) from None


configfile: "config.yaml"


try:
    check_location(workflow.current_basedir.get_path_or_uri(secret_free=True))
    # Refuse duplicate keys: Snakemake silently keeps the last one.
    if workflow.is_main_process:
        for file in filter(Path.is_file, map(Path, workflow.configfiles)):
            read_config(file)
    RUNS = read_runs(config)
    if workflow.is_main_process and (edited := RUNS.edited()):
        logger.info(f"Settings that changed: {', '.join(edited)}")
        if not Path(".snakemake/metadata").exists():
            RUNS.refuse_edits()
    if workflow.is_main_process:
        RUNS.remove_stale_files()
except ConfigError as error:
    raise WorkflowError(str(error)) from None

FOLDER = RUNS.folder
ROUND = f"{FOLDER}/round{{round}}"
# The stages would still write to the paths without the prefix.
if any(compat.moves(workflow, f"{FOLDER}/{part}/") for part in ("config", "round1")):
    raise WorkflowError(
        "module: `prefix` and `replace_prefix` are not supported; set `results` in its `config` instead"
    )
compat.retry_unless(RUNS.has_given_up, FOLDER)


# Text and captions of `snakemake --report report.zip`; docs/report.md says what it contains.
report: "rules/report/workflow.rst"


wildcard_constraints:
    run=RUNS.pattern,
    round=r"[1-9]\d*",
    shard=r"\d{5}",
    arm="base|aligned",
    group=r"[A-Za-z0-9_]+",
    dimension=r"[A-Za-z0-9_]+",
    snapshot=r"[a-z_]+(/[A-Za-z0-9_]+)?",


# Snakemake's own lock does not name its holder.
if workflow.is_main_process:
    for driver in RUNS.drivers:
        logger.warning(driver)


# Snakemake skips `onstart` in a dry run, which needs no weights.
onstart:
    try:
        RUNS.start(compat.all_jobs(workflow, FOLDER), compat.kept_snapshots(workflow, FOLDER))
    except ConfigError as error:
        raise WorkflowError(str(error)) from None
    compat.drop_default_rate_limit(workflow)
    if RUNS.study:
        compat.keep_going(workflow)  # a failed arm does not stop the others


onerror:
    RUNS.write_results()


# If an `ancient` input is re-created, Snakemake may omit missing files that depend on it from its plan, and report
# success.
onsuccess:
    if missing := compat.missing_targets(workflow):
        raise WorkflowError(f"Snakemake omitted these from its plan: {', '.join(missing)}; start again")


rule all:
    input:
        RUNS.targets,
        # The rule `report` declares the same folder as the page; this adds its figures one by one.
        report(
            RUNS.page,
            patterns=["figures/{figure}-light.svg"],
            caption="rules/report/figure.rst",
            category="Figures",
            subcategory=RUNS.folder_of,
        ),


rule tables:
    input:
        RUNS.tables,


rule benchmark:
    input:
        RUNS.benchmark,


include: "rules/snapshot.smk"
include: "rules/prompts.smk"
include: "rules/generate.smk"
include: "rules/score.smk"
include: "rules/omniscore.smk"
include: "rules/pairs.smk"
include: "rules/visits.smk"
include: "rules/reference.smk"
include: "rules/doctor.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/benchmark.smk"
include: "rules/report.smk"
include: "rules/study.smk"
