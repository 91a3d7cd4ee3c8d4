"""Which settings for digits? Trains the grid below on `digits_dev`, whose images are training images all.

    python benchmarks/settings.py OUT_FOLDER --eps 102 --method fgsm_rs,atas --lr 0.1,0.2 --batch-size 64,128

Prints a CSV row per run. A run that is already in OUT_FOLDER is not trained again.
"""

import argparse
import csv
import io
import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from fastat.config.grid import load_config, overlay
from fastat.config.recipe import fingerprint, resolve
from fastat.config.spec import RunSpec

COLUMNS = ["model", "eps", "method", "seed", "epochs", "batch_size", "lr", "clean", "fgsm", "pgd50", "monitor_pgd10"]


def main() -> None:
    """Train and attack every combination, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    axes = {"model": "preact_tiny", "eps": "102", "method": "fgsm_rs,atas", "seed": "0"}
    for name, default in {**axes, "epochs": "-", "batch-size": "-", "lr": "-"}.items():
        parser.add_argument(f"--{name}", default=default, help="a list with commas; - stands for the recipe's own")
    parser.add_argument("--recipe", default="{}", help="more recipe fields, as JSON")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    fastat("data", "--dataset", "digits_dev", "--out", str(args.out / "digits_dev.safetensors"))
    cells = itertools.product(*(getattr(args, name.replace("-", "_")).split(",") for name in (
        "model", "eps", "method", "seed", "epochs", "batch-size", "lr")))  # fmt: skip
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda cell: measure(args.out, json.loads(args.recipe), *cell), cells):
            writer.writerow(row)
            sys.stdout.flush()


def measure(out: Path, extra: dict, model: str, eps: str, method: str, seed: str, epochs: str, batch: str, lr: str):
    """One row."""
    name, _, variant = method.partition("/")
    run = f"digits_dev/{model}/eps{eps}/{name}/{variant or 'paper'}/seed{seed}"
    fields: dict = {"epochs": epochs, "batch_size": batch, "schedule": lr}
    fields = {key: float(value) if key == "schedule" else int(value) for key, value in fields.items() if value != "-"}
    if "schedule" in fields:
        fields["schedule"] = {"lr": fields["schedule"]}
    own = {"recipes": {"digits_dev": {name: overlay(fields, extra)}}}
    recipe = resolve(RunSpec.parse(run), overlay(load_config(), own))
    results = out / fingerprint(recipe.to_json())
    folder = results / "runs" / run
    (results / "data").mkdir(parents=True, exist_ok=True)
    data = results / "data/digits_dev.safetensors"
    if not data.exists():
        data.symlink_to((out / "digits_dev.safetensors").resolve())
    common = ("--run", run, "--results", str(results), "--device", "cpu", "--threads", "1")
    if not (folder / "run.json").exists():
        fastat("train", *common, "--recipe", recipe.to_json())
    if not (folder / "eval/whitebox.csv").exists():
        fastat("evaluate", *common, "--suite", "whitebox")
    rows = list(csv.DictReader(io.StringIO((folder / "eval/whitebox.csv").read_text())))
    share = {}
    for attack in ("clean", "fgsm", "pgd50"):
        correct = [int(row["correct"]) for row in rows if row["attack"] == attack]
        share[attack] = f"{100 * sum(correct) / len(correct):.1f}" if correct else "diverged"
    curve = [float(row["pgd10_acc"]) for row in csv.DictReader(io.StringIO((folder / "log.csv").read_text()))]
    return [model, eps, method, seed, epochs, batch, lr, *share.values(), " ".join(f"{100 * v:.0f}" for v in curve)]


def fastat(*arguments: str) -> None:
    """python -m fastat, silent unless it fails."""
    done = subprocess.run([sys.executable, "-m", "fastat", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])


if __name__ == "__main__":
    main()
