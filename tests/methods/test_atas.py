"""ATAS by hand, and beside ATTA."""

import torch

from methods import atas, atta

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 1
VARIANTS = {"released": {"SMALL": {"warmup_epochs": 1}}}  # of the three that the contract trains


def test_the_step_is_gamma_over_c_plus_root_v_and_v_is_written_back(start, linear, tiny_batch, clipped):
    step = start("atas", linear, beta=0.5, c=1.28, gamma_over_c="2 eps")
    method, x, y, eps = step.method, tiny_batch.x, tiny_batch.y, 0.1
    method.step_size.v[:] = 0.3
    x_prev = clipped(x + method.delta.read(tiny_batch), x, eps)
    g = linear.grad_x(x_prev, y)
    v = 0.5 * 0.3 + 0.5 * (g**2).sum((1, 2, 3))
    alpha = 1.28 * 2 * eps / (1.28 + v.sqrt())
    report = step.run(tiny_batch)
    x_next = clipped(x_prev + alpha[:, None, None, None] * g.sign(), x, eps)
    torch.testing.assert_close(report.x_adv, x_next, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.step_size.v[tiny_batch.index], v, atol=1e-6, rtol=1e-5)
    assert (method.step_size.v[[1, 2, 3]] == 0.3).all()


def test_the_released_warm_up_steps_by_eps_and_leaves_v_alone(start, linear, tiny_batch):
    step = start("atas", linear, warmup_epochs=5)
    assert (step.run(tiny_batch, epoch=5).alpha == 0.1).all() and not step.method.step_size.v.any()
    assert (step.run(tiny_batch, epoch=6).alpha != 0.1).all() and step.method.step_size.v.any()


def test_with_a_fixed_step_it_is_atta(start, linear, tiny_batch, tiny_task):
    outcomes = []
    for name, params in (("atta", {"alpha": "0.5 eps"}), ("atas", {"clamp": ("0.5 eps", "0.5 eps")})):
        torch.manual_seed(0)
        model = type(linear)()
        tiny_task.rng.manual_seed(5)
        start(name, model, **params).run(tiny_batch)
        outcomes.append(model.layer.weight.detach())
    assert torch.equal(*outcomes)


def test_the_lines_that_differ_from_atta_are_those_of_the_step_size(lines_that_differ):
    for verb in ("redraws", "begin_epoch", "train_batch"):
        ours = lines_that_differ(getattr(atta.Method, verb), getattr(atas.Method, verb))
        assert all("alpha" in line for line in ours)
    assert lines_that_differ(atta.Method.__init__, atas.Method.__init__)[1].startswith("self.step_size = StepSize(")


def test_reset_redraws_delta_but_keeps_v(start, linear, tiny_batch):
    step = start("atas", linear)
    step.run(tiny_batch)
    method = step.method
    v, delta = method.step_size.v.clone(), method.delta.delta.clone()
    method.begin_epoch(linear, step.learner, 9)
    assert torch.equal(method.delta.delta, delta)
    method.begin_epoch(linear, step.learner, 10)
    assert not torch.equal(method.delta.delta, delta) and torch.equal(method.step_size.v, v)
    delta = method.delta.delta.clone()
    method.begin_epoch(linear, step.learner, 30)  # the last epoch keeps its perturbations
    assert torch.equal(method.delta.delta, delta)


def test_impossible_parameters_are_refused(refused):
    refused("atas", "beta must be in", beta=1)
    refused("atas", "c must be above 0, got 0", c=0)
    refused("atas", "store must be one of float32, float16, int8, got 'int4'", store="int4")
    refused("atas", "clamp must be .lowest, highest.", clamp=("2 eps", "1 eps"))
    refused("atas", "warmup_epochs must be 0 or more, got -1", warmup_epochs=-1)
