"""RS-AAER and N-AAER by hand, and the invariants of their card."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

import methods
from fastat.attacks import uniform_like

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 2
N = {"k": 2.0, "alpha": "1 eps", "clipped": False}


class Crooked(torch.nn.Module):
    """A network of one hidden layer whose loss falls along some steps: steep and not smooth."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.hidden, self.layer = torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
        with torch.no_grad():
            self.hidden.weight *= 30

    def forward(self, x):
        return self.layer(torch.sin(self.hidden(x.flatten(1))))


def groups(model, x_start, x_adv, y):
    """Logits at both ends, the losses, and which images are abnormal."""
    z_start, z = model(x_start).detach(), model(x_adv)
    before, after = (cross_entropy(logits, y, reduction="none") for logits in (z_start, z))
    return z_start, z, before, after, before > after


def by_hand(model, x, y, x_start, x_adv, lam3, lam2=0.0):
    """AAER.py:93-149 as it reads: by indexing; lam2 with its gradient."""
    z_start, z, before, after, abnormal = groups(model, x_start, x_adv, y)
    loss = after.mean()
    if abnormal.any() and not abnormal.all():
        moved = (z - z_start).square().sum(1)
        excess = torch.clamp(moved[abnormal].mean() - moved[~abnormal].mean().detach(), min=0)
        fall = (before - after)[abnormal].mean()
        loss = loss + abnormal.double().mean() * (lam2 * fall + lam3 * excess)
    return loss, abnormal


def begun(x, rng, k=1.0):
    """Where the step starts."""
    state = rng.get_state()
    x_start = (x + uniform_like(x, k * 0.1, rng)).clamp(0, 1)
    rng.set_state(state)
    return x_start


@pytest.mark.parametrize("params", [{}, {"lam2": 50.0}, {"ce_gradient": True}, N, {**N, "lam3": 0.15}])
def test_a_batch_by_hand(start, tiny_batch, tiny_task, params):
    model, rng = Crooked(), torch.Generator().manual_seed(5)
    x, y = torch.rand((8, 1, 8, 8), generator=rng), torch.randint(10, (8,), generator=rng)
    kinds = []
    for seed in range(8):
        tiny_task.rng.manual_seed(seed)
        other = copy.deepcopy(model)
        x_start = begun(x, tiny_task.rng, params.get("k", 1.0))
        step = start("aaer", copy.deepcopy(model), **params)
        report = step.run(tiny_batch, x=x, y=y)
        lam2 = step.method.config.lam2 if "ce_gradient" in params else 0.0
        loss, abnormal = by_hand(other, x, y, x_start, report.x_adv, step.method.config.lam3, lam2)
        loss.backward()
        kinds.append(int(abnormal.sum()))
        torch.testing.assert_close(report.loss.double(), loss.detach().double(), atol=1e-5, rtol=1e-5)
        for p, q in zip(step.model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q - 0.1 * q.grad, atol=1e-5, rtol=1e-4)
        assert report.stats["abnormal"] == abnormal.double().mean()
    assert any(0 < n < 8 for n in kinds)


def pair(start, model, batch, rng, ours, theirs):
    """Trained images and weights of two methods after the same batch."""
    found = []
    for name, params in (ours, theirs):
        rng.manual_seed(3)
        step = start(name, copy.deepcopy(model), **params)
        found.append([step.run(batch).x_adv, *step.model.state_dict().values()])
    return zip(*found, strict=True)


@pytest.mark.parametrize("ours,theirs", [({}, ("fgsm_rs", {})), (N, ("n_fgsm", {}))])
@pytest.mark.parametrize("lam2", [0.0, 50.0])
def test_without_lam3_it_is_the_method_that_it_comes_from(start, tiny_model, tiny_batch, tiny_task, ours, theirs, lam2):
    aaer = ("aaer", {**ours, "lam3": 0.0, "lam2": lam2})
    for a, b in pair(start, tiny_model, tiny_batch, tiny_task.rng, aaer, theirs):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("ours,theirs", [({}, ("fgsm_rs", {})), (N, ("n_fgsm", {}))])
def test_a_batch_without_an_abnormal_image_is_that_of_the_method_that_it_comes_from(
    start, linear, tiny_batch, tiny_task, ours, theirs
):
    aaer = {**ours, "lam3": 1000.0}  # on a linear network every step raises the loss
    assert start("aaer", copy.deepcopy(linear), **aaer).run(tiny_batch).stats == {"abnormal": 0, "penalty": 0}
    for a, b in pair(start, linear, tiny_batch, tiny_task.rng, ("aaer", aaer), theirs):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=0)


def penalty(task, moved, abnormal, **params):
    method = methods.build("aaer", task, lam3=2.0, **params)
    moved = torch.tensor(moved, requires_grad=True)
    value = method.penalty(moved, -moved, torch.tensor(abnormal))
    return float(value.detach()), torch.autograd.grad(value, moved)[0].tolist()


def test_the_penalty_of_groups_worked_out(tiny_task):
    some = [True, False, False, True]
    assert penalty(tiny_task, [5.0, 1.0, 2.0, 4.0], some) == (2 * 2 / 4 * (4.5 - 1.5), [0.5, 0, 0, 0.5])
    assert penalty(tiny_task, [1.0, 4.0, 5.0, 2.0], some) == (0, [0, 0, 0, 0])  # they moved less than the others
    for all_alike in (True, False):
        assert penalty(tiny_task, [5.0, 1.0, 2.0, 4.0], [all_alike] * 4, ce_gradient=True) == (0, [0, 0, 0, 0])
    assert penalty(tiny_task, [3.0, 3.0, 3.0, 3.0], some) == (0, [0, 0, 0, 0])  # no more than the others


def test_the_penalty_is_never_below_zero(tiny_task):
    rng, found = torch.Generator().manual_seed(0), []
    for _ in range(50):
        moved, coins = torch.rand(6, generator=rng), torch.rand(6, generator=rng)
        found.append(penalty(tiny_task, moved.tolist(), (coins < 0.5).tolist())[0])
    assert min(found) == 0 and max(found) > 0.1


def test_the_step_of_n_aaer_is_whole_away_from_the_pixel_limits(start, tiny_model, tiny_batch, tiny_task):
    x = 0.4 + 0.2 * tiny_batch.x
    step = start("aaer", tiny_model, **N)
    x_start = begun(x, tiny_task.rng, 2.0)
    moved = (step.run(tiny_batch, x=x).x_adv - x_start).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), atol=1e-6, rtol=0)


def test_n_aaer_goes_three_eps_and_rs_aaer_one(start, tiny_model, tiny_batch):
    batch = replace(tiny_batch, x=0.4 + 0.2 * tiny_batch.x)
    step = start("aaer", copy.deepcopy(tiny_model), **N)
    moved = (step.run(batch).x_adv - batch.x).abs().max()
    assert step.method.radius == pytest.approx(0.3) and 0.2 < moved <= 0.3 + 1e-6
    assert start("aaer", tiny_model).method.radius == 0.1


@pytest.mark.parametrize("name", ["k", "lam1", "lam2", "lam3"])
def test_what_is_below_zero_is_refused(refused, name):
    refused("aaer", f"{name} must be 0 or more, got -1", **{name: -1.0})
