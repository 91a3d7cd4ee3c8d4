"""DOM-RE by hand, and the invariants of its card."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from fastat.attacks import uniform_like

CARD = {"forward": 3, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 3
SMALL = {"after": 0.05}  # of 30 epochs, of which the contract trains three
LATE = 16  # of 30 epochs, the first that is all after half-time


def test_a_batch_by_hand(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    clean_loss = cross_entropy(linear(x), y, reduction="none").detach()
    threshold = float(clean_loss.sort().values[1:3].mean())  # two images are left out
    state = tiny_task.rng.get_state()
    x_start = clipped(x + uniform_like(x, eps, tiny_task.rng), x, eps)
    tiny_task.rng.set_state(state)
    x_adv = clipped(x_start + 1.25 * eps * linear.grad_x(x_start, y).sign(), x, eps)
    kept = clean_loss >= threshold
    grad_w = linear.residual(x_adv[kept], y[kept]).T @ x_adv[kept].flatten(1) / 4  # the batch's size, not the kept
    expected = linear.layer.weight.detach() - 0.1 * grad_w
    report = start("dom_re", linear, threshold=threshold).run(tiny_batch, epoch=LATE)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)
    assert report.stats["kept"] == 0.5


@pytest.mark.parametrize(("epoch", "params"), [(LATE, {"threshold": 0}), (1, {}), (15, {})])
def test_where_none_is_left_out_it_is_fgsm_rs_with_one_batchnorm_update_more(
    start, tiny_model, tiny_batch, tiny_task, epoch, params
):
    found = []
    for name, more in (("dom_re", params), ("fgsm_rs", {})):
        tiny_task.rng.manual_seed(3)
        step = start(name, deepcopy(tiny_model), **more)
        found.append((step.run(tiny_batch, epoch=epoch).x_adv, step.model))
    (x_adv, ours), (other, theirs) = found
    assert torch.equal(x_adv, other)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)  # a mean of products with 1 rounds otherwise
    counts = [int(model.trunk[0].bn1.num_batches_tracked) for model in (ours, theirs)]
    assert counts == [3, 2]


def test_where_all_are_left_out_weights_move_by_weight_decay_alone(start, tiny_model, tiny_batch):
    step = start("dom_re", tiny_model, threshold=1e9)
    before = [p.detach().clone() for p in tiny_model.parameters()]
    for group in step.learner.optimizer.param_groups:
        group["weight_decay"] = 0.5
    report = step.run(tiny_batch, epoch=LATE)
    assert report.loss == 0 and report.stats["kept"] == 0
    for p, old in zip(tiny_model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old * (1 - 0.1 * 0.5))


def test_who_is_left_out_is_said_by_the_clean_images_alone(start, linear, tiny_batch, tiny_task):
    """Images that are left out move no weight: with one kept, the gradient is of rank 1, whatever the attack was."""
    x, y = tiny_batch.x, tiny_batch.y
    hardest = cross_entropy(linear(x), y, reduction="none").detach().topk(2)
    before, threshold = linear.layer.bias.detach().clone(), float(hardest.values.mean())
    for alpha, seed in (("1.25 eps", 0), ("0.1 eps", 7)):
        tiny_task.rng.manual_seed(seed)
        step = start("dom_re", deepcopy(linear), threshold=threshold, alpha=alpha)
        x_adv = step.run(tiny_batch, epoch=LATE).x_adv
        one = linear.residual(x_adv, y)[hardest.indices[0]] / 4
        torch.testing.assert_close(step.model.layer.bias.detach(), before - 0.1 * one, atol=1e-6, rtol=0)


def test_half_time_is_the_batch_with_which_half_of_the_epochs_are_done(start, linear, tiny_batch, tiny_task):
    def epochs(n_epochs, after=0.5):
        method = start("dom_re", linear, task=replace(tiny_task, n_epochs=n_epochs), after=after).method
        batches = [replace(tiny_batch, epoch=e, number=k) for e in range(1, n_epochs + 1) for k in range(3)]
        firsts = [(b.epoch, b.number) for b in batches if method.leaves_out(b)]
        return firsts[:1], [(b.epoch, b.number) for b in batches if method.differs(b)]

    assert epochs(4) == ([(2, 2)], [(2, 2)])  # the last batch of epoch 2: training_t is that of its end
    assert epochs(5) == ([(3, 1)], [(3, 1), (3, 2)])
    assert epochs(4, after=0) == ([(1, 0)], [])


def test_images_are_left_out_from_half_time_on(start, linear, tiny_batch):
    step = start("dom_re", linear, threshold=1e9)
    kept = [float(step.run(tiny_batch, epoch=e, number=k).stats["kept"]) for e, k in ((15, 1), (15, 2), (16, 0))]
    assert kept == [1, 0, 0]


def test_impossible_parameters_are_refused(refused):
    refused("dom_re", "threshold must be 0 or more, got -1", threshold=-1)
    refused("dom_re", "threshold must be 0 or more, got nan", threshold=float("nan"))
    refused("dom_re", "after must be between 0 and 1, got 2", after=2)


def test_in_bf16_its_convolutions_learn(start, tiny_model, tiny_batch):
    """Its first forward is under no_grad inside autocast: older torch then kept weights without a gradient."""
    before = {name: p.clone() for name, p in tiny_model.named_parameters()}
    step = start("dom_re", tiny_model)
    with torch.autocast("cpu", torch.bfloat16):
        step.run(tiny_batch)
    assert all(not p.equal(before[name]) for name, p in tiny_model.named_parameters() if p.ndim == 4)
