"""ELLE and ELLE-A by hand, and the invariants of their card."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import methods
from fastat.attacks import input_gradient, uniform_like
from methods.elle import Adaptive, Config, nonlinearity

CARD = {"forward": 5, "input_backward": 1, "parameter_backward": 4}
BATCHNORM_UPDATES = 3
VARIANTS = {  # with the usual two there would be no outlier
    "adaptive": {"SMALL": {"deviations": 0.0}},
    "adaptive_released": {"SMALL": {"deviations": 0.0}},
}


def triplet(x, eps, rng):
    """Two points of the ball and one between, and where it lies, one number an image."""
    x_a, x_b = x + uniform_like(x, eps, rng), x + uniform_like(x, eps, rng)
    t = torch.empty(len(x), 1, 1, 1).uniform_(-0.5, 0.5, generator=rng) + 0.5
    return x_a, x_b, (1 - t) * x_a + t * x_b, t.flatten()


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task):
    x, y, eps, lam = tiny_batch.x, tiny_batch.y, 0.1, 1000
    state = tiny_task.rng.get_state()
    *points, t = triplet(x, eps, tiny_task.rng)
    tiny_task.rng.set_state(state)
    x_adv = (x + eps * linear.grad_x(x, y).sign()).clamp(0, 1)
    losses = [cross_entropy(linear(point), y, reduction="none").detach() for point in points]
    gap = losses[2] - (1 - t) * losses[0] - t * losses[1]  # E = mean gap^2
    grad_w = linear.grad_w(x_adv, y)
    for weight, point in zip((-(1 - t), -t, torch.ones(4)), points, strict=True):
        pulled = 2 * lam * (gap * weight)[:, None] * linear.residual(point, y)
        grad_w = grad_w + pulled.T @ point.flatten(1) / 4
    expected = linear.layer.weight - 0.1 * grad_w
    report = start("elle", linear).run(tiny_batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(report.stats["error"], gap.square().mean(), atol=1e-9, rtol=1e-4)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-6, rtol=0)


def test_the_three_points_lie_in_the_ball_and_on_a_line_with_one_t_an_image(start, linear, tiny_batch):
    seen = []
    linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    start("elle", linear).run(tiny_batch)
    x_a, x_b, between = torch.cat(seen)[8:].chunk(3)  # after the attack's and x_adv
    assert all(0.09 < (point - tiny_batch.x).abs().max() <= 0.1 + 1e-6 for point in (x_a, x_b))
    t = ((between - x_a) / (x_b - x_a)).flatten(1).median(1).values
    assert ((t > 0) & (t < 1)).all() and len(t.unique()) == 4
    torch.testing.assert_close(between, x_a + t[:, None, None, None] * (x_b - x_a), atol=1e-6, rtol=0)


def test_of_a_quadratic_loss_the_error_has_a_closed_form_and_of_an_affine_one_it_is_zero():
    rng = torch.Generator().manual_seed(0)
    x_a, x_b = (torch.rand(5, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    t, a = torch.rand(5, generator=rng, dtype=torch.float64), 3.0
    between = (1 - t)[:, None] * x_a + t[:, None] * x_b

    def error(loss, swapped=False):
        points = (x_b, x_a, between, 1 - t) if swapped else (x_a, x_b, between, t)
        return nonlinearity(*map(loss, points[:3]), points[3])

    def quadratic(x):
        return a * x.square().sum(1)

    expected = a**2 * t**2 * (1 - t) ** 2 * (x_a - x_b).square().sum(1) ** 2
    torch.testing.assert_close(error(quadratic), expected)
    torch.testing.assert_close(error(quadratic), error(quadratic, swapped=True))
    assert error(lambda x: x.sum(1) + 1).max() < 1e-28


def same_step(start, tiny_model, tiny_batch, tiny_task, ours, theirs):
    """The two methods after the same batch: reports and networks. ours, theirs: name and parameters."""
    found = []
    for name, params in (ours, theirs):
        tiny_task.rng.manual_seed(3)
        step = start(name, copy.deepcopy(tiny_model), **params)
        found.append((step.run(tiny_batch), [p.detach() for p in step.model.parameters()]))
    return found


def test_without_penalty_it_is_fgsm_bit_for_bit(start, tiny_model, tiny_batch, tiny_task):
    fgsm = ("fgsm_rs", {"random_start": False, "alpha": "1 eps"})
    (one, ours), (other, theirs) = same_step(start, tiny_model, tiny_batch, tiny_task, ("elle", {"lam": 0}), fgsm)
    assert torch.equal(one.x_adv, other.x_adv) and all(map(torch.equal, ours, theirs))


def test_without_penalty_and_not_clipped_it_is_fgsm_out_of_the_pixel_range_bit_for_bit(start, tiny_model, tiny_batch):
    plain = start("clean", copy.deepcopy(tiny_model))
    x_adv = tiny_batch.x + 0.1 * input_gradient(plain.model, tiny_batch.x, tiny_batch.y).sign()
    plain.learner.descend(cross_entropy(plain.model(x_adv), tiny_batch.y))
    report = start("elle", tiny_model, lam=0, clip=False).run(tiny_batch)
    assert torch.equal(report.x_adv, x_adv) and (x_adv.min() < 0 and x_adv.max() > 1)
    assert all(map(torch.equal, tiny_model.parameters(), plain.model.parameters()))


def test_without_penalty_and_with_noise_it_is_n_fgsm_away_from_the_pixel_limits(
    start, tiny_model, tiny_batch, tiny_task
):
    batch = replace(tiny_batch, x=0.4 + 0.2 * tiny_batch.x)
    elle = ("elle", {"lam": 0, "k": 2})
    (one, ours), (other, theirs) = same_step(start, tiny_model, batch, tiny_task, elle, ("n_fgsm", {}))
    torch.testing.assert_close(one.x_adv, other.x_adv, atol=1e-6, rtol=0)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_the_penalty_does_not_change_what_the_first_batch_is_trained_on(start, tiny_model, tiny_batch, tiny_task):
    pair = same_step(start, tiny_model, tiny_batch, tiny_task, ("elle", {"lam": 0}), ("elle", {}))
    assert torch.equal(pair[0][0].x_adv, pair[1][0].x_adv)
    assert any(not torch.equal(a, b) for a, b in zip(pair[0][1], pair[1][1], strict=True))


def followed(errors, task, **params):
    """ELLE-A's lambda that each batch is trained with."""
    adaptive, found = Adaptive(Config(adaptive=True, **params), task), []
    for error in errors:
        found.append(float(adaptive.lam))
        adaptive.see(torch.tensor(error))
    return found


def test_lambda_is_that_of_a_growing_list_of_errors(tiny_task):
    errors = np.random.default_rng(0).exponential(1e-3, 300).astype("float32").tolist()
    lam, expected = 0.0, []
    for t, error in enumerate(errors):  # train.py:216-227
        expected.append(lam)
        before = np.asarray(errors[:t], dtype="float64")
        lam = 4000 if t > 2 and error > before.mean() + 2 * before.std() else 0.99 * lam
    assert followed(errors, tiny_task, lam=4000) == pytest.approx(expected, rel=1e-12) and max(expected) == 4000


def test_lambda_is_zero_until_an_outlier_and_full_one_batch_later(tiny_task):
    found = followed([1.0, 1.1, 0.9, 1.0, 9.0, 1.0, 1.0], tiny_task, lam=4000)
    assert found == pytest.approx([0, 0, 0, 0, 0, 4000, 3960])
    assert followed([1.0, 1.0, 9.0, 1.0], tiny_task) == [0, 0, 0, 0]  # two errors are too few to say


def test_the_adaptive_step_descends_with_the_lambda_of_the_batch_before(start, tiny_model, tiny_batch):
    step = start("elle", tiny_model, adaptive=True, lam=4000.0)
    step.method.adaptive.lam.fill_(7)
    report = step.run(tiny_batch)
    assert report.stats["lam"] == 7 and step.method.adaptive.lam == pytest.approx(0.99 * 7)
    assert step.method.adaptive.n == 1 and step.method.adaptive.mean == pytest.approx(float(report.stats["error"]))


def test_the_lambda_told_is_the_batchs_own_in_double_precision_too(start, tiny_model, tiny_batch):
    step = start("elle", tiny_model.double(), adaptive=True, lam=4000.0)
    step.method.adaptive.lam.fill_(7)
    assert step.run(tiny_batch, x=tiny_batch.x.double()).stats["lam"] == 7


def test_released_leaves_the_pixel_range_and_steps_twice_with_one_gradient(start, linear, tiny_batch, tiny_task):
    before, moved = linear.layer.weight.detach().clone(), []
    for updates in (1, 2):
        tiny_task.rng.manual_seed(3)
        step = start("elle", copy.deepcopy(linear), clip=False, updates=updates)
        x_adv = step.run(tiny_batch).x_adv
        moved.append(step.model.layer.weight.detach() - before)
    torch.testing.assert_close(moved[1], 2 * moved[0], atol=1e-6, rtol=0)
    assert step.method.leaves_pixel_range and (x_adv.min() < 0 or x_adv.max() > 1)
    attack = (x_adv - tiny_batch.x).abs()
    torch.testing.assert_close(attack, torch.full_like(attack, 0.1), atol=1e-6, rtol=0)


def test_a_last_batch_of_one_image_has_one_t(start, tiny_model, tiny_batch):
    one = replace(tiny_batch, x=tiny_batch.x[:1], y=tiny_batch.y[:1])
    assert torch.isfinite(start("elle", tiny_model).run(one).loss)


def test_impossible_parameters_are_refused(refused, tiny_task):
    refused("elle", "lam, k and deviations must be 0 or more, got -1", lam=-1)
    refused("elle", "decay must be between 0 and 1, got 2", decay=2)
    refused("elle", "updates must be 1 or 2, got 3", updates=3)
    assert methods.build("elle", tiny_task, k=2).radius == pytest.approx(0.3)
