"""FGSM-RS with ATAS's step by hand."""

import pytest
import torch

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 2


def test_it_takes_the_step_of_atas_from_a_fresh_start(start, linear, tiny_batch, tiny_task, clipped, atas_alpha):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = (x + torch.empty_like(x).uniform_(-eps, eps, generator=tiny_task.rng)).clamp(0, 1)
    tiny_task.rng.set_state(state)
    g = linear.grad_x(x_start, y)
    step = start("fgsm_adaptive", linear)
    report = step.run(tiny_batch)
    expected = clipped(x_start + atas_alpha(g) * g.sign(), x, eps)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    assert report.stats["alpha_255"].item() == pytest.approx(255 * atas_alpha(g).mean().item(), rel=1e-4)
