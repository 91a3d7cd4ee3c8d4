"""FGSM-UAP and FGSM-CUAP by hand, and the invariants of their card."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 2
VARIANTS = {
    "released": {"CARD": {"forward": 2, "input_backward": 1, "parameter_backward": 1, "joint_backward": 1}},
    "class_released": {"CARD": {"forward": 2, "input_backward": 1, "parameter_backward": 1, "joint_backward": 1}},
}
S = 1 - 0.4 * 9 / 10  # the target that 0.4 of smoothing leaves on the true class
E = 0.125  # of the prior, at eps 0.1


def plain_follow(prior, momentum, grad, group):
    """Prior and momentum after a batch, as U reads: group by group. prior in pixels."""
    prior, momentum = prior.clone(), momentum.clone()
    for c in set(group.tolist()):
        momentum[c] = (grad / grad.abs().sum())[group == c].mean(0) + 0.3 * momentum[c]
        prior[c] = (prior[c] + E * momentum[c].sign()).clamp(-E, E)
    return prior, momentum


@pytest.mark.parametrize("followed", ["attack", "both"])
@pytest.mark.parametrize("per_class", [False, True])
def test_two_batches_by_hand(start, linear, tiny_batch, clipped, per_class, followed):
    eps, lam, model = 0.1, 10, copy.deepcopy(linear)
    step = start("fgsm_uap", linear, per_class=per_class, followed=followed)
    prior, momentum = E * step.method.prior, step.method.momentum.clone()
    assert set((prior / E).unique().tolist()) == {-1, 1} and len(prior) == (10 if per_class else 1)
    for x, y in ((tiny_batch.x, tiny_batch.y), (1 - tiny_batch.x, torch.tensor([1, 9, 1, 0]))):
        group = y if per_class else torch.zeros_like(y)
        x0 = clipped(x + prior[group], x, eps)
        grad = model.grad_x(x0, y, S)
        x_adv = clipped(x0 + eps * grad.sign(), x, eps)
        pull = (lam * 2 * (model(x_adv) - model(x0)) / 40).detach()
        if followed == "both":
            grad = grad / len(y) - (pull @ model.layer.weight.detach()).view_as(x)
        prior, momentum = plain_follow(prior, momentum, grad, group)
        grad_w = model.grad_w(x_adv, y, S) + pull.T @ x_adv.flatten(1) - pull.T @ x0.flatten(1)
        with torch.no_grad():
            model.layer.bias -= 0.1 * model.residual(x_adv, y, S).mean(0)
            model.layer.weight -= 0.1 * grad_w
        report = step.run(tiny_batch, x=x, y=y)
        torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.layer.weight, model.layer.weight, atol=1e-5, rtol=0)
        atol = 1e-9 if followed == "attack" else 1e-8  # a sum of two gradients, in which digits cancel
        torch.testing.assert_close(step.method.momentum, momentum, atol=atol, rtol=1e-4)
        torch.testing.assert_close(E * step.method.prior, prior)


def test_released_follows_what_the_code_s_view_of_grad_holds_after_the_descent(start, tiny_model, tiny_batch, clipped):
    """fat/fgsm_one_uap.py:63-88: `detach()` shares its memory, and the second backward adds to it in place."""
    model, x, y = copy.deepcopy(tiny_model), tiny_batch.x, tiny_batch.y
    step = start("fgsm_uap", tiny_model, followed="both")
    leaf = clipped(x + E * step.method.prior, x, 0.1).requires_grad_()
    first = model(leaf)
    cross_entropy(first, y, label_smoothing=0.4).backward(retain_graph=True)
    held, before = leaf.grad.detach(), leaf.grad.clone()
    z = model(clipped(leaf.detach() + 0.1 * held.sign(), x, 0.1))
    (cross_entropy(z, y, label_smoothing=0.4) + 10 * (z - first).square().mean()).backward()
    assert (held - before).abs().max() > 0.1 * before.abs().max()
    _, momentum = plain_follow(E * step.method.prior, step.method.momentum.clone(), held, torch.zeros_like(y))
    step.run(tiny_batch)
    torch.testing.assert_close(step.method.momentum, momentum, atol=1e-8, rtol=1e-4)


def test_the_prior_is_whole_or_zero_and_so_is_what_is_trained_on(start, tiny_model, tiny_batch):
    step = start("fgsm_uap", tiny_model, per_class=True)
    rng, seen, moved = torch.Generator().manual_seed(0), set(), set()
    for _ in range(12):
        x = 0.2 + 0.6 * torch.rand(4, 1, 8, 8, generator=rng)
        delta = (step.run(tiny_batch, x=x).x_adv - x) / 0.1
        torch.testing.assert_close(delta, delta.round(), atol=1e-5, rtol=0)
        moved |= set(delta.round().unique().tolist())
        seen |= set(step.method.prior.unique().tolist())
    assert seen == moved == {-1, 0, 1} and step.method.prior.dtype == torch.int8


def test_a_class_that_is_not_in_the_batch_keeps_what_it_has(start, tiny_model, tiny_batch):
    step = start("fgsm_uap", tiny_model, per_class=True)
    step.method.momentum.fill_(0.5)
    prior = step.method.prior.clone()
    step.run(tiny_batch)  # classes 3, 1, 4, 1
    absent = [c for c in range(10) if c not in (1, 3, 4)]
    assert torch.equal(step.method.prior[absent], prior[absent]) and (step.method.momentum[absent] == 0.5).all()
    assert (step.method.momentum[[1, 3, 4]] != 0.5).all()


def test_with_one_class_the_two_are_one_bit_for_bit(start, linear, tiny_batch, tiny_task):
    one, found = replace(tiny_task, n_classes=1), []
    for per_class in (False, True):
        tiny_task.rng.manual_seed(2)
        step = start("fgsm_uap", copy.deepcopy(linear), task=one, per_class=per_class)
        x_adv = [step.run(tiny_batch, y=torch.zeros(4, dtype=torch.int64)).x_adv for _ in range(3)][-1]
        found.append([x_adv, step.model.layer.weight, step.method.prior, step.method.momentum])
    assert all(map(torch.equal, *found))


def test_without_prior_and_penalty_it_is_fgsm(start, linear, tiny_batch):
    other = copy.deepcopy(linear)
    step = start("fgsm_uap", linear, lam=0.0, label_smoothing=0.0)
    step.method.prior.zero_()
    fgsm = start("fgsm_rs", other, random_start=False, alpha="1 eps")
    torch.testing.assert_close(step.run(tiny_batch).x_adv, fgsm.run(tiny_batch).x_adv, atol=1e-7, rtol=0)
    torch.testing.assert_close(linear.layer.weight, other.layer.weight, atol=1e-7, rtol=0)


def test_the_order_of_the_images_changes_nothing(start, linear, tiny_batch, tiny_task):
    found = []
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        tiny_task.rng.manual_seed(2)
        step = start("fgsm_uap", copy.deepcopy(linear), per_class=True)
        x_adv = step.run(tiny_batch, x=tiny_batch.x[order], y=tiny_batch.y[order]).x_adv
        torch.testing.assert_close(x_adv, found[0][1][order] if found else x_adv, atol=1e-6, rtol=0)
        found.append((step, x_adv))
    (one, _), (other, _) = found
    torch.testing.assert_close(one.model.layer.weight, other.model.layer.weight, atol=1e-6, rtol=0)
    assert torch.equal(one.method.prior, other.method.prior)
    torch.testing.assert_close(one.method.momentum, other.method.momentum, atol=1e-9, rtol=1e-5)


def test_only_the_first_momentum_is_that_of_fgsm_pgi_where_each_class_has_one_image(start, linear, tiny_batch):
    y, model = torch.tensor([3, 1, 4, 0]), copy.deepcopy(linear)
    step = start("fgsm_uap", linear, per_class=True)
    x0 = (tiny_batch.x + (E * step.method.prior[y]).clamp(-0.1, 0.1)).clamp(0, 1)
    theirs = start("fgsm_pgi", model, s=S).method
    leaf = x0.clone().requires_grad_()
    (grad,) = torch.autograd.grad(cross_entropy(model(leaf), y, label_smoothing=0.4), leaf)
    theirs.momentum.next_prior(tiny_batch, x0, grad)
    step.run(tiny_batch, y=y)
    ours = step.method.momentum[y]
    torch.testing.assert_close(ours, theirs.momentum.read(tiny_batch), atol=1e-9, rtol=1e-5)

    others = replace(tiny_batch, index=torch.tensor([1, 2, 3, 4]))  # of the same classes: the class has a memory
    theirs.momentum.next_prior(others, x0, grad)
    step.method.follow(grad, y)
    expected = theirs.momentum.read(others) + 0.3 * ours
    torch.testing.assert_close(step.method.momentum[y], expected, atol=1e-9, rtol=1e-5)


def test_the_prior_is_drawn_once(start, tiny_model):
    step = start("fgsm_uap", tiny_model)
    prior = step.method.prior.clone()
    for epoch in range(2, 31):
        step.method.begin_epoch(tiny_model, step.learner, epoch)
    assert torch.equal(prior, step.method.prior) and prior.double().mean().abs() < 0.5


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_uap", "mu and lam must be 0 or more, got -1", mu=-1.0)
    refused("fgsm_uap", "label_smoothing must be 0 or more and below 1", label_smoothing=1.0)
    refused("fgsm_uap", "followed must be attack or both, got 'descent'", followed="descent")
