"""Files of runs -> measured.csv, correct.csv, evidence.jsonl (docs/files.md). pandas, numpy; never torch."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from fastat.config.spec import RunSpec
from fastat.machine.files import atomic
from fastat.units import eps_text

CELL = ["dataset", "model", "eps", "method", "variant"]
RUN = [*CELL, "seed"]
MEASURED = [*RUN, "metric", "epoch", "value", "n"]
CORRECT = [*RUN, "attack", "n", "images", "bits"]
PERCENT = ("clean_acc", "fgsm_acc", "pgd10_acc")
AS_IT_IS = ("loss", "pgd10_loss", "alpha_255")


def write_all(results: Path, names: list[str] | None, out: Path) -> None:
    """Gather the runs called `names` (default: all finished ones below `results`/runs) into the folder `out`."""
    if names is None:
        names = [str(p.parent.relative_to(results / "runs")) for p in (results / "runs").rglob("run.json")]
    numbers: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    evidence = []
    for name in sorted(names):
        folder, spec = results / "runs" / name, RunSpec.parse(name)
        who = {**spec.wildcards, "eps": eps_text(spec.eps_255)}
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        evidence.append(json.dumps({"folder": str(folder), **about}))
        numbers += [{**who, "epoch": "", "n": "", **row} for row in measured(folder, about)]
        if about["status"] == "finished" and not spec.subset:  # a training on a subset is not attacked
            numbers += [{**who, "epoch": "", "n": "", **row} for row in evaluated(folder / "eval")]
            verdicts += [{**who, **row} for row in correct(folder / "eval")]
    for table, columns, rows in (("measured", MEASURED, numbers), ("correct", CORRECT, verdicts)):
        with atomic(out / f"{table}.csv") as partial:
            pd.DataFrame(rows, columns=columns).to_csv(partial, index=False)
    with atomic(out / "evidence.jsonl") as partial:
        partial.write_text("".join(f"{line}\n" for line in evidence), encoding="utf-8")


def measured(folder: Path, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every number of one run: metric, value, and epoch or n where they mean something."""
    yield {"metric": "diverged", "value": int(about["status"] == "diverged")}
    if about["cause"]:
        yield {"metric": "cause", "value": about["cause"]}
    for metric in ("train_seconds", "peak_memory_mb", "device"):
        yield {"metric": metric, "value": about[metric]}
    yield {"metric": "collapse_epoch", "value": about["collapse"]["first"] or ""}
    yield {"metric": "collapsed_at_end", "value": int(about["collapse"]["at_end"])}
    log = pd.read_csv(folder / "log.csv")
    for column in [c for c in (*PERCENT, *AS_IT_IS) if c in log]:
        scale = 100 if column in PERCENT else 1
        n = about["recipe"]["monitor_images"] if column in (*PERCENT, "pgd10_loss") else ""
        for epoch, value in zip(log["epoch"], log[column], strict=True):
            yield {"metric": f"train_{column}", "epoch": epoch, "value": value * scale, "n": n}
    best = int(log["pgd10_acc"].argmax())
    yield {"metric": "train_pgd10_last", "value": 100 * log["pgd10_acc"].iloc[-1]}
    yield {"metric": "train_pgd10_best", "value": 100 * log["pgd10_acc"].iloc[best]}
    yield {"metric": "train_pgd10_best_epoch", "value": int(log["epoch"].iloc[best])}
    yield from tails(folder / "instances.safetensors")


def evaluated(folder: Path) -> Iterator[dict[str, Any]]:
    """The accuracies, what each of AutoAttack's four broke, and the loss under PGD10 on training images."""
    for attack, part in pd.read_csv(folder / "whitebox.csv").groupby("attack", sort=False):
        yield {"metric": attack, "value": 100 * part["correct"].mean(), "n": len(part)}
    autoattack = pd.read_csv(folder / "autoattack.csv")
    standing = autoattack.groupby("index")["correct"].min()
    yield {"metric": "aa", "value": 100 * standing.mean(), "n": len(standing)}
    for attack, part in autoattack.groupby("attack", sort=False):
        if attack != "clean":
            yield {"metric": f"broken_{attack}", "value": int((part["correct"] == 0).sum()), "n": len(part)}
    steps = pd.read_csv(folder / "steps.csv")
    yield {"metric": "robust_train_loss", "value": steps["pgd10_loss"].iloc[0], "n": steps["n"].iloc[0]}


def tails(path: Path) -> Iterator[dict[str, Any]]:
    """mean(G^2) / mean(G)^2 over images (ATAS paper, Fig. 6b), G an image's largest or its mean gradient norm."""
    with safe_open(path, framework="numpy") as file:
        if "grad_norm" not in file.keys():
            return
        norms = file.get_tensor("grad_norm").astype(np.float64)
    norms = norms[np.isfinite(norms).any(1)]
    for metric, each in (("ratio", np.nanmax(norms, 1)), ("ratio_mean", np.nanmean(norms, 1))):
        yield {"metric": metric, "value": float((each**2).mean() / each.mean() ** 2), "n": len(each)}


def correct(folder: Path) -> Iterator[dict[str, Any]]:
    """One row per attack: which images the network still gets right, packed."""
    autoattack = pd.read_csv(folder / "autoattack.csv")
    standing = pd.DataFrame(autoattack.groupby("index", as_index=False)["correct"].min())
    for attack, part in [*pd.read_csv(folder / "whitebox.csv").groupby("attack", sort=False), ("aa", standing)]:
        part = part.sort_values("index")
        images = hashlib.sha256(part["index"].to_numpy(np.int64).tobytes()).hexdigest()[:16]
        bits = base64.b64encode(np.packbits(part["correct"].to_numpy(np.uint8)).tobytes()).decode()
        yield {"attack": attack, "n": len(part), "images": images, "bits": bits}
