"""How sure are we? Intervals of proportions and means, two methods on the same images. pandas, scipy; never torch."""

import base64
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fastat.report.tidy import RUN

log = logging.getLogger(__name__)
DRAWS = 500  # of the bootstrap
POWER = 0.8
Verdicts = tuple[np.ndarray, str]  # of one run under one attack: (images,) correct, and which images


def exact(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion k of n, in [0, 1] (Clopper and Pearson 1934): for few trials.

    Raises: ValueError if k is not in 0..n, or n is 0.
    """
    interval = stats.binomtest(k, n).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def wilson(percent: float, n: float) -> tuple[float, float]:
    """The 95 % interval, in %, of a proportion measured on n images (Wilson 1927)."""
    if pd.isna(percent) or not n:
        return math.nan, math.nan
    p, z = percent / 100, 1.959964
    centre, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return 100 * (centre - spread) / (1 + z**2 / n), 100 * (centre + spread) / (1 + z**2 / n)


def finite(values: pd.Series) -> pd.Series:
    """Numbers; NaN for texts and for infinities."""
    return pd.to_numeric(values, errors="coerce").replace([math.inf, -math.inf], math.nan)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


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
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = min(1.0, 2 * float(stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))  # exact, as both are as likely
    gaps = 100 * (a.mean(1) - b.mean(1))
    low, high = bootstrap(a.astype(float) - b)
    return {
        "n_seeds": len(both), "n_images": a.shape[1], "difference": gaps.mean(), "low": low, "high": high,
        "only_a": only_a, "only_b": only_b, "p": p, "more_seeds": more_seeds(gaps),
    }  # fmt: skip


def bootstrap(difference: np.ndarray) -> tuple[float, float]:
    """(seeds, images) of -1, 0, 1 -> 95 % interval of the mean, in points: seeds and images are drawn.

    All seeds were attacked on the same images, some of which are hard for all of one method's networks, so that the
    images of a draw are the same for all its seeds (Owen 2007, "The pigeonhole bootstrap"). Their mean is drawn as
    what it is for many images, normal with the covariance between seeds.
    """
    rng = np.random.default_rng(0)
    n_seeds, n_images = difference.shape
    of_seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=DRAWS) / n_seeds
    images = np.cov(difference, bias=True).reshape(n_seeds, n_seeds) / n_images  # of the seeds' means over drawn images
    scatter = np.sqrt(np.maximum(((of_seeds @ images) * of_seeds).sum(1), 0))
    normal = stats.norm.ppf((rng.permutation(DRAWS) + 0.5) / DRAWS)  # evenly, so that no luck of 500 draws is in it
    means = of_seeds @ difference.mean(1) + scatter * normal
    low, high = np.percentile(100 * means, [2.5, 97.5])
    return float(low), float(high)


def more_seeds(gaps: np.ndarray) -> float:
    """How many more seeds would separate two methods that differ so (a value a seed), at 80 % power; NaN: unknown.

    0 if they are enough; by the normal approximation of the paired t-test.
    """
    if len(gaps) < 2 or gaps.mean() == 0:
        return math.nan
    z = stats.norm.ppf(0.975) + stats.norm.ppf(POWER)
    return float(max(0, math.ceil((z * gaps.std(ddof=1) / gaps.mean()) ** 2) - len(gaps)))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjustment (1979) of a family of p-values."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
