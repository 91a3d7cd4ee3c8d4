"""A grid of runs as the figures want it: its numbers in two tables, and the runs' own small files. Never torch."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fastat.config.catalog import CATALOG
from fastat.config.spec import PATTERN, RunSpec
from fastat.errors import BadInput
from fastat.report.tidy import CELL, RUN
from fastat.units import eps_text, in_pixels, is_eps, parse_eps

log = logging.getLogger(__name__)
OF_RUN = [
    "diverged", "train_seconds", "collapse_epoch", "collapsed_at_end", "clean", "pgd10", "pgd50", "aa", "ratio",
]  # fmt: skip
BY_EPOCH = ["train_pgd10_acc", "train_pgd10_loss", "train_alpha_255"]


@dataclass(frozen=True)
class Grid:
    """The runs of a grid.

    whole: a row per run, with RUN, OF_RUN, device, eps_255, is_first_eps, and of its recipe alpha (step size in eps),
    epochs, redrawn (before which epochs perturbations were drawn anew), n_train. epochs: run (the index of `whole`),
    epoch, BY_EPOCH.
    """

    folder: Path
    whole: pd.DataFrame
    epochs: pd.DataFrame
    gflop: dict[str, float]  # method -> 1e9 floating-point operations per training image, on preact_resnet18

    def by_epoch(self, whole: pd.DataFrame) -> pd.DataFrame:
        """A row per epoch of the runs in `whole` (some rows of this grid's), with their columns."""
        return whole.join(self.epochs, how="inner")

    def tables(self, whole: pd.DataFrame, name: str) -> Iterator[pd.DataFrame]:
        """The CSV file `name` of each run that has it, with RUN, collapse_epoch and collapsed_at_end as columns."""
        about = [*RUN, "collapse_epoch", "collapsed_at_end"]
        for run in whole.itertuples():
            path = self._path(run, name)
            try:
                rows = pd.read_csv(path)
            except FileNotFoundError:
                continue
            except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
                log.warning("%s cannot be read (%s): left out", path, error)
                continue
            yield rows.assign(**{key: getattr(run, key) for key in about})

    def instances(self, whole: pd.DataFrame, *names: str) -> Iterator[tuple[Any, dict[str, NDArray[Any]]]]:
        """(run, tensors) of each run whose instances.safetensors holds all the names."""
        for run in whole.itertuples():
            path = self._path(run, "instances.safetensors")
            try:
                with safe_open(path, framework="numpy") as file:
                    held = {name: file.get_tensor(name) for name in names if name in file.keys()}
            except FileNotFoundError:
                continue
            except (SafetensorError, OSError) as error:
                log.warning("%s cannot be read (%s): left out", path, error)
                continue
            if len(held) == len(names):
                yield run, held

    def _path(self, run: Any, name: str) -> Path:
        spec = RunSpec(run.dataset, run.model, run.eps_255, run.method, run.variant, int(run.seed))
        return self.folder / "runs" / spec.name / name


def gather(results: Path, names: list[str] | None, table1_eps: dict[str, str]) -> Grid:
    """The runs called `names` (None: all) in results/measured.csv, evidence.jsonl and tables/cost.csv."""
    measured = pd.read_csv(
        results / "measured.csv", dtype=dict.fromkeys([*RUN, "metric"], "category"), low_memory=False
    )
    measured = measured.dropna(subset=[*RUN, "metric"])
    measured["run"] = measured.groupby(RUN, observed=True, sort=False).ngroup()
    whole = measured.drop_duplicates("run").set_index("run")[RUN].astype(str)
    whole = whole[whole["eps"].map(is_eps).astype(bool) & whole["seed"].str.fullmatch(r"\d+")]
    whole["eps_255"] = whole["eps"].map(parse_eps).astype(int)
    whole["name"] = [
        PATTERN.format(eps=str(run["eps_255"]), **{str(key): run[key] for key in run if key != "eps"})
        for run in whole.to_dict("records")
    ]
    if names is not None:
        whole = whole[whole["name"].isin(names)]
    measured = measured[measured["run"].isin(whole.index)]
    device = measured[measured["metric"] == "device"].drop_duplicates("run", keep="last").set_index("run")["value"]
    whole = whole.join(numbers(measured, "run", OF_RUN)).join(device.astype(str).rename("device"))
    whole = whole.join(recipes(whole, results / "evidence.jsonl"))
    whole["is_first_eps"] = whole["eps"] == whole["dataset"].map(first_eps(whole, table1_eps))
    epochs = numbers(measured, ["run", "epoch"], BY_EPOCH).reset_index("epoch")
    return Grid(results, whole.sort_values([*CELL[:4], "variant", "seed"]), epochs, gflops(results / "tables/cost.csv"))


def numbers(measured: pd.DataFrame, index: str | list[str], metrics: list[str]) -> pd.DataFrame:
    """The metrics as columns, NaN where there is no finite number; of rows that are there twice, the last."""
    keys = [index] if isinstance(index, str) else index
    rows = measured[measured["metric"].isin(metrics)].dropna(subset=keys)
    rows = rows[["metric", "value", *keys]].astype({"metric": str}).drop_duplicates([*keys, "metric"], keep="last")
    rows["value"] = pd.to_numeric(rows["value"], errors="coerce").replace([np.inf, -np.inf], np.nan)
    return rows.pivot(index=index, columns="metric", values="value").reindex(columns=metrics).astype(float)


def first_eps(whole: pd.DataFrame, table1_eps: dict[str, str]) -> dict[str, str]:
    """Data set -> the eps that figures of one eps show: Table I's, or the middle one where no run is at that."""
    chosen = {}
    for dataset, part in whole.groupby("dataset"):
        every = sorted(set(part["eps_255"]))
        wanted = table1_eps.get(str(dataset), "")
        chosen[str(dataset)] = wanted if wanted in set(part["eps"]) else eps_text(every[(len(every) - 1) // 2])
    return chosen


def recipes(whole: pd.DataFrame, evidence: Path) -> pd.DataFrame:
    """alpha (in eps), epochs, redrawn and n_train of each run's recipe; NaN where there is no evidence of it."""
    found = {}
    for line in evidence.read_text().splitlines() if evidence.exists() else ():
        try:
            about = json.loads(line)
            found[about["run"]] = about
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: a line is damaged (%r): left out", evidence, error)
    rows = []
    for name, dataset, eps_255 in whole[["name", "dataset", "eps_255"]].itertuples(index=False):
        about = found.get(name, {})
        recipe = about.get("recipe") or {}
        config = about.get("config") or recipe.get("params") or {}  # runs made before they said their config
        size = recipe.get("n_train") or (CATALOG[str(dataset)].n_train if dataset in CATALOG else np.nan)
        alpha = step_in_eps(config.get("alpha"), int(str(eps_255)))
        rows.append((alpha, recipe.get("epochs", np.nan), frozenset(about.get("redrawn") or ()), size))
    table = pd.DataFrame(rows, index=whole.index, columns=["alpha", "epochs", "redrawn", "n_train"])
    return table.astype({"alpha": float, "epochs": float, "n_train": float})


def step_in_eps(alpha: object, eps_255: int) -> float:
    """`1.5 eps` -> 1.5 and, at 8/255, `4/255` -> 0.5; NaN for what is no length."""
    try:
        return in_pixels(str(alpha), eps_255 / 255) / (eps_255 / 255)
    except BadInput:
        return float("nan")


def gflops(cost: Path) -> dict[str, float]:
    """Method -> GFLOP per training image on preact_resnet18 at CIFAR10's size, where the cost table was made."""
    try:
        table = pd.read_csv(cost)
        return {str(m): float(v) for m, v in zip(table["method"], table["gflop_per_image"], strict=True)}
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError, KeyError):
        return {}
