"""Is the robustness real? What an honest network must stand, checked on every run. pandas; never torch.

Gradient masking makes attacks fail without making a network robust (Athalye et al. 2018; Carlini et al. 2019). Each
check allows for the n images that its numbers were measured on: it fails only beyond their 99.9 % interval.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from fastat.config import catalog
from fastat.machine.files import atomic
from fastat.report.results import Results
from fastat.report.tidy import RUN

COLUMNS = [*RUN, "check", "value", "limit", "holds", "verdict"]
Z = 3.2905  # two-sided 99.9 %
SQUARE = 10.0  # % of what AutoAttack broke that Square may have broken: it finds few where gradients are honest
BLIND = 1.0  # % of images that may have no gradient at all: a network can be certain of some
NOT_ALWAYS = "fgsm <= noise"  # not asked of a network that is collapsed at the end


def write_csv(results: Results, out: Path) -> None:
    """Write sanity.csv."""
    with atomic(out) as partial:
        panel(results.runs).to_csv(partial, index=False)


def panel(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per run and check (docs/files.md): value and limit in %, holds 1, 0 or empty."""
    wide = runs[runs["subset"].isna()].set_index(RUN)  # those are not attacked
    if wide.empty:
        return pd.DataFrame(columns=COLUMNS)
    checks = pd.concat([check(wide) for check in CHECKS], ignore_index=True)
    checks["holds"] = np.where(checks["margin"].isna(), np.nan, (checks["margin"] >= 0).astype(float))
    missing = checks["holds"].isna() & (checks["check"] != NOT_ALWAYS)
    found = checks.assign(missing=missing).groupby(RUN).agg({"holds": "min", "missing": "any"}).reset_index()
    word = np.select([found["holds"] == 0, found["missing"]], ["masking suspected", "not measured"], "ok")
    checks = checks.merge(found[RUN].assign(verdict=word), on=RUN)
    return checks[COLUMNS].sort_values(RUN, kind="stable", ignore_index=True)


def slack(p: pd.Series, *n: pd.Series) -> pd.Series:
    """What two measured shares of about p % may differ by, each on n images, in points."""
    p = p.clip(2, 98) / 100  # a share of 0 or 100 % on few images is not known exactly either
    return 100 * Z * sum((p * (1 - p) / m for m in n), start=0 * p) ** 0.5


def judged(name: str, value: pd.Series, limit: pd.Series, sign: int) -> pd.DataFrame:
    """value <= limit (sign 1) or value >= limit (sign -1), for each run."""
    found = pd.DataFrame({"check": name, "value": value, "limit": limit, "margin": sign * (limit - value)})
    return found.reset_index()


def values(wide: pd.DataFrame, metric: str) -> tuple[pd.Series, pd.Series]:
    """A metric's value and n of every run, NaN where it was not measured."""
    nothing = pd.Series(np.nan, index=wide.index)
    return wide.get(metric, nothing), wide.get(f"{metric}_n", nothing)


def no_more_than(name: str, left: str, right: str):
    """A check that the metric `left` is not above `right`, by more than the images allow."""

    def check(wide: pd.DataFrame) -> pd.DataFrame:
        (low, n_low), (high, n_high) = values(wide, left), values(wide, right)
        return judged(name, low, high + slack((low + high) / 2, n_low, n_high), 1)

    return check


def fgsm_finds_more_than_noise(wide: pd.DataFrame) -> pd.DataFrame:
    """That FGSM is blind in a network collapsed at the end is what collapse means; one that recovered is asked."""
    fgsm, n = values(wide, "fgsm")
    noise, _ = values(wide, "noise")
    collapsed, _ = values(wide, "collapsed_at_end")
    return judged(NOT_ALWAYS, fgsm.where(collapsed != 1), noise + slack(noise, n, n), 1)


def far_leaves_nothing(wide: pd.DataFrame) -> pd.DataFrame:
    """At eps 128/255 every image can be made grey: no more may be right than guessing gets."""
    far, n = values(wide, "far")
    names = wide.index.get_level_values("dataset")
    classes = {name: facts.n_classes if (facts := catalog.facts(name)) else np.nan for name in set(names)}
    said, _ = values(wide, "n_classes")  # of a data set that has no name
    guessing = 100 / said.fillna(pd.Series([classes[name] for name in names], wide.index, dtype=float))
    return judged("far <= guessing", far, guessing + slack(guessing, n), 1)


def gradients_are_there(wide: pd.DataFrame) -> pd.DataFrame:
    """Images whose input gradient is zero everywhere, in %."""
    there, n = values(wide, "gradient")
    limit = pd.Series(BLIND, index=wide.index)
    return judged("no gradient", 100 - there, limit + slack(limit, n), 1)


def square_breaks_few(wide: pd.DataFrame) -> pd.DataFrame:
    """Of the images that AutoAttack broke, in %, those that the attack without gradients did."""
    parts = {name: values(wide, f"broken_{name}")[0].fillna(0) for name in ("apgd-ce", "apgd-t", "fab-t")}
    attacked, _ = values(wide, "aa")
    square = values(wide, "broken_square")[0].fillna(0).where(attacked.notna())  # it has no row where nothing stood
    broken = sum(parts.values(), start=square)
    limit = pd.Series(SQUARE, index=wide.index)
    share = (100 * square / broken).where(broken > 0, 0 * square)
    return judged("square's share", share, limit + slack(limit, broken.clip(lower=1)), 1)


def perturbations_are_inside(wide: pd.DataFrame) -> pd.DataFrame:
    """Images of PGD50 in the eps-ball and the pixel range, in %."""
    inside, _ = values(wide, "inside")
    return judged("inside", inside, pd.Series(100.0, index=wide.index), -1)


def losses_are_numbers(wide: pd.DataFrame) -> pd.DataFrame:
    """1: an attacked network whose loss on training images is none; argmax calls what is no number class 0."""
    loss, clean = values(wide, "robust_train_loss")[0], values(wide, "clean")[0]
    return judged("no loss", loss.isna().astype(float).where(clean.notna()), 0 * clean, 1)


CHECKS = (
    no_more_than("aa <= pgd50", "aa", "pgd50"),
    no_more_than("pgd50 <= pgd10", "pgd50", "pgd10"),
    no_more_than("pgd10 <= fgsm", "pgd10", "fgsm"),
    fgsm_finds_more_than_noise,
    far_leaves_nothing,
    gradients_are_there,
    square_breaks_few,
    perturbations_are_inside,
    losses_are_numbers,
)
