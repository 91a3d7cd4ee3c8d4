"""SSAT by hand, and the invariants of its card."""

from copy import deepcopy

import torch
from torch import nn

from fastat.networks import models

CARD = {"forward": 4, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 1


class Threshold(nn.Module):
    """Class 1 if the mean pixel is above a threshold, else class 0; linear, so a step moves it as far as it is long."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        z = 100 * self.gain * (x.mean((1, 2, 3)) - self.at)
        return torch.stack([-z, z], 1)


def train_on(start, tiny_batch, tiny_task, value, threshold, label, c=3):
    """One batch of flat grey images; the report, and the full perturbation that SSAT found."""
    model = Threshold(threshold)
    x = torch.full_like(tiny_batch.x, value)
    y = torch.full_like(tiny_batch.y, label)
    report = start("ssat", model, c=c).run(tiny_batch, x=x, y=y)
    return report, x


def test_the_smallest_step_that_fools_the_network_is_trained_on(start, tiny_batch, tiny_task):
    # grey 0.5, class 0 below the threshold: with alpha = 1.25 eps every pixel rises by 0.025 to 0.1, 0.0875 on average
    for threshold, k in ((0.51, 1), (0.54, 2), (0.58, 3), (0.7, 3)):
        report, x = train_on(start, tiny_batch, tiny_task, 0.5, threshold, 0)
        mean_step = (report.x_adv - x).mean().item()
        assert abs(mean_step - k / 3 * 0.0883) < 0.006, (threshold, k, mean_step)
        assert abs(report.stats["scale"].item() - k / 3) < 1e-6


def test_an_image_that_is_already_wrong_is_trained_on_clean(start, tiny_batch, tiny_task):
    report, x = train_on(start, tiny_batch, tiny_task, 0.5, 0.4, 0)
    assert torch.equal(report.x_adv, x)


def test_every_point_lies_on_the_segment_from_the_image_to_the_full_perturbation(start, tiny_batch, tiny_task):
    torch.manual_seed(0)
    model = models.build("preact_tiny", 1, 10)
    with torch.no_grad():
        y = model.eval()(tiny_batch.x).argmax(1)  # all right at first, so that points are looked at
    full, cut = [], []
    for c, found in ((1, full), (4, cut)):
        tiny_task.rng.manual_seed(2)
        copy = deepcopy(model).train()
        found.append(start("ssat", copy, c=c).run(tiny_batch, y=y).x_adv - tiny_batch.x)
    delta, point = full[0].flatten(1), cut[0].flatten(1)
    scale = (point * delta).sum(1) / delta.square().sum(1).clamp(min=1e-12)
    torch.testing.assert_close(point, scale[:, None] * delta, atol=1e-6, rtol=0)
    assert all(min(abs(s - k / 4) for k in range(5)) < 1e-4 for s in scale.tolist())


def plain_scale(model, x, delta, y, c):
    """Algorithm 1 as it reads, one image after another: stop at the first point that fools the network."""
    for k in range(1, c):
        if model((x + k / c * delta)[None]).argmax() != y:
            return k / c
    return 1.0


def test_all_checkpoints_at_once_find_what_looking_at_one_after_another_does(start, tiny_batch):
    torch.manual_seed(0)
    model = models.build("preact_tiny", 1, 10).eval()
    rng = torch.Generator().manual_seed(0)
    x, delta = torch.rand((32, 1, 8, 8), generator=rng), torch.rand((32, 1, 8, 8), generator=rng) - 0.5
    with torch.no_grad():
        y = model(x).argmax(1)
        one_by_one = [plain_scale(model, *image, 4) for image in zip(x, delta, y, strict=True)]
    scale = start("ssat", model, c=4).method.smallest_fooling_scale(model, x, delta, y)
    assert scale.tolist() == one_by_one and len(set(one_by_one)) > 2


def test_batchnorm_sees_the_training_pass_alone(start, tiny_batch, tiny_model):
    step = start("ssat", tiny_model)
    step.run(tiny_batch)
    assert int(tiny_model.trunk[0].bn1.num_batches_tracked) == 1


def test_with_one_checkpoint_it_is_fgsm_rs_on_what_is_classified_right(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_start = (x + torch.empty_like(x).uniform_(-eps, eps, generator=tiny_task.rng)).clamp(0, 1)
    tiny_task.rng.set_state(state)
    right = linear(x_start).argmax(1) == y
    attacked = clipped(x_start + 1.25 * eps * linear.grad_x(x_start, y).sign(), x, eps)
    expected = torch.where(right[:, None, None, None], attacked, x)
    report = start("ssat", linear, c=1).run(tiny_batch)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)


def test_no_checkpoint_is_refused(refused):
    refused("ssat", "c must be 1 or more, got 0", c=0)
