"""FGSM-PGK by hand, and as its difference to FGSM-PGI."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from fastat.config.grid import load_config
from fastat.config.recipe import Recipe, Schedule, resolve
from fastat.config.spec import RunSpec
from fastat.training.learner import SGDLearner

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 2
EPS = 40 / 255
OF_PGK = {"reset_every": 10, "mu": 0.3, "lam": 5.6, "s": 0.5}


@pytest.fixture
def whole(tiny_task):
    return replace(tiny_task, eps=EPS)


@pytest.fixture
def batch(tiny_batch):
    return replace(tiny_batch, x=(tiny_batch.x * 255).round() / 255)


def averaged(step, decay=0.999):
    """The step with a learner that keeps an average."""
    step.learner = SGDLearner(step.model, Recipe(30, 4, Schedule("piecewise", 0.1), 0.0, momentum=0.0, average=decay))
    return step


def test_a_batch_by_hand(start, linear, batch, whole, clipped):
    step = averaged(start("fgsm_pgk", linear, task=whole))
    method, x = step.method, batch.x
    method.momentum.delta.uniform_(-1e-3, 1e-3, generator=torch.Generator().manual_seed(5))
    delta, momentum = method.delta.read(batch), method.momentum.read(batch)
    x_prior = x + delta
    y = linear(x_prior).argmax(1)  # all are right at the prior
    grad = linear.grad_x(x_prior, y, 0.5) / 4
    x_adv = clipped(x_prior + EPS * grad.sign(), x, EPS)
    still_right = float((linear(x_adv).argmax(1) == y).float().mean())
    assert 0 < still_right < 1
    momentum = (2 - still_right) * grad / grad.abs().sum() + 0.3 * momentum
    kept = clipped(x_prior + EPS * momentum.sign(), x, EPS) - x
    z0, z = linear(x_prior).detach(), linear(x_adv).detach()
    pull = 5.6 * 2 * (z - z0) / z.numel()
    grad_w = linear.grad_w(x_adv, y, 0.5) + pull.T @ x_adv.flatten(1) - pull.T @ x_prior.flatten(1)
    before = linear.layer.weight.detach().clone()
    expected = before - 0.1 * grad_w
    report = step.run(batch, y=y)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.momentum.read(batch), momentum, atol=1e-8, rtol=1e-5)
    torch.testing.assert_close(method.delta.read(batch), kept, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)
    mean = 0.1 * before + 0.9 * expected  # the first decay is 1/10
    torch.testing.assert_close(step.learner.reported.layer.weight.detach(), mean, atol=1e-6, rtol=0)
    assert report.stats["still_right"] == still_right and method.updates == 1


def test_where_as_many_stay_right_and_none_are_averaged_it_is_fgsm_pgi(start, tiny_model, batch, whole, monkeypatch):
    found = []
    for name, params in (("fgsm_pgk", {}), ("fgsm_pgi", OF_PGK)):
        whole.rng.manual_seed(3)
        step = start(name, deepcopy(tiny_model), task=whole, **params)
        if name == "fgsm_pgk":
            monkeypatch.setattr(step.method, "still_right", lambda *_: torch.ones(()))
        x_adv = [step.run(batch, number=k).x_adv for k in range(3)]
        stores = (step.method.delta.delta, step.method.momentum.delta)
        found.append([*x_adv, *stores, *step.model.state_dict().values()])
    assert all(map(torch.equal, *found))


def test_the_average_moves_less_where_the_attack_is_weak_and_starts_fast(start, linear):
    method = start("fgsm_pgk", linear).method
    first = [float(method.decay(torch.tensor(share), 0.999)) for share in (0.5, 1.0, 0.5)]
    assert first == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    method.updates.fill_(10**6)
    late = [float(method.decay(torch.tensor(share), 0.999)) for share in (0.5, 0.8199, 0.82001, 0.9, 1.5)]
    assert late == pytest.approx([0.999, 0.999, 0.999991, 0.999991, 0.999991], abs=2e-6)
    method.updates.fill_(10**9)
    assert [float(method.decay(torch.tensor(share), 0.999)) for share in (0.5, 0.9)] == pytest.approx([0.999, 1])


def test_on_cifar100_the_released_average_moves_where_the_attack_is_weak_alone(start, linear):
    method = start("fgsm_pgk", linear, averaged="weak", threshold=0.9).method
    moves = [float(method.decay(torch.tensor(share), 0.999)) for share in (0.5, 0.95, 0.8, 1.0)]
    assert moves == pytest.approx([1, 1 / 10, 1, 2 / 11]) and method.updates == 2
    recipes = {
        name: resolve(RunSpec("cifar100", "preact_resnet18", 8, "fgsm_pgk", name, 0), load_config()).params
        for name in ("paper", "released")
    }
    assert recipes["released"]["averaged"] == "weak" and "averaged" not in recipes["paper"]


def test_a_strong_batch_then_leaves_the_average_as_it_was(start, linear, batch, whole, monkeypatch):
    step = averaged(start("fgsm_pgk", linear, task=whole, averaged="weak"))
    before = linear.layer.weight.detach().clone()
    monkeypatch.setattr(step.method, "still_right", lambda *_: torch.tensor(0.5))
    step.run(batch)
    assert not linear.layer.weight.equal(before) and step.learner.reported.layer.weight.equal(before)


def test_who_is_right_is_counted_with_what_is_added_and_nobody_divides_by_zero(start, linear):
    z = torch.eye(4)
    y, wrong = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 3, 3])
    at_prior = z[[0, 1, 2, 0]]  # three of four
    for added, expected in ((0, 4 / 3), (1, 1.0)):
        method = start("fgsm_pgk", linear, added=added).method
        assert float(method.still_right(z, at_prior, y)) == pytest.approx(expected)
    assert float(start("fgsm_pgk", linear).method.still_right(z, z[[2, 3, 0, 0]], wrong)) == 1  # 1 right by none


def test_a_batch_whose_step_was_strong_weighs_more_in_the_prior(start, linear, batch, whole):
    step = start("fgsm_pgk", linear, task=whole)
    x_prior, grad = batch.x, torch.ones_like(batch.x)
    step.method.momentum.next_prior(batch, x_prior, grad, torch.tensor(1.5))
    assert step.method.momentum.read(batch).unique().tolist() == pytest.approx([1.5 / grad.numel()])


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_pgk", "prior must be mep", prior="ep")
    refused("fgsm_pgk", "threshold must be above 0 and added 0 or more, got 0 and 0", threshold=0)
    refused("fgsm_pgk", "averaged must be all or weak, got 'strong'", averaged="strong")
    refused("fgsm_pgk", "s must be above 1/K", s=0.1)
