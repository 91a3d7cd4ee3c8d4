"""GAT by hand, and the invariants of its card."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

from fastat.attacks import eval_mode, uniform_like
from fastat.config.recipe import Recipe, Schedule
from fastat.losses import nuclear_norm
from fastat.training.learner import SGDLearner
from methods import gat

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 3


def corner(x, rng, size=0.05):
    """Each pixel up or down by the flip of a coin."""
    return (x + size * uniform_like(x, 1.0, rng).sign()).clamp(0, 1)


def clip_to_ball(x_adv, x, eps=0.1):
    return (x + (x_adv.clamp(0, 1) - x).clamp(-eps, eps)).clamp(0, 1)


def softmax_pull(p, q):
    """Gradient of |p - q|^2 of each image with respect to the logits of q."""
    towards = 2 * (q - p)
    return q * (towards - (q * towards).sum(1, keepdim=True))


@pytest.mark.parametrize("number", [4, 5])
def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, number):
    x, y, eps, lam = tiny_batch.x, tiny_batch.y, 0.1, 10
    state = tiny_task.rng.get_state()
    x0 = corner(x, tiny_task.rng)
    tiny_task.rng.set_state(state)
    weight = linear.layer.weight.detach()
    p, p0 = softmax(linear(x), 1).detach(), softmax(linear(x0), 1).detach()
    grad = linear.grad_x(x0, y) + number % 2 * lam * (softmax_pull(p, p0) @ weight).reshape(x.shape)
    x_adv = clip_to_ball(x0 + eps * grad.sign(), x)
    q = softmax(linear(x_adv), 1).detach()
    grad_w = linear.grad_w(x, y)
    grad_w = grad_w + lam / 4 * (softmax_pull(p, q).T @ x_adv.flatten(1) + softmax_pull(q, p).T @ x.flatten(1))
    expected = weight - 0.1 * grad_w
    report = start("gat", linear).run(tiny_batch, number=number)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    loss = cross_entropy(p.log(), y) + lam * (p - q).square().sum(1).mean()
    torch.testing.assert_close(report.loss, loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)


def test_even_batches_are_attacked_by_cross_entropy_alone(start, linear, tiny_batch, tiny_task):
    found = {}
    for number in (2, 3):
        for lam in (0.0, 500.0):
            tiny_task.rng.manual_seed(3)
            step = start("gat", copy.deepcopy(linear), lam=lam)
            found[number, lam] = step.run(tiny_batch, number=number).x_adv
    assert torch.equal(found[2, 0.0], found[2, 500.0]) and torch.equal(found[2, 0.0], found[3, 0.0])
    assert not torch.equal(found[3, 0.0], found[3, 500.0])


def test_lambda_is_four_times_as_large_in_the_last_epochs(start, linear):
    lam = start("gat", linear).method.lam
    assert [lam(epoch) for epoch in (1, 26, 27, 30)] == [10, 10, 40, 40]  # 25.8 of 30 epochs are before


def test_without_penalty_it_trains_on_clean_images_alone(start, tiny_model, tiny_batch):
    other = copy.deepcopy(tiny_model)
    start("gat", tiny_model, lam=0.0).run(tiny_batch, epoch=30)  # of 30: in the last epochs, too
    start("clean", other).run(tiny_batch)
    assert all(map(torch.equal, tiny_model.parameters(), other.parameters()))


def test_without_an_attack_there_is_no_penalty(start, tiny_model, tiny_batch):
    expected = cross_entropy(copy.deepcopy(tiny_model)(tiny_batch.x), tiny_batch.y)
    report = start("gat", tiny_model, clip="0 eps").run(tiny_batch)
    assert torch.equal(report.x_adv, tiny_batch.x)
    torch.testing.assert_close(report.loss, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("number", [4, 5])
def test_the_step_is_whole_away_from_the_pixel_limits(start, tiny_model, tiny_batch, tiny_task, number):
    x = 0.4 + 0.2 * tiny_batch.x
    step = start("gat", tiny_model, clip="2 eps")
    state = tiny_task.rng.get_state()
    x0 = corner(x, tiny_task.rng)
    tiny_task.rng.set_state(state)
    moved = (step.run(tiny_batch, x=x, number=number).x_adv - x0).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), atol=1e-6, rtol=0)


def test_the_distance_is_zero_of_equals_and_at_most_two():
    z = torch.eye(4) * 200
    assert gat.distance(z, z) == 0
    assert gat.distance(z, z.roll(1, 0)) == pytest.approx(2)
    for scale in (0.1, 1, 30):
        others = scale * torch.randn(2, 50, 10, generator=torch.Generator().manual_seed(0))
        assert 0 < gat.distance(*others) <= 2


def test_with_the_nuclear_norm_for_the_distance_it_is_nuat(start, tiny_model, tiny_batch, tiny_task, monkeypatch):
    def coins(x, _size, rng):  # as NuAT tosses them
        return 2 * torch.empty_like(x).bernoulli_(generator=rng) - 1

    monkeypatch.setattr(gat, "uniform_like", coins)
    monkeypatch.setattr(gat, "distance", lambda z, other: nuclear_norm(z - other) / len(z))
    for number in (4, 5):
        found = []
        for name, params in (("gat", {"lam": 3.0}), ("nuat", {"lam_max": 3.0, "ramp": 0.1})):
            tiny_task.rng.manual_seed(3)
            step = start(name, copy.deepcopy(tiny_model), **params)
            found.append([step.run(tiny_batch, epoch=10, number=number).x_adv, *step.model.state_dict().values()])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def plain_batch(model, learner, x, y, lam, odd, rng):
    """GAT_cifar10.py:184-218 as it reads: the clean images go through the network twice."""
    p = softmax(model(x), 1).detach()
    x0 = corner(x, rng).requires_grad_()
    with eval_mode(model):
        z0 = model(x0)
    attack_loss = cross_entropy(z0, y) + odd * lam * (p - softmax(z0, 1)).square().sum(1).mean()
    (grad,) = torch.autograd.grad(attack_loss, x0)
    x_adv = clip_to_ball(x0.detach() + 0.1 * grad.sign(), x)
    z_adv, z = model(x_adv), model(x)
    penalty = (softmax(z, 1) - softmax(z_adv, 1)).square().sum(1).mean()
    learner.descend(cross_entropy(z, y) + lam * penalty)
    return x_adv


@pytest.mark.parametrize("number", [4, 5])
def test_one_clean_forward_and_an_update_by_hand_equal_two_forwards(start, tiny_model, tiny_batch, tiny_task, number):
    plain = start("gat", copy.deepcopy(tiny_model))
    state = tiny_task.rng.get_state()
    x_adv = plain_batch(plain.model, plain.learner, tiny_batch.x, tiny_batch.y, 10, number % 2, tiny_task.rng)
    tiny_task.rng.set_state(state)
    report = start("gat", tiny_model).run(tiny_batch, number=number)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    for key, expected in plain.model.state_dict().items():  # weights and running statistics, to float32 rounding
        torch.testing.assert_close(tiny_model.state_dict()[key], expected, atol=1e-6, rtol=1e-5, msg=key)


def test_the_weight_average_sees_batchnorm_after_all_three_updates(start, tiny_model, tiny_batch):
    step = start("gat", tiny_model)
    recipe = Recipe(30, 4, Schedule("piecewise", 0.1), weight_decay=0.0, average=0.5)
    step.learner = SGDLearner(tiny_model, recipe)
    step.run(tiny_batch)  # the first average is a copy
    for kept, now in zip(step.learner.reported.buffers(), tiny_model.buffers(), strict=True):
        assert torch.equal(kept, now)


def test_released_lengths_stay_where_they_are_when_eps_changes(start, linear, tiny_batch):
    step = start("gat", linear, corner="4/255", alpha="8/255", clip="8/255")
    assert (step.method.corner, step.method.alpha) == pytest.approx((4 / 255, 8 / 255))
    assert (step.run(tiny_batch).x_adv - tiny_batch.x).abs().max() <= 8 / 255 + 1e-6


def test_impossible_parameters_are_refused(refused):
    refused("gat", "lam and late_factor must be 0 or more, got -1", lam=-1.0)
    refused("gat", "late must be between 0 and 1, got 2", late=2.0)
