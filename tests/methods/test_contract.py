"""What every method promises. Methods are found by listing the folder."""

import importlib

import pytest
import torch
from torch import nn

import methods
from fastat.runs import Recipe, Schedule
from fastat.training.learner import SGDLearner

RECIPE = Recipe(epochs=30, batch_size=4, schedule=Schedule("piecewise", 0.1), weight_decay=5e-4)


class Counter:
    """Counts forwards and backwards of the network by watching one convolution."""

    def __init__(self, model: nn.Module):
        self.forward = self.input_backward = self.parameter_backward = 0
        conv = model.stem[1]
        conv.register_forward_hook(self._see)
        conv.weight.register_post_accumulate_grad_hook(self._see_weight)

    def _see(self, _module, inputs, _output):
        self.forward += 1
        if inputs[0].requires_grad:
            inputs[0].register_hook(self._see_input)

    def _see_input(self, _grad):
        self.input_backward += 1

    def _see_weight(self, _weight):
        self.parameter_backward += 1


@pytest.fixture(params=methods.names())
def method(request, tiny_task):
    """Each method with its defaults."""
    built = methods.build(request.param, tiny_task)
    built.name = request.param
    return built


def test_passes_per_batch_are_what_the_method_declares(method, tiny_batch, tiny_model):
    learner = SGDLearner(tiny_model, RECIPE)
    method.begin_epoch(tiny_model, learner, 1)
    counted = Counter(tiny_model)
    method.train_batch(tiny_model, tiny_batch, learner)
    assert vars(counted) == importlib.import_module(f"methods.{method.name}").PASSES


def test_attack_stays_in_the_ball_and_in_the_pixel_range(method, tiny_batch, tiny_model, tiny_task):
    learner = SGDLearner(tiny_model, RECIPE)
    method.begin_epoch(tiny_model, learner, 1)
    for _ in range(3):
        x_adv = method.train_batch(tiny_model, tiny_batch, learner).x_adv
        assert (x_adv - tiny_batch.x).abs().max() <= tiny_task.eps + 1e-6  # float32 rounding
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        assert (x_adv - tiny_batch.x).abs().max() > tiny_task.eps / 4  # and it did attack


def test_modes_gradients_and_the_global_generator_are_left_as_found(method, tiny_batch, tiny_model):
    learner = SGDLearner(tiny_model, RECIPE)
    method.begin_epoch(tiny_model, learner, 1)
    before = torch.random.get_rng_state()
    method.train_batch(tiny_model, tiny_batch, learner)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(module.training for module in tiny_model.modules())
    assert all(p.grad is None for p in tiny_model.parameters())


@pytest.mark.parametrize("name,updates", [("pgd10", 1), ("atta", 1), ("atas", 1), ("fgsm_rs", 2)])
def test_batchnorm_moves_once_per_forward_in_train_mode(name, updates, tiny_task, tiny_batch, tiny_model):
    method, learner = methods.build(name, tiny_task), SGDLearner(tiny_model, RECIPE)
    method.begin_epoch(tiny_model, learner, 1)
    method.train_batch(tiny_model, tiny_batch, learner)
    assert int(tiny_model.trunk[0].bn1.num_batches_tracked) == updates


def test_unknown_parameters_are_refused_by_name(tiny_task):
    with pytest.raises(ValueError, match="no parameter 'alhpa'.*Known: alpha"):
        methods.build("fgsm_rs", tiny_task, alhpa=1)
