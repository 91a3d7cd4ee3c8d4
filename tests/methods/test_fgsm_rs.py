"""FGSM-RS by hand."""

import torch

from fastat.attacks import uniform_like

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 2


def test_a_batch_is_one_step_of_five_quarters_eps_from_a_random_start(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = clipped(x + uniform_like(x, eps, tiny_task.rng), x, eps)
    tiny_task.rng.set_state(state)
    x_adv = clipped(x_start + 1.25 * eps * linear.grad_x(x_start, y).sign(), x, eps)
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(x_adv, y)
    report = start("fgsm_rs", linear).run(tiny_batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)


def test_variant_fgsm_is_one_step_of_eps_from_the_image(start, linear, tiny_batch):
    x, y = tiny_batch.x, tiny_batch.y
    expected = (x + 0.1 * linear.grad_x(x, y).sign()).clamp(0, 1)
    report = start("fgsm_rs", linear, random_start=False, alpha="1 eps").run(tiny_batch)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)


def test_every_inner_pixel_moves_by_at_least_a_quarter_of_eps(start, linear, tiny_batch):
    grad = linear.grad_x(tiny_batch.x, tiny_batch.y)
    delta = start("fgsm_rs", linear).run(tiny_batch).x_adv - tiny_batch.x
    inner = (tiny_batch.x > 0.1) & (tiny_batch.x < 0.9)
    assert ((delta * grad.sign())[inner] >= 0.025 - 1e-6).all()
