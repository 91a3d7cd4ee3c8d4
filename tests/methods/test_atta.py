"""ATTA by hand."""

import torch

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 1


def test_it_steps_from_the_stored_perturbation_and_stores_where_it_ended(start, linear, tiny_batch, clipped):
    step = start("atta", linear, alpha="0.5 eps")
    delta, x, y, eps = step.method.delta, tiny_batch.x, tiny_batch.y, 0.1
    x_prev = clipped(x + delta.read(tiny_batch), x, eps)
    x_next = clipped(x_prev + eps / 2 * linear.grad_x(x_prev, y).sign(), x, eps)
    before = delta.delta.clone()
    report = step.run(tiny_batch)
    torch.testing.assert_close(report.x_adv, x_next, atol=1e-6, rtol=0)
    torch.testing.assert_close(delta.read(tiny_batch), x_next - x, atol=1e-6, rtol=0)
    others = [i for i in range(12) if i not in tiny_batch.index.tolist()]
    assert torch.equal(delta.delta[others], before[others])


def test_impossible_parameters_are_refused(refused):
    refused("atta", "reset_every must be 1 or more, got 0", reset_every=0)
    refused("atta", "store_size must be 1 or more pixels, or left out, got 0", store_size=0)
