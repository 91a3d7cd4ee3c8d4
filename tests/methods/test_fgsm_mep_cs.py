"""FGSM-MEP-CS by hand, and the invariants of its card."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 3
VARIANTS = {"mse": {"CARD": {"forward": 3, "input_backward": 1, "parameter_backward": 3}}}
SOFT = 0.4 * 10 / 9  # torch's label_smoothing of s = 0.6


@pytest.mark.parametrize("mean, sign", [(0.0, 1), (9.0, -1)])
@pytest.mark.parametrize("lam", [0, 10])
def test_a_batch_by_hand(start, linear, tiny_batch, clipped, mean, sign, lam):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    step = start("fgsm_mep_cs", linear, lam=lam)
    step.method.smooth.mean.fill_(mean)
    momentum = step.method.mep.momentum.delta.uniform_(-1e-3, 1e-3, generator=torch.Generator().manual_seed(5))[
        tiny_batch.index
    ].clone()
    x_prior = x + step.method.delta.read(tiny_batch)
    grad = linear.grad_x(x_prior, y, 0.6) / 4
    x_adv = clipped(x_prior + eps * grad.sign(), x, eps)
    momentum = grad / grad.abs().sum() + 0.3 * momentum
    kept = clipped(x_prior + eps * momentum.sign(), x, eps) - x
    benign = cross_entropy(linear(x), y, label_smoothing=SOFT).detach()
    pull = (lam * 2 * (linear(x_adv) - linear(x_prior)) / 40).detach()  # of the mean square, to z; minus it to z_prior
    grad_w = linear.grad_w(x_adv, y, 0.6) + pull.T @ (x_adv - x_prior).flatten(1) + sign * linear.grad_w(x, y, 0.6)
    expected = linear.layer.weight - 0.1 * grad_w
    report = step.run(tiny_batch, epoch=3)
    assert report.stats["push"] == sign
    torch.testing.assert_close(report.stats["benign_loss"], benign)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(step.method.delta.read(tiny_batch), kept, atol=1e-6, rtol=0)
    torch.testing.assert_close(step.method.mep.momentum.read(tiny_batch), momentum, atol=1e-9, rtol=1e-5)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-5, rtol=0)


def trained(start, model, batch, task, name, epoch=3, **params):
    """After three batches: perturbations, weights, and what BatchNorm keeps."""
    task.rng.manual_seed(3)
    step = start(name, copy.deepcopy(model), **params)
    for number in range(3):
        step.run(batch, epoch=epoch, number=number)
    kept = [step.method.delta.delta, *(p.detach() for p in step.model.parameters())]
    return kept, list(step.model.buffers())


def test_with_its_penalty_and_without_weight_it_is_fgsm_pgi_but_for_batchnorm(start, tiny_model, tiny_batch, tiny_task):
    ours, moved = trained(start, tiny_model, tiny_batch, tiny_task, "fgsm_mep_cs", lam=10, w2=0)
    theirs, less = trained(start, tiny_model, tiny_batch, tiny_task, "fgsm_pgi")
    assert all(map(torch.equal, ours, theirs)) and not all(map(torch.equal, moved, less))


@pytest.mark.parametrize("epoch, same", [(1, True), (2, True), (3, False), (29, False), (30, True)])
def test_outside_the_constrained_epochs_the_step_is_that_without_weight(
    start, tiny_model, tiny_batch, tiny_task, epoch, same
):
    (one, _), (other, _) = (
        trained(start, tiny_model, tiny_batch, tiny_task, "fgsm_mep_cs", epoch, w2=w2) for w2 in (0, 1)
    )
    assert all(map(torch.equal, one, other)) == same


def test_the_mean_is_that_of_the_logged_losses_and_a_redraw_leaves_it(start, tiny_model, tiny_batch):
    step = start("fgsm_mep_cs", tiny_model, reset_every=2)
    logged = [step.run(tiny_batch, number=k).stats["benign_loss"].item() for k in range(3)]
    for epoch, mean in ((2, sum(logged) / 3), (3, 0.0)):  # nothing is trained on in epoch 2
        delta = step.method.delta.delta.clone()
        step.method.begin_epoch(tiny_model, step.learner, epoch)
        assert step.method.smooth.mean.item() == pytest.approx(mean, rel=1e-6)
        assert torch.equal(delta, step.method.delta.delta) == (epoch == 2)


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_mep_cs", "prior must be mep, ep or bp, got 'map'", prior="map")
    refused("fgsm_mep_cs", "mu and lam must be 0 or more", lam=-1)
    refused("fgsm_mep_cs", "gamma, w2 and margin must be 0 or more, got -1", gamma=-1)
    refused("fgsm_mep_cs", "s must be above 1/K", s=0.1)
