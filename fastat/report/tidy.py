"""Files of runs -> results/measured.csv: one row per measured number. pandas, never torch."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from fastat.files import atomic
from fastat.runs import RunSpec

COLUMNS = ["dataset", "model", "eps", "method", "variant", "seed", "metric", "epoch", "value", "n"]


def write(results: Path, names: list[str] | None, out: Path) -> None:
    """Gather the runs called `names` (default: all finished ones below `results`/runs) into `out`."""
    if names is None:
        names = [str(p.parent.relative_to(results / "runs")) for p in (results / "runs").rglob("run.json")]
    rows = [row for name in sorted(names) for row in measured(results / "runs" / name, RunSpec.parse(name))]
    with atomic(out) as partial:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(partial, index=False)


def measured(folder: Path, spec: RunSpec) -> list[dict[str, Any]]:
    """Every number of one run. Accuracies in %; `epoch` is empty for what holds for the finished run."""
    who = {**spec.wildcards, "eps": f"{spec.eps_255}/255"}
    rows: list[dict[str, Any]] = []

    def add(metric: str, value: float | str, n: int | str = "", epoch: int | str = "") -> None:
        rows.append({**who, "metric": metric, "epoch": epoch, "value": value, "n": n})

    about = json.loads((folder / "run.json").read_text())
    add("diverged", int(about["status"] == "diverged"))
    if about["cause"]:
        add("cause", about["cause"])
    add("train_seconds", about["train_seconds"])
    add("peak_memory_mb", about["peak_memory_mb"])
    add("collapse_epoch", about["collapse"]["first"] or "")
    add("collapsed_at_end", int(about["collapse"]["at_end"]))
    log = pd.read_csv(folder / "log.csv")
    for line in log.to_dict("records"):
        for metric in ("loss", "clean_acc", "fgsm_acc", "pgd10_acc"):
            scale = 1 if metric == "loss" else 100
            add(f"train_{metric}", line[metric] * scale, about["recipe"]["monitor_images"], line["epoch"])
    best = int(log["pgd10_acc"].argmax())
    add("train_pgd10_last", 100 * log["pgd10_acc"].iloc[-1])
    add("train_pgd10_best", 100 * log["pgd10_acc"].iloc[best])
    add("train_pgd10_best_epoch", int(log["epoch"].iloc[best]))
    if about["status"] == "finished":
        whitebox = pd.read_csv(folder / "eval/whitebox.csv")
        for attack, part in whitebox.groupby("attack", sort=False):
            add(str(attack), 100 * part["correct"].mean(), len(part))
        standing = pd.read_csv(folder / "eval/autoattack.csv").groupby("index")["correct"].min()
        add("aa", 100 * standing.mean(), len(standing))
    return rows
