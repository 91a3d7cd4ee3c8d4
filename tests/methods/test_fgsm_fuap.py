"""FGSM-FUAP by hand, and as its difference to FGSM-UAP."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from methods import fgsm_fuap

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 3
VARIANTS = {"released": {"CARD": {"forward": 3, "input_backward": 1, "parameter_backward": 1, "joint_backward": 1}}}
EPS, E = 0.1, 0.125  # E: of the prior
S = 1 - 0.4 * 9 / 10  # the target that 0.4 of smoothing leaves on the true class


def uniform(x, rng):
    """What the method will draw for x, without moving its generator."""
    twin = torch.Generator().manual_seed(0)
    twin.set_state(rng.get_state())
    return torch.empty_like(x).uniform_(-EPS, EPS, generator=twin)


def test_two_batches_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    lam, model = 10, copy.deepcopy(linear)
    step = start("fgsm_fuap", linear, n_groups=3)
    cluster, classify = copy.deepcopy(step.method.cluster), copy.deepcopy(step.method.classify)
    adam = torch.optim.Adam([*cluster.parameters(), *classify.parameters()], 1e-3)
    prior, momentum, seen = E * step.method.prior, step.method.momentum.clone(), set()
    for x, y in ((tiny_batch.x, tiny_batch.y), (1 - tiny_batch.x, torch.tensor([1, 9, 1, 0]))):
        near = (x + uniform(x, tiny_task.rng)).clamp(0, 1)
        units = cluster(near.flatten(1))  # what the network's one linear layer reads
        group = units.argmax(1)
        cross_entropy(classify(units.relu()), y, label_smoothing=0.4).backward()
        adam.step()
        adam.zero_grad()
        x0 = clipped(near + prior[group], x, EPS)
        grad = model.grad_x(x0, y, S)
        x_adv = clipped(x0 + EPS * grad.sign(), x, EPS)
        pull = (lam * 2 * (model(x_adv) - model(x0)) / 40).detach()
        grad_w = model.grad_w(x_adv, y, S) + pull.T @ x_adv.flatten(1) - pull.T @ x0.flatten(1)
        with torch.no_grad():
            model.layer.bias -= 0.1 * model.residual(x_adv, y, S).mean(0)
            model.layer.weight -= 0.1 * grad_w
        for c in set(group.tolist()):
            momentum[c] = (grad / grad.abs().sum())[group == c].mean(0) + 0.3 * momentum[c]
            prior[c] = (prior[c] + E * momentum[c].sign()).clamp(-E, E)
        seen |= set(group.tolist())
        report = step.run(tiny_batch, x=x, y=y)
        torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.layer.weight, model.layer.weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(step.method.momentum, momentum, atol=1e-9, rtol=1e-4)
        torch.testing.assert_close(E * step.method.prior, prior)
        for ours, theirs in ((step.method.cluster, cluster), (step.method.classify, classify)):
            torch.testing.assert_close(ours.weight, theirs.weight, atol=1e-6, rtol=0)
            torch.testing.assert_close(ours.bias, theirs.bias, atol=1e-6, rtol=0)
    assert len(seen) > 1


def test_without_prior_and_penalty_it_is_fgsm_from_a_random_point(start, linear, tiny_batch, tiny_task):
    found = []
    own = {"n_groups": 5, "lam": 0.0, "label_smoothing": 0.0}
    for name, params in (("fgsm_fuap", own), ("fgsm_rs", {"alpha": "1 eps"})):
        step = start(name, copy.deepcopy(linear), **params)
        if name == "fgsm_fuap":
            step.method.prior.zero_()
        tiny_task.rng.manual_seed(2)
        found.append([step.run(tiny_batch).x_adv, step.model.layer.weight.detach()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=0)


def test_with_one_cluster_and_no_noise_it_is_fgsm_uap_bit_for_bit(start, linear, tiny_batch, tiny_task, monkeypatch):
    monkeypatch.setattr(fgsm_fuap, "uniform_like", lambda x, *_: torch.zeros_like(x))
    found = []
    for name, params in (("fgsm_fuap", {"n_groups": 1}), ("fgsm_uap", {})):
        tiny_task.rng.manual_seed(2)
        step = start(name, copy.deepcopy(linear), **params)
        x_adv = [step.run(tiny_batch).x_adv for _ in range(3)][-1]
        found.append([x_adv, step.model.layer.weight, step.method.prior, step.method.momentum])
    assert all(map(torch.equal, *found))


def test_an_image_takes_its_largest_unit_before_the_relu_and_other_clusters_keep_what_they_have(
    start, linear, tiny_batch
):
    step = start("fgsm_fuap", linear, n_groups=4)
    method = step.method
    with torch.no_grad():
        method.cluster.weight.zero_()
        method.cluster.bias.copy_(torch.tensor([-4.0, -3.0, -1.0, -2.0]))  # after a ReLU all are 0, and the first leads
    method.momentum.fill_(0.5)
    prior = method.prior.clone()
    step.run(tiny_batch)
    assert (method.momentum[2] != 0.5).all() and (method.momentum[[0, 1, 3]] == 0.5).all()
    assert torch.equal(method.prior[[0, 1, 3]], prior[[0, 1, 3]])


def test_the_head_learns_and_the_network_does_not_feel_it(start, linear, tiny_batch, tiny_task):
    weights = []
    for lr in (1e-3, 1e-2):
        tiny_task.rng.manual_seed(2)
        torch.manual_seed(5)
        step = start("fgsm_fuap", copy.deepcopy(linear), head_lr=lr)
        before = step.method.cluster.weight.clone()
        step.run(tiny_batch)
        assert not torch.equal(before, step.method.cluster.weight)
        weights.append(step.model.layer.weight)
    assert torch.equal(*weights)
    x = tiny_batch.x.flatten(1)

    def loss():
        return cross_entropy(step.method.classify(step.method.cluster(x).relu()), tiny_batch.y).detach()

    first = loss()
    for _ in range(30):
        step.run(tiny_batch)
    assert loss() < first


def test_a_network_without_features_is_refused(start, linear, tiny_task):
    with pytest.raises(ValueError, match="the network must have an nn.Linear"):
        start("fgsm_fuap", linear, task=replace(tiny_task, n_features=0))


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_fuap", "n_groups must be 1 or more and head_lr above 0, got 0 and", n_groups=0)
    refused("fgsm_fuap", "mu and lam must be 0 or more, got -1", mu=-1.0)
    refused("fgsm_fuap", "label_smoothing must be 0 or more and below 1", label_smoothing=1.0)
