"""ATAS with SDI's learnt start by hand, and beside FGSM-SDI."""

from dataclasses import replace

import torch

from methods import atas_sdi, fgsm_sdi

CARD = {"forward": 3.1, "input_backward": 2.1, "parameter_backward": 1}
BATCHNORM_UPDATES = 3  # by a batch; number 0 of an epoch, which trains the generator, makes two more


def test_it_takes_the_step_of_atas_from_the_learnt_start(start, linear, tiny_batch, tiny_task, atas_alpha):
    x, y, eps = tiny_batch.x, tiny_batch.y, 8 / 255
    step = start("atas_sdi", linear, task=replace(tiny_task, eps=eps))
    with torch.no_grad():
        step.method.generator.tail[1].bias.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
        p = step.method.generator.eval()(torch.cat([x, linear.grad_x(x, y).sign()], 1))
    g = linear.grad_x(x + p, y)
    q = atas_alpha(g) * g.sign()
    report = step.run(tiny_batch, number=1)
    torch.testing.assert_close(report.x_adv, x + (p + q).clamp(-eps, eps), atol=1e-6, rtol=0)
    assert atas_alpha(g).min() > eps  # so that SDI's own step, cut to eps, would have been another
    assert not torch.allclose(report.x_adv, x + (p + q.clamp(-eps, eps)).clamp(-eps, eps), atol=1e-4)


def test_the_lines_that_differ_from_fgsm_sdi_are_those_of_the_step_size(lines_that_differ):
    for verb in ("train_batch", "attack", "get_extra_state", "set_extra_state"):
        ours = lines_that_differ(getattr(fgsm_sdi.Method, verb), getattr(atas_sdi.Method, verb))
        assert all("alpha" in line for line in ours)


def test_training_the_generator_moves_batchnorm_twice_more_and_v_a_second_time(start, tiny_model, tiny_batch):
    step = start("atas_sdi", tiny_model)
    moved = []
    step.method.adaptive.register_forward_hook(lambda *_: moved.append(1))
    step.run(tiny_batch, number=0)
    assert int(tiny_model.trunk[0].bn1.num_batches_tracked) == BATCHNORM_UPDATES + 2 and len(moved) == 2


def test_impossible_parameters_are_refused(refused):
    refused("atas_sdi", "s must be above 1/K", s=0.1)
    refused("atas_sdi", "generator_every must be 1 or more, got 0", generator_every=0)
    refused("atas_sdi", "c must be above 0, got 0", c=0)
