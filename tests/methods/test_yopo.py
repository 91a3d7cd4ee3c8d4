"""YOPO by hand, and the invariants of its card."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv_transpose2d, cross_entropy, one_hot, softmax

from fastat.attacks import uniform_like
from methods.yopo import hamiltonian_gradient

CARD = {
    "forward": 5, "parameter_backward": 5,
    "stem_forward": 20, "stem_input_backward": 15, "stem_parameter_backward": 5,
}  # fmt: skip
BATCHNORM_UPDATES = 5


class TwoParts(nn.Module):
    """A convolution, then a linear layer: every gradient can be written out."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(128, 10))

    def forward(self, x):
        return self.trunk(self.stem(x))


def two_parts():
    torch.manual_seed(0)
    return TwoParts()


def adjoint(model, x_adv, y):
    """dl/dz of the mean loss, at the output of the first layer."""
    residual = (softmax(model(x_adv), 1) - one_hot(y, 10)) / len(y)
    return (residual @ model.trunk[1].weight).reshape(-1, 2, 8, 8).detach()


@pytest.mark.parametrize("layer1_grad", ["both", "hamiltonian"])
def test_a_batch_is_five_times_a_full_gradient_and_three_steps_along_the_adjoint(
    start, tiny_batch, tiny_task, layer1_grad
):
    model, x, y, eps, sigma = two_parts(), tiny_batch.x, tiny_batch.y, 0.1, 0.025
    step = start("yopo", model, layer1_grad=layer1_grad)
    rng_state = tiny_task.rng.get_state()
    x_adv = x + uniform_like(x, eps, tiny_task.rng)
    tiny_task.rng.set_state(rng_state)
    trunk_grad, stem_grad = torch.zeros_like(model.trunk[1].weight), torch.zeros_like(model.stem.weight)
    for _ in range(5):
        loss = cross_entropy(model(x_adv), y)
        grads = torch.autograd.grad(loss, [model.trunk[1].weight, model.stem.weight])
        trunk_grad, seen = trunk_grad + grads[0], x_adv
        if layer1_grad == "both":
            stem_grad = stem_grad + grads[1]
        p = adjoint(model, x_adv, y)
        direction = conv_transpose2d(p, model.stem.weight, padding=1).detach()  # J^T p
        for _ in range(3):
            inside = (x_adv >= 0) & (x_adv <= 1)
            x_adv = x_adv + sigma * (direction * inside).sign()
            x_adv = torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
        stem_grad = stem_grad + torch.autograd.grad((p * model.stem(x_adv)).sum(), model.stem.weight)[0]
    expected = [model.trunk[1].weight - 0.1 * trunk_grad, model.stem.weight - 0.1 * stem_grad]
    report = step.run(tiny_batch)
    torch.testing.assert_close(report.x_adv, seen, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.trunk[1].weight, expected[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(model.stem.weight, expected[1], atol=1e-6, rtol=0)


def test_three_inner_steps_are_one_triple_step_on_interior_pixels(start, tiny_batch, tiny_task):
    interior = tiny_batch.x * 0.6 + 0.2
    outcomes = []
    for inner, sigma in ((3, "0.25 eps"), (1, "0.75 eps")):
        model = two_parts()
        tiny_task.rng.manual_seed(3)
        start("yopo", model, n_inner=inner, sigma=sigma).run(tiny_batch, x=interior)
        outcomes.append(model.trunk[1].weight.detach())
    torch.testing.assert_close(*outcomes, atol=1e-6, rtol=0)


def test_the_hamiltonians_gradient_has_the_sign_of_the_true_one_at_the_first_inner_step(tiny_batch):
    model, x, y = two_parts(), tiny_batch.x, tiny_batch.y
    leaf = x.clone().requires_grad_()
    (true,) = torch.autograd.grad(cross_entropy(model(leaf), y), leaf)
    torch.testing.assert_close(hamiltonian_gradient(model.stem, adjoint(model, x, y), x), true, atol=1e-6, rtol=1e-4)


def test_the_hamiltonian_has_no_gradient_strictly_outside_the_pixel_range_alone():
    model, p = two_parts(), torch.ones(1, 2, 8, 8)
    x_adv = torch.full((1, 1, 8, 8), 0.5)
    x_adv[0, 0, 0, :3] = torch.tensor([-0.1, 0.0, 1.1])
    grad = hamiltonian_gradient(model.stem, p, x_adv)[0, 0, 0]
    assert grad[0] == 0 and grad[1] != 0 and grad[2] == 0


def test_no_inner_step_is_refused(refused):
    refused("yopo", "n_outer and n_inner must be 1 or more", n_inner=0)
