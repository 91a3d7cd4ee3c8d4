"""Files of runs -> measured.csv, correct.csv, evidence.jsonl, problems.csv (docs/files.md). Never torch."""

import base64
import csv
import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open

from fastat.config import catalog
from fastat.config.grid import every_run
from fastat.config.recipe import n_held_out
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.errors import BadInput
from fastat.machine.files import atomic
from fastat.report import verify
from fastat.report.markup import in_csv
from fastat.report.verify import Checked, Problem, Rows
from fastat.training import collapse
from fastat.units import eps_text

log = logging.getLogger(__name__)
CELL = ["dataset", "model", "eps", "method", "variant"]
RUN = [*CELL, "seed"]
MEASURED = [*RUN, "metric", "epoch", "value", "n"]
CORRECT = [*RUN, "attack", "n", "images", "bits"]
FILES = ("measured.csv", "correct.csv", "evidence.jsonl", "problems.csv")
MANY = 1000  # runs, from which on it takes longer than starting processes
PERCENT = ("clean_acc", "fgsm_acc", "pgd10_acc", "held_out_pgd10_acc")
AS_IT_IS = ("loss", "pgd10_loss", "alpha_255")


def write_all(results: Path, out: Path, config: dict[str, Any] | None = None, full: bool = False) -> list[Problem]:
    """Gather the runs into the folder `out`: those that the config names, or (None) all below `results`/runs.

    What cannot be believed (report/verify.py) is left out, and returned. full: trust no remembered hash.
    Raises: BadInput if there is nothing to gather: files of earlier numbers are not emptied.
    """
    checker = verify.Checker(results, config, full)
    names, strays = verify.runs_below(results / "runs")
    if config is not None:
        names, strays = [spec.name for spec in every_run(config)], []
    runs = gather_all(checker, sorted(names))
    for run, wrong in list(verify.among_neighbours(gathered.run for gathered in runs)):
        run.wrong("run.json", wrong, "train")
        run.about = None
    checker.hashes.keep()
    if all(gathered.run.about is None for gathered in runs):
        why = f"{runs[0].run.problems[0]}" if runs else "there is no run.json"
        raise BadInput(f"nothing to gather below {results / 'runs'}: {why}")
    write_tables(runs, out)
    if packed := sum(bool(gathered.run.left_out) for gathered in runs):
        log.info("%d runs came without files or data that were whole when they were packed: see `verify`", packed)
    problems = [*strays, *(problem for gathered in runs for problem in gathered.run.problems)]
    with atomic(out / "problems.csv") as partial:
        pd.DataFrame([asdict(problem) for problem in problems], columns=verify.PROBLEM).to_csv(partial, index=False)
    return problems


Number = tuple[str, object, object, object]  # metric, epoch, value, n


@dataclass
class Gathered:
    """One run, and its rows of the tables."""

    run: Checked
    numbers: list[Number] = field(default_factory=list)
    verdicts: list[tuple[str, int, str, str]] = field(default_factory=list)  # attack, n, images, bits
    evidence: str = ""


def gather_all(checker: verify.Checker, names: list[str]) -> list[Gathered]:
    """The runs of these names, in order: thousands of them on all processors."""
    if len(names) < MANY:
        return gather_some(checker, names)[0]
    batches = [names[first : first + MANY // 4] for first in range(0, len(names), MANY // 4)]
    with ProcessPoolExecutor() as pool:
        parts = list(pool.map(gather_some, [checker] * len(batches), batches))
    for _, hashes in parts:
        checker.hashes.new |= hashes
    return [run for runs, _ in parts for run in runs]


def gather_some(checker: verify.Checker, names: list[str]) -> tuple[list[Gathered], dict[str, Any]]:
    """The runs of these names, and what was hashed, which another process's checker does not learn otherwise."""
    catalog.learn(checker.results)  # in another process, too
    runs = [gather(checker.results / "runs" / name, checker.check(name)) for name in names]
    return runs, checker.hashes.new


def gather(folder: Path, run: Checked) -> Gathered:
    """Make a run's rows. Its images' own are dropped: thousands of runs need not lie in memory."""
    gathered = Gathered(run)
    if run.about is not None:
        gathered.numbers = [*measured(folder, run), *evaluated(run.rows)]
        gathered.verdicts = list(correct(run.rows, apart(run.about["recipe"])))
        evidence = {"folder": str(folder), "evaluations": made_from(run), **run.about}
        gathered.evidence = json.dumps(evidence) + "\n"
    run.log, run.rows = {}, {}
    return gathered


def write_tables(runs: list[Gathered], out: Path) -> None:
    """measured.csv, correct.csv and evidence.jsonl, of what can be believed."""
    with atomic(out / "measured.csv") as numbers, atomic(out / "correct.csv") as verdicts:
        with (
            open(numbers, "w", newline="", encoding="utf-8") as one,
            open(verdicts, "w", newline="", encoding="utf-8") as other,
        ):
            to_measured, to_correct = csv.writer(one, lineterminator="\n"), csv.writer(other, lineterminator="\n")
            to_measured.writerow(MEASURED)
            to_correct.writerow(CORRECT)
            for gathered in runs:
                spec = RunSpec.parse(gathered.run.name)
                who = [*{**spec.wildcards, "eps": eps_text(spec.eps_255)}.values()]
                believed = gathered.run.about is not None
                to_measured.writerows([*who, *row] for row in left_out(gathered.run))
                to_measured.writerows([*who, *row] for row in (gathered.numbers if believed else ()))
                to_correct.writerows([*who, *row] for row in (gathered.verdicts if believed else ()))
    with atomic(out / "evidence.jsonl") as partial:
        lines = [gathered.evidence for gathered in runs if gathered.run.about is not None]
        partial.write_text("".join(lines), encoding="utf-8")


def made_from(run: Checked) -> dict[str, dict[str, Any]]:
    """What each evaluation that is believed was made from, where it says so."""
    return {name: run.sidecars[name] for name in run.rows if name in run.sidecars}


def left_out(run: Checked) -> Iterator[Number]:
    """What there is to say against a run."""
    if run.problems:
        whys = [f"{problem.file} {problem.rule} ({problem.found})" for problem in run.problems]
        yield "left_out", "", "; ".join(whys), ""
    if run.about is not None:
        yield "unverified", "", int(bool(run.unverified)), ""


def measured(folder: Path, run: Checked) -> Iterator[Number]:
    """Every number of one training: metric, epoch where it means something, value, and n likewise."""
    about, log = run.about, run.log
    assert about is not None
    yield "diverged", "", int(about["status"] == "diverged"), ""
    if about["status"] == EXTERNAL:  # nothing of a training is known
        return
    if about["cause"]:
        yield "cause", "", in_csv(about["cause"]), ""
    for metric in ("train_seconds", "peak_memory_mb"):
        yield metric, "", about.get(metric, ""), ""
    yield "device", "", in_csv(about.get("device", "")), ""
    spec = RunSpec.parse(run.name)
    n_classes = catalog.required(spec.dataset).n_classes
    fell = collapse.detect(log["fgsm_acc"].tolist(), log["pgd10_acc"].tolist(), n_classes)
    yield "collapse_epoch", "", fell.epoch or "", ""
    yield "collapsed_at_end", "", int(fell.at_end), ""
    yield "collapsed_for_a_while", "", int(fell.for_a_while), ""
    yield "robustness_lost", "", int(fell.lost) if fell.first else "", ""
    n_images = watched(spec, about)
    for column in [c for c in (*PERCENT, *AS_IT_IS) if c in log]:
        scale = 100 if column in PERCENT else 1
        n = n_images.get(column, "")
        for epoch, value in zip(log["epoch"].tolist(), (log[column] * scale).tolist(), strict=True):
            yield f"train_{column}", epoch, "" if value != value else value, n
    best = int(log["pgd10_acc"].argmax())
    if "best_epoch" in about:
        yield "best_epoch", "", about["best_epoch"], ""
    yield "train_pgd10_last", "", float(100 * log["pgd10_acc"][-1]), ""
    yield "train_pgd10_best", "", float(100 * log["pgd10_acc"][best]), ""
    yield "train_pgd10_best_epoch", "", int(log["epoch"][best]), ""
    yield from tails(folder / "instances.safetensors")


def watched(spec: RunSpec, about: dict[str, Any]) -> dict[str, object]:
    """Column of log.csv -> on how many training images it was measured: on `monitor_images`, or all that there are."""
    n_train, recipe = verify.sizes(spec, about)[0], about["recipe"]
    sample, held_out = recipe.get("monitor_images", ""), 0
    if n_train and sample:
        held_out = n_held_out(recipe.get("hold_out", 0), n_train)
        sample = min(sample, n_train - held_out)
    sampled = dict.fromkeys(("clean_acc", "fgsm_acc", "pgd10_acc", "pgd10_loss"), sample)
    return {**sampled, "held_out_pgd10_acc": held_out or ""}


def evaluated(rows: dict[str, Rows]) -> Iterator[Number]:
    """The accuracies, what each of AutoAttack's four broke, and the loss under PGD10 on training images.

    An attack that was asked for by name is a metric of that name.
    """
    for epoch in ("", "best_"):
        if f"{epoch}whitebox" in rows:
            right = rows[f"{epoch}whitebox"]["correct"]
            for attack, here in verify.by_attack(rows[f"{epoch}whitebox"]).items():
                yield f"{epoch}{attack}", "", float(100 * right[here].mean()), len(here)
        if f"{epoch}autoattack" in rows:
            _, standing = under_autoattack(rows[f"{epoch}autoattack"])
            yield f"{epoch}aa", "", float(100 * standing.mean()), len(standing)
    if "autoattack" in rows:
        right = rows["autoattack"]["correct"]
        for attack, here in verify.by_attack(rows["autoattack"]).items():
            if attack != "clean":
                yield f"broken_{attack}", "", int((right[here] == 0).sum()), len(here)
    if "attacks" in rows:
        right = rows["attacks"]["correct"]
        for attack, here in verify.by_attack(rows["attacks"]).items():
            yield attack, "", float(100 * right[here].mean()), len(here)
    if "steps" in rows:
        yield "robust_train_loss", "", float(rows["steps"]["pgd10_loss"][0]), int(rows["steps"]["n"][0])


def under_autoattack(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images in order, and 1 for those that no part of AutoAttack broke."""
    images, which = np.unique(rows["index"], return_inverse=True)
    standing = np.ones(len(images), np.int64)
    np.minimum.at(standing, which, rows["correct"].astype(np.int64))
    return images, standing


def tails(path: Path) -> Iterator[Number]:
    """mean(G^2) / mean(G)^2 over images (ATAS paper, Fig. 6b), G an image's largest or its mean gradient norm."""
    if not path.exists():
        return
    with safe_open(path, framework="numpy") as file:
        if "grad_norm" not in file.keys():
            return
        norms = file.get_tensor("grad_norm").astype(np.float64)
    norms = norms[np.isfinite(norms).any(1)]
    for metric, each in (("ratio", np.nanmax(norms, 1)), ("ratio_mean", np.nanmean(norms, 1))):
        yield metric, "", float((each**2).mean() / each.mean() ** 2), len(each)


def apart(recipe: dict[str, Any]) -> str:
    """What images of the same numbers differ in from test images as they are; '' if nothing."""
    said = recipe.get("part", "test"), recipe.get("protocol", "paper")
    return "" if said == ("test", "paper") else "/".join(said)


def correct(rows: dict[str, Rows], other: str = "") -> Iterator[tuple[str, int, str, str]]:
    """Of each attack: how many images, which, and which of them the network still gets right, packed.

    other: of what images these are, if not of test images as they are: results of both cannot be paired.
    """
    parts = {}
    for epoch in ("", "best_"):
        if table := rows.get(f"{epoch}whitebox"):
            for attack, here in verify.by_attack(table).items():
                parts[f"{epoch}{attack}"] = table["index"][here], table["correct"][here]
        if table := rows.get(f"{epoch}autoattack"):
            parts[f"{epoch}aa"] = under_autoattack(table)
    if table := rows.get("attacks"):
        parts |= {
            name: (table["index"][here], table["correct"][here]) for name, here in verify.by_attack(table).items()
        }
    for attack, (index, right) in parts.items():
        order = np.argsort(index, kind="stable")
        images = hashlib.sha256(other.encode() + index[order].astype(np.int64).tobytes()).hexdigest()[:16]
        bits = base64.b64encode(np.packbits(right[order].astype(np.uint8)).tobytes()).decode()
        yield attack, len(index), images, bits
