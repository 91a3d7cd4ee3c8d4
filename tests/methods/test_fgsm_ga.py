"""FGSM-GA by hand, and the invariants of its card."""

import copy

import pytest
import torch
from torch import nn

from methods.fgsm_ga import mean_cosine

CARD = {"forward": 3, "input_backward": 2, "parameter_backward": 1, "double_backward": 1}
BATCHNORM_UPDATES = 3


def test_without_the_penalty_it_is_fgsm(start, tiny_batch, tiny_task, linear):
    weights = []
    for name, params in (("fgsm_ga", {"lam": 0}), ("fgsm_rs", {"random_start": False, "alpha": "1 eps"})):
        torch.manual_seed(0)
        model = type(linear)()
        start(name, model, **params).run(tiny_batch)
        weights.append(model.layer.weight.detach())
    assert torch.equal(*weights)


def test_the_loss_is_that_of_the_attacked_images_plus_lam_times_one_minus_the_mean_cosine(
    start, tiny_batch, tiny_task, linear
):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    x_adv = (x + eps * linear.grad_x(x, y).sign()).clamp(0, 1)
    state = tiny_task.rng.get_state()
    eta = torch.empty_like(x).uniform_(-eps, eps, generator=tiny_task.rng)
    tiny_task.rng.set_state(state)
    g1, g2 = linear.grad_x(x, y).flatten(1), linear.grad_x(x + eta, y).flatten(1)
    cos = ((g1 * g2).sum(1) / (g1.norm(dim=1) * g2.norm(dim=1))).mean()
    expected = torch.nn.functional.cross_entropy(linear(x_adv), y) + 0.7 * (1 - cos)
    report = start("fgsm_ga", linear, lam=0.7).run(tiny_batch)
    torch.testing.assert_close(report.loss.detach(), expected.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)


def test_as_released_saturated_pixels_are_neither_attacked_nor_in_the_cosine(start, tiny_batch, linear):
    """By hand: where x is 0 or 1, grad l(x) counts as 0; that at x + eta keeps these pixels, its length too."""
    x, y, eps = tiny_batch.x.clone(), tiny_batch.y, 0.1
    x[:, :, :3], x[:, :, 5] = 0, 1
    inside = (x > 0) & (x < 1)
    g1 = linear.grad_x(x, y) * inside
    eta = torch.empty_like(x).uniform_(-eps, eps, generator=torch.Generator().manual_seed(0))
    one, two = g1.flatten(1), linear.grad_x(x + eta, y).flatten(1)
    cos = ((one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1))).mean()
    x_adv = (x + eps * g1.sign()).clamp(0, 1)
    loss = torch.nn.functional.cross_entropy(linear(x_adv), y) + 0.7 * (1 - cos)
    assert inside.float().mean() == 0.5 and 0.5 < cos < 0.9
    step = start("fgsm_ga", linear, lam=0.7, attack_saturated=False)
    report = step.run(tiny_batch, x=x)
    assert torch.equal(report.x_adv[~inside], x[~inside])
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(report.stats["cos"], cos.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(report.loss.detach(), loss.detach(), atol=1e-5, rtol=0)


def test_the_penaltys_gradient_equals_finite_differences_with_the_first_gradient_held():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 2)).double()
    x, eta, y = torch.rand(5, 1, 2, 2).double(), 0.1 * torch.rand(5, 1, 2, 2).double(), torch.tensor([0, 1, 1, 0, 1])

    def input_grad(at, create_graph=False):
        leaf = at.clone().requires_grad_()
        loss = nn.functional.cross_entropy(net(leaf), y, reduction="sum")
        return torch.autograd.grad(loss, leaf, create_graph=create_graph)[0]

    g1 = input_grad(x).detach()
    weight = net[1].weight
    (exact,) = torch.autograd.grad(mean_cosine(g1, input_grad(x + eta, create_graph=True)), weight)
    step, numeric = 1e-6, torch.zeros_like(weight)
    with torch.no_grad():
        for i in range(weight.numel()):
            values = []
            for side in (step, -step):
                weight.view(-1)[i] += side
                with torch.enable_grad():
                    values.append(mean_cosine(g1, input_grad(x + eta)))
                weight.view(-1)[i] -= side
            numeric.view(-1)[i] = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(exact, numeric, atol=1e-7, rtol=1e-5)


def test_tiny_gradients_count_and_do_not_overflow():
    g = torch.rand(3, 1, 2, 2)
    for scale in (1e-10, 1e-21, 1e-30):
        tiny = (scale * g).requires_grad_()
        cos = mean_cosine(scale * g, tiny)
        cos.backward()
        assert abs(cos.item() - 1) < 1e-3 and torch.isfinite(tiny.grad).all(), scale


def test_aligned_gradients_cost_nothing_and_zero_gradients_do_not_count():
    g = torch.rand(3, 1, 2, 2)
    assert abs(mean_cosine(g, 3 * g).item() - 1) < 1e-6
    one, other = g.clone(), -g
    one[0] = 0  # of three images one does not count; the other two are opposed
    torch.testing.assert_close(mean_cosine(one, other), torch.tensor(-1.0))
    zero = torch.zeros_like(g).requires_grad_()
    none = mean_cosine(g, zero)
    none.backward()
    assert none.item() == 1 and torch.equal(zero.grad, torch.zeros_like(g))


def test_in_bf16_the_cosine_is_that_of_float32_to_two_digits(start, tiny_model, tiny_batch):
    found = []
    for half in (False, True):
        step = start("fgsm_ga", copy.deepcopy(tiny_model), lam=0.5)
        step.method.task.rng.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            report = step.run(tiny_batch)
        assert all(p.isfinite().all() for p in step.model.parameters())
        found.append(float(report.stats["cos"]))
    assert found[0] < 0.99 and found[1] == pytest.approx(found[0], abs=0.02)


@pytest.mark.parametrize("lam", [-1, float("nan")])
def test_a_penalty_below_zero_is_refused(refused, lam):
    refused("fgsm_ga", f"lam must be 0 or more, got {lam}", lam=lam)
