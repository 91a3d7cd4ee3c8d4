"""N-FGSM by hand."""

import torch

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 2


def test_n_fgsm_steps_from_noised_images_without_projection(start, linear, tiny_batch, tiny_task):
    x, y, eps = tiny_batch.x * 0.2 + 0.4, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    noised = x + torch.empty_like(x).uniform_(-2 * eps, 2 * eps, generator=tiny_task.rng)
    tiny_task.rng.set_state(state)
    expected = noised + eps * linear.grad_x(noised, y).sign()
    report = start("n_fgsm", linear).run(tiny_batch, x=x)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    assert (report.x_adv - x).abs().max() > 2 * eps


def test_n_fgsm_without_noise_is_fgsm_and_clipped_it_stays_in_the_ball(start, linear, tiny_batch):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    expected = (x + eps * linear.grad_x(x, y).sign()).clamp(0, 1)
    report = start("n_fgsm", linear, k=0).run(tiny_batch)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    report = start("n_fgsm", linear, clipped=True).run(tiny_batch)
    assert (report.x_adv - x).abs().max() <= eps + 1e-6


def test_noise_below_zero_is_refused(refused):
    refused("n_fgsm", "k must be 0 or more", k=-1)
