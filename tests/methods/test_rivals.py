"""N-FGSM, FGSM-RS with ATAS's step, and ATAS with the starts of SDI and PGI."""

from dataclasses import replace

import pytest
import torch


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


def alpha(grad, v=0.0, beta=0.5, c=1.28, gamma=1.28 * 16 / 255):
    v = beta * v + (1 - beta) * grad.square().sum((1, 2, 3))
    return gamma / (c + v.sqrt())


def test_fgsm_adaptive_takes_the_step_of_atas_from_a_fresh_start(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = (x + torch.empty_like(x).uniform_(-eps, eps, generator=tiny_task.rng)).clamp(0, 1)
    tiny_task.rng.set_state(state)
    g = linear.grad_x(x_start, y)
    step = start("fgsm_adaptive", linear)
    report = step.run(tiny_batch)
    expected = clipped(x_start + alpha(g)[:, None, None, None] * g.sign(), x, eps)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    assert report.stats["alpha_255"].item() == pytest.approx(255 * alpha(g).mean().item(), rel=1e-4)


def test_atas_pgi_trains_on_the_step_of_atas_and_keeps_the_priors_own(start, linear, tiny_batch, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    step = start("atas_pgi", linear)
    delta = step.method.delta.read(tiny_batch)
    g = linear.grad_x(x + delta, y, s=0.6)
    report = step.run(tiny_batch)
    expected = clipped(x + delta + alpha(g)[:, None, None, None] * g.sign(), x, eps)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    kept = clipped(x + delta + eps * g.sign(), x, eps) - x  # the momentum begins as this gradient
    torch.testing.assert_close(step.method.delta.read(tiny_batch), kept, atol=1e-6, rtol=0)


def test_atas_sdi_takes_the_step_of_atas_from_the_learnt_start(start, linear, tiny_batch, tiny_task):
    x, y, eps = tiny_batch.x, tiny_batch.y, 8 / 255
    step = start("atas_sdi", linear, task=replace(tiny_task, eps=eps))
    with torch.no_grad():
        step.method.generator.tail[1].bias.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
        p = step.method.generator.eval()(torch.cat([x, linear.grad_x(x, y).sign()], 1))
    g = linear.grad_x(x + p, y)
    q = alpha(g)[:, None, None, None] * g.sign()
    report = step.run(tiny_batch, number=1)
    torch.testing.assert_close(report.x_adv, x + (p + q).clamp(-eps, eps), atol=1e-6, rtol=0)
    assert alpha(g).min() > eps  # so that SDI's own step, cut to eps, would have been another
    assert not torch.allclose(report.x_adv, x + (p + q.clamp(-eps, eps)).clamp(-eps, eps), atol=1e-4)
