"""Ten thousand finished runs on digits, from their rows to the page: seconds and memory of each verb.

The runs are made up (tests/fabricate.py), each with weights, seals and a row per image and attack of its own, so that
`tidy` verifies them as it does real ones.

    python tests/many_runs.py [--runs 10000] [--folder FOLDER]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fastat import ROOT
from fastat.config.grid import expand, load_config
from fastat.config.recipe import resolve, variants
from tests import fabricate

VERBS = ["tidy --configfile grid.yaml --out results", "figure-data", "theory --out results/figures/theory.csv"]
VERBS += ["judge", "draw", "page"]  # as workflow/rules/report.smk
METHODS = [name for name in variants() if name not in ("freeat", "yopo", "subat")]  # whose schedules are their own


def main() -> None:
    """Print a line a verb."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the runs here, or take those that are there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        fabricate.N_TEST = 360
        for name in ("load_config", "data"):  # the same for all runs
            setattr(fabricate, name, cache(getattr(fabricate, name)))
        (folder / "grid.yaml").write_text(yaml.safe_dump(grid(args.runs)), encoding="utf-8")
        config = load_config([folder / "grid.yaml"])
        runs = expand(config)
        for run in runs:
            if not (folder / "results/runs" / run.name / "run.json").exists():
                fabricate.finished(folder / "results", run.name, **json.loads(resolve(run, config).to_json()))
        print(f"{len(runs)} runs", flush=True)
        for verb in VERBS:
            measure(verb, folder)


def grid(n: int) -> dict[str, object]:
    """A config of n runs or a few more, of two epochs each: methods, three eps, as many seeds as it takes."""
    seeds = list(range(-(-n // (3 * len(METHODS)))))
    eps = ["51/255", "77/255", "102/255"]
    schedule = {"kind": "triangular", "lr": 0.1}
    every = {"n_train": 30, "n_test": fabricate.N_TEST, "epochs": 2, "batch_size": 16, "schedule": schedule}
    return {
        "grid": [{"dataset": "digits", "model": "preact_tiny", "eps": eps, "method": METHODS, "seed": seeds}],
        "recipes": {"digits": {"every": every}},
        "evaluation": {"autoattack": {"n_images": 20, "batch_size": 50}},
        "max_runs": n + 100,
    }


def measure(verb: str, folder: Path) -> None:
    """Run a verb by itself: wall and processor seconds, and its highest memory."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "fastat", *verb.split()], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    _, status, used = os.wait4(child.pid, 0)
    wall, cpu, memory = time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    code = os.waitstatus_to_exitcode(status)
    print(f"{verb.split()[0]:12} {wall:6.1f} s, {cpu:6.1f} s of processor, {memory:.2f} GB, exit {code}", flush=True)


if __name__ == "__main__":
    main()
