# The whole suite: data -> train -> evaluate -> gather -> judge, draw, report. `snakemake --cores all`.
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.logging import logger
from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, workflow.basedir)
os.environ.update(FASTAT_ROOT=str(workflow.basedir))  # for workflow/envs/fastat.yaml
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(workflow.basedir))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; "
)  # `python -m fastat` works from any --directory

from fastat.config import (
    absent,
    catalog,
    cluster,
    estimates,
    external,
    grid,
    own_data,
    slurm,
)
from fastat.config.networks import network_option
from fastat.config.recipe import resolve
from fastat.config.schema import typed
from fastat.config.spec import PATTERN, RunSpec
from fastat.errors import BadInput
from fastat.report.contents import FIGURE_SIDES, FIGURES, TABLES, drawn, where


configfile: f"{workflow.basedir}/config/config.yaml"


try:
    catalog.learn(Path("results"))
    # Read again: Snakemake forgives a repeated key, and passes numbers inside mappings of `--config` as text.
    config = grid.load_config(
        workflow.overwrite_configfiles, typed(workflow.config_settings.config)
    )
    PLAN = estimates.read(Path("results"))
except BadInput as error:
    raise WorkflowError(str(error))

if workflow.is_main_process:
    for line in (
        *grid.warnings(config),
        *absent.lines(grid.every_run(config), config, Path("results")),
    ):
        logger.warning(f"warning: {line}")
CONFIG = json.dumps(config, indent=1)  # results/config.json, which later verbs read
SPECS = grid.every_run(config)
MEASURED = [
    f"results/runs/{one.name}/{file}"
    for one in SPECS
    for file in grid.result_files(one, config)
]
WITHOUT_AUTOATTACK = [
    one.name
    for one in grid.expand(config)
    if not one.subset and not grid.is_under_autoattack(one, config)
]
DRAWN = drawn(config)
JUDGED = expand("results/{name}.csv", name=["verdicts", "claims", "pairs", "sanity"])
COST = expand("results/tables/cost.{ending}", ending=["csv", "md"])


report: "workflow/report/workflow.rst"


# Taken by `--sdm apptainer` alone; containers/fastat.def makes it.
container: "fastat.sif"


wildcard_constraints:
    dataset="[a-z0-9_]+",
    model="[a-z0-9_]+",
    eps=r"\d+",
    method="(?!external/)[a-z0-9_]+",  # of a training: external networks have rules of their own
    variant="[a-z0-9_]+",
    seed=r"\d+",


localrules:
    all,
    grid,
    tidy,
    figure_data,
    theory,
    judge,
    draw,
    page,


rule all:
    input:
        MEASURED,  # named here too, so that a lost file is made again although the tables are whole
        COST,
        JUDGED,
        expand(
            "results/tables/{name}.{ending}", name=TABLES, ending=["csv", "md", "tex"]
        ),
        expand("figures/{name}.{ending}", name=DRAWN, ending=["svg", "png"]),
        "results/report/index.html",


include: "workflow/rules/resources.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


onstart:
    try:
        if not workflow.deployment_settings.deployment_method:
            absent.check_python()
        if (
            workflow.executor_settings.__class__.__module__
            == "snakemake_executor_plugin_slurm"
        ):
            asked = workflow.resource_settings
            cluster.check_resources(
                asked.default_resources or (), asked.overwrite_resources
            )
            for line in slurm.check_jobs(
                (job.name, dict(job.resources))
                for job in workflow.dag.needrun_jobs()
                if not job.is_local
            ):
                logger.warning(f"warning: {line}")
    except BadInput as error:
        raise WorkflowError(str(error))
    # before the first job: those that read other data sets could take hours
    to_prepare = {
        job.wildcards.dataset
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "data"
    }
    if gone := absent.own(to_prepare, config):
        raise WorkflowError("\n".join(gone))


onsuccess:
    if Path("results/report/index.html").exists():  # not after `--until train`
        shell(
            "python -m fastat agree --alike || true"
        )  # with the documentation's runs, of which it may have some
        print(where(Path("results")))


onerror:
    # what failed stays failed, and is tried again next time; what is there is reported all the same
    if Path("results/runs").is_dir():
        Path("results/config.json").write_text(CONFIG, encoding="utf-8")
        shell("python -m fastat report --configfile results/config.json || true")
