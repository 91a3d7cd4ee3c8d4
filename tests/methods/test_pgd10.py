"""PGD10 by hand."""

from copy import deepcopy

import torch

from fastat.attacks import uniform_like
from fastat.config.recipe import Recipe, Schedule
from fastat.training.learner import SGDLearner

CARD = {"forward": 11, "input_backward": 10, "parameter_backward": 1}
BATCHNORM_UPDATES = 1
VARIANTS = {"released": {"BATCHNORM_UPDATES": 11}}  # its attack moves BatchNorm in every step


def test_ten_steps_of_a_quarter_eps_from_a_random_start(start, linear, tiny_batch, tiny_task, clipped):
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    state = tiny_task.rng.get_state()
    x_adv = clipped(x + uniform_like(x, eps, tiny_task.rng), x, eps)
    tiny_task.rng.set_state(state)
    for _ in range(10):
        x_adv = clipped(x_adv + eps / 4 * linear.grad_x(x_adv, y).sign(), x, eps)
    torch.testing.assert_close(start("pgd10", linear).run(tiny_batch).x_adv, x_adv, atol=1e-6, rtol=0)


def test_it_reaches_the_vertex_of_the_ball_on_a_linear_two_class_model(start, linear, tiny_batch):
    with torch.no_grad():
        linear.layer.weight[2:], linear.layer.bias[2:] = (
            0,
            -1e4,
        )  # two classes in effect: its sign is constant
    x, y = tiny_batch.x, torch.tensor([0, 1, 0, 1])
    expected = (x + 0.1 * linear.grad_x(x, y).sign()).clamp(0, 1)
    torch.testing.assert_close(start("pgd10", linear).run(tiny_batch, y=y).x_adv, expected, atol=1e-6, rtol=0)


def test_impossible_parameters_are_refused(refused):
    refused("pgd10", "a step or radius is written", alpha=2)
    refused("pgd10", "n_steps must be 1 or more, got 0", n_steps=0)
    refused("pgd10", "attack_mode must be eval or train, got 'test'", attack_mode="test")


def test_the_average_of_wa_leaves_the_weights_that_learn_bit_for_bit(start, tiny_model, tiny_batch, tiny_task):
    found = []
    for average in (0.0, 0.5):
        tiny_task.rng.manual_seed(1)
        step = start("pgd10", deepcopy(tiny_model), label_smoothing=0.4)
        recipe = Recipe(30, 4, Schedule("piecewise", 0.1), weight_decay=0.0, average=average)
        step.learner = SGDLearner(step.model, recipe)
        for _ in range(3):
            step.run(tiny_batch)
        found.append(step)
    plain, averaged = found
    assert all(map(torch.equal, plain.model.state_dict().values(), averaged.model.state_dict().values()))
    weights = zip(averaged.learner.reported.parameters(), averaged.model.parameters(), strict=True)
    assert any(not torch.equal(mean, now) for mean, now in weights)
