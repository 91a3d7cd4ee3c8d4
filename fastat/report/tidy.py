"""Files of runs -> measured.csv, correct.csv, evidence.jsonl, problems.csv (docs/files.md). Never torch."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from fastat.config.catalog import CATALOG
from fastat.config.grid import expand
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.machine.files import atomic
from fastat.report import verify
from fastat.report.verify import Checked, Problem
from fastat.training import collapse
from fastat.units import eps_text

CELL = ["dataset", "model", "eps", "method", "variant"]
RUN = [*CELL, "seed"]
MEASURED = [*RUN, "metric", "epoch", "value", "n"]
CORRECT = [*RUN, "attack", "n", "images", "bits"]
PERCENT = ("clean_acc", "fgsm_acc", "pgd10_acc")
AS_IT_IS = ("loss", "pgd10_loss", "alpha_255")


def write_all(results: Path, out: Path, config: dict[str, Any] | None = None, full: bool = False) -> list[Problem]:
    """Gather the runs into the folder `out`: those that the config names, or (None) all below `results`/runs.

    What cannot be believed (report/verify.py) is left out, and returned. full: trust no remembered hash.
    Raises: BadInput if there is nothing to gather: files of earlier numbers are not emptied.
    """
    checker = verify.Checker(results, config, full)
    names, strays = verify.runs_below(results / "runs")
    if config is not None:
        names, strays = [spec.name for spec in expand(config)], []
    runs = [checker.check(name) for name in sorted(names)]
    for run, wrong in list(verify.among_neighbours(runs)):
        run.wrong("run.json", wrong, "train")
        run.about = None
    checker.hashes.keep()
    if all(run.about is None for run in runs):
        why = f"{runs[0].problems[0]}" if runs else "there is no run.json"
        raise BadInput(f"nothing to gather below {results / 'runs'}: {why}")
    write_tables(runs, checker, out)
    problems = [*strays, *(problem for run in runs for problem in run.problems)]
    with atomic(out / "problems.csv") as partial:
        pd.DataFrame([asdict(problem) for problem in problems], columns=verify.PROBLEM).to_csv(partial, index=False)
    return problems


def write_tables(runs: list[Checked], checker: verify.Checker, out: Path) -> None:
    """measured.csv, correct.csv and evidence.jsonl, of what can be believed."""
    numbers: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    evidence = []
    for run in runs:
        spec = RunSpec.parse(run.name)
        who = {**spec.wildcards, "eps": eps_text(spec.eps_255)}
        numbers += [{**who, "epoch": "", "n": "", **row} for row in left_out(run)]
        if run.about is None:
            continue
        folder = checker.results / "runs" / run.name
        evidence.append(json.dumps({"folder": str(folder), "evaluations": made_from(run), **run.about}))
        numbers += [{**who, "epoch": "", "n": "", **row} for row in measured(folder, run)]
        numbers += [{**who, "epoch": "", "n": "", **row} for row in evaluated(run.rows)]
        verdicts += [{**who, **row} for row in correct(run.rows)]
    for table, columns, rows in (("measured", MEASURED, numbers), ("correct", CORRECT, verdicts)):
        with atomic(out / f"{table}.csv") as partial:
            pd.DataFrame(rows, columns=columns).to_csv(partial, index=False)
    with atomic(out / "evidence.jsonl") as partial:
        partial.write_text("".join(f"{line}\n" for line in evidence), encoding="utf-8")


def made_from(run: Checked) -> dict[str, dict[str, Any]]:
    """What each evaluation that is believed was made from, where it says so."""
    return {name: run.sidecars[name] for name in run.rows if name in run.sidecars}


def left_out(run: Checked) -> Iterator[dict[str, Any]]:
    """What there is to say against a run."""
    if run.problems:
        whys = [f"{problem.file} {problem.rule} ({problem.found})" for problem in run.problems]
        yield {"metric": "left_out", "value": "; ".join(whys)}
    if run.about is not None:
        yield {"metric": "unverified", "value": int(bool(run.unverified))}


def measured(folder: Path, run: Checked) -> Iterator[dict[str, Any]]:
    """Every number of one training: metric, value, and epoch or n where they mean something."""
    about, log = run.about, run.log
    assert about is not None
    yield {"metric": "diverged", "value": int(about["status"] == "diverged")}
    if about["cause"]:
        yield {"metric": "cause", "value": about["cause"]}
    for metric in ("train_seconds", "peak_memory_mb", "device"):
        yield {"metric": metric, "value": about.get(metric, "")}
    n_classes = CATALOG[RunSpec.parse(run.name).dataset].n_classes
    fell = collapse.detect(log["fgsm_acc"].tolist(), log["pgd10_acc"].tolist(), n_classes)
    yield {"metric": "collapse_epoch", "value": fell.first or ""}
    yield {"metric": "collapsed_at_end", "value": int(fell.at_end)}
    yield {"metric": "collapsed_for_a_while", "value": int(fell.for_a_while)}
    for column in [c for c in (*PERCENT, *AS_IT_IS) if c in log]:
        scale = 100 if column in PERCENT else 1
        n = about["recipe"].get("monitor_images", "") if column in (*PERCENT, "pgd10_loss") else ""
        for epoch, value in zip(log["epoch"], log[column], strict=True):
            yield {"metric": f"train_{column}", "epoch": epoch, "value": value * scale, "n": n}
    best = int(log["pgd10_acc"].argmax())
    yield {"metric": "train_pgd10_last", "value": 100 * log["pgd10_acc"].iloc[-1]}
    yield {"metric": "train_pgd10_best", "value": 100 * log["pgd10_acc"].iloc[best]}
    yield {"metric": "train_pgd10_best_epoch", "value": int(log["epoch"].iloc[best])}
    yield from tails(folder / "instances.safetensors")


def evaluated(rows: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """The accuracies, what each of AutoAttack's four broke, and the loss under PGD10 on training images."""
    if "whitebox" in rows:
        for attack, part in rows["whitebox"].groupby("attack", sort=False):
            yield {"metric": attack, "value": 100 * part["correct"].mean(), "n": len(part)}
    if "autoattack" in rows:
        standing = rows["autoattack"].groupby("index")["correct"].min()
        yield {"metric": "aa", "value": 100 * standing.mean(), "n": len(standing)}
        for attack, part in rows["autoattack"].groupby("attack", sort=False):
            if attack != "clean":
                yield {"metric": f"broken_{attack}", "value": int((part["correct"] == 0).sum()), "n": len(part)}
    if "steps" in rows:
        first = rows["steps"].iloc[0]
        yield {"metric": "robust_train_loss", "value": first["pgd10_loss"], "n": first["n"]}


def tails(path: Path) -> Iterator[dict[str, Any]]:
    """mean(G^2) / mean(G)^2 over images (ATAS paper, Fig. 6b), G an image's largest or its mean gradient norm."""
    if not path.exists():
        return
    with safe_open(path, framework="numpy") as file:
        if "grad_norm" not in file.keys():
            return
        norms = file.get_tensor("grad_norm").astype(np.float64)
    norms = norms[np.isfinite(norms).any(1)]
    for metric, each in (("ratio", np.nanmax(norms, 1)), ("ratio_mean", np.nanmean(norms, 1))):
        yield {"metric": metric, "value": float((each**2).mean() / each.mean() ** 2), "n": len(each)}


def correct(rows: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """One row per attack: which images the network still gets right, packed."""
    parts = list(rows["whitebox"].groupby("attack", sort=False)) if "whitebox" in rows else []
    if "autoattack" in rows:
        standing = pd.DataFrame(rows["autoattack"].groupby("index", as_index=False)["correct"].min())
        parts.append(("aa", standing))
    for attack, part in parts:
        order = np.argsort(part["index"].to_numpy(), kind="stable")
        index, right = (part[name].to_numpy()[order] for name in ("index", "correct"))
        images = hashlib.sha256(index.astype(np.int64).tobytes()).hexdigest()[:16]
        bits = base64.b64encode(np.packbits(right.astype(np.uint8)).tobytes()).decode()
        yield {"attack": attack, "n": len(part), "images": images, "bits": bits}
