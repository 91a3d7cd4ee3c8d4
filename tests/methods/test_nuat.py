"""NuAT by hand, and the invariants of its card."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from fastat.attacks import eval_mode
from fastat.config.recipe import Recipe, Schedule
from fastat.losses import nuclear_norm
from fastat.training.learner import SGDLearner

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 3
WAITS = "on CUDA, whether its singular values converged is read on the host"


def corner(x, rng, size=0.05):
    return (x + size * (2 * torch.empty_like(x).bernoulli_(generator=rng) - 1)).clamp(0, 1)


def test_an_even_batch_steps_along_cross_entropy_and_descends_on_clean_plus_nuclear(
    start, linear, tiny_batch, tiny_task
):
    x, y, eps, lam = tiny_batch.x, tiny_batch.y, 0.1, 4.5 * 9 / 27
    state = tiny_task.rng.get_state()
    x0 = corner(x, tiny_task.rng)
    tiny_task.rng.set_state(state)
    x1 = (x0 + eps * linear.grad_x(x0, y).sign()).clamp(0, 1)
    x_adv = (x + (x1 - x).clamp(-eps, eps)).clamp(0, 1)
    z, z_adv = linear(x), linear(x_adv)
    u, s, vt = torch.linalg.svd(z - z_adv, full_matrices=False)
    grad_w = linear.grad_w(x, y) + lam * (u @ vt).T @ (x - x_adv).flatten(1) / 4  # d|M|_* / dM = U V^T
    expected = linear.layer.weight - 0.1 * grad_w
    report = start("nuat", linear).run(tiny_batch, epoch=10, number=4)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(report.loss, cross_entropy(z, y) + lam * s.sum() / 4, atol=1e-5, rtol=0)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-5, rtol=0)


def test_an_odd_batch_also_ascends_the_nuclear_norm(start, linear, tiny_batch, tiny_task):
    x, y, eps, lam = tiny_batch.x, tiny_batch.y, 0.1, 4.5 * 9 / 27
    state = tiny_task.rng.get_state()
    x0 = corner(x, tiny_task.rng)
    tiny_task.rng.set_state(state)
    u, _, vt = torch.linalg.svd((linear(x) - linear(x0)).detach(), full_matrices=False)
    grad = linear.grad_x(x0, y) - lam * (u @ vt @ linear.layer.weight.detach()).reshape(x.shape)  # both times 1/B
    x_adv = clip_to_ball(x0 + eps * grad.sign(), x, eps)
    report = start("nuat", linear).run(tiny_batch, epoch=10, number=5)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)


def clip_to_ball(x_adv, x, eps):
    return (x + (x_adv.clamp(0, 1) - x).clamp(-eps, eps)).clamp(0, 1)


def test_the_attack_of_even_batches_does_not_depend_on_lam(start, linear, tiny_batch, tiny_task):
    attacks = []
    for lam in (0.5, 50.0):
        tiny_task.rng.manual_seed(3)
        model = copy.deepcopy(linear)
        attacks.append(start("nuat", model, lam_max=lam).run(tiny_batch, epoch=20, number=2).x_adv)
    assert torch.equal(*attacks)


def test_lam_is_zero_at_first_and_full_at_nine_tenths(start, linear):
    lam = start("nuat", linear).method.lam
    assert [lam(e + 1) for e in (0, 1, 27, 29)] == pytest.approx([0, 4.5 / 27, 4.5, 4.5])


def plain_batch(model, learner, x, y, lam, odd, rng, eps=0.1):
    """NuAT_cifar10.py:205-230 as it reads: the clean images go through the network twice."""
    with torch.no_grad():
        z = model(x)
    x0 = corner(x, rng).requires_grad_()
    with eval_mode(model):
        z0 = model(x0)
    attack_loss = cross_entropy(z0, y) + odd * lam * nuclear_norm(z - z0) / len(y)
    (grad,) = torch.autograd.grad(attack_loss, x0)
    x_adv = clip_to_ball(x0.detach() + eps * grad.sign(), x, eps)
    z_adv = model(x_adv)
    z = model(x)
    learner.descend(cross_entropy(z, y) + lam * nuclear_norm(z - z_adv) / len(y))
    return x_adv


@pytest.mark.parametrize("number", [4, 5])
def test_one_clean_forward_and_an_update_by_hand_equal_two_forwards(start, tiny_model, tiny_batch, tiny_task, number):
    plain = start("nuat", copy.deepcopy(tiny_model))
    state, lam = tiny_task.rng.get_state(), 4.5 * 9 / 27
    x_adv = plain_batch(plain.model, plain.learner, tiny_batch.x, tiny_batch.y, lam, number % 2, tiny_task.rng)
    tiny_task.rng.set_state(state)
    report = start("nuat", tiny_model).run(tiny_batch, epoch=10, number=number)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    for key, expected in plain.model.state_dict().items():  # weights and running statistics, to float32 rounding
        torch.testing.assert_close(tiny_model.state_dict()[key], expected, atol=1e-6, rtol=1e-5, msg=key)


def test_the_weight_average_sees_batchnorm_after_all_three_updates(start, tiny_model, tiny_batch):
    step = start("nuat", tiny_model)
    recipe = Recipe(30, 4, Schedule("piecewise", 0.1), weight_decay=0.0, average=0.5)
    step.learner = SGDLearner(tiny_model, recipe)
    step.run(tiny_batch, epoch=10, number=4)  # the first average is a copy
    for kept, now in zip(step.learner.reported.buffers(), tiny_model.buffers(), strict=True):
        assert torch.equal(kept, now)


def test_the_nuclear_norm_is_zero_at_zero_and_at_most_root_rank_times_frobenius():
    zero = torch.zeros(4, 3, requires_grad=True)
    nuclear_norm(zero).backward()
    assert nuclear_norm(zero) == 0 and torch.isfinite(zero.grad).all()
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert matrix.norm() <= nuclear_norm(matrix) <= 2 * matrix.norm() + 1e-5


def test_the_released_clip_stays_where_it_is_when_eps_changes(start, linear, tiny_batch):
    step = start("nuat", linear, clip="8/255")
    assert step.method.radius == pytest.approx(8 / 255)
    report = step.run(tiny_batch, epoch=10)
    assert (report.x_adv - tiny_batch.x).abs().max() <= 8 / 255 + 1e-6


def test_a_penalty_below_zero_and_no_ramp_are_refused(refused):
    refused("nuat", "lam_max must be 0 or more", lam_max=-1)
    refused("nuat", "ramp must be above 0", ramp=0)
