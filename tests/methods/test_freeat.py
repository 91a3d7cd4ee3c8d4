"""FreeAT by hand, and the invariants of its card."""

import torch

CARD = {"forward": 8, "joint_backward": 8}
BATCHNORM_UPDATES = 8


def test_each_replay_descends_and_ascends_with_one_gradient(start, linear, tiny_batch):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    weight, bias = linear.layer.weight.detach().clone(), linear.layer.bias.detach().clone()
    step = start("freeat", linear, m=3)
    by_hand = type(linear)()
    by_hand.load_state_dict({"layer.weight": weight, "layer.bias": bias})
    delta = torch.zeros_like(x)
    with torch.no_grad():
        for _ in range(3):
            x_adv = (x + delta).clamp(0, 1)
            inside = ((x + delta >= 0) & (x + delta <= 1)).float()
            g_x, g_w = by_hand.grad_x(x_adv, y) * inside, by_hand.grad_w(x_adv, y)
            g_b = by_hand.residual(x_adv, y).mean(0)
            delta = (delta + eps * g_x.sign()).clamp(-eps, eps)
            by_hand.layer.weight -= 0.1 * g_w  # g_theta at the old delta
            by_hand.layer.bias -= 0.1 * g_b
    report = step.run(tiny_batch)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(step.method.delta, delta, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight, by_hand.layer.weight, atol=1e-6, rtol=0)


def test_one_replay_from_nothing_is_clean_training(start, linear, tiny_batch):
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(tiny_batch.x, tiny_batch.y)
    start("freeat", linear, m=1).run(tiny_batch)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)


def test_delta_belongs_to_the_position_in_the_batch_and_outlives_batches_and_epochs(start, linear, tiny_batch):
    step = start("freeat", linear, m=2)
    step.run(tiny_batch)
    kept = step.method.delta.clone()
    step.method.begin_epoch(linear, step.learner, 2)
    assert torch.equal(step.method.delta, kept) and kept.abs().max() > 0
    short = {"x": tiny_batch.x[:1], "y": tiny_batch.y[:1], "index": tiny_batch.index[:1]}
    step.run(tiny_batch, **short)  # a last batch of one image leaves the other positions alone
    assert torch.equal(step.method.delta[1:], kept[1:])
    assert not torch.equal(step.method.delta[:1], kept[:1])


def test_no_replay_is_refused(refused):
    refused("freeat", "m must be 1 or more, got 0", m=0)
