"""FGSM-PCO by hand, and the invariants of its card."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot, softmax

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 2, "joint_backward": 1}
BATCHNORM_UPDATES = 3
VARIANTS = {"detached": {"CARD": {"forward": 3, "input_backward": 1, "parameter_backward": 3}}}
EPS = 26 / 255  # whole in 255ths, as alpha is: the perturbation is kept in int8


@pytest.fixture
def whole(tiny_task):
    return replace(tiny_task, eps=EPS)


@pytest.fixture
def batch(tiny_batch):
    """Images of whole 255ths, in float64."""
    return replace(tiny_batch, x=((tiny_batch.x * 255).round() / 255).double())


@pytest.fixture
def sharp(linear):
    """A network whose confidence differs from image to image."""
    linear.layer.weight.data *= 4
    return linear.double()


def points(model, x, y, delta, clipped):
    """x + delta, what FGSM makes of it, and 1 - p_y at x + delta."""
    last = x + delta
    fgsm = clipped(last + EPS * model.grad_x(last, y, 0.6).sign(), x, EPS)
    p = softmax(model(last), 1).detach()
    return last, fgsm, p, (1 - p.gather(1, y[:, None]))[:, :, None, None]


@pytest.mark.parametrize("detach_blend", [False, True])
@pytest.mark.parametrize("settled", [False, True])
def test_a_batch_by_hand(start, sharp, batch, whole, clipped, detach_blend, settled):
    x, y, n = batch.x, sharp(batch.x).argmax(1), 40  # B K
    step = start("fgsm_pco", sharp, task=whole, detach_blend=detach_blend)
    for _ in range(5 * settled):  # then the step leads almost nowhere: farther from its end than its start is the blend
        _, fgsm, _, _ = points(sharp, x, y, step.method.delta.read(batch), clipped)
        step.method.delta.write(batch, fgsm - x)
    before, model = step.method.delta.delta.clone(), deepcopy(sharp)
    last, fgsm, p, w = points(model, x, y, before[batch.index].double() / 255, clipped)
    blend = w * last + (1 - w) * (x + 1.5 * (fgsm - x))
    with torch.no_grad():
        z_last, z_fgsm, z = (model(each) for each in (last, fgsm, blend))
        gap = (z_fgsm - z_last).square().mean() - (z_fgsm - z).square().mean()
        assert gap.sign() == (-1 if settled else 1)
        pull = 10 * gap.sign() * 2 / n
        to_z = model.residual(blend, y, 0.6) / 4 + pull * (z_fgsm - z)
        to_fgsm, to_last = pull * ((z_fgsm - z_last) - (z_fgsm - z)), -pull * (z_fgsm - z_last)
        if not detach_blend:  # by w = 1 - p_y: dw/dz = -p_y (e_y - p)
            along = (last - (x + 1.5 * (fgsm - x))).flatten(1)
            to_w = ((to_z @ model.layer.weight) * along).sum(1, keepdim=True)
            to_last = to_last - to_w * p.gather(1, y[:, None]) * (one_hot(y, 10) - p)
        grad_w = sum(to.T @ each.flatten(1) for to, each in ((to_z, blend), (to_fgsm, fgsm), (to_last, last)))
        bias = model.layer.bias - 0.1 * (to_z + to_fgsm + to_last).sum(0)
        loss = cross_entropy(z, y, label_smoothing=0.4 * 10 / 9) + 10 * gap.abs()
    report = step.run(batch, y=y)
    torch.testing.assert_close(report.x_adv, blend, atol=1e-7, rtol=0)  # delta is read as float32
    torch.testing.assert_close(report.stats["doubt"], w.mean(), atol=1e-7, rtol=0)
    torch.testing.assert_close(report.loss, loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(sharp.layer.weight, model.layer.weight - 0.1 * grad_w, atol=1e-7, rtol=0)
    torch.testing.assert_close(sharp.layer.bias, bias, atol=1e-7, rtol=0)
    after = before.clone()
    after[batch.index] = ((fgsm - x) * 255).round().to(torch.int8)
    assert torch.equal(step.method.delta.delta, after) and not torch.equal(after, before)


def test_the_gradient_through_the_blends_weight_is_all_that_detaching_leaves_out(start, sharp, batch, whole, clipped):
    x, y, weights = batch.x, batch.y, {}
    for detach_blend in (False, True):
        whole.rng.manual_seed(1)
        model = deepcopy(sharp)
        step = start("fgsm_pco", model, task=whole, detach_blend=detach_blend)
        delta = step.method.delta.read(batch)
        step.run(batch)
        weights[detach_blend] = model.layer.weight.detach()
    _, fgsm, _, _ = points(sharp, x, y, delta, clipped)

    @torch.no_grad()
    def loss_if_the_doubt_were_of(theirs):
        """Everything else is of the network as it is."""
        last, _, _, w = points(theirs, x, y, delta, clipped)
        z_last, z_fgsm, z = sharp(last), sharp(fgsm), sharp(w * last + (1 - w) * (x + 1.5 * (fgsm - x)))
        gap = (z_fgsm - z_last).square().mean() - (z_fgsm - z).square().mean()
        return cross_entropy(z, y, label_smoothing=0.4 * 10 / 9) + 10 * gap.abs()

    way = torch.randn(10, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    losses = []
    for h in (1e-5, -1e-5):
        moved = deepcopy(sharp)
        moved.layer.weight.data += h * way
        losses.append(float(loss_if_the_doubt_were_of(moved)))
    slope = (losses[0] - losses[1]) / 2e-5
    left_out = ((weights[True] - weights[False]) * way).sum() / 0.1
    assert abs(slope) > 1e-3 and float(left_out) == pytest.approx(slope, rel=1e-4)


def certain(linear, bias):
    """A network that gives class 3 the probability 1 (bias 300) or 0 (bias -300), whatever it sees."""
    model = deepcopy(linear)
    model.layer.bias.data[3] = bias
    return model


def test_sure_it_trains_on_the_stretched_step(start, linear, batch, whole, clipped):
    y, model = torch.full((4,), 3), certain(linear, 300.0).double()
    step = start("fgsm_pco", model, task=whole)
    _, fgsm, _, _ = points(model, batch.x, y, step.method.delta.read(batch), clipped)
    x_adv = step.run(batch, y=y).x_adv
    torch.testing.assert_close(x_adv, batch.x + 1.5 * (fgsm - batch.x), atol=1e-7, rtol=0)
    assert ((x_adv - batch.x).abs().max() - 1.5 * EPS).abs() < 1e-6 and step.method.radius == 1.5 * EPS


def test_unsure_it_trains_on_where_the_last_epoch_ended_and_there_is_no_penalty(start, linear, batch, whole, clipped):
    y, model = torch.full((4,), 3), certain(linear, -300.0).double()
    step = start("fgsm_pco", model, task=whole)
    last, fgsm, _, _ = points(model, batch.x, y, step.method.delta.read(batch), clipped)
    assert (model(fgsm) - model(last)).square().mean() > 1e-3  # each of the two distances, of equal size
    loss = cross_entropy(model(last), y, label_smoothing=0.4 * 10 / 9).item()
    report = step.run(batch, y=y)
    torch.testing.assert_close(report.x_adv, last, atol=1e-7, rtol=0)
    assert report.loss.item() == pytest.approx(loss, abs=1e-6)


def test_sure_unstretched_and_without_penalty_it_is_fgsm_pgis_epoch_prior(start, linear, batch, whole):
    found = []
    for name, params in (("fgsm_pco", {"beta": 1, "lam": 0}), ("fgsm_pgi", {"prior": "ep", "lam": 0})):
        whole.rng.manual_seed(1)
        step = start(name, certain(linear, 300.0), task=whole, **params)
        for number in range(3):
            step.run(batch, x=batch.x.float(), y=torch.full((4,), 3), number=number)
        found.append((step.model.layer.weight.detach(), step.method.delta.delta))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=0)
    assert torch.equal(found[0][1], found[1][1])


def test_the_perturbation_stays_in_whole_255ths_and_is_drawn_once(start, tiny_model, batch, whole):
    step = start("fgsm_pco", tiny_model, task=whole)
    assert set(step.method.delta.delta.unique().tolist()) == {-26, 26}
    rng = torch.Generator().manual_seed(0)
    for epoch in range(1, 4):
        if epoch > 1:
            kept = step.method.delta.delta.clone()
            step.method.begin_epoch(tiny_model, step.learner, epoch)
            assert torch.equal(kept, step.method.delta.delta)
        x = torch.randint(256, (4, 1, 8, 8), generator=rng) / 255
        before = step.method.delta.read(batch)
        step.run(batch, x=x, epoch=epoch)
        delta = step.method.delta.read(batch) * 255
        torch.testing.assert_close(delta, delta.round(), atol=1e-4, rtol=0)
        assert delta.abs().max() <= 26 and not torch.equal(before * 255, delta)
        assert ((x + delta / 255).min() > -1e-6) and ((x + delta / 255).max() < 1 + 1e-6)


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_pco", "beta and lam must be 0 or more, got -1", beta=-1)
    refused("fgsm_pco", "beta and lam must be 0 or more, got 1.5 and nan", lam=float("nan"))
    refused("fgsm_pco", "s must be above 1/K", s=0.1)
