"""Theorems IV.1 and IV.2 of the ATAS paper, put to the test on a problem whose saddle point is known. numpy only.

The problem: n images x_i in a box of half-width 1, d pixels each, and weights theta in R^d,

    l_i(theta, x_i) = |theta - a_i|^2 / 2 + s_i ((c theta + b_i) . x_i - kappa |x_i|^2 / 2),

convex in theta and concave in each x_i, as Assumption IV.1 asks, with the a_i shifted so that theta* = 0. The largest
gradient norms G_i go with s_i, which is lognormal: the longer its tail, the larger Eq. 10's ratio. `corner` has
kappa = 0, so that every x_i* is a corner of the box; `interior` has kappa = 1, and x_i* inside.

The algorithms are those of Sec. IV-A: SGD_BCA (ATTA without the sign), A-SGD_BCA (ATAS without the sign; v-hat is the
maximum of v so far), and A-SGD_BCA with v in place of v-hat, as in ATAS itself. Step sizes `printed` are the theorems',
`counted` are sqrt(n) times as large for x (see below).

What cannot be as printed, by the standard proof (projected subgradient steps, a random block at a time):

* Both second terms take |x - x*|^2 <= d D^2, which holds for one image; for all n it is n d D^2. With the printed step
  sizes the second terms are then (n + 1) / 2 times as large. The step sizes that make the counted terms least are
  sqrt(n) times the printed ones, and the terms sqrt(n) times the printed ones. No algorithm can keep the printed
  bounds: after t steps at least n - t images stand where they started, so with losses linear in x the regret grows
  to about n G D, while the bounds' second terms are G D sqrt(T), less until T = n^2.
* Eq. 9 maximises and minimises in every term of its sum. The proof bounds the sum with one x* and one theta* for all
  its terms, here `regret_fixed`, which is enough for Lemma IV.1.
* The second term of SGD_BCA over that of A-SGD_BCA is (1 - beta)^(1/4) sqrt(mean G^2) / mean G, counted or not. Eq. 10
  prints 1 / (1 - beta)^(1/4). At beta = 0.5 the factor is 0.84: A-SGD_BCA has the smaller bound only where
  mean G^2 / (mean G)^2, the ratio of Fig. 6b, is above 1.41.
* The update of A-SGD_BCA prints v; v-hat, defined the line before, must be meant: the proof needs it to rise.

What is measured (results/figures/theory.csv): on `corner` with the printed step sizes both algorithms exceed the
printed bounds, up to 2.1 times; on `interior`, where x has less far to go, they keep them; everything keeps the counted
bounds. A-SGD_BCA has the smaller regret for T of 1000 and more, and the more so the longer the tail. It also has it
without a tail, in part because its steps are divided by gradients as they are and SGD_BCA's by their bound. At T = 100
SGD_BCA is sometimes ahead.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastat.machine.files import write_rows

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

COLUMNS = [
    "problem", "tail", "ratio", "algorithm", "eta", "seed", "T", "regret", "regret_fixed", "gap", "bound",
    "bound_counted",
]  # fmt: skip
N, D, COUPLING, BETA, WIDTH = 32, 4, 0.1, 0.5, 2.0  # WIDTH is D_{x, inf}
KAPPA = {"corner": 0.0, "interior": 1.0}
TAILS = (0.0, 0.5, 1.0, 1.5)  # standard deviation of log s
SEEDS = (0, 1, 2)
HORIZONS = (100, 300, 1000, 3000, 10000)
ALGORITHMS = ("SGD_BCA", "A-SGD_BCA", "A-SGD_BCA, v for v-hat")
ETAS = ("printed", "counted")


@dataclass(frozen=True)
class Problems:
    """R problems side by side. Shapes: s (R, n), a and b (R, n, d), kappa (R,)."""

    s: Array
    a: Array
    b: Array
    kappa: Array

    def best_x(self, theta: Array) -> Array:
        """The x_i that maximise every l_i(theta, .): (R, d) -> (R, n, d)."""
        pull = COUPLING * theta[:, None] + self.b
        return np.clip(pull / np.maximum(self.kappa, 1e-12)[:, None, None], -1, 1)

    def best_theta(self, x: Array) -> Array:
        """The theta that minimises phi(., x): (R, n, d) -> (R, d)."""
        return np.asarray((self.a - COUPLING * self.s[..., None] * x).mean(1))

    def phi(self, theta: Array, x: Array) -> Array:
        """The objective, Eq. 7: (R,)."""
        gain = ((COUPLING * theta[:, None] + self.b) * x - self.kappa[:, None, None] * x**2 / 2).sum(2)
        return np.asarray((((theta[:, None] - self.a) ** 2).sum(2) / 2 + self.s * gain).mean(1))

    def constants(self, start: Array) -> tuple[Array, Array, Array, Array]:
        """D_theta, G_theta (R,), G_{x_i} (R, n) and L_x (R,) of Assumption IV.1, for every theta that can be reached.

        A step with eta_theta <= 1 mixes theta with a_i - c s_i x_i: none leaves the ball around 0 that holds these.
        """
        far = np.linalg.norm(self.a, axis=2) + COUPLING * self.s * D**0.5
        radius = np.maximum(far.max(1), np.linalg.norm(start, axis=1))
        g_theta = np.sqrt(((radius[:, None] + far) ** 2).mean(1))
        steepest = np.linalg.norm(self.b, axis=2) + (COUPLING * radius + self.kappa * D**0.5)[:, None]
        return radius, g_theta, self.s * steepest, self.s.max(1) * self.kappa


def make_problems(cells: list[tuple[str, float, int]]) -> Problems:
    """The problems named (kind, tail, seed), whose saddle points are theta* = 0 and x* = best_x(0)."""
    s, a, b = np.empty((len(cells), N)), np.empty((len(cells), N, D)), np.empty((len(cells), N, D))
    for r, (_, tail, seed) in enumerate(cells):
        rng = np.random.default_rng(seed)
        s[r] = np.exp(tail * rng.standard_normal(N))
        b[r], a[r] = rng.uniform(-1, 1, (N, D)), rng.standard_normal((N, D)) / D**0.5
    s /= s.mean(1, keepdims=True)
    centred = Problems(s, a, b, np.array([KAPPA[kind] for kind, _, _ in cells]))
    zero = np.zeros((len(cells), D))
    return Problems(s, a - centred.best_theta(centred.best_x(zero))[:, None], b, centred.kappa)


def run(problems: Problems, theta: Array, kind: Numbers, eta_theta: Array, eta_x: Array, images: Numbers) -> Array:
    """Updates of Sec. IV-A from `theta` and x = 0, the t-th with image images[t] (T, R); kind (R,) is in ALGORITHMS.

    Returns: regret (Eq. 9), regret_fixed, and the gap of the mean theta (Lemma IV.1): (3, R).
    """
    r, s, b, kappa, mean_a = np.arange(len(theta)), problems.s, problems.b, problems.kappa[:, None], problems.a.mean(1)
    half, stiff = (problems.a**2).sum(2).mean(1) / 2, np.maximum(problems.kappa, 1e-12)[:, None, None]
    x, v, v_hat = np.zeros_like(b), np.zeros_like(s), np.zeros_like(s)
    push, gain = np.zeros_like(theta), np.zeros_like(half)  # mean c s_i x_i, mean s_i (b_i . x_i - kappa |x_i|^2 / 2)
    regret, bowls, gains, thetas, pushes = (np.zeros_like(z) for z in (half, half, half, theta, theta))

    def bowl(theta: Array) -> Array:  # the mean of |theta - a_i|^2 / 2
        return half + (theta * (theta / 2 - mean_a)).sum(1)

    def top(theta: Array) -> Array:  # max over x of the rest of phi(theta, .)
        pull = COUPLING * theta[:, None] + b
        x = np.clip(pull / stiff, -1, 1)
        return np.einsum("rn,rnd->r", s, x * (pull - kappa[:, None] / 2 * x)) / N

    def bottom(push: Array, gain: Array) -> Array:  # min over theta of phi(., x)
        return half + gain - ((mean_a - push) ** 2).sum(1) / 2

    for i in images:
        regret += bowl(theta) + top(theta) - bottom(push, gain)
        bowls, thetas, pushes, gains = bowls + bowl(theta), thetas + theta, pushes + push, gains + gain
        old, scale, away = x[r, i], s[r, i, None], b[r, i]
        grad = scale * (COUPLING * theta + away - kappa * old)
        v[r, i] = BETA * v[r, i] + (1 - BETA) * (grad**2).sum(1)
        v_hat[r, i] = np.maximum(v_hat[r, i], v[r, i])
        slope = np.choose(kind, [np.ones_like(half), np.sqrt(v_hat[r, i]), np.sqrt(v[r, i])])
        new = np.clip(old + (eta_x / np.maximum(slope, 1e-12))[:, None] * grad, -1, 1)
        push = push + COUPLING / N * scale * (new - old)
        gain = gain + (scale * (away * (new - old) - kappa / 2 * (new**2 - old**2))).sum(1) / N
        x[r, i] = new
        theta = theta - eta_theta[:, None] * (theta - problems.a[r, i] + COUPLING * scale * new)
    steps = len(images)
    fixed = bowls + steps * (top(thetas / steps) - bottom(pushes / steps, gains / steps))
    saddle = np.zeros_like(theta)
    gap = bowl(thetas / steps) + top(thetas / steps) - bowl(saddle) - top(saddle)
    return np.stack([regret, fixed, gap])


def experiment(steps: int) -> list[dict[str, object]]:
    """Every problem, tail, seed, algorithm and step size with T = `steps`: rows of COLUMNS."""
    grid = list(itertools.product(KAPPA, TAILS, SEEDS, range(len(ALGORITHMS)), ETAS))
    algorithm, counted = np.array([cell[3] for cell in grid]), np.array([cell[4] == "counted" for cell in grid])
    problems = make_problems([(kind, tail, seed) for kind, tail, seed, _, _ in grid])
    start = np.stack([np.random.default_rng(100 + seed).standard_normal(D) / D**0.5 for _, _, seed, _, _ in grid])
    draws = {seed: np.random.default_rng(200 + seed).integers(0, N, steps) for seed in SEEDS}
    images = np.stack([draws[seed] for _, _, seed, _, _ in grid], axis=1)
    d_theta, g_theta, g_x, smooth = problems.constants(start)
    adaptive = algorithm > 0
    eta_x = step_size(g_x, steps, adaptive) * np.where(counted, N**0.5, 1)
    found = run(problems, start, algorithm, d_theta / g_theta / steps**0.5, eta_x, images)
    first, second, third = terms(d_theta, g_theta, g_x, smooth, steps, adaptive)
    larger = np.where(counted, N**0.5, (N + 1) / 2)
    values = zip(ratio(g_x), *found, first + second + third, first + larger * second + third, strict=True)
    return [
        dict(zip(COLUMNS, (kind, tail, six(q), ALGORITHMS[a], eta, seed, steps, *map(six, numbers)), strict=True))
        for (kind, tail, seed, a, eta), (q, *numbers) in zip(grid, values, strict=True)
    ]


def ratio(g_x: Array) -> Array:
    """sqrt(mean G^2) / mean G: Eq. 10 without its power of 1 - beta. (R, n) -> (R,)."""
    return np.asarray(np.sqrt((g_x**2).mean(1)) / g_x.mean(1))


def step_size(g_x: Array, steps: int, adaptive: NDArray[np.bool_]) -> Array:
    """The theorems' eta_x: (R,)."""
    reach = WIDTH * (D / steps) ** 0.5
    return np.where(adaptive, reach * (1 - BETA) ** 0.25, reach / np.sqrt((g_x**2).mean(1)))


def terms(
    d_theta: Array, g_theta: Array, g_x: Array, smooth: Array, steps: int, adaptive: NDArray[np.bool_]
) -> tuple[Array, Array, Array]:
    """The three terms of Theorem IV.1 where `adaptive`, of Theorem IV.2 elsewhere, as printed: (R,) each."""
    norm = np.where(adaptive, g_x.mean(1) / (1 - BETA) ** 0.25, np.sqrt((g_x**2).mean(1)))
    third = D * smooth * WIDTH**2 / (2 * N) / np.where(adaptive, N * (1 - BETA) ** 0.5, 1)
    return g_theta * d_theta * steps**0.5, norm * WIDTH * (D * steps) ** 0.5, third


def six(value: float) -> float:
    """Six digits: more would not be the same on every machine."""
    return float(f"{value:.6g}")


def write_csv(out: Path) -> None:
    """Write the CSV file `out`, a row per problem, tail, algorithm, step size, seed and T (COLUMNS)."""
    write_rows(out, COLUMNS, [row for steps in HORIZONS for row in experiment(steps)])
