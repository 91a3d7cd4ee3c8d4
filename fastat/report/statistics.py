"""How sure are we? Intervals of proportions and means, two methods on the same images. pandas, scipy; never torch."""

import base64
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are used

from fastat.report.tidy import RUN

log = logging.getLogger(__name__)
POWER = 0.8
MOST = 1_000_000  # seeds or images: as good as no number of them
DRAWS = 19_999  # of random orders, where there are more of them than this
Verdicts = tuple[np.ndarray, str]  # of one run under one attack: (images,) correct, and which images


def exact(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion k of n, in [0, 1] (Clopper and Pearson 1934): for few trials.

    Raises: ValueError if k is not in 0..n, or n is 0.
    """
    interval = scipy.stats.binomtest(k, n).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def wilson(percent: float, n: float) -> tuple[float, float]:
    """The 95 % interval, in %, of a proportion measured on n images (Wilson 1927)."""
    if pd.isna(percent) or not n:
        return math.nan, math.nan
    p, z = percent / 100, 1.959964
    centre, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (100 * bound / (1 + z**2 / n) for bound in (centre - spread, centre + spread))
    return max(0.0, low), min(high, 100.0)  # rounding may leave -1e-17


def finite(values: pd.Series) -> pd.Series:
    """Numbers; NaN for texts and for infinities."""
    return pd.to_numeric(values, errors="coerce").replace([math.inf, -math.inf], math.nan)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def shares_differ(strata: Iterable[tuple[int, int, int, int]]) -> tuple[float, float]:
    """Shares k of n and m of r, compared within strata (k, n, m, r): their mean difference, and a two-sided p.

    Within a stratum whose margins are given, k is hypergeometric; the sum of the k is held against its exact
    distribution, and the smaller tail counts twice (Gart 1970: the exact test of Mantel and Haenszel; of one stratum it
    is Fisher's). The difference is Mantel and Haenszel's, each stratum's weight n r / (n + r).
    """
    total, least, chance = 0, 0, np.ones(1)
    weights, differences = [], []
    for k, n, m, r in strata:
        fallen = k + m
        possible = np.arange(max(0, fallen - r), min(n, fallen) + 1)
        chance = np.convolve(chance, scipy.stats.hypergeom.pmf(possible, n + r, fallen, n))
        total, least = total + k, least + int(possible[0])
        weights.append(n * r / (n + r))
        differences.append(k / n - m / r)
    at = total - least
    p = min(1.0, 2 * float(min(chance[: at + 1].sum(), chance[at:].sum())))
    return float(np.average(differences, weights=weights)), p


def ranks_agree(x: np.ndarray, y: np.ndarray, strata: list[Any]) -> tuple[float, float]:
    """Spearman's correlation of ranks within strata, and its two-sided p by putting y in other orders within them.

    All orders if no more than DRAWS differ, else so many random ones, always the same (then p is at least
    1 / (DRAWS + 1)). NaN where one of the two is the same in every stratum. The order of the rows does not count.
    """
    rows = pd.DataFrame({"stratum": strata, "x": x, "y": y}).sort_values(["stratum", "x", "y"])
    strata = rows.pop("stratum").tolist()
    ranks = rows.groupby(strata).rank()
    ranks -= ranks.groupby(strata).transform("mean")
    scale = math.sqrt(float(ranks["x"].pow(2).sum() * ranks["y"].pow(2).sum()))
    if not scale > 0:
        return math.nan, math.nan
    parts = [part.to_numpy() for _, part in ranks.groupby(strata)]
    if math.prod(n_orders(part[:, 1]) for part in parts) <= DRAWS:
        sums = np.zeros(1)
        for part in parts:
            sums = np.add.outer(sums, orders(part[:, 1]) @ part[:, 0]).ravel()
    else:
        rng = np.random.default_rng(0)
        sums = sum(rng.permuted(np.tile(part[:, 1], (DRAWS, 1)), axis=1) @ part[:, 0] for part in parts)
        sums = np.append(sums, (ranks["x"] * ranks["y"]).sum())
    found = float((ranks["x"] * ranks["y"]).sum())
    return found / scale, float((np.abs(sums) >= abs(found) - 1e-9 * scale).mean())


def n_orders(values: np.ndarray) -> int:
    """How many orders of the values differ."""
    ties = np.unique(values, return_counts=True)[1].tolist()
    return math.factorial(len(values)) // math.prod(map(math.factorial, ties))


def orders(values: np.ndarray) -> np.ndarray:
    """(n,) -> (orders, n): each order that differs from the others, once."""
    others = values[values > values.min()]
    if not len(others):
        return values[None]
    rest, found = orders(others), []
    for places in itertools.combinations(range(len(values)), len(others)):
        part = np.full((len(rest), len(values)), values.min())
        part[:, places] = rest
        found.append(part)
    return np.concatenate(found)


def by_cell(rows: pd.DataFrame) -> dict[tuple[str, str], dict[str, Verdicts]]:
    """(method, variant) -> seed -> verdicts, of those that have any. rows: correct.csv at one place and attack."""
    cells: dict[tuple[str, str], dict[str, Verdicts]] = {}
    for (method, variant, seed), verdicts in told(rows):
        cells.setdefault((method, variant), {})[seed] = verdicts
    return dict(sorted(cells.items()))


def seeds(group: pd.DataFrame) -> dict[str, Verdicts]:
    """Seed -> verdicts, of rows of one cell and attack."""
    return {seed: verdicts for (*_, seed), verdicts in told(group)}


def told(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], Verdicts]]:
    """(method, variant, seed) and verdicts of each row. Damaged ones are left out."""
    columns = (rows[name] for name in (*RUN, "bits", "n", "images"))
    for *run, bits, n, images in zip(*columns, strict=True):
        right = unpacked(bits, n)
        if right is None or pd.isna(images):
            log.warning("correct.csv: %s, seed %s, is damaged: left out", "/".join(map(str, run[:-1])), run[-1])
        else:
            yield (str(run[-3]), str(run[-2]), str(run[-1])), (right, str(images))


def unpacked(bits: object, n: float) -> np.ndarray | None:
    """The inverse of what tidy.py packs: (n,) bool; None if these are not the bits of n images."""
    try:
        packed = np.frombuffer(base64.b64decode(str(bits), validate=True), np.uint8)
    except ValueError:  # binascii's own, and that of letters beyond ASCII
        return None
    if pd.isna(n) or n < 1 or len(packed) != math.ceil(n / 8):
        return None
    return np.unpackbits(packed, count=int(n)).astype(bool)


def shared(one: Mapping[Any, Verdicts], other: Mapping[Any, Verdicts]) -> list[Any]:
    """The runs that both have on the same images; where these differ between runs, on those that most have."""
    images = {key: (which, len(right)) for key, (right, which) in sorted(one.items())}
    both = [key for key in images if key in other and images[key] == (other[key][1], len(other[key][0]))]
    most = Counter(images[key] for key in both).most_common(1)
    return [key for key in both if images[key] == most[0][0]]


def compare(one: dict[str, Verdicts], other: dict[str, Verdicts]) -> dict[str, Any] | None:
    """One method against another, on the seeds and images that both have; None if there is no such pair."""
    both = shared(one, other)
    if not both:
        return None
    a, b = (np.array([cell[seed][0] for seed in both]) for cell in (one, other))
    found = paired(a.astype(float) - b)
    return {
        "n_seeds": len(both), "n_images": a.shape[1], "difference": 100 * found.mean, "low": 100 * found.low,
        "high": 100 * found.high, "only_a": int((a & ~b).sum()), "only_b": int((b & ~a).sum()), "p": found.p,
        "more_seeds": found.more_seeds, "more_images": found.more_images,
    }  # fmt: skip


@dataclass(frozen=True)
class Paired:
    """A mean difference, its 95 % interval and p (below 0.05 if and only if the interval leaves out 0).

    more_seeds, more_images: how many it would take to tell with 80 % power if the difference is as large as it seems,
    each with as many of the other as there are; 0 if it is told; NaN: no number of them would, or one seed cannot say.
    """

    mean: float
    low: float
    high: float
    p: float
    more_seeds: float
    more_images: float


def paired(difference: np.ndarray) -> Paired:
    """(seeds, images) of -1, 0, 1 -> the mean for other seeds and other images than these.

    Seeds and images are crossed: all networks of a seed share their weights, and all verdicts on an image its pixels,
    so that seeds x images are not as many independent trials. The variance is the sum of those of seeds, images and
    rest (two-way analysis of variance; a part that comes out negative is 0), and t has Satterthwaite's degrees of
    freedom (1946): the analysis of readers and cases in radiology (Hillis 2007). One seed knows of images alone: the
    exact test of McNemar, and the interval of Clopper and Pearson of the share of images that only one gets right.
    Its level and coverage for 2, 3 and 5 seeds: docs/decisions/paired-test.md.
    """
    n_seeds, n_images = difference.shape
    mean = float(difference.mean())
    if n_seeds == 1:
        low, high, p = on_images_alone(difference[0])
        rest = float(difference.var(ddof=1)) if n_images > 1 else math.nan
        return Paired(mean, low, high, p, math.nan, 0.0 if p < 0.05 else fewest(n_images, partial(tells, mean, rest)))
    seeds, images, rest = squares(difference)
    seeds, images = max(seeds, rest), max(images, rest)
    total = seeds + images - rest
    if not total > 0:  # every image and seed says the same
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 2 * 0.5**n_images, math.nan, math.nan)
    freedom = total**2 / (seeds**2 / (n_seeds - 1) + images**2 / (n_images - 1))
    error = math.sqrt(total / (n_seeds * n_images))
    half, p = float(scipy.stats.t.ppf(0.975, freedom)) * error, float(2 * scipy.stats.t.sf(abs(mean) / error, freedom))
    if p < 0.05:
        return Paired(mean, mean - half, mean + half, p, 0.0, 0.0)
    parts = (seeds - rest) / n_images, (images - rest) / n_seeds, rest  # variances of seeds, images and rest
    more_seeds = fewest(n_seeds, lambda n: tells_crossed(mean, parts, n, n_images))
    more_images = fewest(n_images, lambda n: tells_crossed(mean, parts, n_seeds, n))
    return Paired(mean, mean - half, mean + half, p, more_seeds, more_images)


def squares(difference: np.ndarray) -> tuple[float, float, float]:
    """The mean squares of seeds, images and rest of a two-way layout with one value a cell; all counts above 1."""
    n_seeds, n_images = difference.shape
    mean, of_seeds, of_images = difference.mean(), difference.mean(1), difference.mean(0)
    rest = difference - of_seeds[:, None] - of_images + mean
    return (
        float(n_images * ((of_seeds - mean) ** 2).sum() / (n_seeds - 1)),
        float(n_seeds * ((of_images - mean) ** 2).sum() / (n_images - 1)),
        float((rest**2).sum() / ((n_seeds - 1) * (n_images - 1))),
    )


def on_images_alone(difference: np.ndarray) -> tuple[float, float, float]:
    """Low, high and p of one seed's (images,) of -1, 0, 1."""
    only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
    differ = only_a + only_b
    if not differ:
        return 0.0, 0.0, 1.0
    low, high = (differ * (2 * bound - 1) / len(difference) for bound in exact(only_a, differ))
    p = min(1.0, 2 * float(scipy.stats.binom.cdf(min(only_a, only_b), differ, 0.5)))
    return low, high, p


def tells(mean: float, variance: float, n: int) -> bool:
    """Whether n independent values of this mean and variance tell it from 0 in four cases of five, about."""
    return abs(mean) >= reach(n - 1) * math.sqrt(variance / n)


def tells_crossed(mean: float, parts: tuple[float, float, float], n_seeds: int, n_images: int) -> bool:
    """The same of n_seeds x n_images values. parts: the variances of seeds, of images and of the rest."""
    of_seeds, of_images, rest = parts
    seeds, images = rest + n_images * of_seeds, rest + n_seeds * of_images  # mean squares, as expected
    total = seeds + images - rest
    freedom = total**2 / (seeds**2 / (n_seeds - 1) + images**2 / (n_images - 1))
    return abs(mean) >= reach(freedom) * math.sqrt(total / (n_seeds * n_images))


def reach(freedom: float) -> float:
    """How many standard errors a mean must be from 0 to be told from it with 80 % power, about."""
    return float(scipy.special.stdtrit(freedom, 0.975) + scipy.special.stdtrit(freedom, POWER))


def fewest(n: int, enough: Callable[[int], bool]) -> float:
    """How many more than n are enough; NaN: MOST are not."""
    few, many = n, 2 * n + 1
    while not enough(many):
        few, many = many, 2 * many
        if few > MOST:
            return math.nan
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return float(many - n)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjustment (1979) of a family of p-values."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
