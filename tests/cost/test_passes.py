"""What the counter counts, on networks whose cost is known."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import methods
from fastat.attacks import input_gradient
from fastat.cost import yardstick
from fastat.cost.passes import count_passes, flops, state_bytes
from fastat.networks import models


def test_each_kind_of_pass_is_told_from_the_others(tiny_model, tiny_batch):
    x, y, params = tiny_batch.x, tiny_batch.y, list(tiny_model.parameters())

    def forward():
        with torch.no_grad():
            tiny_model(x)

    def to_input():
        input_gradient(tiny_model, x, y)

    def to_weights():
        cross_entropy(tiny_model(x), y).backward(inputs=params)

    def to_both():
        cross_entropy(tiny_model(x.clone().requires_grad_()), y).backward()

    def through_a_gradient():
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(cross_entropy(tiny_model(leaf), y), leaf, create_graph=True)
        grad.square().sum().backward(inputs=params)

    def first_layer():
        leaf = x.clone().requires_grad_()
        tiny_model.stem(leaf).sum().backward(inputs=[leaf])

    for step, expected in {
        forward: {"forward": 1},
        to_input: {"forward": 1, "input_backward": 1},
        to_weights: {"forward": 1, "parameter_backward": 1},
        to_both: {"forward": 1, "joint_backward": 1},
        through_a_gradient: {"forward": 1, "input_backward": 1, "double_backward": 1},
        first_layer: {"stem_forward": 1, "stem_input_backward": 1},
    }.items():
        assert count_passes(tiny_model, 4, [step, step]) == expected, step.__name__


def test_a_pass_over_half_the_images_counts_half(tiny_model, tiny_batch):
    counted = count_passes(tiny_model, 4, [lambda: input_gradient(tiny_model, tiny_batch.x[:2], tiny_batch.y[:2])])
    assert counted == {"forward": 0.5, "input_backward": 0.5}


def test_flops_of_a_forward_pass_are_those_of_its_layers():
    with torch.device("meta"):
        model, x = models.build("preact_resnet18", 3, 10), torch.empty(1, 3, 32, 32)
    per_layer = {
        "stem": 3 * 64 * 9 * 32**2,
        "stage 1": 4 * 64 * 64 * 9 * 32**2,
        "stage 2": (64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128) * 16**2,
        "stage 3": (128 * 256 * 9 + 3 * 256 * 256 * 9 + 128 * 256) * 8**2,
        "stage 4": (256 * 512 * 9 + 3 * 512 * 512 * 9 + 256 * 512) * 4**2,
        "linear": 512 * 10,
    }
    assert flops(lambda: model(x)) == 2 * sum(per_layer.values())


def test_state_is_counted_in_bytes(tiny_task):
    from fastat.store import DeltaStore

    assert state_bytes(DeltaStore(tiny_task)) == 4 * 12 * 100
    assert state_bytes(DeltaStore(tiny_task, "int8")) == 12 * 100


@pytest.mark.parametrize("name", methods.names())
def test_the_yardstick_makes_exactly_the_passes_that_a_method_declares(name, monkeypatch):
    built, real = [], models.build
    monkeypatch.setattr(yardstick.models, "build", lambda *size: built.append(real(*size)) or built[-1])
    _, passes = yardstick.step_and_passes("preact_tiny", name, batch_size=8)
    declared = methods.module(name).PASSES
    assert count_passes(built[0], 8, [passes]) == {kind: round(n) for kind, n in declared.items()}
