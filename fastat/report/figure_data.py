"""What the figures are drawn from: results/figures/NAME.csv, small and tidy. pandas, numpy; never torch.

Out of measured.csv, evidence.jsonl and the runs' own small files (docs/files.md). What is missing, damaged or of a run
that was not asked for leaves rows out; a figure without rows says so itself.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are used
from numpy.typing import NDArray

from fastat.config import catalog
from fastat.config.spec import EXTERNAL
from fastat.config.sweep import read_text, text
from fastat.machine.files import atomic
from fastat.report.artifacts import Artifacts
from fastat.report.results import PLACE, Results, first_eps, read, read_rows, step_in_eps
from fastat.report.statistics import exact
from fastat.report.tidy import CELL, RUN
from fastat.units import is_eps, length_of

MOST_RUNS = 500  # whose curves are kept one by one; of more, each cell's mean
MOST_SURFACES = 900  # in surfaces.csv: about 20 MB
LARGEST = 1e15  # number that is drawn; axes cannot have larger ones
SMOOTHING = 3  # epochs that a point of Fig. 7 is the mean of
SURFACE = [*RUN, "epoch", "group", "n", "u", "w", "loss"]
CURVE = [*RUN, "epoch", "epochs", "value", "low", "high", "n_seeds", "diverged", "at_end", "never", "for_a_while"]
SWEEP = [*PLACE, "method", "over", "keys"]  # what a panel of the figure `sweeps` is of
ABOUT = ["dataset", "model", "metric", "least", "most"]  # images that a metric was measured on
COLLAPSES = ("at_end", "never", "for_a_while")  # the kinds, as columns that count them; `never` robust: `at_end` too
BY_EPOCH = ["train_pgd10_acc", "train_pgd10_loss", "train_alpha_255"]
OF_RUN = [
    *RUN, "name", "eps_255", "base", "subset", "diverged", "train_seconds", "device", "collapse_epoch",
    "collapsed_at_end", "collapsed_for_a_while", "robustness_lost", "clean", "pgd10", "pgd50", "aa", "ratio", "alpha",
    "epochs", "redrawn", "n_train", "swept", "ablation", "over", "varied",
]  # fmt: skip
COUNTED = "preact_resnet18", (3, 32, 32)  # network and images that the cost table's operations are of
Array = NDArray[np.float64]
Parts = Iterator[pd.DataFrame]


@dataclass(frozen=True)
class Grid:
    """What figures are made from: `runs` with OF_RUN and is_first_eps, and `epochs`, BY_EPOCH of each."""

    files: Artifacts
    runs: pd.DataFrame
    epochs: pd.DataFrame
    gflop: dict[str, float]  # method -> 1e9 floating-point operations per training image, on COUNTED

    def by_epoch(self, runs: pd.DataFrame) -> pd.DataFrame:
        """A row per epoch of these runs (some rows of the grid's), with their columns."""
        return runs.join(self.epochs, how="inner")


def write_all(results: Path, names: list[str] | None, table1_eps: dict[str, str], out: Path) -> None:
    """Write out/NAME.csv of every figure, and of fig06_ranks and surfaces, from the runs called `names` (None: all).

    table1_eps: data set -> the eps that figures of a single eps show.
    Raises: BadInput if there is no measured.csv.
    """
    found = read(results, names, needs=("measured.csv",))
    grid = gather(found, table1_eps)
    with atomic(out / "about.csv") as partial:
        on_images(found).to_csv(partial, index=False)
    for name, (columns, make) in DATA.items():
        parts = [part for part in make(grid) if len(part)]
        rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        with atomic(out / f"{name}.csv") as partial:
            rows.reindex(columns=columns).to_csv(partial, index=False, float_format="%.6g")


def on_images(results: Results) -> pd.DataFrame:
    """How many images each accuracy was measured on, the least and the most of the runs trained here of a place."""
    here = results.runs.index[results.runs["method"] != EXTERNAL]
    rows = results.measured[results.measured["run"].isin(here) & (results.measured["n"] > 0)]
    rows = rows[rows["metric"].isin(["clean", "pgd50", "aa", "train_pgd10_acc"])].astype({"metric": str})
    told = rows.groupby(["dataset", "model", "metric"], observed=True)["n"].agg(least="min", most="max")
    return told.astype(int).reset_index().reindex(columns=ABOUT)


def gather(results: Results, table1_eps: dict[str, str]) -> Grid:
    """The grid of all these runs that were trained here."""
    runs = results.runs.loc[results.runs["method"] != EXTERNAL, OF_RUN]
    runs = runs.assign(is_first_eps=runs["eps"] == runs["dataset"].map(first_eps(runs, table1_eps)))
    files = Artifacts(results.folder, results.left_out)
    return Grid(files, runs, results.by_epoch(*BY_EPOCH), gflops(results.folder / "tables/cost.csv"))


def gflops(cost: Path) -> dict[str, float]:
    """Method -> GFLOP per training image on COUNTED, where the cost table was made."""
    try:
        table = pd.read_csv(cost)
        return {str(m): float(v) for m, v in zip(table["method"], table["gflop_per_image"], strict=True)}
    except (OSError, ValueError, KeyError):  # pandas' own errors and those of decoding are values'
        return {}


def runs_of(grid: Grid, method: str) -> pd.DataFrame:
    """The runs of a method's `paper` at the first eps of their data set, lowest seed first."""
    runs = grid.runs[grid.runs["is_first_eps"] & (grid.runs["method"] == method)]
    return runs[runs["variant"] == "paper"]


def swept(grid: Grid, method: str) -> pd.DataFrame:
    """The runs of a method that differ in their step size alone, at the first eps, where that size is known."""
    runs = grid.runs[grid.runs["is_first_eps"] & (grid.runs["method"] == method) & grid.runs["swept"]]
    return runs.dropna(subset=["alpha"])


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of the runs that did not diverge: the others are in no mean."""
    return runs[runs["diverged"] != 1]


def main(grid: Grid) -> pd.DataFrame:
    """The runs that were trained here and are not ablations."""
    return grid.runs[~grid.runs["ablation"]]


# Curves


def curve(grid: Grid, runs: pd.DataFrame, metric: str = "train_pgd10_acc") -> pd.DataFrame:
    """A metric of these runs by epoch, rows of CURVE; of more than MOST_RUNS, mean, lowest and highest of each cell.

    n_seeds: how many did not diverge; diverged: how many did.
    """
    several = len(runs) > MOST_RUNS
    rows = grid.by_epoch(finished(runs) if several else runs).rename(columns={metric: "value"})
    rows = rows.dropna(subset=["value"]).assign(epochs=in_all)
    rows = rows.assign(**begun(rows))
    if not several:
        return rows.assign(n_seeds=(rows["diverged"] != 1).astype(int))
    cells = rows.groupby([*CELL, "epoch"], sort=False)
    told = {"epochs": ("epochs", "max"), "value": ("value", "mean"), "low": ("value", "min"), "high": ("value", "max")}
    means = cells.agg(**told, n_seeds=("value", "size"), **{word: (word, "sum") for word in COLLAPSES}).reset_index()
    return means.join(runs.groupby(CELL)["diverged"].sum(), on=CELL)


def in_all(rows: pd.DataFrame) -> pd.Series:
    """The epochs of each row's training: the recipe's, for it may have diverged, or the last where none is known."""
    return rows["epochs"].fillna(rows.groupby(level=0)["epoch"].transform("max"))


def begun(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """COLLAPSES -> 1 at the epoch in which such a collapse began, 0 at all others and of diverged runs, by epoch."""
    begins = (rows["epoch"] == rows["collapse_epoch"]) & (rows["diverged"] != 1)
    ended = rows["collapsed_at_end"] == 1
    kinds = (begins & ended, begins & ended & (rows["robustness_lost"] == 0), begins & ~ended)
    return {name: kind.astype(int) for name, kind in zip(COLLAPSES, kinds, strict=True)}


def curves(grid: Grid) -> Parts:
    """Every training that is no ablation."""
    yield curve(grid, main(grid))


def fig01(grid: Grid) -> Parts:
    """Left: standard and fast AT by epoch. Right: the mean surface of one of the fast runs, which ended collapsed.

    Fast: FGSM, and FGSM-RS with any step size, its own first. At the first eps if such a run ended collapsed at it or
    none did at any, else at the least eps at which one did.
    """
    here = (grid.runs["method"] == "pgd10") & (grid.runs["variant"] == "paper")
    here |= (grid.runs["method"] == "fgsm_rs") & (grid.runs["variant"].isin(["paper", "fgsm"]) | grid.runs["swept"])
    for _, part in grid.runs[here].groupby(["dataset", "model"]):
        fallen = finished(part[(part["method"] == "fgsm_rs") & (part["collapsed_at_end"] == 1)])
        at_one = part["is_first_eps"]
        if len(fallen) and not fallen["is_first_eps"].any():
            at_one = part["eps_255"] == fallen["eps_255"].min()
        fallen = fallen[at_one[fallen.index]].sort_values(["variant", "seed"], key=paper_first)
        wanted = part["variant"].isin(["paper", "fgsm"])
        for rows in islice(grid.files.tables(fallen, "eval/surfaces.csv"), 1):
            yield rows[rows["group"] == "mean"].assign(panel="surface")
            wanted |= (part["variant"] == rows["variant"].iloc[0]) & (part["seed"] == rows["seed"].iloc[0])
        yield curve(grid, part[at_one & wanted]).assign(panel="curve")


def paper_first(values: pd.Series) -> pd.Series:
    """A sorting key: the variant `paper` before the others."""
    return values.replace("paper", "") if values.name == "variant" else values


def fig03(grid: Grid) -> Parts:
    """PGD10 accuracy by share of the training, of trainings on subsets: mean and standard deviation over seeds."""
    rows = grid.by_epoch(finished(grid.runs[grid.runs["subset"].notna()])).dropna(subset=["train_pgd10_acc"])
    if rows.empty:
        return
    rows = rows.assign(progress=rows["epoch"] / in_all(rows), **begun(rows))
    keys = ["dataset", "model", "eps", "method", "base", "subset", "progress"]
    cells = rows.groupby(keys, sort=False)
    told = cells.agg(
        alpha=("alpha", "first"), mean=("train_pgd10_acc", "mean"), std=("train_pgd10_acc", "std"),
        n_seeds=("train_pgd10_acc", "size"), **{word: (word, "sum") for word in COLLAPSES},
    )  # fmt: skip
    yield told.reset_index().rename(columns={"base": "variant"})


def fig05(grid: Grid) -> Parts:
    """A constant step of eps against the adaptive step, with the mean step over epochs and seeds."""
    for panel, constant, adaptive in (("a", "fgsm_rs", "fgsm_adaptive"), ("b", "atta", "atas")):
        fixed = swept(grid, constant)
        runs = pd.concat([fixed[np.isclose(fixed["alpha"], 1)], runs_of(grid, adaptive)])
        rows = curve(grid, runs)
        steps = grid.by_epoch(finished(runs)).groupby(CELL)["train_alpha_255"].mean()
        known = (runs["alpha"] * runs["eps_255"]).groupby([runs[key] for key in CELL]).mean()
        yield rows.join(steps.fillna(known).rename("mean_alpha_255"), on=CELL).assign(panel=panel)


def fig07(grid: Grid) -> Parts:
    """The loss under PGD10 by epoch: mean over seeds, and its running mean."""
    rows = grid.by_epoch(finished(main(grid))).dropna(subset=["train_pgd10_loss"]).assign(epochs=in_all)
    told = {"loss": ("train_pgd10_loss", "mean"), "n_seeds": ("train_pgd10_loss", "size"), "epochs": ("epochs", "max")}
    means = rows.groupby([*CELL, "epoch"], sort=False).agg(**told).reset_index()
    running = means.groupby(CELL, sort=False)["loss"].rolling(SMOOTHING, center=True, min_periods=1).mean()
    yield means.assign(smooth=running.reset_index(CELL, drop=True))


def fig08(grid: Grid) -> Parts:
    """Repeats of FGSM-RS and ATAS, at the first and at the largest eps."""
    runs = grid.runs[grid.runs["method"].isin(["fgsm_rs", "atas"]) & (grid.runs["variant"] == "paper")]
    largest = runs.groupby(["dataset", "model"])["eps_255"].transform("max")
    yield curve(grid, runs[runs["is_first_eps"] | (runs["eps_255"] == largest)])


# Surfaces


def fig02(grid: Grid) -> Parts:
    """Surfaces of D1 and D10 of every run whose weights were kept by epoch."""
    for rows in grid.files.tables(grid.runs, "eval/surfaces_by_epoch.csv"):
        yield rows.merge(grid.runs[[*RUN, "robustness_lost"]], on=RUN)


def fig09(grid: Grid) -> Parts:
    """The single images of the first seed of ATAS."""
    for _, part in runs_of(grid, "atas").groupby(["dataset", "model"]):
        for rows in islice(grid.files.tables(part, "eval/surfaces.csv"), 1):
            yield rows[rows["group"].str.startswith("image:")]


def surfaces(grid: Grid) -> Parts:
    """At most MOST_SURFACES: first the means, of `paper` before other variants, then ATAS's images, then others'."""
    runs = grid.runs.sort_values(["variant", "seed"], key=paper_first, kind="stable")
    kept = 0
    images: list[pd.DataFrame] = []
    for rows in grid.files.tables(runs, "eval/surfaces.csv"):
        if kept >= MOST_SURFACES:
            break
        mean = rows["group"] == "mean"
        kept += 1
        yield rows[mean]
        if len(images) < MOST_SURFACES:
            images.append(rows[~mean])
    images.sort(key=lambda rows: (rows["method"] != "atas").all())
    for rows in images:
        kept += rows["group"].nunique()
        if kept <= MOST_SURFACES:
            yield rows


# Images


def per_image(norms: NDArray[np.float16]) -> tuple[Array, Array]:
    """(n, epochs) -> each image's mean and largest norm over the epochs that it was visited in, NaN for none."""
    means, largest = [], []
    for block in np.array_split(norms, max(1, len(norms) // 65536)):
        seen = np.isfinite(block)
        values = np.where(seen, block, 0).astype(np.float64)
        times = seen.sum(1)
        means.append(np.where(times > 0, values.sum(1) / np.maximum(times, 1), np.nan))
        largest.append(np.where(times > 0, values.max(1), np.nan))
    return np.concatenate(means), np.concatenate(largest)


def histogram(values: Array, top: float, bins: int = 40) -> pd.DataFrame:
    """Share of the finite values in equal bins from 0 to `top`; what is above lies in the last one."""
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(np.clip(values, 0, top), bins, (0, top))
    share = counts / max(1, len(values))
    return pd.DataFrame({"left": edges[:-1], "right": edges[1:], "share": share, "n": len(values)})


def fig06(grid: Grid) -> Parts:
    """The largest gradient norm of each image under ATAS; the ratio of Fig. 6b; rank correlations of methods."""
    atas = finished(runs_of(grid, "atas"))
    for (dataset, model, eps), part in atas.groupby(["dataset", "model", "eps"]):
        found = [per_image(held["grad_norm"])[1] for _, held in grid.files.instances(part, "grad_norm")]
        if found:
            values = np.concatenate(found)
            drawn = histogram(values, float(np.nanquantile(values, 0.999)))
            about: dict[str, Any] = {
                "panel": "histogram",
                "dataset": dataset,
                "model": model,
                "eps": eps,
                "method": "atas",
            }
            yield drawn.assign(**about, n_seeds=len(found))
    everywhere = grid.runs[(grid.runs["method"] == "atas") & (grid.runs["variant"] == "paper")]
    yield finished(everywhere).dropna(subset=["ratio"]).assign(panel="ratio")
    own = finished(grid.runs[grid.runs["is_first_eps"] & (grid.runs["variant"] == "paper")])
    for (dataset, model), part in own.groupby(["dataset", "model"]):
        pairs = correlations(grid, part, lambda a, b: a.seed == b.seed)
        means = pairs.groupby(["method", "method_b"], sort=False)["spearman"].agg(["mean", "size"]).reset_index()
        yield means.rename(columns={"mean": "spearman", "size": "n_seeds"}).assign(
            panel="ranks", dataset=str(dataset), model=str(model)
        )


def fig06_ranks(grid: Grid) -> Parts:
    """Rank correlation of the images' mean gradient norms between every two seeds of a cell."""
    runs = finished(grid.runs[grid.runs["subset"].isna()])
    for _, part in runs.groupby(CELL, sort=False):
        if len(part) > 1:
            yield correlations(grid, part, lambda a, b: True)


def correlations(grid: Grid, runs: pd.DataFrame, wanted: Callable[..., bool]) -> pd.DataFrame:
    """Spearman's rank correlation of the mean gradient norms of every two of these runs that are `wanted` together."""
    held = [(run, per_image(kept["grad_norm"])[0]) for run, kept in grid.files.instances(runs, "grad_norm")]
    able = ((run, norms) for run, norms in held if np.isfinite(norms).all() and np.ptp(norms) > 0)
    ranks = [(run, scipy.stats.rankdata(norms)) for run, norms in able]
    rows = []
    for k, (a, one) in enumerate(ranks):
        for b, other in ranks[k + 1 :]:
            if wanted(a, b) and len(one) == len(other):
                about = {key: getattr(a, key) for key in CELL} | {"seed_a": a.seed, "seed_b": b.seed, "n": len(one)}
                spearman = float(np.corrcoef(one, other)[0, 1])
                rows.append({**about, "method_b": b.method, "variant_b": b.variant, "spearman": spearman})
    return pd.DataFrame(rows, columns=[*CELL, "method_b", "variant_b", "seed_a", "seed_b", "spearman", "n"])


def fig10(grid: Grid) -> Parts:
    """Mean gradient norm and step size of D_1, D_5 and D_10 of ATAS by epoch: mean and deviation over seeds."""
    rows = []
    for run, held in grid.files.instances(finished(runs_of(grid, "atas")), "grad_norm", "alpha_255"):
        means = per_image(held["grad_norm"])[0]
        seen = np.isfinite(means)
        tenth = np.ceil(10 * scipy.stats.rankdata(means[seen], "ordinal") / max(1, seen.sum()))
        for quantity, values in held.items():
            for group in (1, 5, 10):
                by_epoch, _ = per_image(values[seen][tenth == group].T)
                about = {key: getattr(run, key) for key in RUN} | {"quantity": quantity, "group": f"D{group}"}
                epochs = range(1, len(by_epoch) + 1)
                resets = [int(epoch in run.redrawn) for epoch in epochs]
                rows.append(pd.DataFrame({**about, "epoch": epochs, "value": by_epoch, "reset": resets}))
    if rows:
        keys = [*CELL, "quantity", "group", "epoch"]
        told = {"mean": ("value", "mean"), "std": ("value", "std"), "n_seeds": ("value", "size")}
        yield pd.concat(rows).groupby(keys, sort=False).agg(**told, reset=("reset", "max")).reset_index()


def fig11(grid: Grid) -> Parts:
    """How long the perturbations of ATAS's last epoch are, in eps and in eps x sqrt(d), of all seeds."""
    runs = finished(runs_of(grid, "atas"))
    for (dataset, model, eps, eps_255), part in runs.groupby(["dataset", "model", "eps", "eps_255"]):
        found = [held for _, held in grid.files.instances(part, "delta_linf", "delta_l2")]
        pixels = np.prod(facts.shape) if (facts := catalog.facts(str(dataset))) else np.nan
        for quantity, unit in (("delta_linf", 1.0), ("delta_l2", float(pixels) ** 0.5)):
            if found and np.isfinite(unit):
                lengths = np.concatenate([held[quantity] for held in found]) / (int(str(eps_255)) / 255 * unit)
                about: dict[str, Any] = {"dataset": dataset, "model": model, "eps": eps, "method": "atas"}
                yield histogram(lengths, 1.0).assign(**about, variant="paper", quantity=quantity, n_seeds=len(found))


# Comparisons


def fig04(grid: Grid) -> Parts:
    """Loss gap between PGD10 and one step by its size, and the accuracy of models trained with each size."""
    for method, start in (("fgsm_rs", "uniform"), ("atta", "carried")):
        for rows in grid.files.tables(runs_of(grid, method), "eval/steps.csv"):
            rows = rows[rows["start"] == start]
            yield rows.assign(panel="gap", gap=rows["pgd10_loss"] - rows["loss"])
        yield swept(grid, method).dropna(subset=["pgd10"]).assign(panel="accuracy")


def accuracy_by_eps(grid: Grid) -> Parts:
    """Mean, lowest and highest accuracy over the seeds of a cell."""
    for metric in ("clean", "pgd50", "aa"):
        cells = finished(main(grid)).dropna(subset=[metric]).groupby(CELL, sort=False)[metric]
        yield cells.agg(mean="mean", low="min", high="max", n_seeds="size").reset_index().assign(metric=metric)


def collapse_map(grid: Grid) -> Parts:
    """How many of a cell's runs collapsed, at the end or for a while, with the exact 95 % interval of both together.

    Diverged runs do not count.
    """
    steps = grid.runs[grid.runs["swept"] & grid.runs["method"].isin(["fgsm_rs", "atta"])]
    for panel, runs in (("eps", main(grid)), ("step", steps.dropna(subset=["alpha"]))):
        runs = runs.dropna(subset=["collapsed_at_end"])
        counts = runs.assign(stands=runs["diverged"] != 1, fell=runs["collapse_epoch"].notna())
        counts = counts.assign(k=counts["stands"] & counts["fell"])
        counts = counts.assign(at_end=counts["k"] & (runs["collapsed_at_end"] == 1))
        counts = counts.assign(never=counts["at_end"] & (runs["robustness_lost"] == 0))
        counts = counts.assign(for_a_while=counts["k"] & ~counts["at_end"])
        told = {"n": ("stands", "sum"), "n_all": ("stands", "size"), **{w: (w, "sum") for w in ("k", *COLLAPSES)}}
        rows = counts.groupby(CELL, sort=False).agg(**told, alpha=("alpha", "first")).reset_index()
        rows["diverged"] = rows["n_all"] - rows["n"]
        known = {pair: exact(*pair) for pair in set(zip(rows["k"], rows["n"], strict=True)) if pair[1]}
        pairs = [known.get(pair, (np.nan, np.nan)) for pair in zip(rows["k"], rows["n"], strict=True)]
        rows[["low", "high"]] = np.array(pairs).reshape(-1, 2)
        yield rows.assign(panel=panel)


def cost_robustness(grid: Grid) -> Parts:
    """Training time, floating-point operations where they were counted, and accuracy under attack.

    They were counted on COUNTED, of each method's `paper`: a variant may make other passes.
    """
    runs = finished(main(grid)[main(grid)["is_first_eps"]]).dropna(subset=["train_seconds"])
    runs = runs[runs[["pgd50", "aa"]].notna().any(axis=1)]
    of_size = [name for name in set(runs["dataset"]) if (facts := catalog.facts(name)) and facts.shape == COUNTED[1]]
    counted = (runs["model"] == COUNTED[0]) & runs["dataset"].isin(of_size) & (runs["variant"] == "paper")
    per_image = runs["method"].map(grid.gflop).where(counted)
    yield runs.assign(gflop=per_image * runs["epochs"] * runs["n_train"])


def sweeps(grid: Grid) -> Parts:
    """The runs of every sweep by the value of one of its keys (see `axis`), and those that it is over (own: 1)."""
    runs = grid.runs[grid.runs["over"] != ""]
    runs = runs.assign(keys=[", ".join(key for key, _ in pairs) for pairs in runs["varied"]])
    for (*cell, over, keys), part in runs.groupby(SWEEP, sort=False):
        key, settings = axis(part)
        rest = [", ".join(f"{k} {shown(v)}" for k, v in pairs if k != key) for pairs in part["varied"]]
        numbers = [number(value, eps) for value, eps in zip(settings, part["eps_255"], strict=True)]
        unit = "eps" if any(length_of(value) for value in settings) else ""
        part = part.assign(key=key, unit=unit, setting=[shown(value) for value in settings], number=numbers)
        yield part.assign(rest=rest, own=0)
        here = grid.runs[(grid.runs[SWEEP[:4]] == cell).all(axis=1) & (grid.runs["variant"] == over)]
        yield here.assign(over=str(over), keys=str(keys), key=key, unit=unit, own=1)


def axis(runs: pd.DataFrame) -> tuple[str, list[Any]]:
    """The key of a sweep with the most values that are numbers or lengths, else with the most; and its values."""
    by_key = pd.DataFrame([dict(pairs) for pairs in runs["varied"]], dtype=object)
    counts = {
        key: (all(np.isfinite(number(value, 1)) for value in by_key[key]), len(set(map(shown, by_key[key]))))
        for key in by_key
    }
    key = max(counts, key=lambda key: (counts[key][1] > 1, *counts[key]))  # the first of equals
    return str(key), list(by_key[key])


def number(value: Any, eps_255: int) -> float:
    """A swept value on its axis, a length in eps; NaN for what is no number."""
    if length_of(value):
        return step_in_eps(value, eps_255)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def shown(value: Any) -> str:
    """A swept value as people write it."""
    return read_text(text(value))


# Name: (columns, how its rows are made).
DATA: dict[str, tuple[list[str], Callable[[Grid], Parts]]] = {
    "curves": (CURVE, curves),
    "accuracy_by_eps": ([*CELL, "metric", "mean", "low", "high", "n_seeds"], accuracy_by_eps),
    "collapse_map": (["panel", *CELL, "alpha", "k", "n", *COLLAPSES, "diverged", "low", "high"], collapse_map),
    "cost_robustness": ([*RUN, "device", "train_seconds", "gflop", "pgd50", "aa", "collapsed_at_end"], cost_robustness),
    "sweeps": (
        [*RUN, "over", "keys", "key", "setting", "number", "unit", "rest", "own", "clean", "pgd50", "aa", "diverged",
         "collapsed_at_end", "collapsed_for_a_while"], sweeps,
    ),
    "fig01": (["panel", *CURVE, "n", "u", "w", "loss"], fig01),
    "fig02": ([*SURFACE, "collapse_epoch", "collapsed_at_end", "robustness_lost"], fig02),
    "fig03": ([*CELL, "alpha", "subset", "progress", "mean", "std", "n_seeds", *COLLAPSES], fig03),
    "fig04": (["panel", *RUN, "alpha", "gap", "n", "pgd10", "aa", "collapsed_at_end"], fig04),
    "fig05": (["panel", *CURVE, "mean_alpha_255"], fig05),
    "fig06": (
        ["panel", *PLACE, "method", "method_b", "variant", "seed", "left", "right", "share", "ratio", "spearman", "n",
         "n_seeds"], fig06,
    ),
    "fig06_ranks": ([*CELL, "seed_a", "seed_b", "spearman", "n"], fig06_ranks),
    "fig07": ([*CELL, "epoch", "epochs", "loss", "smooth", "n_seeds"], fig07),
    "fig08": (CURVE, fig08),
    "fig09": (SURFACE, fig09),
    "fig10": ([*CELL, "quantity", "group", "epoch", "mean", "std", "n_seeds", "reset"], fig10),
    "fig11": ([*PLACE, "method", "variant", "quantity", "left", "right", "share", "n", "n_seeds"], fig11),
    "surfaces": (SURFACE, surfaces),
}  # fmt: skip
FILES = ("about.csv", *(f"{name}.csv" for name in DATA))


# Of the columns of these files, what is text; all others are numbers.
TEXT = {
    "panel", *CELL, "seed", "seed_a", "seed_b", "method_b", "variant_b", "device", "subset", "group", "metric",
    "quantity", "problem", "algorithm", "eta", "over", "keys", "key", "setting", "unit", "rest",
}  # fmt: skip


def read_data(path: Path, columns: list[str]) -> pd.DataFrame:
    """What a figure is drawn from: rows that say where they belong, NaN for what is no number below LARGEST.

    Raises: BadInput, a sentence without its full stop, if the file is missing, damaged or without one of the columns.
    """
    numbers = [name for name in columns if name not in TEXT]
    rows = read_rows(path, columns, numbers)
    rows[numbers] = rows[numbers].where(rows[numbers].abs() < LARGEST)
    places = [name for name in ("dataset", "model", "method") if name in columns]
    if "loss" in columns and "u" in columns:
        drawn = rows["loss"].notna() if "value" not in columns else rows[["loss", "value"]].notna().any(axis=1)
        rows = rows[drawn]
    if "eps" in columns:
        rows = rows[rows["eps"].isna() | rows["eps"].isin([eps for eps in rows["eps"].unique() if is_eps(eps)])]
    return rows.dropna(subset=places).astype({name: object for name in rows if name in TEXT})
