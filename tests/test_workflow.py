"""The real DAG on a corner of digits: end to end, a second call, and what one lost file costs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastat.runs import ROOT


def snakemake(folder: Path, *more: str) -> str:
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "2", "--directory", str(folder)]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), "--configfile", str(ROOT / "config/smoke.yaml")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which the smoke workflow has run."""
    folder = tmp_path_factory.mktemp("smoke")
    snakemake(folder)
    return folder


def test_tables_and_figures_are_made(finished):
    for name in ("table1.csv", "table1.md", "table1.tex", "table2.md", "cost.csv", "cost.md"):
        assert (finished / "results/tables" / name).stat().st_size > 0
    assert "atas" in (finished / "results/tables/table1.md").read_text()
    for name in ("curves.svg", "curves.png", "accuracy_by_eps.svg", "accuracy_by_eps.png"):
        assert (finished / "figures" / name).stat().st_size > 1000


def test_a_second_call_does_nothing(finished):
    assert "Nothing to be done" in snakemake(finished)


def test_a_lost_evaluation_is_redone_with_its_tables_and_figures_alone(finished):
    run = finished / "results/runs/digits/preact_tiny/eps102/atas/paper/seed0"
    weights = (run / "weights.safetensors").stat().st_mtime_ns
    (run / "eval/whitebox.csv").unlink()
    output = snakemake(finished)
    assert (run / "weights.safetensors").stat().st_mtime_ns == weights
    done = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output)
    assert sorted(done) == ["all", "evaluate", "figure", "figure", "table", "table", "tidy"]
