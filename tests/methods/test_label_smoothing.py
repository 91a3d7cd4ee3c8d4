"""Where a method smooths its labels: in the gradient that it climbs, in the loss that it descends."""

from copy import deepcopy

import pytest
import torch

SHARE, S = 0.4, 1 - 0.4 * 9 / 10  # torch's share of ten classes, and what it leaves the true class
# each without what else is in its loss, and its step from x itself
CLIMBS_IT = {
    "fgsm_rs": {"random_start": False},
    "n_fgsm": {"k": 0.0},
    "freeat": {"m": 1},
    "nuat": {"corner": "0 eps", "lam_max": 0.0},
    "gat": {"corner": "0 eps", "lam": 0.0},
}
DESCENDS_IT = {"pgd10": {}, "zerograd": {}, "fgsm_ga": {"lam": 0.0}, "elle": {"lam": 0.0}}
ON_CLEAN = ("freeat", "nuat", "gat")  # whose loss, of that first step, is at x


@pytest.mark.parametrize("name", CLIMBS_IT)
def test_attack_and_descent_smooth_the_labels(start, linear, tiny_batch, tiny_task, name):
    x, y, eps = tiny_batch.x, tiny_batch.y, tiny_task.eps
    step = start(name, linear, label_smoothing=SHARE, **CLIMBS_IT[name])
    up, down, before = linear.grad_x(x, y, S), linear.grad_w, linear.layer.weight.detach().clone()
    assert (up.sign() != linear.grad_x(x, y).sign()).any()  # else this could not tell
    expected = {True: down(x, y, S)}
    alpha = getattr(step.method, "alpha", eps)
    x_adv = (x + alpha * up.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    expected[False] = down(x_adv, y, S)
    report = step.run(tiny_batch)
    found = step.method.delta + x if name == "freeat" else report.x_adv
    torch.testing.assert_close(found.clamp(0, 1), x_adv)
    torch.testing.assert_close(linear.layer.weight, before - 0.1 * expected[name in ON_CLEAN], atol=1e-6, rtol=0)


def test_so_does_ssat_whose_start_is_drawn(start, linear, tiny_batch, tiny_task):
    x, y, eps, state = tiny_batch.x, tiny_batch.y, tiny_task.eps, tiny_task.rng.get_state()
    x_start = (x + torch.empty_like(x).uniform_(-eps, eps, generator=tiny_task.rng)).clamp(0, 1)
    tiny_task.rng.set_state(state)
    up, before = linear.grad_x(x_start, y, S), deepcopy(linear)
    report = start("ssat", linear, label_smoothing=SHARE).run(tiny_batch)
    torch.testing.assert_close(report.grad, up)
    expected = before.layer.weight - 0.1 * before.grad_w(report.x_adv, y, S)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", DESCENDS_IT)
def test_the_descent_alone_smooths_them(start, linear, tiny_batch, tiny_task, name):
    state = tiny_task.rng.get_state()
    x_adv = start(name, deepcopy(linear), **DESCENDS_IT[name]).run(tiny_batch).x_adv
    tiny_task.rng.set_state(state)
    expected = linear.layer.weight - 0.1 * linear.grad_w(x_adv, tiny_batch.y, S)
    report = start(name, linear, label_smoothing=SHARE, **DESCENDS_IT[name]).run(tiny_batch)
    assert torch.equal(report.x_adv, x_adv)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*CLIMBS_IT, *DESCENDS_IT, "ssat", "fgsm_uap"])
@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(refused, name, share):
    refused(name, "label_smoothing must be 0 or more and below 1", label_smoothing=share)
