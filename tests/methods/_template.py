"""NEWONE by hand."""

import pytest
import torch

from fastat.attacks import uniform_like

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}  # passes per batch, counted in the paper
BATCHNORM_UPDATES = 2  # of the running statistics, by a batch


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = clipped(x + uniform_like(x, eps, tiny_task.rng), x, eps)
    tiny_task.rng.set_state(state)
    x_adv = clipped(x_start + eps * linear.grad_x(x_start, y).sign(), x, eps)
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(x_adv, y)
    report = start("newone", linear).run(tiny_batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [-1, float("nan")])
def test_a_start_of_negative_size_is_refused(refused, k):
    refused("newone", f"k must be 0 or more, got {k}", k=k)
