"""Schedules at their landmarks, and what the learner does with them."""

import pytest
import torch

from fastat.runs import Recipe, Schedule
from fastat.training.learner import SGDLearner, learning_rate, momentum


def test_triangular_rises_to_its_peak_half_way_and_falls_to_zero():
    schedule = Schedule("triangular", 0.2)
    assert [learning_rate(schedule, p, 30) for p in (0, 7.5, 15, 22.5)] == pytest.approx([0, 0.1, 0.2, 0.1])
    assert learning_rate(schedule, 29.99, 30) < 2e-4  # it does anneal


def test_piecewise_falls_by_its_factor_when_a_milestone_is_done():
    schedule = Schedule("piecewise", 0.1, milestones=(24, 28))
    assert [learning_rate(schedule, p, 30) for p in (0, 23.99, 24, 28, 29.99)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001, 0.001]
    )


def test_cycled_momentum_mirrors_the_learning_rate():
    schedule = Schedule("triangular", 0.2, cycle_momentum=True)
    assert [momentum(schedule, p, 30, 0.9) for p in (0, 15, 29.999)] == pytest.approx([0.9, 0.8, 0.9], abs=1e-4)
    assert momentum(Schedule("triangular", 0.2), 15, 30, 0.9) == 0.9


def test_a_step_is_sgd_with_momentum_and_decay_and_restart_forgets():
    model = torch.nn.Linear(1, 1, bias=False).double()
    recipe = Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=0.5, momentum=0.9)
    learner, w = SGDLearner(model, recipe), float(model.weight.detach())
    learner.descend(2 * model.weight.sum())
    buffer = 2 + 0.5 * w
    w -= 0.1 * buffer
    assert float(model.weight.detach()) == pytest.approx(w, rel=1e-6)
    learner.descend(2 * model.weight.sum())
    w -= 0.1 * (0.9 * buffer + 2 + 0.5 * w)
    assert float(model.weight.detach()) == pytest.approx(w, rel=1e-6)
    learner.restart()
    learner.descend(2 * model.weight.sum())
    assert float(model.weight.detach()) == pytest.approx(w - 0.1 * (2 + 0.5 * w), rel=1e-6)
