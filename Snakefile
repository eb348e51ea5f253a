"""From prompts to an aligned text-to-video model: the table of contents of the workflow."""

import os
import signal
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

from videodpo.config import ConfigError
from videodpo.config.loading import read_config
from videodpo.runtime.compat import slurm_plugin
from videodpo.runtime.compat import snakemake as compat
from videodpo.workflow.run import Workflow, check_location, path_with_command

min_version("9.8")


# For `--sdm apptainer`; envs/videodpo.def makes it.
container: "videodpo.sif"


# A cluster that warns a job by SIGUSR1 sends it to Snakemake too, which it would end, and the stage with it.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


slurm_plugin.prepare()
compat.keep_logs()


# Jobs call the `videodpo` of the environment that runs this Snakemake, also where that is not activated.
try:
    os.environ["PATH"] = path_with_command(os.environ.get("PATH", os.defpath))
except ConfigError as error:
    raise WorkflowError(str(error)) from None


configfile: "config.yaml"


try:
    check_location(workflow.basedir)
    # Snakemake keeps the last of a key that a file has twice, in silence.
    if workflow.is_main_process:
        for file in filter(Path.is_file, map(Path, workflow.configfiles)):
            read_config(file)
    RUN = Workflow(config)
    if workflow.is_main_process and (edited := RUN.edited()):
        logger.info(f"Settings that changed: {', '.join(edited)}")
        if not Path(".snakemake/metadata").exists():
            RUN.refuse_edits()
except ConfigError as error:
    raise WorkflowError(str(error)) from None

compat.retry_unless(RUN.has_given_up)
FOLDER = RUN.folder
ROUND = f"{FOLDER}/round{{round}}"
LAST = f"{FOLDER}/round{RUN.config.rounds}"


wildcard_constraints:
    round=r"[1-9]\d*",
    shard=r"\d{5}",
    arm="base|aligned",
    dimension=r"[A-Za-z0-9_]+",
    snapshot=r"[a-z_]+|score/[A-Za-z0-9_]+",


# Snakemake's own lock does not say who has it.
if workflow.is_main_process and RUN.driver:
    logger.warning(f"{FOLDER} is being made by {RUN.driver}")


# Not at a dry run: a plan needs no weights.
onstart:
    try:
        RUN.start(rules=compat.rules_to_run(workflow), kept=compat.kept_snapshots(workflow))
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


# Where an `ancient` input is made again, Snakemake may leave out what is missing after it, and call that a success.
onsuccess:
    if missing := compat.missing_targets(workflow):
        raise WorkflowError(f"Snakemake left these out of its plan: {', '.join(missing)}; start again")


rule all:
    default_target: True
    input:
        RUN.targets,


rule tables:
    input:
        f"{LAST}/pairs.parquet",


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
include: "rules/report.smk"
