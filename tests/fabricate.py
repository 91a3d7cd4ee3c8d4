"""Made-up results with exactly the columns of docs/files.md, for tests of the report. Nothing here was measured."""

import base64
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from fastat.config.grid import load_config, protocol_of
from fastat.config.recipe import fingerprint, made_from
from fastat.machine import seals
from fastat.report.methods import OF_THE_PAPER, REFERENCE

CELL = ["dataset", "model", "eps", "method", "variant"]
RUN = [*CELL, "seed"]
METHODS = [name for name, about in OF_THE_PAPER.items() if about.family != REFERENCE]


def cells(n: int) -> list[tuple[str, ...]]:
    """n different cells: methods fastest, then eps, model, data set, variant."""
    variants = ["paper", *(f"variant{k}" for k in range(1 + n // (2 * 2 * 4 * len(METHODS))))]
    every = itertools.product(variants, ["digits", "fashion"], ["preact_tiny", "resnet18"], [8, 4, 12, 16], METHODS)
    return [(data, model, f"{eps}/255", method, variant) for variant, data, model, eps, method in every][:n]


def runs(n_cells: int = 6, seeds: int = 3) -> list[tuple[str, ...]]:
    """The runs of n cells: dataset, model, eps, method, variant, seed."""
    return [(*cell, str(seed)) for cell in cells(n_cells) for seed in range(seeds)]


def measured(who: list[tuple[str, ...]], epochs: int = 6, seed: int = 0) -> pd.DataFrame:
    """measured.csv of these runs; every fifth one collapses at its fourth epoch."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    for k, run in enumerate(who):
        collapses = k % 5 == 4
        pgd10 = np.linspace(20, 50, epochs) + rng.normal(0, 1, epochs)
        pgd10[3:] *= 0.02 if collapses else 1
        by_epoch = {
            "train_pgd10_acc": pgd10,
            "train_fgsm_acc": np.linspace(25, 60, epochs) + (30 if collapses else 0) * (np.arange(epochs) >= 3),
            "train_pgd10_loss": 3 - pgd10 / 25,
            "train_loss": 2.3 - pgd10 / 40,
        }
        for metric, values in by_epoch.items():
            rows += [(*run, metric, epoch, value, 128) for epoch, value in enumerate(values, start=1)]
        clean, aa = rng.uniform(60, 95), pgd10[-1] - 2
        whole: dict[str, tuple[Any, Any]] = {
            "diverged": (0, None), "train_seconds": (rng.uniform(10, 90), None), "peak_memory_mb": (740, None),
            "device": ("made-up GPU", None), "collapse_epoch": (4 if collapses else None, None),
            "collapsed_at_end": (int(collapses), None), "collapsed_for_a_while": (0, None),
            "robustness_lost": (1 if collapses else None, None),
            "train_pgd10_last": (pgd10[-1], None),
            "train_pgd10_best": (pgd10.max(), None), "train_pgd10_best_epoch": (int(pgd10.argmax()) + 1, None),
            "clean": (clean, 1000), "fgsm": (pgd10[-1] + 5, 1000), "pgd10": (pgd10[-1], 1000),
            "pgd50": (max(pgd10[-1] - 1, 0), 1000), "robust_train_loss": (1.5, 500),
            "aa": (max(aa, 0), 200),
        }  # fmt: skip
        rows += [(*run, metric, None, value, n) for metric, (value, n) in whole.items()]
    return pd.DataFrame(rows, columns=[*RUN, "metric", "epoch", "value", "n"])


def bits(right: np.ndarray) -> str:
    """Correctness of each image, packed as correct.csv has it."""
    return base64.b64encode(np.packbits(right.astype(np.uint8)).tobytes()).decode()


def correct(who: list[tuple[str, ...]], n: int = 200, seed: int = 0) -> pd.DataFrame:
    """correct.csv of these runs: a method's accuracy is its place in METHODS, atas being the best; another's 80 %."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in who:
        share = 0.2 + 0.05 * METHODS.index(run[3]) if run[3] in METHODS else 0.8
        for attack in ("clean", "fgsm", "pgd10", "pgd50", "aa"):
            rows.append((*run, attack, n, "the-same-images", bits(rng.random(n) < share)))
    return pd.DataFrame(rows, columns=[*RUN, "attack", "n", "images", "bits"])


def step(name: str) -> dict[str, Any]:
    """What a run called .../step175/..., .../step175_d1_2/... or .../gamma12/... has: 1.75 eps; 1.5 eps of 2 eps.

    fgsm_rs's own is 1.25 eps.
    """
    method, variant = name.split("/")[3:5]
    if method == "atas":
        gamma = int(variant[5:]) if variant[5:].isdecimal() else 16
        c = float(f"0.{variant[1:]}") if variant.startswith("c0") else 0.01
        return {"gamma_over_c": f"{gamma / 8:g} eps", "c": 128 * c}
    digits = variant[4:7] if variant.startswith("step") else "125" if method == "fgsm_rs" else ""
    return {"alpha": f"{int(digits) / 100:g} eps"} if digits else {}


def evidence(who: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """A run.json per run, with `folder`."""
    names = [
        f"{data}/{model}/eps{eps[:-4]}/{method}/{rest[0]}/seed{rest[1]}" for data, model, eps, method, *rest in who
    ]
    return [
        {
            "run": name, "recipe": {
                "epochs": 6, "batch_size": 64, "schedule": {"kind": "piecewise", "lr": 0.04}, "params": step(name),
            },
            "config": step(name), "redrawn": [1, 5] if "/atas/" in name else [],
            "made_from": f"{k:016x}", "n_parameters": 77562, "versions": {"fastat": "0.0", "torch": "made-up"},
            "git_commit": "0123456789abcdef", "device": "made-up GPU", "threads": 1, "status": "finished", "cause": "",
            "train_seconds": 10.0 + k, "peak_memory_mb": 740.0,
            "folder": f"results/runs/{name}",
        }
        for k, name in enumerate(names)
    ]  # fmt: skip


def verdicts(who: list[tuple[str, ...]]) -> pd.DataFrame:
    """verdicts.csv for the cells in the paper's variant: reproduced and not, in turns."""
    words = ("reproduced", "not reproduced")
    judged = dict.fromkeys(run[:4] for run in who if run[4] == "paper")
    rows = [
        (
            "I",
            *cell,
            "aa",
            45.0,
            44.5 - 9 * (k % 2),
            0.4,
            3,
            200,
            -1.5,
            0.5,
            -0.5 - 9 * (k % 2),
            words[k % 2],
            "made up",
        )
        for k, cell in enumerate(judged)
    ]
    columns = ["table", *CELL[:4], "metric", "paper", "ours", "std", "n_seeds", "n_images"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high", "gap", "verdict", "reason"])


def claims() -> pd.DataFrame:
    """claims.csv with one claim of each verdict."""
    told = ("Fig. 1", "digits", "Spearman's rho", 0.512345, 0.1, 0.9, 0.01)
    verdicts = ["holds", "does not hold", "undecided", "not run"]
    rows = [(f"made_up_{k}", f"Made-up claim {k}.", *told, word, "12 cells") for k, word in enumerate(verdicts)]
    columns = ["claim", "text", "where", "scale", "statistic", "value", "low", "high", "p", "verdict", "evidence"]
    return pd.DataFrame(rows, columns=columns)


def pairs(n: int = 30) -> pd.DataFrame:
    """pairs.csv of n pairs of methods."""
    rng = np.random.default_rng(0)
    rows = []
    for a, b in list(itertools.combinations(METHODS, 2))[:n]:
        gap = rng.normal(0, 3)
        cell = ("digits", "preact_tiny", "8/255", "aa", a, "paper", b, "paper")
        rows.append((*cell, 3, 200, gap, gap - 2, gap + 2, 12, 9, 0.02, 0.2, 4, 150))
    columns = ["dataset", "model", "eps", "attack", "method_a", "variant_a", "method_b", "variant_b", "n_seeds"]
    counts = ["n_images", "difference", "low", "high", "only_a", "only_b", "p", "p_adjusted"]
    counts += ["more_seeds", "more_images"]
    return pd.DataFrame(rows, columns=[*columns, *counts])


def sanity(who: list[tuple[str, ...]]) -> pd.DataFrame:
    """sanity.csv: two checks a run; every seventh run looks masked."""
    rows = [
        (*run, check, value, 5, int(k % 7 != 6), "masking suspected" if k % 7 == 6 else "ok")
        for k, run in enumerate(who)
        for check, value in (("noise costs little", 1.5), ("far breaks all", 0.0))
    ]
    return pd.DataFrame(rows, columns=[*RUN, "check", "value", "limit", "holds", "verdict"])


def surfaces(who: list[tuple[str, ...]], points: int = 9) -> pd.DataFrame:
    """figures/surfaces.csv: the mean and one image, at epoch 3 and the last one, points x points."""
    axis = np.linspace(-1, 1, points)
    rows = [
        (*run, epoch, group, n, u, w, 1 + u + (epoch is None) * np.sin(4 * u) * np.cos(3 * w))
        for run in who
        for epoch in (3, None)
        for group, n in (("mean", 64), ("image:7", 1))
        for u in axis
        for w in axis
    ]
    return pd.DataFrame(rows, columns=[*RUN, "epoch", "group", "n", "u", "w", "loss"])


def write(results: Path, who: list[tuple[str, ...]], epochs: int = 6, surfaces_of: int = 2) -> None:
    """All the files that a report is made from, below `results`."""
    (results / "figures").mkdir(parents=True, exist_ok=True)
    tables = {
        "measured": measured(who, epochs), "verdicts": verdicts(who), "claims": claims(), "pairs": pairs(),
        "sanity": sanity(who), "figures/surfaces": surfaces(who[:surfaces_of]),
    }  # fmt: skip
    for name, rows in tables.items():
        rows.to_csv(results / f"{name}.csv", index=False)
    (results / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in evidence(who)))


N_TEST = 24  # test images of the runs below


def data(results: Path, dataset: str = "digits", seed: int = 0) -> str:
    """Prepared digits of random pixels; the sha256 that runs on 30 training and N_TEST test images of it name."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for part, n in (("test", 360), ("train", 1437)):
        tensors[f"{part}_images"] = rng.integers(0, 256, (n, 1, 8, 8), np.uint8)
        tensors[f"{part}_labels"] = np.arange(n, dtype=np.int64) % 10
    digest = hashlib.sha256(b"".join(tensors[key].tobytes() for key in sorted(tensors))).hexdigest()
    (results / "data").mkdir(parents=True, exist_ok=True)
    save_file(tensors, results / f"data/{dataset}.safetensors", {"dataset": dataset, "sha256": digest})
    return hashlib.sha256(json.dumps([digest, 30, N_TEST]).encode()).hexdigest()


def finished(results: Path, name: str, right: int = 12, seed: int = 0, **recipe: Any) -> Path:
    """The files of one finished run of two epochs, whole and sealed, with the data; its folder.

    right: how many test images withstand PGD50; 3 fewer withstand AutoAttack, which attacks 20.
    """
    data_sha256, folder = data(results, name.split("/")[0]), results / "runs" / name
    (folder / "eval").mkdir(parents=True, exist_ok=True)
    log = "epoch,loss,clean_acc,fgsm_acc,pgd10_acc,pgd10_loss\n1,2.0,0.5,0.25,0.125,3.0\n2,1.0,0.75,0.5,0.25,2.5\n"
    (folder / "log.csv").write_text(log)
    save_file({"weight": np.random.default_rng([seed, *name.encode()]).normal(size=4)}, folder / "weights.safetensors")
    norms = np.array([[1, 3], [2, np.nan], [2, 2]], np.float16)
    save_file({"grad_norm": norms}, folder / "instances.safetensors")
    about = {"n_train": 30, "n_test": N_TEST, "epochs": 2, "monitor_images": 128, "params": {}, **recipe}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    files = {file: seals.sha256(folder / file) for file in ("log.csv", "weights.safetensors", "instances.safetensors")}
    seals.write(
        folder / "run.json",
        {
            "run": name, "recipe": about, "status": "finished", "cause": "", "epochs_done": 2, "train_seconds": 3.5,
            "peak_memory_mb": 700.0, "device": "a V100", "data_sha256": data_sha256, "numerics": "native",
            "made_from": fingerprint(name, text, data_sha256), "files": files,
        },
    )  # fmt: skip
    for suite, rows in evaluations(right).items():
        evaluation(folder, suite, rows)
    return folder


def evaluation(folder: Path, suite: str, rows: list[str], protocol: dict[str, Any] | None = None) -> None:
    """eval/SUITE.csv with these lines, and what it says that it was made from."""
    path, about = folder / f"eval/{suite}.csv", seals.read(folder / "run.json")
    path.write_text("\n".join(rows) + "\n")
    protocol = protocol or {**protocol_of(suite, {**load_config()["evaluation"], "numerics": "native"})}
    if suite == "autoattack":
        protocol = {**protocol, "autoattack": {"n_images": 20, "batch_size": 50}}
    made_from = {
        "run": about["run"], "weights": about["files"]["weights.safetensors"], "data": about["data_sha256"],
        "protocol": protocol, "numerics": "native", "rows": seals.sha256(path), "versions": {},
    }  # fmt: skip
    seals.write(path.with_suffix(".json"), made_from)


def evaluations(right: int) -> dict[str, list[str]]:
    """The lines of the files of a run whose network withstands PGD50 on the first `right` test images."""
    head, white, auto = "attack,index,label,correct,step", [], []
    for attack in ("clean", "fgsm", "pgd10", "pgd50", "inside", "noise", "gradient"):
        good = right if attack == "pgd50" else N_TEST
        white += [f"{attack},{i},{i % 10},{int(i < good)}," for i in range(N_TEST)]
    white += [f"far,{i},{i % 10},0," for i in range(min(N_TEST, 100))]
    standing = range(20)
    for part, left in (
        ("clean", 18),
        ("apgd-ce", right),
        ("apgd-t", right - 3),
        ("fab-t", right - 3),
        ("square", right - 3),
    ):
        auto += [f"{part},{i},{i % 10},{int(i < left)}," for i in standing]
        standing = range(left)
    return {
        "whitebox": [head, *white],
        "autoattack": [head, *auto],
        "steps": ["start,alpha,loss,pgd10_loss,n", "uniform,1,1.5,1.75,500"],
        "surfaces": ["epoch,group,n,u,w,loss", ",mean,1,0,0,1.5"],
    }


def as_checkpoint(folder: Path) -> Path:
    """Make a finished run one of a checkpoint from elsewhere, with its evidence."""
    about = seals.read(folder / "run.json") | {
        "status": "external",
        "source": {"file": "theirs.pt", "sha256": "0" * 64},
    }
    about |= {"found": {"arch": "", "normalise": None}, "network": {}}
    about["made_from"] = made_from(about)
    seals.write(folder / "run.json", about)
    for path in (folder / "eval").glob("*.json"):
        seals.write(path, seals.read(path) | {"made_from": about["made_from"]})
    return folder
