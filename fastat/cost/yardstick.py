"""The passes through the network that a method declares (PASSES), and nothing else: what its step is measured against.

The same network, batch, layout and BatchNorm mode; not even the optimiser; of FGSM-SDI also its generator.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import cross_entropy

import methods
from fastat.attacks import eval_mode, input_gradient
from fastat.cost.passes import Rehearsal, rehearse
from fastat.networks import models
from fastat.networks.models import Network

SHAPES = {"preact_tiny": (1, 8, 8), "preact_tiny_s2": (1, 28, 28), "preact_resnet18": (3, 32, 32)}
KINDS = ("input_backward", "parameter_backward", "joint_backward", "double_backward")


def step_and_passes(
    model_name: str,
    name: str,
    batch_size: int = 128,
    device: str = "cpu",
    layout: torch.memory_format = torch.channels_last,
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The method's step, and its passes alone, on the same network and batch."""
    one = rehearsal(model_name, name, batch_size, device, layout)
    count = Counter(methods.module(name).PASSES)
    model, x, y = one.model, one.batch.x, one.batch.y
    assert isinstance(model, Network)

    params = list(model.parameters())
    backward = {kind: round(count[kind]) for kind in KINDS}  # SDI's 2.1 and 3.1: the batches that train no generator
    shared = max(0, sum(backward.values()) - backward["double_backward"] - round(count["forward"]))

    def passes() -> None:
        for _ in range(backward["input_backward"] - backward["double_backward"] - shared):
            with eval_mode(model):
                input_gradient(model, x, y)
        for k in range(backward["parameter_backward"] + backward["joint_backward"]):
            both = k >= backward["parameter_backward"]
            leaf = x.clone().requires_grad_(both or k < shared)
            loss = cross_entropy(model(leaf), y)
            if k < shared:  # one forward pass serves an input and a parameter backward
                torch.autograd.grad(loss, leaf, retain_graph=True)
            loss.backward(inputs=[*params, leaf] if both else params)
        for _ in range(backward["double_backward"]):
            leaf = x.clone().requires_grad_()
            (grad,) = torch.autograd.grad(cross_entropy(model(leaf), y), leaf, create_graph=True)
            grad.square().sum().backward(inputs=params)
        for _ in range(round(count["forward"]) - sum(backward.values()) + backward["double_backward"] + shared):
            with torch.no_grad():
                model(x)
        stem_passes(model.stem, x, count)
        if name in EXTRA:
            EXTRA[name](one)
        model.zero_grad(set_to_none=True)

    return one.step(), passes


def rehearsal(
    model_name: str,
    name: str,
    batch_size: int = 128,
    device: str = "cpu",
    layout: torch.memory_format = torch.channels_last,
) -> Rehearsal:
    """The method with a network and a batch on the device."""
    shape = SHAPES[model_name]
    torch.manual_seed(0)
    model = models.build(model_name, shape[0], 10).to(device).to(memory_format=layout)
    return rehearse(partial(methods.build, name), model, shape, batch_size=batch_size, layout=layout)


def stem_passes(stem: torch.nn.Module, x: torch.Tensor, count: Counter[str]) -> None:
    """The passes through the first layer alone."""
    for kind, to_input in (("stem_input_backward", True), ("stem_parameter_backward", False)):
        for _ in range(int(count[kind])):
            leaf = x.clone().requires_grad_(to_input)
            stem(leaf).sum().backward(inputs=[leaf] if to_input else list(stem.parameters()))


def generate(one: Rehearsal) -> None:
    """FGSM-SDI's start, which is part of the method and not overhead."""
    with torch.no_grad():
        one.method.generator(torch.cat([one.batch.x, one.batch.x], 1))


EXTRA = {"fgsm_sdi": generate, "atas_sdi": generate}
