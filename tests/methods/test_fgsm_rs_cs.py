"""FGSM-RS-CS by hand, and the invariants of its card."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from fastat.attacks import uniform_like
from methods.fgsm_rs_cs import Constraint, ConvergeSmooth

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 2
SOFT = 0.4 * 10 / 9  # torch's label_smoothing of s = 0.6


@pytest.mark.parametrize("mean, sign", [(0.0, 1), (9.0, -1)])
def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, mean, sign):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = (x + uniform_like(x, eps, tiny_task.rng)).clamp(0, 1)
    tiny_task.rng.set_state(state)
    x_adv = (x_start + eps * linear.grad_x(x_start, y).sign()).clamp(0, 1)
    benign = cross_entropy(linear(x_start), y, label_smoothing=SOFT).detach()
    pushed = linear.grad_w(x_adv, y, 0.6) + sign * linear.grad_w(x_start, y, 0.6)
    expected = linear.layer.weight - 0.1 * pushed
    step = start("fgsm_rs_cs", linear)
    step.method.smooth.mean.fill_(mean)
    report = step.run(tiny_batch, epoch=3)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    assert eps * 1.5 < (x_adv - x).abs().max() <= step.method.radius == 2 * eps  # outside the ball
    assert report.stats["push"] == sign
    torch.testing.assert_close(report.stats["benign_loss"], benign)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-6, rtol=0)


def trained(start, model, batch, task, name, epoch=3, mean=0.0, **params):
    """Images and network after one batch."""
    task.rng.manual_seed(3)
    step = start(name, copy.deepcopy(model), **params)
    if name == "fgsm_rs_cs":
        step.method.smooth.mean.fill_(mean)
    x_adv = step.run(batch, epoch=epoch).x_adv
    return [x_adv, *(p.detach() for p in step.model.state_dict().values())]


def test_without_weight_it_is_n_fgsm_of_one_eps_of_noise(start, tiny_model, tiny_batch, tiny_task):
    ours = trained(start, tiny_model, tiny_batch, tiny_task, "fgsm_rs_cs", w2=0, s=1)
    theirs = trained(start, tiny_model, tiny_batch, tiny_task, "n_fgsm", k=1)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("epoch", [1, 2, 30])
def test_outside_the_constrained_epochs_the_step_is_that_without_weight(
    start, tiny_model, tiny_batch, tiny_task, epoch
):
    one, other = (trained(start, tiny_model, tiny_batch, tiny_task, "fgsm_rs_cs", epoch, w2=w2) for w2 in (0, 1))
    assert all(map(torch.equal, one, other))


def test_at_the_mean_the_step_is_that_without_weight_and_away_from_it_not(start, tiny_model, tiny_batch, tiny_task):
    tiny_task.rng.manual_seed(3)
    mean = start("fgsm_rs_cs", copy.deepcopy(tiny_model)).run(tiny_batch).stats["benign_loss"].double()
    for there, same in ((mean, True), (mean - 0.02, True), (mean - 0.04, False), (mean + 0.04, False)):
        args = (start, tiny_model, tiny_batch, tiny_task, "fgsm_rs_cs", 3, there)
        one, other = trained(*args, w2=0), trained(*args)
        assert all(map(torch.equal, one, other)) == same


@pytest.fixture
def smooth(tiny_task):
    """What builds the constraint of a training of so many epochs."""

    def build(n_epochs=30, **params):
        return ConvergeSmooth(Constraint(**params), replace(tiny_task, n_epochs=n_epochs))

    return build


def test_a_loss_is_pushed_down_from_above_up_from_below_and_left_alone_within_the_stride(smooth, tiny_batch):
    held = smooth(w2=0.5)
    held.mean.fill_(1.0)
    held.stride.fill_(0.03)
    batch = replace(tiny_batch, epoch=3)
    losses = (0.0, 0.96, 0.98, 1.0, 1.02, 1.04, 7.0)
    found = [held.push(torch.tensor(loss), batch).item() for loss in losses]
    assert found == [-0.5, -0.5, 0, 0, 0, 0.5, 0.5]


def test_the_epochs_around_the_start_the_decays_and_the_end_are_not_constrained(smooth):
    def on(held):
        return [e for e in range(held.marks[-1]) if held.is_on(e + 1)]  # e from 0, as the code's

    released = [*range(2, 99), 102, 103, 107, 108]
    assert on(smooth(110, decays=(100, 105))) == released
    assert on(smooth(30, decays=(27.27, 28.634))) == list(range(2, 27))
    assert on(smooth(30)) == list(range(2, 29)) == on(smooth(30, decays=(100, 105)))
    assert on(smooth(10, margin=3)) == [4, 5, 6]


def test_the_mean_is_that_of_the_last_epochs_images_and_the_stride_follows_its_rise(smooth, tiny_batch):
    held, found = smooth(gamma=0.03, ratio=3), []
    for losses in ((2.0, 1.0), (2.02, 1.02), (3.0, 3.0), (1.0, 1.0)):  # of batches of 4 images and of 2
        held.begin_epoch()
        found.append((held.mean.item(), held.stride.item()))
        for loss, n in zip(losses, (4, 2), strict=True):
            held.push(torch.tensor(loss), replace(tiny_batch, y=tiny_batch.y[:n]))
    held.begin_epoch()
    found.append((held.mean.item(), held.stride.item()))
    expected = [(0, 0.01), (5 / 3, 0.03), (5 / 3 + 0.02, 0.02), (3, 0.03), (1, 0.01)]
    assert found == [pytest.approx(pair, abs=1e-6) for pair in expected]
    alike = smooth(gamma=0.03)
    for loss in (2.0, 5.0, 1.0):
        alike.begin_epoch()
        assert alike.stride.item() == 0.03
        alike.push(torch.tensor(loss), tiny_batch)


def test_the_mean_is_that_of_the_logged_losses(start, tiny_model, tiny_batch):
    step, logged = start("fgsm_rs_cs", tiny_model), []
    for n in (4, 4, 1):
        part = {"x": tiny_batch.x[:n], "y": tiny_batch.y[:n]}
        logged += [step.run(tiny_batch, **part, epoch=1).stats["benign_loss"].item()] * n
    step.method.begin_epoch(tiny_model, step.learner, 2)
    assert step.method.smooth.mean.item() == pytest.approx(sum(logged) / 9, rel=1e-6)


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_rs_cs", "gamma, w2 and margin must be 0 or more, got 0.03, -1 and 1.0", w2=-1)
    refused("fgsm_rs_cs", "ratio must be 1 or more, got 0.5", ratio=0.5)
    refused("fgsm_rs_cs", "decays must be epochs that rise from above 0, got .105, 100.", decays=[105, 100])
    refused("fgsm_rs_cs", "s must be above 1/K", s=0.1)
