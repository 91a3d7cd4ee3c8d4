"""The import arrows: methods know tensors only; the workflow and the reports never load torch."""

import ast
import subprocess
import sys

import pytest
import yaml

from fastat import ROOT
from fastat.config.recipe import method_names
from fastat.config.schema import read_yaml

ALLOWED = {"contextlib", "dataclasses", "itertools", "math", "typing", "torch"}
ALLOWED |= {"fastat.types", "fastat.attacks", "fastat.losses", "fastat.units", "fastat.training.store"}
ALLOWED |= {"methods", "methods.atas"}  # a combination of two methods names them


@pytest.mark.parametrize("name", method_names())
def test_a_method_imports_only_tensors_and_its_tools(name):
    tree = ast.parse((ROOT / f"methods/{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {m for m in imported if m not in ALLOWED and not m.startswith("torch.")} == set()


@pytest.mark.parametrize("module", ["fastat.config.grid", "fastat.report.tidy", "fastat.report.tables", "fastat.files"])
def test_workflow_and_reports_leave_torch_unloaded(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_environment_yml_takes_the_pins_from_the_locks():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == ["-r requirements/suite.lock", "-r requirements/torch.lock"]
    text = (ROOT / "requirements/torch.lock").read_text() + (ROOT / "requirements/suite.lock").read_text()
    for pin in ("torch==2.14.1", "torchvision==0.29.1", "snakemake==9.27.1", "pyautoattack==0.2.0"):
        assert f"\n{pin}" in f"\n{text}"


def test_schema_and_catalogue_name_the_same_datasets():
    from fastat.config.catalog import CATALOG

    schema = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
    assert schema["$defs"]["dataset"]["enum"] == list(CATALOG)
