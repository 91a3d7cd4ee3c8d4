"""ATAS with PGI's prior by hand, and beside FGSM-PGI."""

from dataclasses import replace

import torch

from methods import atas_pgi, fgsm_pgi

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
BATCHNORM_UPDATES = 2


def test_it_trains_on_the_step_of_atas_and_keeps_the_priors_own(start, linear, tiny_batch, clipped, atas_alpha):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    step = start("atas_pgi", linear)
    delta = step.method.delta.read(tiny_batch)
    g = linear.grad_x(x + delta, y, s=0.6)
    report = step.run(tiny_batch)
    expected = clipped(x + delta + atas_alpha(g) * g.sign(), x, eps)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    kept = clipped(x + delta + eps * g.sign(), x, eps) - x  # the momentum begins as this gradient
    torch.testing.assert_close(step.method.delta.read(tiny_batch), kept, atol=1e-6, rtol=0)


def test_priors_made_by_its_own_steps_are_kept_in_float32(start, linear, tiny_task):
    for prior, dtype in (("mep", torch.int8), ("ep", torch.float32), ("bp", torch.float32)):
        step = start("atas_pgi", linear, task=replace(tiny_task, eps=26 / 255), prior=prior)
        assert step.method.delta.delta.dtype == dtype


def test_the_lines_that_differ_from_fgsm_pgi_are_those_of_the_step_size(lines_that_differ):
    for verb in ("redraws", "begin_epoch", "train_batch", "attack"):
        ours = lines_that_differ(getattr(fgsm_pgi.Method, verb), getattr(atas_pgi.Method, verb))
        assert all("alpha" in line for line in ours)


def test_impossible_parameters_are_refused(refused):
    refused("atas_pgi", "prior must be mep, ep or bp, got 'map'", prior="map")
    refused("atas_pgi", "beta must be in", beta=1)
    refused("atas_pgi", "s must be above 1/K", s=0.1)
