"""FGSM-LAW by hand, in its plain form, and the invariants of its card."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

from fastat.config.recipe import Recipe, Schedule
from fastat.losses import soft_target_loss
from fastat.training.learner import SGDLearner
from fastat.training.run import why_not_compiled

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 3
EPS, ALWAYS = 0.1, 100.0  # a threshold that no batch reaches


def averaged(step, decay=0.999):
    """The step with a learner that keeps an average."""
    step.learner = SGDLearner(step.model, Recipe(30, 4, Schedule("piecewise", 0.1), 0.0, momentum=0.0, average=decay))
    return step


def corner(x, rng):
    """x + 0.5 eps times the signs that the method will draw, cut to the pixel range."""
    twin = torch.Generator().manual_seed(0)
    twin.set_state(rng.get_state())
    return (x + 0.5 * EPS * torch.empty_like(x).uniform_(-1, 1, generator=twin).sign()).clamp(0, 1)


def through_softmax(p, outer):
    """Gradient to z of a loss whose gradient to p = softmax(z) is `outer`: (diag p - p p^T) outer."""
    return p * (outer - (p * outer).sum(1, keepdim=True))


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    x, y = tiny_batch.x, linear(tiny_batch.x).argmax(1)  # all are right
    step = averaged(start("fgsm_law", linear, threshold=ALWAYS))
    x0 = corner(x, tiny_task.rng)
    p0 = softmax(linear(x0), 1).detach()
    outer = softmax(p0, 1) - torch.eye(10)[y]  # of the cross-entropy of p0
    weight = linear.layer.weight.detach().clone()
    x_adv = clipped(x0 + EPS * (through_softmax(p0, outer) @ weight).reshape(x.shape).sign(), x, EPS)
    p, p_clean = (softmax(linear(at), 1).detach() for at in (x_adv, x))
    q, q_clean = (softmax(at.flatten(1), 1) for at in (x_adv, x))  # features: the pixels
    factor = 12 / ((x_adv - x).square().mean() + 0.125)
    apart = 2 * factor * (p - p_clean) / 40
    grad_w = linear.grad_w(x_adv, y, 0.7) + through_softmax(p, apart).T @ x_adv.flatten(1)
    grad_w -= through_softmax(p_clean, apart).T @ x.flatten(1)
    loss = soft_target_loss(linear(x_adv), y, 0.7)
    loss += factor * ((p - p_clean).square().mean() + (q - q_clean).square().mean())
    still_right = float((p.argmax(1) == y).float().mean())
    report = step.run(tiny_batch, y=y)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(report.loss, loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), weight - 0.1 * grad_w, atol=1e-6, rtol=0)
    mean = 0.1 * weight + 0.9 * (weight - 0.1 * grad_w)  # the first decay is 1/10
    torch.testing.assert_close(step.learner.reported.layer.weight.detach(), mean, atol=1e-6, rtol=0)
    assert report.stats["still_right"] == still_right and step.method.updates == 1


@pytest.mark.parametrize("reference", ["clean", "start"])
def test_two_steps_are_those_of_its_plain_form(start, tiny_model, tiny_batch, tiny_task, clipped, reference):
    """Here autograd derives: features have weights below them, and BatchNorm couples the images."""
    x, y, plain = tiny_batch.x, tiny_batch.y, deepcopy(tiny_model)
    step = start("fgsm_law", tiny_model, reference=reference)
    descent = torch.optim.SGD(plain.parameters(), 0.1)

    def seen(at):
        features = plain.trunk[:-1](plain.stem(at))
        return plain.trunk[-1](features), features

    for _ in range(2):
        x0 = corner(x, tiny_task.rng).requires_grad_()
        first = seen(x0)
        (grad,) = torch.autograd.grad(cross_entropy(softmax(first[0], 1), y), x0, retain_graph=True)
        x_adv = clipped(x0.detach() + EPS * grad.sign(), x, EPS)
        x_held, held = (x, seen(x)) if reference == "clean" else (x0.detach(), first)
        here = seen(x_adv)
        apart = sum((softmax(a, 1) - softmax(b, 1)).square().mean() for a, b in zip(here, held, strict=True))
        loss = soft_target_loss(here[0], y, 0.7) + 12 * apart / ((x_adv - x_held).square().mean() + 0.125)
        descent.zero_grad()
        loss.backward()
        descent.step()
        report = step.run(tiny_batch)
        torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
        torch.testing.assert_close(report.loss, loss, atol=1e-5, rtol=0)
        for ours, theirs in zip(tiny_model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_without_penalty_it_is_fgsm_from_corners_of_half_the_ball_with_a_plain_average(
    start, linear, tiny_batch, tiny_task, clipped
):
    x, y, model = tiny_batch.x, tiny_batch.y, deepcopy(linear)
    step, mean = averaged(start("fgsm_law", linear, lam=0.0, s=1.0, threshold=ALWAYS), 0.15), deepcopy(linear)
    for k in range(3):
        x0 = corner(x, tiny_task.rng)
        assert {round(float(d), 5) for d in (x0 - x)[(x > EPS) & (x < 1 - EPS)].unique()} == {-EPS / 2, EPS / 2}
        p = softmax(model(x0), 1).detach()
        grad = through_softmax(p, softmax(p, 1) - torch.eye(10)[y]) @ model.layer.weight.detach()
        x_adv = clipped(x0 + EPS * grad.reshape(x.shape).sign(), x, EPS)
        step_w, step_b = model.grad_w(x_adv, y), model.residual(x_adv, y).mean(0)
        decay = min(0.15, (k + 1) / (k + 10))
        with torch.no_grad():
            model.layer.weight -= 0.1 * step_w
            model.layer.bias -= 0.1 * step_b
            for average, now in zip(mean.parameters(), model.parameters(), strict=True):
                average.mul_(decay).add_((1 - decay) * now)
        torch.testing.assert_close(step.run(tiny_batch).x_adv, x_adv, atol=1e-6, rtol=0)
        for ours, theirs in zip(step.learner.reported.parameters(), mean.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_an_image_that_is_not_attacked_costs_no_penalty(start, linear, tiny_batch):
    still = start("fgsm_law", linear, start="0 eps", alpha="0 eps")
    loss = soft_target_loss(linear(tiny_batch.x), tiny_batch.y, 0.7)
    report = still.run(tiny_batch)
    assert torch.equal(report.x_adv, tiny_batch.x)
    torch.testing.assert_close(report.loss, loss)


def test_at_a_threshold_of_0_the_average_stays_at_the_first_weights(start, tiny_model, tiny_batch):
    first = {name: t.clone() for name, t in tiny_model.state_dict().items() if t.is_floating_point()}
    step = averaged(start("fgsm_law", tiny_model, threshold=0.0))
    for _ in range(3):
        report = step.run(tiny_batch)
    mean = step.learner.reported.state_dict()
    assert all(torch.equal(mean[name], t) for name, t in first.items()) and step.method.updates == 0
    assert report.stats["average_decay"] == 1 and not torch.equal(tiny_model.stem[1].weight, first["stem.1.weight"])


def test_the_decay_rises_with_the_averaged_batches_alone(start, linear):
    method = start("fgsm_law", linear).method
    shares = (0.5, 0.82, 0.8199, 1.5, 0.0)  # the second and the fourth are passed over
    decays = [float(method.decay(torch.tensor(share), 0.999)) for share in shares]
    assert decays == pytest.approx([1 / 10, 1, 2 / 11, 1, 3 / 12]) and method.updates == 3
    for updates, decay in ((8989, 8990 / 8999), (8990, 0.999), (10**6, 0.999)):
        method.updates.fill_(updates)
        assert float(method.decay(torch.tensor(0.5), 0.999)) == pytest.approx(decay, abs=1e-7)  # float32
    assert 8990 / 8999 < 0.999


def test_who_is_right_is_counted_with_what_is_added_and_nobody_divides_by_zero(start, linear):
    z = torch.eye(4)
    y, wrong = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 3, 3])
    held = z[[0, 1, 2, 0]]  # three of four
    for added, expected in ((0, 4 / 3), (1, 1.0)):
        method = start("fgsm_law", linear, added=added).method
        assert float(method.still_right(z, held, y)) == pytest.approx(expected)
    assert float(start("fgsm_law", linear).method.still_right(z, z[[2, 3, 0, 0]], wrong)) == 1  # 1 right by none


def test_held_to_the_start_it_needs_one_forward_less(start, tiny_model, tiny_batch):
    start("fgsm_law", tiny_model, reference="start").run(tiny_batch)
    assert int(tiny_model.trunk[0].bn1.num_batches_tracked) == BATCHNORM_UPDATES - 1


def test_a_network_whose_features_are_read_is_not_compiled():
    assert why_not_compiled("fgsm_law") == "the method reads features inside the network"
    assert why_not_compiled("fgsm_ga") == "a double backward cannot be compiled" and why_not_compiled("atas") == ""
    assert "stem and trunk" in why_not_compiled("yopo")


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_law", "reference must be clean or start, got 'prior'", reference="prior")
    refused("fgsm_law", "lam must be 0 or more and floor above 0, got 12.0 and 0.0", floor=0.0)
    refused("fgsm_law", "threshold and added must be 0 or more, got -1.0 and 0", threshold=-1.0)
    refused("fgsm_law", "s must be above 1/K", s=0.1)
