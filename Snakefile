# The whole suite: data -> train -> evaluate -> measured.csv -> tables, figures. `snakemake --cores all`.
import json
import shlex
import sys

sys.path.insert(0, workflow.basedir)
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(workflow.basedir))}; "
)  # `python -m fastat` works from any --directory

from fastat import runs


configfile: f"{workflow.basedir}/config/config.yaml"


try:
    runs.check_config(config)
except runs.BadInput as error:
    raise WorkflowError(str(error))

SPECS = runs.expand(config)
TABLES = expand(
    "results/tables/table{n}.{ending}", n=[1, 2], ending=["csv", "md", "tex"]
)
MEASURED = expand(
    "results/runs/{name}/{file}",
    name=[one.name for one in SPECS],
    file=["run.json", "log.csv", "eval/whitebox.csv", "eval/autoattack.csv"],
)
COST = expand("results/tables/cost.{ending}", ending=["csv", "md"])
FIGURES = expand(
    "figures/{name}.{ending}", name=["curves", "accuracy_by_eps"], ending=["svg", "png"]
)


wildcard_constraints:
    dataset="[a-z0-9_]+",
    model="[a-z0-9_]+",
    eps=r"\d+",
    method="[a-z0-9_]+",
    variant="[a-z0-9_]+",
    seed=r"\d+",


localrules:
    all,
    grid,
    tidy,
    table,
    figure,


rule all:
    input:
        MEASURED,  # named here too, so that a lost file is made again although the tables are whole
        TABLES,
        COST,
        FIGURES,


include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
