"""FGSM-SDI by hand, and the invariants of its card."""

import torch
from torch.nn.functional import cross_entropy

from fastat.losses import soft_target_loss
from methods.fgsm_sdi import Generator

CARD = {"forward": 3.1, "input_backward": 2.1, "parameter_backward": 1}
BATCHNORM_UPDATES = 3  # by a batch; number 0 of an epoch, which trains the generator, makes two more


def copies(module):
    return [p.detach().clone() for p in module.parameters()]


def equal(module, kept):
    return all(torch.equal(p, q) for p, q in zip(module.parameters(), kept, strict=True))


def test_a_batch_by_hand(start, linear, tiny_batch):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    step = start("fgsm_sdi", linear)
    generator = step.method.generator.eval()
    with torch.no_grad():
        p = generator(torch.cat([x, linear.grad_x(x, y).sign()], 1))
    q = (eps * linear.grad_x(x + p, y).sign()).clamp(-eps, eps)
    x_adv = x + (p + q).clamp(-eps, eps)
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(x_adv, y, s=0.5)
    report = step.run(tiny_batch, number=1)
    torch.testing.assert_close(report.x_adv, x_adv, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)


def test_the_generator_ascends_every_twentieth_batch_and_only_then(start, linear, tiny_batch):
    step = start("fgsm_sdi", linear)
    moved = []
    for number in range(23):
        before = copies(step.method.generator)
        step.run(tiny_batch, number=number)
        moved.append(not equal(step.method.generator, before))
    assert [n for n, did in enumerate(moved) if did] == [0, 20]  # ceil(23 / 20) times an epoch


def test_training_the_generator_leaves_the_network_alone_and_raises_its_loss(start, linear, tiny_batch, monkeypatch):
    step = start("fgsm_sdi", linear, generator_lr=1e-2)
    monkeypatch.setattr(step.learner, "descend", lambda loss: losses.append(loss.item()))
    losses: list[float] = []
    weights = copies(linear)
    for _ in range(30):
        step.run(tiny_batch, number=0)
    assert equal(linear, weights) and losses[-1] > losses[0]


def test_the_generator_has_the_released_size_and_stays_inside_the_ball():
    generator = Generator(3, 64, 0.03)
    assert sum(p.numel() for p in generator.parameters()) == 79_173  # 79,174 less the released code's unused scalar
    start = generator(1000 * torch.randn(2, 6, 8, 8))
    assert start.shape == (2, 3, 8, 8) and start.abs().max() <= 0.03


def test_the_soft_target_sums_to_one_and_with_s_1_it_is_cross_entropy():
    z, y = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(soft_target_loss(z, y, 1.0), cross_entropy(z, y))
    target = torch.full((5, 4), 0.5 / 3)
    target[range(5), y] = 0.5
    torch.testing.assert_close(soft_target_loss(z, y, 0.5), -(target * z.log_softmax(1)).sum(1).mean())


def test_pixels_may_leave_their_range_unless_clip_is_asked_for(start, linear, tiny_batch):
    white = torch.ones_like(tiny_batch.x)
    loose = start("fgsm_sdi", linear).run(tiny_batch, x=white, number=1)
    assert loose.x_adv.max() > 1
    kept = start("fgsm_sdi", linear, clip=True).run(tiny_batch, x=white, number=1)
    assert kept.x_adv.max() <= 1


def test_impossible_parameters_are_refused(refused):
    refused("fgsm_sdi", "s must be above 1/K = 0.1 .K = 10 classes. and at most 1, got 0.1", s=0.1)
    refused("fgsm_sdi", "generator_every must be 1 or more, got 0", generator_every=0)


def test_training_the_generator_moves_batchnorm_twice_more(start, tiny_model, tiny_batch):
    start("fgsm_sdi", tiny_model).run(tiny_batch, number=0)
    assert int(tiny_model.trunk[0].bn1.num_batches_tracked) == BATCHNORM_UPDATES + 2
