"""TDAT by hand, and the invariants of its card."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import one_hot, softmax

from methods.tdat import disagreement

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 2
SMALL = {"s_min": 0.6}  # of two classes 0.15 would be a target for the wrong one
PRINTED = {"fall": "tanh", "outer": "soft", "momentum": 0.75}


@pytest.mark.parametrize(
    ("params", "s", "s_outer"),
    [({}, 0.6 * math.tan(0.5), 0.54 * math.tan(0.5) + 0.1), (PRINTED, 0.6 * math.tanh(0.5), 0.6 * math.tanh(0.5))],
    ids=["paper", "printed"],
)
def test_a_batch_by_hand(start, linear, tiny_batch, clipped, params, s, s_outer):
    x, y, eps, lam = tiny_batch.x, tiny_batch.y, 0.1, 0.6
    step = start("tdat", linear, **params)
    delta = step.method.delta.delta.clone()
    assert delta.unique().tolist() == pytest.approx([-eps, eps])
    x_start = x + delta
    x_adv = clipped(x_start + eps * linear.grad_x(x_start, y, s).sign(), x, eps)
    z0, z = linear(x_start).detach(), linear(x_adv).detach()
    p, gap = softmax(z0, 1), z0 - z
    p_y = p.gather(1, y[:, None])
    h = torch.tanh(1 - p_y)
    pull = 2 * lam * gap * h / 4  # of lam/B |gap|^2 h, to z0; minus that to z
    by_p = lam / 4 * gap.square().sum(1, keepdim=True) * (1 - h**2) * -p_y * (one_hot(y, 10) - p)
    grad_w = linear.grad_w(x_adv, y, s_outer) - pull.T @ x_adv.flatten(1) + (pull + by_p).T @ x_start.flatten(1)
    expected = linear.layer.weight.detach() - 0.1 * grad_w
    report = step.run(tiny_batch, epoch=16)  # half of 30 epochs are done
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)
    m = params.get("momentum", 0)
    kept = clipped(x + m * delta + (1 - m) * (x_adv - x), x, eps) - x
    torch.testing.assert_close(step.method.delta.delta, kept, atol=1e-6, rtol=0)


def test_a_position_starts_where_the_last_batch_ended_there_bit_for_bit(start, linear, tiny_batch):
    step = start("tdat", linear)
    delta = step.run(tiny_batch).x_adv - tiny_batch.x
    step.method.begin_epoch(linear, step.learner, 2)  # it is drawn once
    others = replace(tiny_batch, index=torch.tensor([1, 2, 3, 4]))
    assert torch.equal(step.method.delta.read(others), delta)


def test_without_penalty_and_softening_it_is_fgsm_bp_without_penalty_and_reset(
    start, tiny_model, tiny_batch, tiny_task
):
    found = []
    pgi = {"prior": "bp", "s": 1.0, "lam": 0.0, "reset_every": 99}
    for name, params in (("tdat", {"s_min": 1.0, "lam": 0.0}), ("fgsm_pgi", pgi)):
        tiny_task.rng.manual_seed(3)
        step = start(name, deepcopy(tiny_model), **params)
        found.append([step.run(tiny_batch, number=k).x_adv for k in range(3)] + [*step.model.state_dict().values()])
    assert all(map(torch.equal, *found))


def test_an_image_that_the_network_is_sure_of_has_no_penalty():
    z_start = torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    z, y = torch.tensor([[39.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), torch.tensor([0, 0])
    assert disagreement(z_start, z, y).tolist() == pytest.approx([0, 2 * math.tanh(2 / 3)], abs=1e-6)


def test_s_falls_and_then_stays_where_it_is_told(start, linear, tiny_task):
    long = replace(tiny_task, n_epochs=110)
    for fall, first, last in (("tan", 0.934, 85), ("tanh", 0.457, 83)):
        method = start("tdat", linear, task=long, fall=fall).method
        found = [method.s(epoch) for epoch in range(1, 111)]
        assert found[0] == pytest.approx(first, abs=5e-4) and found == sorted(found, reverse=True)
        assert found.index(0.15) + 1 == last  # epochs from 1


def test_impossible_parameters_are_refused(refused):
    refused("tdat", "s_min must be above 1/K = 0.1", s_min=0.1)
    refused("tdat", r"beta tan\(1\), the first s, must be between 0 and 1, got beta 0.65", beta=0.65)
    refused("tdat", "fall must be tan or tanh, got 'cos'", fall="cos")
    refused("tdat", "outer must be smoothed or soft, got 'hard'", outer="hard")
    refused("tdat", "lam must be 0 or more and momentum in", momentum=1.5)
