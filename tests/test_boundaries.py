"""The import arrows: methods know tensors only, no arrow runs up or in a circle, the report never loads torch."""

import ast
import itertools
import subprocess
import sys

import pytest
import yaml

from fastat import ROOT
from fastat.config.recipe import method_names

# The rooms from the ground up: each imports only what stands before it. Flat files are named as they are.
FLOORS = (
    "__init__", "errors", "units", "config", "machine", "types", "adam", "attacks", "features", "losses", "data",
    "store", "methods", "networks", "training", "library", "evaluation", "report", "evaluator", "exchange", "cost",
    "arguments", "completion", "cli", "__main__",
)  # fmt: skip
TOOLS = {"contextlib", "dataclasses", "itertools", "math", "typing", "torch", "methods"}
FLAT = {f"fastat.{name}" for name in ("adam", "attacks", "features", "losses", "store", "types", "units")}


def imported(path):
    """`fastat.report.tidy.CELL` for every name that a file imports, wherever in it."""
    tree = ast.parse(path.read_text())
    if path == ROOT / "fastat/__init__.py":  # what it shows to editors is imported when it is asked for
        tree.body = [node for node in tree.body if ast.unparse(getattr(node, "test", tree)) != "TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    """`fastat/report/tidy.py` -> `report`, `fastat/units.py` -> `units`, `methods/atas.py` -> `methods`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "methods" else parts[1]


def target(module):
    """The room that an import leads to; None: outside, or the face of the package."""
    parts = module.split(".")
    if parts[0] == "methods":
        return "methods"
    return parts[1] if parts[0] == "fastat" and len(parts) > 1 and parts[1] in FLOORS else None


def sources():
    """Our own modules."""
    return itertools.chain((ROOT / "fastat").rglob("*.py"), (ROOT / "methods").glob("*.py"))


@pytest.mark.parametrize("name", method_names())
def test_a_method_imports_torch_other_methods_and_the_flat_files(name):
    modules = {m for m in imported(ROOT / f"methods/{name}.py") if m.split(".")[0] not in TOOLS}
    assert {m for m in modules if m not in FLAT and m.rpartition(".")[0] not in FLAT} == set()


def test_no_import_leads_up():
    for path in sources():
        for module in imported(path):
            there = target(module)
            assert there is None or FLOORS.index(there) <= FLOORS.index(room(path)), f"{path} imports {module}"


def test_no_modules_import_one_another_in_a_circle():
    named = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in sources()}
    arrows = {
        name: {m if m in named else m.rpartition(".")[0] for m in imported(path)} & named.keys()
        for name, path in named.items()
    }
    while leaves := {name for name, out in arrows.items() if not out}:
        arrows = {name: out - leaves for name, out in arrows.items() if name not in leaves}
    assert not arrows


def test_tests_and_benchmarks_import_neither_one_another_nor_the_entry_point():
    for folder, other in (("tests", "benchmarks"), ("benchmarks", "tests")):
        stems = {path.stem for path in (ROOT / other).rglob("*.py")}
        for path in (ROOT / folder).rglob("*.py"):
            for module in imported(path):
                first = module.split(".")[0]
                assert first != other and first not in stems and "__main__" not in module, f"{path} imports {module}"


@pytest.mark.parametrize("folder", ["fastat/config", "fastat/report"])
def test_workflow_and_reports_leave_torch_unloaded(folder):
    files = [path for path in (ROOT / folder).rglob("*.py") if path.stem != "__init__"]
    modules = ["fastat.machine.files", *(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in files)]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", ["fastat.report.figures", "fastat.report.page"])
def test_drawing_and_the_page_load_neither_scipy_s_statistics_nor_scikit_learn(module):
    """They take half a second each, and nothing there asks them."""
    code = f"import sys, {module}; sys.exit(bool({{'scipy.stats', 'sklearn', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_environment_yml_takes_the_pins_from_the_locks():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == ["-r requirements/suite.lock", "-r requirements/torch.lock"]
    text = (ROOT / "requirements/torch.lock").read_text() + (ROOT / "requirements/suite.lock").read_text()
    for pin in ("torch==2.14.1", "torchvision==0.29.1", "snakemake==9.27.1", "pyautoattack==0.2.0"):
        assert f"\n{pin}" in f"\n{text}"
