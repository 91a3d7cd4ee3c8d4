"""ZeroGrad by hand, and the invariants of its card."""

import copy
import math

import pytest
import torch

from fastat.attacks import uniform_like
from methods.zerograd import without_the_smallest

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 2


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x * 0.4 + 0.3, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = x + uniform_like(x, eps, tiny_task.rng)
    tiny_task.rng.set_state(state)
    grad = linear.grad_x(x_start, y)
    size = grad.abs().flatten(1)
    moves = size >= torch.quantile(size, 0.35, dim=1, keepdim=True)
    assert (~moves).sum(1).tolist() == [math.ceil(0.35 * 63)] * 4
    x_adv = torch.where(moves.reshape(x.shape), x + eps * grad.sign(), x_start)  # alpha = 2 eps: to the edge
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(x_adv, y)
    report = start("zerograd", linear).run(tiny_batch, x=x)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("q", [0.0, 0.2, 0.35, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (2, 1, 8, 8), (2, 1, 7, 3)])
def test_as_many_are_zeroed_as_are_below_the_quantile(q, shape):
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = without_the_smallest(grad, q) != 0
    size = grad.abs().flatten(1)
    assert torch.equal(kept.flatten(1), size >= torch.quantile(size, q, dim=1, keepdim=True))
    assert (~kept).sum((1, 2, 3)).tolist() == [math.ceil(q * (size.shape[1] - 1) - 1e-9)] * shape[0]


def test_sizes_that_are_equal_stay_or_go_together():
    grad = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, -1.0, -1.0, 2.0]).reshape(1, 1, 2, 4)
    assert without_the_smallest(grad, 0.35).flatten().tolist() == grad.flatten().tolist()
    assert without_the_smallest(grad, 0.7).flatten().tolist() == [0, 0, 0, 0, 1, -1, -1, 2]


def test_none_left_out_is_fgsm_rs_of_the_same_step_bit_for_bit(start, tiny_model, tiny_batch, tiny_task):
    found = []
    for name, params in (("zerograd", {"q": 0}), ("fgsm_rs", {"alpha": "2 eps"})):
        tiny_task.rng.manual_seed(3)
        found.append(start(name, copy.deepcopy(tiny_model), **params).run(tiny_batch).x_adv)
    assert torch.equal(*found)


def test_all_left_out_but_the_largest_moves_one_pixel_of_an_image(start, linear, tiny_batch, tiny_task, clipped):
    state = tiny_task.rng.get_state()
    x_start = clipped(tiny_batch.x + uniform_like(tiny_batch.x, 0.1, tiny_task.rng), tiny_batch.x, 0.1)
    tiny_task.rng.set_state(state)
    x_adv = start("zerograd", linear, q=1).run(tiny_batch).x_adv
    assert ((x_adv - x_start).abs() > 1e-7).sum((1, 2, 3)).max() <= 1


def test_the_scale_of_the_loss_changes_nothing():
    grad = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    signs = [without_the_smallest(c * grad, 0.35).sign() for c in (1, 2.0**-40)]
    assert torch.equal(*signs)


def test_a_share_that_is_none_is_refused(refused):
    refused("zerograd", "q must be between 0 and 1, got 1.5", q=1.5)
