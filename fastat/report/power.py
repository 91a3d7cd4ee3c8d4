"""What a grid can decide of the paper's claims, before it is run: how large a difference it would tell. Never torch.

A claim is told with 80 % power from so many runs and images: by Fisher's test of shares (exact, two-sided; the other
share is 0, all runs at one eps), by Spearman's rank correlation (Fisher's z), by the mean of values or of verdicts in
pairs (statistics.py). How far
values scatter is taken from finished results of the same data set, where there are some: their spread alone, never
their sign or size, so that a grid chosen by it is as honest a test as one that was chosen without. Where there are
none, verdicts are taken for tosses of a coin that know of nothing else, and values are told in standard deviations.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fastat.config.fields import params
from fastat.config.grid import keeps_snapshots, n_under_autoattack
from fastat.config.recipe import resolve
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.report import claims, results
from fastat.report.claims import Evidence, NotRun
from fastat.report.statistics import MOST, POWER, reach, squares
from fastat.report.tidy import MEASURED
from fastat.units import eps_text

COIN = (0.0, 0.0, 0.5)  # variances of seeds, images and the rest: two verdicts, each right in half of the cases
LEVEL = 0.05
UNLIKE = 1.06  # the variance of Spearman's z over that of Pearson's (Fieller, Hartley and Pearson 1957)


# Arithmetic


def least_crossed(parts: tuple[float, float, float], n_pairs: int, n_images: int) -> float:
    """The least mean difference that pairs of runs on so many images tell from 0, as `statistics.paired` has it.

    parts: the variances of seeds, of images and of the rest. One pair knows of images alone.
    """
    of_seeds, of_images, rest = parts
    if n_pairs == 1 or n_images < 2:
        return least_mean(math.sqrt(of_images + rest), n_images)
    seeds, images = rest + n_images * of_seeds, rest + n_pairs * of_images
    total = seeds + images - rest
    freedom = total**2 / (seeds**2 / (n_pairs - 1) + images**2 / (n_images - 1))
    return reach(freedom) * math.sqrt(total / (n_pairs * n_images))


def least_mean(std: float, n: int) -> float:
    """The least mean that n values of this standard deviation tell from 0; NaN for fewer than two."""
    return reach(n - 1) * std / math.sqrt(n) if n > 1 else math.nan


def least_share(n: int, others: int) -> float:
    """The least share of n runs that Fisher's two-sided test tells from none of `others`; NaN: not even all of n."""
    if n < 1 or others < 1:
        return math.nan
    k = np.arange(1, n + 1)
    p = stats.hypergeom.sf(k - 1, n + others, k, n)
    enough = k[p < LEVEL / 2]
    return float(stats.beta.ppf(POWER, enough[0], n - enough[0] + 1)) if len(enough) else math.nan


def least_correlation(n: int) -> float:
    """The least rank correlation, about, that n pairs of values without ties tell from 0; NaN for fewer than four."""
    reached = float(stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER))
    return math.tanh(reached * math.sqrt(UNLIKE / (n - 3))) if n > 3 else math.nan


def needed(least: Callable[[int], float], worth: float) -> float:
    """The least n for which least(n) is no more than `worth`; NaN: none up to MOST is."""
    few, many = 1, 2
    while not least(many) <= worth:
        few, many = many, 2 * many
        if many > MOST:
            return math.nan
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if least(middle) <= worth else (middle, many)
    return float(many)


# What a claim takes of a grid

Who = tuple[str, str]  # method and variant
ATAS = ("atas", "paper")


@dataclass(frozen=True)
class Told:
    """What a claim can be told by: `runs` (in words), the `least` that they tell, and what `worth` would need.

    least, worth: in the claim's unit; worth 0: nothing is known of the values. n_images: 0 where none count. more_runs:
    how many runs or pairs tell `worth` on as many images; more_images: how many images with as many runs; NaN: no
    number of them. basis: where the spread is from.
    """

    runs: str
    n_images: int
    least: float
    worth: float
    unit: str
    more_runs: float
    more_images: float
    basis: str


@dataclass(frozen=True)
class Verdicts:
    """A mean difference of verdicts under AutoAttack: of these pairs of methods that which has the fewest runs."""

    pairs: Callable[[Evidence], list[tuple[Who, Who]]]
    each_eps: bool = False  # judged at each eps and network by itself

    def told(self, planned: Evidence, finished: Evidence | None) -> Told:
        """Raises: NotRun if a pair has no run that both have."""
        place = ["model", "eps"] if self.each_eps else []
        counts, n_images = [], 0
        for one, other in self.pairs(planned):
            rows = together(planned, one, other)
            counts.append(int(rows.groupby(place).size().min()) if place else len(rows))
            n_images = int(rows["n_autoattack"].min())
        n, (parts, basis) = min(counts), self.spread(planned, finished)
        least, worth = least_crossed(parts, n, n_images), 0.02
        return Told(
            in_words(n, "pair"), n_images, 100 * least, 100 * worth, "points",
            needed(lambda more: least_crossed(parts, more, n_images), worth),
            needed(lambda more: least_crossed(parts, n, more), worth), basis,
        )  # fmt: skip

    def spread(self, planned: Evidence, finished: Evidence | None) -> tuple[tuple[float, float, float], str]:
        """Variances of seeds, images and the rest, of the finished runs of all these pairs; and whose they are."""
        if finished is None:
            return COIN, "arithmetic: coins"
        found = [rows for one, other in self.pairs(planned) for rows in self.groups(finished, one, other)]
        if not found:
            return COIN, "arithmetic: coins"
        seeds, images, rest = np.mean([variances(rows) for rows in found], axis=0)
        return (float(seeds), float(images), float(rest)), f"{sum(map(len, found))} finished pairs"

    def groups(self, finished: Evidence, one: Who, other: Who) -> Iterator[np.ndarray]:
        """(pairs, images) of -1, 0, 1, of two pairs or more."""
        for _, correct in finished.correct.groupby(["model", "eps"]) if self.each_eps else [("", finished.correct)]:
            try:
                found = claims.differences(replace(finished, correct=correct), one, other)
            except NotRun:
                continue
            if min(found.shape) > 1:
                yield found


@dataclass(frozen=True)
class Shares:
    """A share of runs that collapsed, against another's: Fisher's test."""

    select: Callable[[Evidence], tuple[pd.DataFrame, pd.DataFrame]]

    def told(self, planned: Evidence, _finished: Evidence | None) -> Told:
        """Raises: NotRun if one of the two has no run."""
        one, other = map(len, self.select(planned))
        if not one or not other:
            raise NotRun("no run of one of the two")
        worth, ratio = 0.25, other / one
        more = needed(lambda n: least_share(n, math.ceil(n * ratio)), worth)
        basis = "arithmetic: the other share is 0"
        return Told(f"{one} and {other}", 0, least_share(one, other), worth, "share", more, math.nan, basis)


@dataclass(frozen=True)
class Ranks:
    """A rank correlation over runs."""

    select: Callable[[Evidence], pd.DataFrame]
    over: str  # what must differ among them

    def told(self, planned: Evidence, _finished: Evidence | None) -> Told:
        """Raises: NotRun if nothing differs."""
        rows = self.select(planned)
        if rows[self.over].nunique() < 2:
            raise NotRun(f"one {self.over} alone")
        least, more = least_correlation(len(rows)), needed(least_correlation, 0.5)
        return Told(
            in_words(len(rows), "run"), 0, least, 0.5, "rho", more, math.nan, "arithmetic, less where ranks tie"
        )


@dataclass(frozen=True)
class Means:
    """A mean of values, one of each run or pair of runs."""

    select: Callable[[Evidence], pd.DataFrame]
    values: Callable[[Evidence], np.ndarray]
    worth: float
    unit: str

    def told(self, planned: Evidence, finished: Evidence | None) -> Told:
        """Raises: NotRun if there is no run."""
        n = len(self.select(planned))
        if not n:
            raise NotRun("no such run")
        try:
            found = self.values(finished) if finished is not None else np.empty(0)
        except NotRun:
            found = np.empty(0)
        if len(found) < 2:
            return Told(in_words(n, "run"), 0, least_mean(1.0, n), 0.0, "std", math.nan, math.nan, "arithmetic alone")
        std, worth = float(found.std(ddof=1)), self.worth
        more = needed(lambda k: least_mean(std, k), worth)
        return Told(
            in_words(n, "run"), 0, least_mean(std, n), worth, self.unit, more, math.nan, f"{len(found)} finished"
        )


def variances(difference: np.ndarray) -> tuple[float, float, float]:
    """Of seeds, of images and of the rest, of (pairs of runs, images) of -1, 0, 1."""
    n_pairs, n_images = difference.shape
    seeds, images, rest = squares(difference)
    return max(seeds - rest, 0) / n_images, max(images - rest, 0) / n_pairs, rest


def in_words(n: int, what: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{n} {what}{'s' * (n != 1)}"


def together(evidence: Evidence, one: Who, other: Who) -> pd.DataFrame:
    """The runs of `one` at whose eps, model and seed there is one of `other`, both under AutoAttack.

    Raises: NotRun if there is none.
    """
    attacked = [rows[rows["n_autoattack"] > 0] for rows in (evidence.runs_of(*one), evidence.runs_of(*other))]
    rows = both(*attacked)
    if rows.empty:
        raise NotRun(f"no run that {'/'.join(one)} and {'/'.join(other)} both have under AutoAttack")
    return rows


def both(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The runs of `one` at whose eps, model and seed there is one of `other`."""
    key = ["model", "eps", "seed"]
    return one.merge(other[key], on=key)


def rivals(evidence: Evidence) -> list[tuple[Who, Who]]:
    """ATAS and each other fast method that is attacked by AutoAttack."""
    rows = claims.fast(evidence.runs[evidence.runs["n_autoattack"] > 0])
    return [(ATAS, (name, "paper")) for name in sorted(set(rows["method"]) - {"atas", EXTERNAL})] or [(ATAS, ATAS)]


def least_adaptive(evidence: Evidence) -> pd.DataFrame:
    """The runs of ATAS or of FGSM-RS with its step, whichever are fewer."""
    rows = evidence.runs[
        evidence.runs["method"].isin(["atas", "fgsm_adaptive"]) & (evidence.runs["variant"] == "paper")
    ]
    return min((part for _, part in rows.groupby("method")), key=len, default=rows)


def steps(evidence: Evidence) -> np.ndarray:
    """The mean step over eps of the method with fewer runs."""
    parts = claims.adaptive_steps(evidence).values()
    return max((part["step"].to_numpy() for part in parts), key=lambda found: found.std(ddof=1))


def ratios(evidence: Evidence) -> np.ndarray:
    """sqrt(mean G^2) / mean G of the runs of ATAS."""
    return np.sqrt(evidence.runs_of("atas", needs="ratio")["ratio"].to_numpy())


def of(one: Who, other: Who) -> Callable[[Evidence], list[tuple[Who, Who]]]:
    """One pair of methods."""
    return lambda _evidence: [(one, other)]


OF_LOSS = (lambda e: both(e.runs_of("atas"), e.runs_of("atta")), lambda e: claims.losses(e)["loss_gap"].to_numpy())
DESIGNS: dict[str, Verdicts | Shares | Ranks | Means] = {
    "atas-atta": Verdicts(of(ATAS, ("atta", "paper"))),
    "atas-rs": Verdicts(of(ATAS, ("fgsm_rs", "paper"))),
    "atas-best": Verdicts(rivals, each_eps=True),
    "atas-pgd10": Verdicts(of(ATAS, ("pgd10", "paper"))),
    "rs-collapses": Shares(claims.rs_and_atas),
    "others-avoid": Shares(claims.rs_and_remedies),
    "eps-collapse": Ranks(lambda e: e.runs_of("fgsm_rs"), "eps"),
    "step-collapse": Ranks(claims.by_step, "alpha"),
    "norm-collapse": Shares(claims.by_norms),
    "d10-first": Means(lambda e: e.runs[e.runs["snapshots"]], claims.bulges_of, 0.1, "nats"),
    "adaptive-prevents": Shares(claims.fixed_and_adaptive),
    "adaptive-larger": Means(least_adaptive, steps, 0.1, "eps"),
    "tail": Means(lambda e: e.runs_of("atas"), ratios, 0.05, "of ratio"),
    "tail-eps": Ranks(lambda e: e.runs_of("atas"), "eps"),
    "loss": Means(*OF_LOSS, 0.05, "nats"),
    "tail-loss": Ranks(OF_LOSS[0], "name"),
    "time": Means(OF_LOSS[0], claims.log_times, 0.05, "of 1"),
    "insensitive": Verdicts(lambda e: [(("atas", name), ATAS) for name in claims.settings(e)]),
}


# The table

HEADING = "What this grid tells of the claims, in four cases of five (docs/decisions/sample-size.md):"
COLUMNS = ["claim", "data", "runs", "AA images", "tells", "of worth", "needs runs", "or images", "spread from"]


def table(specs: list[RunSpec], config: dict[str, Any], folder: Path | None) -> pd.DataFrame:
    """A row per data set and claim, as texts. folder: of finished results, whose spread is taken; None: none."""
    found = results.read(folder, needs=("measured.csv", "correct.csv")) if folder else None
    finished = claims.by_data_set(found, folder / "figures") if found and folder else {}
    lines = []
    for dataset, rows in planned(specs, config).groupby("dataset"):
        grid = Evidence(str(dataset), rows, pd.DataFrame(), Path())
        for claim in claims.CLAIMS:
            lines.append([claim.name, str(dataset), *cells(claim.name, grid, finished.get(str(dataset)))])
    return pd.DataFrame(lines, columns=COLUMNS)


def cells(name: str, grid: Evidence, finished: Evidence | None) -> list[str]:
    """The texts of a claim's row but its first two."""
    if name not in DESIGNS:
        return [*[""] * 6, "judged by its extremes"]
    try:
        told = DESIGNS[name].told(grid, finished)
    except NotRun as missing:
        return [*[""] * 6, f"not in this grid: {missing}"]
    least = "-" if math.isnan(told.least) else f"{told.least:.2g} {told.unit}"
    worth = [f"{told.worth:g}", number(told.more_runs)] if told.worth else ["", ""]
    images = [str(told.n_images), number(told.more_images)] if told.n_images else ["", ""]
    return [told.runs, images[0], least, *worth, images[1], told.basis]


def number(n: float) -> str:
    """A whole number; `-` where none is enough."""
    return "-" if math.isnan(n) else f"{n:.0f}"


def described(lines: pd.DataFrame) -> str:
    """The table in columns."""
    rows = [COLUMNS, *lines.to_numpy().tolist()]
    widths = [max(len(row[k]) for row in rows) for k in range(len(COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def planned(specs: list[RunSpec], config: dict[str, Any]) -> pd.DataFrame:
    """The runs as Results has them, without a number but `n_autoattack`, and with `snapshots` (kept or not)."""
    rows = [(s.dataset, s.model, eps_text(s.eps_255), s.method, s.variant, str(s.seed)) for s in specs]
    measured = pd.DataFrame([(*row, "diverged", None, 0, None) for row in rows], columns=MEASURED)
    said = {spec.name: {"run": spec.name, **recipe_of(spec, config)} for spec in specs}
    runs = results.of_rows(measured, evidence=said).runs
    by_name = {spec.name: spec for spec in specs}
    return runs.assign(
        n_autoattack=[n_under_autoattack(by_name[name], config) for name in runs["name"]],
        snapshots=[keeps_snapshots(by_name[name], config) for name in runs["name"]],
    )


def recipe_of(spec: RunSpec, config: dict[str, Any]) -> dict[str, Any]:
    """`recipe` and `config` (every value of the method), as run.json would have them."""
    recipe = resolve(spec, config)
    return {
        "recipe": vars(recipe) | {"schedule": vars(recipe.schedule)},
        "config": defaults_of(spec.method) | recipe.params,
    }


def defaults_of(method: str) -> dict[str, Any]:
    """The default of each value of a method."""
    return {key: value for key, (value, _) in params(method).items()}
