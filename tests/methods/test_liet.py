"""LIET by hand, and the invariants of its card."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

import methods
from fastat.attacks import uniform_like
from methods.liet import jensen_shannon, spread

CARD = {"forward": 2.125, "input_backward": 1.125, "parameter_backward": 2}  # of 4 images: K / (20 B) = 0.125
BATCHNORM_UPDATES = 2
EVERY_PIXEL_NOISE = {"noisy": (1.0, 1.0)}


def smoothed(rng, y, a=0.6, n_classes=10):
    """The target as the card reads: uniform draws, none for y, scaled to the sum a."""
    draws = torch.empty(len(y), n_classes).uniform_(-0.5, 0.5, generator=rng) + 0.5
    draws[torch.arange(len(y)), y] = 0
    target = a * draws / draws.sum(1, keepdim=True)
    target[torch.arange(len(y)), y] = 1 - a
    return target


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps, rng = tiny_batch.x, tiny_batch.y, 0.1, tiny_task.rng
    step = start("liet", linear)
    step.method.of_class.copy_(torch.randint(3, (10, 1, 8, 8), generator=torch.Generator().manual_seed(1)) - 1)
    weight, state = linear.layer.weight.detach().clone(), rng.get_state()

    share = torch.empty(()).uniform_(0.1, 0.5, generator=rng)
    sign = 2 * torch.empty(()).bernoulli_(generator=rng) - 1
    noisy = torch.empty_like(x).uniform_(-0.5, 0.5, generator=rng) + 0.5 < share
    noise = torch.empty_like(x).uniform_(-eps, eps, generator=rng)
    x0 = (x + sign * torch.where(noisy, noise, eps * step.method.of_class[y])).clamp(0, 1)
    p = softmax(linear(x0), 1).detach()
    x1 = clipped(x0 + eps * ((p - smoothed(rng, y)) @ weight).reshape(x.shape).sign(), x, eps)
    q, target, lam = softmax(linear(x1), 1).detach(), smoothed(rng, y), 100 * 3 / 30
    rng.set_state(state)

    m = (p + q) / 2
    pull = [0.5 * r * ((r / m).log() - (r * (r / m).log()).sum(1, keepdim=True)) for r in (p, q)]  # of JSD, to logits
    grad_w = (q - target + lam * pull[1]).T @ x1.flatten(1) / 4 + lam * pull[0].T @ x0.flatten(1) / 4
    report = step.run(tiny_batch, epoch=3, number=1)
    torch.testing.assert_close(report.x_adv, x1, atol=1e-6, rtol=0)
    jsd = 0.5 * (p * (p / m).log() + q * (q / m).log()).sum(1).mean()
    torch.testing.assert_close(report.loss, -(target * q.log()).sum(1).mean() + lam * jsd, atol=1e-5, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), weight - 0.1 * grad_w, atol=1e-6, rtol=0)
    assert 0.05 < noisy.double().mean() < 0.55


def test_a_class_is_asked_about_on_grey_images_whatever_the_batch_and_batchnorm_stays(
    start, tiny_model, tiny_batch, tiny_task
):
    before = {k: t.clone() for k, t in tiny_model.state_dict().items()}
    step = start("liet", tiny_model)
    state = tiny_task.rng.get_state()
    step.method.ask(tiny_model)
    assert all(torch.equal(before[k], t) for k, t in tiny_model.state_dict().items()) and tiny_model.training
    tiny_task.rng.set_state(state)
    draws = torch.empty(10, 10).uniform_(generator=tiny_task.rng)
    grey = torch.full((10, 1, 8, 8), 0.5, requires_grad=True)
    loss = cross_entropy(copy.deepcopy(tiny_model).eval()(grey), spread(draws, torch.arange(10), 0.6))
    assert torch.equal(step.method.of_class, torch.autograd.grad(loss, grey)[0].sign().to(torch.int8))
    asked = []
    for number, x in ((0, tiny_batch.x), (20, 1 - tiny_batch.x), (7, tiny_batch.x)):
        tiny_task.rng.set_state(state)
        other = start("liet", copy.deepcopy(tiny_model))
        other.run(tiny_batch, x=x, number=number)
        asked.append(other.method.of_class)
    assert torch.equal(asked[0], asked[1]) and asked[0].any() and not asked[2].any()


def test_no_more_classes_are_asked_about_at_once_than_a_batch_has_images(start, linear):
    seen = []
    linear.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    start("liet", linear).method.ask(linear)
    assert seen == [4, 4, 2]


def test_a_class_is_asked_about_again_with_the_weights_of_now(start, tiny_model, tiny_batch, tiny_task):
    step, asked = start("liet", tiny_model), []
    for number in (0, 20):  # at the same draws
        tiny_task.rng.manual_seed(3)
        step.run(tiny_batch, number=number)
        asked.append(step.method.of_class.clone())
    assert not torch.equal(*asked)


def test_all_noise_and_no_penalty_is_fgsm_rs_of_step_eps(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps, rng = tiny_batch.x, tiny_batch.y, 0.1, tiny_task.rng
    state = rng.get_state()
    torch.empty(()).uniform_(1, 1, generator=rng)
    sign = 2 * torch.empty(()).bernoulli_(generator=rng) - 1
    uniform_like(x, 0.5, rng)
    x0 = (x + sign * uniform_like(x, eps, rng)).clamp(0, 1)
    rng.set_state(state)
    x_adv = clipped(x0 + eps * linear.grad_x(x0, y).sign(), x, eps)
    expected = linear.layer.weight - 0.1 * linear.grad_w(x_adv, y)
    report = start("liet", linear, **EVERY_PIXEL_NOISE, label_smoothing=0.0, lam=0.0).run(tiny_batch, number=1)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight, expected, atol=1e-6, rtol=0)


def test_without_noise_images_of_a_class_start_alike_up_to_the_batchs_sign(start, linear, tiny_batch):
    method = start("liet", linear, noisy=(0.0, 0.0)).method
    method.of_class.copy_(torch.randint(2, (10, 1, 8, 8), generator=torch.Generator().manual_seed(1)) * 2 - 1)
    x, signs = tiny_batch.x * 0.4 + 0.3, set()
    for _ in range(20):
        delta = method.start(replace(tiny_batch, x=x)) - x
        torch.testing.assert_close(delta[1], delta[3], atol=1e-6, rtol=0)  # both of class 1
        sign = (delta / (0.1 * method.of_class[tiny_batch.y])).round()
        assert (sign == sign.flatten()[0]).all()
        signs.add(int(sign.flatten()[0]))
    assert signs == {-1, 1}


def test_targets_sum_to_one_with_their_share_on_the_true_class():
    rng = torch.Generator().manual_seed(0)
    for n_classes in (2, 10, 100):
        draws, y = torch.rand(50, n_classes, generator=rng), torch.randint(n_classes, (50,), generator=rng)
        target = spread(draws, y, 0.6)
        torch.testing.assert_close(target.sum(1), torch.ones(50))
        assert (target[torch.arange(50), y] == torch.tensor(0.4)).all() and (target >= 0).all()
    assert torch.isfinite(spread(torch.zeros(1, 2), torch.tensor([0]), 0.6)).all()


def test_the_divergence_is_zero_of_equals_and_at_most_ln_2():
    rng = torch.Generator().manual_seed(0)
    z, other = (3 * torch.randn(6, 10, generator=rng, dtype=torch.float64) for _ in range(2))

    def entropy(p):
        return -(p * p.log()).sum(1)

    p, q = softmax(z, 1), softmax(other, 1)
    expected = (entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2).mean()
    torch.testing.assert_close(jensen_shannon(z, other), expected)
    assert jensen_shannon(z, z).abs() < 1e-15
    far = torch.eye(4, requires_grad=True)
    value = jensen_shannon(far * 300, far.roll(1, 0) * 300)
    assert float(value.detach()) == pytest.approx(math.log(2)) and torch.autograd.grad(value, far)[0].isfinite().all()


def test_lambda_is_whole_in_the_last_epoch(start, tiny_model, tiny_batch, tiny_task, monkeypatch):
    monkeypatch.setattr(methods.module("liet"), "jensen_shannon", lambda *_: torch.ones(()))
    found = {}
    for lam, epoch in ((0.0, 30), (100.0, 30), (100.0, 15)):
        tiny_task.rng.manual_seed(0)
        loss = start("liet", copy.deepcopy(tiny_model), lam=lam).run(tiny_batch, epoch=epoch).loss
        found[lam, epoch] = float(loss.detach())
    assert found[100.0, 30] - found[0.0, 30] == pytest.approx(100, rel=1e-5)
    assert found[100.0, 15] - found[0.0, 30] == pytest.approx(50, rel=1e-5)


def test_above_8_255_noise_is_twice_as_wide_and_nothing_is_projected(start, tiny_model, tiny_batch):
    step = start("liet", tiny_model, noise=2.0, projected=False, noisy=(0.0, 1.0))
    assert step.method.radius == pytest.approx(0.3)
    far = max((step.run(tiny_batch, number=n).x_adv - tiny_batch.x).abs().max() for n in range(8))
    assert 0.2 < far <= 0.3 + 1e-6


def test_impossible_parameters_are_refused(refused):
    refused("liet", "label_smoothing must be 0 or more and below 1, got 1", label_smoothing=1.0)
    refused("liet", "lam and noise must be 0 or more, got -1", lam=-1.0)
    refused("liet", "noisy must be two shares from 0 to 1, the lower first", noisy=(0.5, 0.1))
    refused("liet", "refresh_every must be 1 or more, got 0", refresh_every=0)
