"""The theory check: a saddle point that is one, regrets that are the sums they claim to be, and what they say."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.report import theory

CELLS = [(kind, tail, seed) for kind in theory.KAPPA for tail in (0.0, 1.5) for seed in (0, 1)]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def thousand():
    return pd.DataFrame(theory.experiment(1000))


def test_theta_0_and_the_best_x_for_it_are_a_saddle_point():
    problems, zero = theory.make_problems(CELLS), np.zeros((len(CELLS), theory.D))
    x_star = problems.best_x(zero)
    np.testing.assert_allclose(problems.best_theta(x_star), 0, atol=1e-12)
    value = problems.phi(zero, x_star)
    for _ in range(50):
        assert (problems.phi(RNG.normal(0, 1, zero.shape), x_star) >= value).all()
        assert (problems.phi(zero, RNG.uniform(-1, 1, x_star.shape)) <= value).all()


def test_best_x_is_better_than_any_other_x_and_best_theta_than_any_other_theta():
    problems, theta = theory.make_problems(CELLS), RNG.normal(0, 1, (len(CELLS), theory.D))
    for _ in range(50):
        x = RNG.uniform(-1, 1, problems.b.shape)
        assert (problems.phi(theta, problems.best_x(theta)) >= problems.phi(theta, x)).all()
        assert (problems.phi(problems.best_theta(x), x) <= problems.phi(theta, x)).all()


@pytest.mark.parametrize("kind", range(3))
def test_regrets_are_the_sums_of_equation_9_step_by_step(kind):
    problems, steps = theory.make_problems(CELLS), 40
    start = RNG.normal(0, 0.5, (len(CELLS), theory.D))
    images = RNG.integers(0, theory.N, (steps, len(CELLS)))
    eta_x, eta_theta = np.full(len(CELLS), 0.3), np.full(len(CELLS), 0.1)
    thetas, xs = [start], [np.zeros_like(problems.b)]
    v, v_hat = np.zeros_like(problems.s), np.zeros_like(problems.s)
    for row in images:  # Sec. IV-A, one problem after the other
        theta, x = thetas[-1].copy(), xs[-1].copy()
        for r, i in enumerate(row):
            grad = problems.s[r, i] * (theory.COUPLING * theta[r] + problems.b[r, i] - problems.kappa[r] * x[r, i])
            v[r, i] = theory.BETA * v[r, i] + (1 - theory.BETA) * grad @ grad
            v_hat[r, i] = max(v_hat[r, i], v[r, i])
            slope = (1, v_hat[r, i] ** 0.5, v[r, i] ** 0.5)[kind]
            x[r, i] = np.clip(x[r, i] + eta_x[r] / slope * grad, -1, 1)
            theta[r] = theta[r] - eta_theta[r] * (
                theta[r] - problems.a[r, i] + theory.COUPLING * problems.s[r, i] * x[r, i]
            )
        thetas.append(theta)
        xs.append(x)
    played = list(zip(thetas[:-1], xs[:-1], strict=True))
    tops = sum(problems.phi(theta, problems.best_x(theta)) for theta, _ in played)
    bottoms = sum(problems.phi(problems.best_theta(x), x) for _, x in played)
    one_x = problems.best_x(sum(theta for theta, _ in played) / steps)
    one_theta = problems.best_theta(sum(x for _, x in played) / steps)
    fixed = sum(problems.phi(theta, one_x) - problems.phi(one_theta, x) for theta, x in played)
    found = theory.run(problems, start, np.full(len(CELLS), kind), eta_theta, eta_x, images)
    np.testing.assert_allclose(found[:2], [tops - bottoms, fixed], rtol=1e-9)
    assert (found[2] <= fixed / steps + 1e-12).all()  # Lemma IV.1


def test_the_gradient_bounds_hold_everywhere_in_ball_and_box():
    problems, start = theory.make_problems(CELLS), np.zeros((len(CELLS), theory.D))
    d_theta, g_theta, g_x, _ = problems.constants(start)
    for _ in range(50):
        theta = RNG.normal(0, 1, start.shape)
        theta *= (d_theta / np.linalg.norm(theta, axis=1))[:, None]
        x = RNG.choice([-1.0, 1.0], problems.b.shape)
        s = problems.s[..., None]
        to_x = s * (theory.COUPLING * theta[:, None] + problems.b - problems.kappa[:, None, None] * x)
        to_theta = theta[:, None] - problems.a + theory.COUPLING * s * x
        assert (np.linalg.norm(to_x, axis=2) <= g_x + 1e-9).all()
        assert ((to_theta**2).sum(2).mean(1) <= g_theta**2 + 1e-9).all()


def test_the_quotient_of_the_second_terms_has_equation_10s_factor_the_other_way_up():
    g_x = np.array([[1.0, 2.0, 9.0]])
    one = np.ones(1)
    plain = theory.terms(one, one, g_x, one, 100, np.array([False]))[1]
    adaptive = theory.terms(one, one, g_x, one, 100, np.array([True]))[1]
    np.testing.assert_allclose(plain / adaptive, (1 - theory.BETA) ** 0.25 * theory.ratio(g_x))


def test_a_longer_tail_has_a_larger_ratio(thousand):
    ratios = thousand.groupby("tail")["ratio"].mean()
    assert ratios.is_monotonic_increasing and ratios.iloc[0] < 1.05 and ratios.iloc[-1] > 1.5


def test_the_printed_bounds_break_where_x_has_far_to_go_and_the_counted_ones_hold_everywhere(thousand):
    printed = thousand[thousand["eta"] == "printed"]
    over = (printed["regret_fixed"] / printed["bound"]).groupby([printed["problem"], printed["algorithm"]]).max()
    assert (over.loc["corner"] > 1).all() and (over.loc["interior"] < 1).all()
    assert (thousand["regret"] < thousand["bound_counted"]).all()


def test_the_file_is_the_same_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(theory, "HORIZONS", (50,))
    for name in ("a", "b"):
        assert main(["theory", "--out", str(tmp_path / f"{name}.csv")]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert list(pd.read_csv(tmp_path / "a.csv")) == theory.COLUMNS


def test_the_theory_check_leaves_torch_unloaded():
    code = "import sys, fastat.report.theory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
