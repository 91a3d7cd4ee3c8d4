"""FGSM-PGI by hand, and the invariants of its card."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 2
EPS = 26 / 255  # whole in 255ths, as alpha is: the prior is kept in int8


@pytest.fixture
def whole(tiny_task):
    return replace(tiny_task, eps=EPS)


@pytest.fixture
def batch(tiny_batch):
    return replace(tiny_batch, x=(tiny_batch.x * 255).round() / 255)


class Plain:
    """FGSM-MEP as Algorithm 1 reads, on a linear network by plain SGD, everything in float32."""

    def __init__(self, model, delta, momentum, alpha=EPS, s=0.6, lam=10.0, mu=0.3, lr=0.1):
        self.model, self.delta, self.momentum = model, delta, momentum  # delta_i and m_i, (n, C, H, W)
        self.alpha, self.s, self.lam, self.mu, self.lr = alpha, s, lam, mu, lr

    @torch.no_grad()
    def train_batch(self, x, y, index, clipped):
        """The images that were trained on."""
        model, delta = self.model, self.delta[index]
        grad = model.grad_x(x + delta, y, self.s) / len(y)
        x_adv = clipped(x + delta + self.alpha * grad.sign(), x, EPS)
        self.momentum[index] = grad / grad.abs().sum() + self.mu * self.momentum[index]
        self.delta[index] = clipped(x + delta + self.alpha * self.momentum[index].sign(), x, EPS) - x
        z0, z = model(x + delta), model(x_adv)
        pull = self.lam * 2 * (z - z0) / z.numel()  # of the mean square, to z; minus that to z0
        grad_w = model.grad_w(x_adv, y, self.s) + pull.T @ x_adv.flatten(1) - pull.T @ (x + delta).flatten(1)
        model.layer.bias -= self.lr * model.residual(x_adv, y, self.s).mean(0)  # the pulls cancel
        model.layer.weight -= self.lr * grad_w
        return x_adv


def beside(step, linear, **params):
    """The plain form, begun where `step` begins."""
    model, method = deepcopy(linear), step.method
    return Plain(model, method.delta.delta / 255, method.momentum.delta.clone(), **params)


def test_a_batch_by_hand(start, linear, batch, whole, clipped):
    step = start("fgsm_pgi", linear, task=whole)
    method = step.method
    method.momentum.delta.uniform_(-1e-3, 1e-3, generator=torch.Generator().manual_seed(5))
    plain = beside(step, linear)
    x_adv = plain.train_batch(batch.x, batch.y, batch.index, clipped)
    report = step.run(batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.momentum.read(batch), plain.momentum[batch.index], atol=1e-9, rtol=1e-5)
    torch.testing.assert_close(method.delta.read(batch), plain.delta[batch.index], atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight, plain.model.layer.weight, atol=1e-5, rtol=0)


def test_whole_255ths_in_int8_equal_plain_float32_over_many_batches(start, linear, batch, whole, clipped):
    step = start("fgsm_pgi", linear, task=whole, alpha="10/255")
    assert step.method.delta.delta.dtype == torch.int8
    plain = beside(step, linear, alpha=10 / 255)
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 1, 8, 8), generator=rng) / 255
    for number in range(50):
        index = torch.randperm(12, generator=rng)[:4]
        x, y = images[index], index % 10
        x_adv = plain.train_batch(x, y, index, clipped)
        report = step.run(batch, x=x, y=y, index=index, number=number)
        torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)  # float32 rounding: never a 255th
        torch.testing.assert_close(step.method.delta.delta / 255, plain.delta, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight, plain.model.layer.weight, atol=1e-5, rtol=0)


def test_steps_that_are_not_whole_255ths_are_kept_in_float32(start, linear):
    assert start("fgsm_pgi", linear).method.delta.delta.dtype == torch.float32  # eps 0.1


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


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_pgi", "prior must be mep, ep or bp, got 'map'", prior="map")
    refused("fgsm_pgi", "mu and lam must be 0 or more", mu=-0.1)
    refused("fgsm_pgi", "reset_every must be 1 or more, got 0", reset_every=0)
    refused("fgsm_pgi", "s must be above 1/K", s=0.1)
