"""FGSM-PGI by hand, and the invariants of its card."""

from dataclasses import replace

import pytest
import torch

EPS = 26 / 255  # whole in 255ths, as alpha is: the prior is kept in int8


@pytest.fixture
def whole(tiny_task):
    return replace(tiny_task, eps=EPS)


@pytest.fixture
def batch(tiny_batch):
    return replace(tiny_batch, x=(tiny_batch.x * 255).round() / 255)


def test_a_batch_by_hand(start, linear, batch, whole, clipped):
    x, y, s, lam, mu = batch.x, batch.y, 0.6, 10.0, 0.3
    step = start("fgsm_pgi", linear, task=whole)
    method = step.method
    method.momentum.delta.uniform_(-1e-3, 1e-3, generator=torch.Generator().manual_seed(5))
    delta, m = method.delta.read(batch), method.momentum.read(batch)
    z0_grad = linear.grad_x(x + delta, y, s) / len(y)
    m_next = z0_grad / z0_grad.abs().sum() + mu * m
    delta_next = clipped(x + delta + EPS * m_next.sign(), x, EPS) - x
    x_adv = clipped(x + delta + EPS * z0_grad.sign(), x, EPS)
    z0, z = linear(x + delta).detach(), linear(x_adv).detach()
    pull = lam * 2 * (z - z0) / z.numel()  # of the mean square, to z; minus that to z0
    grad_w = linear.grad_w(x_adv, y, s) + pull.T @ x_adv.flatten(1) - pull.T @ (x + delta).flatten(1)
    expected = linear.layer.weight.detach() - 0.1 * grad_w
    report = step.run(batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.momentum.read(batch), m_next, atol=1e-9, rtol=1e-5)
    torch.testing.assert_close(method.delta.read(batch), delta_next, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-5, rtol=0)


def test_int8_is_exact_for_whole_255ths_over_many_epochs(start, linear, batch, whole, monkeypatch):
    step = start("fgsm_pgi", linear, task=whole, alpha="10/255")
    assert step.method.delta.delta.dtype == torch.int8
    written = []
    real = type(step.method.delta).write
    monkeypatch.setattr(
        type(step.method.delta), "write", lambda store, *a: (written.append((store, a)), real(store, *a))
    )
    for number in range(50):
        step.run(batch, number=number)
    for store, (_, delta) in written:
        if store is step.method.delta:
            assert (delta * 255 - (delta * 255).round()).abs().max() < 1e-3  # float32 rounding, in 255ths
    last = [delta for store, (_, delta) in written if store is step.method.delta][-1]
    torch.testing.assert_close(step.method.delta.read(batch), last, atol=1e-6, rtol=0)


def test_steps_that_are_not_whole_255ths_are_kept_in_float32(start, linear, tiny_task):
    assert start("fgsm_pgi", linear).method.delta.delta.dtype == torch.float32  # eps 0.1
    assert (
        start("atas_pgi", linear, task=replace(tiny_task, eps=EPS), prior="ep").method.delta.delta.dtype
        == torch.float32
    )


def test_without_memory_the_momentum_prior_is_the_epoch_prior(start, linear, batch, whole):
    outcomes = []
    for params in ({"mu": 0}, {"prior": "ep"}):
        torch.manual_seed(0)
        model = type(linear)()
        whole.rng.manual_seed(1)
        step = start("fgsm_pgi", model, task=whole, **params)
        for number in range(3):
            step.run(batch, number=number)
        outcomes += [model.layer.weight.detach(), step.method.delta.delta]
    assert torch.equal(outcomes[0], outcomes[2]) and torch.equal(outcomes[1], outcomes[3])


def test_the_batch_prior_is_the_last_batchs_perturbation(start, linear, batch, whole):
    step = start("fgsm_pgi", linear, task=whole, prior="bp")
    report = step.run(batch)
    torch.testing.assert_close(step.method.delta.delta.float() / 255, report.x_adv - batch.x, atol=1e-6, rtol=0)
    other = replace(batch, index=torch.tensor([1, 2, 3, 4]))
    torch.testing.assert_close(step.method.delta.read(replace(other, index=torch.arange(4))), report.x_adv - batch.x)


def test_the_penalty_pulls_on_both_outputs_and_without_it_the_soft_target_is_left(start, linear, batch, whole):
    y, after = batch.y, {}
    plain = type(linear)()
    plain.load_state_dict(linear.state_dict())
    before = plain.layer.weight.detach().clone()
    for lam in (0.0, 10.0):
        model = type(linear)()
        model.load_state_dict(plain.state_dict())
        whole.rng.manual_seed(1)
        step = start("fgsm_pgi", model, task=whole, lam=lam)
        delta = step.method.delta.read(batch)
        x_adv = step.run(batch).x_adv
        after[lam] = model.layer.weight.detach()
    soft_alone = before - 0.1 * plain.grad_w(x_adv, y, 0.6)
    torch.testing.assert_close(after[0.0], soft_alone, atol=1e-6, rtol=0)
    pull = 10 * 2 * (plain(x_adv) - plain(batch.x + delta)).detach() / 40
    one_sided = soft_alone - 0.1 * pull.T @ x_adv.flatten(1)  # as if the output at the prior were a constant
    assert (after[10.0] - one_sided).abs().max() > 1e-3


def test_priors_are_corners_and_reset_in_the_first_epoch_and_every_r_epochs(start, linear, whole):
    step = start("fgsm_pgi", linear, task=whole, reset_every=10)
    assert set(step.method.delta.delta.unique().tolist()) == {-26, 26}
    resets = []
    for epoch in range(2, 31):
        step.method.momentum.delta.fill_(1)
        step.method.begin_epoch(linear, step.learner, epoch)
        if not step.method.momentum.delta.any():
            resets.append(epoch)
    assert resets == [11, 21]


def test_the_prior_follows_its_image_only_if_asked_to(start, linear, batch, whole):
    for align, shape in ((False, (12, 1, 8, 8)), (True, (12, 1, 10, 10))):
        step = start("fgsm_pgi", linear, task=whole, align_prior=align)
        assert step.method.delta.delta.shape == shape == step.method.momentum.delta.shape
        step.run(batch)
