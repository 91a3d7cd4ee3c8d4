"""MultiGrad by hand, and the invariants of its card."""

import copy

import torch

from fastat.attacks import uniform_like
from methods import multigrad

CARD = {"forward": 4, "input_backward": 3, "parameter_backward": 1}
BATCHNORM_UPDATES = 4


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    with torch.no_grad():
        linear.layer.weight *= 4  # so that signs do differ within the ball
    state = tiny_task.rng.get_state()
    signs = [linear.grad_x(clipped(x + uniform_like(x, eps, tiny_task.rng), x, eps), y).sign() for _ in range(3)]
    tiny_task.rng.set_state(state)
    agreed = torch.where((signs[0] == signs[1]) & (signs[1] == signs[2]), signs[0], 0)
    assert 0 < (agreed == 0).sum() < agreed.numel()
    x_adv = clipped(x + eps * agreed, x, eps)
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(x_adv, y)
    report = start("multigrad", linear).run(tiny_batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-5, rtol=0)


def test_perturbations_are_whole_or_none_away_from_the_pixel_limits(start, tiny_model, tiny_batch):
    x = tiny_batch.x * 0.4 + 0.3
    delta = start("multigrad", tiny_model).run(tiny_batch, x=x).x_adv - x
    assert ((delta.abs() < 1e-6) | ((delta.abs() - 0.1).abs() < 1e-6)).all() and (delta.abs() < 1e-6).any()


def test_one_point_and_equal_points_are_a_step_along_their_sign(start, linear, tiny_batch, tiny_task, monkeypatch):
    state = tiny_task.rng.get_state()
    one = start("multigrad", copy.deepcopy(linear), n_points=1).run(tiny_batch).x_adv
    tiny_task.rng.set_state(state)
    draw = uniform_like(tiny_batch.x, 0.1, tiny_task.rng)
    x_start = (tiny_batch.x + draw).clamp(0, 1)
    expected = (tiny_batch.x + 0.1 * linear.grad_x(x_start, tiny_batch.y).sign()).clamp(0, 1)
    torch.testing.assert_close(one, expected, atol=1e-6, rtol=0)
    monkeypatch.setattr(multigrad, "uniform_like", lambda *_: draw)
    assert torch.equal(start("multigrad", copy.deepcopy(linear)).run(tiny_batch).x_adv, one)


def test_of_three_random_signs_three_quarters_do_not_agree(start, linear, tiny_batch, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    monkeypatch.setattr(multigrad, "input_gradient", lambda _, x, y: torch.randn(x.shape, generator=rng))
    x = torch.full((4, 1, 64, 64), 0.5)
    step = start("multigrad", linear)
    monkeypatch.setattr(multigrad, "cross_entropy", lambda z, y: linear.layer.weight.sum())
    monkeypatch.setattr(step, "model", lambda _: None)
    zeroed = (step.run(tiny_batch, x=x).x_adv == x).double().mean()
    assert abs(float(zeroed) - 0.75) < 4 * (0.75 * 0.25 / x.numel()) ** 0.5


def test_fewer_than_all_points_may_be_enough(start, linear, tiny_batch, monkeypatch):
    votes = iter([torch.ones(4, 1, 8, 8), torch.ones(4, 1, 8, 8), -torch.ones(4, 1, 8, 8)] * 2)
    monkeypatch.setattr(multigrad, "input_gradient", lambda *_: next(votes))
    x = tiny_batch.x * 0.4 + 0.3
    assert torch.equal(start("multigrad", linear).run(tiny_batch, x=x).x_adv, x)
    moved = start("multigrad", linear, n_agree=2).run(tiny_batch, x=x).x_adv - x
    torch.testing.assert_close(moved, torch.full_like(x, 0.1))


def test_impossible_parameters_are_refused(refused):
    refused("multigrad", "n_points must be 1 or more, got 0", n_points=0)
    refused("multigrad", "n_agree must be more than half of 4 points, got 2", n_points=4, n_agree=2)
    refused("multigrad", "n_agree must be more than half of 3 points, got 4", n_agree=4)
