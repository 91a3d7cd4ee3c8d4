"""What a training step costs, counted and not estimated: passes through the network, FLOPs, state.

Passes are counted per batch, each over as many images as the batch has:

forward, input_backward, parameter_backward   of the whole network; a backward is named for what it was made for
joint_backward                                one backward for weights and input together
double_backward                               through a gradient, with everything that this entails
stem_forward, stem_input_backward, stem_parameter_backward   of the first layer alone
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils._python_dispatch import TorchDispatchMode

from fastat.config.recipe import Recipe, Schedule
from fastat.cost import shapes
from fastat.data import views
from fastat.features import n_features
from fastat.training.learner import SGDLearner
from fastat.types import Batch, Task, differs


def count_passes(model: nn.Module, batch_size: int, steps: Iterable[Callable[[], object]]) -> dict[str, float]:
    """Passes per batch of `batch_size` images, averaged over `steps`, each of which trains on one batch.

    The network must be a PreActResNet: forward = trunk(stem(x)), and the stem ends in a convolution.
    """
    seen = _Seen(model)
    n_steps = 0
    with seen:
        for step in steps:
            step()
            n_steps += 1
    images = batch_size * n_steps
    seen.count["stem_forward"] -= seen.count["forward"]
    return {kind: n / images for kind, n in seen.count.items() if n}


def flops(step: Callable[[], object]) -> int:
    """Floating point operations of one call, by torch's formulas (convolutions and matrix products)."""
    with _Flops() as counter:
        step()
    return counter.total


def mean_flops(method: Any, batches: list[Batch], train: Callable[[Batch], object]) -> float:
    """Of a step, over these batches. Those that the method does not say to differ cost the same: one is counted."""
    alike = [batch for batch in batches if not differs(method, batch)]
    total = sum(flops(partial(train, batch)) for batch in batches if differs(method, batch))
    return (total + len(alike) * sum(flops(partial(train, batch)) for batch in alike[:1])) / len(batches)


def state_bytes(method: nn.Module) -> int:
    """Bytes that the method keeps between batches."""
    return sum(t.numel() * t.element_size() for t in method.state_dict().values())


def seconds(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each step; they take turns, so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= 2:  # the first two warm up
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def declared(file: Any, n_classes: int, batch_size: int) -> dict[str, float]:
    """Passes per batch as a method's file declares them.

    PASSES, and what PASSES_PER_CLASS adds: passes of one image per class, every CYCLE batches.
    """
    images = n_classes / getattr(file, "CYCLE", 1) / batch_size
    more = getattr(file, "PASSES_PER_CLASS", {})
    return {kind: n + images * more.get(kind, 0) for kind, n in file.PASSES.items()}


@dataclass
class Rehearsal:
    """A method with a network and one made-up batch: what a step costs does not depend on the pixels."""

    method: Any
    model: nn.Module
    learner: SGDLearner
    batch: Batch

    def train(self, batch: Batch) -> object:
        """Train on a batch."""
        return self.method.train_batch(self.model, batch, self.learner)

    def step(self, number: int = 1) -> Callable[[], object]:
        """A call that trains on the batch as if it were the given one of its epoch."""
        return partial(self.train, replace(self.batch, number=number))


def rehearse(
    build: Callable[[Task], Any],
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    pad: int = 0,
    n_train: int = 1280,
    batch_size: int = 128,
    layout: torch.memory_format = torch.channels_last,
) -> Rehearsal:
    """Set `build`'s method up on the network's device, in its second epoch. On `meta` nothing is computed."""
    (channels, height, width), device = image_shape, next(model.parameters()).device
    rng = None if device.type == "meta" else torch.Generator(device).manual_seed(0)
    task = Task(
        eps=8 / 255, n_train=n_train, n_classes=10, image_shape=image_shape,
        frame_shape=(channels, height + 2 * pad, width + 2 * pad), n_epochs=60, batch_size=batch_size,
        n_batches=-(-n_train // batch_size), n_params=sum(p.numel() for p in model.parameters()),
        device=device, rng=rng, n_features=n_features(model),
    )  # fmt: skip
    recipe = Recipe(60, batch_size, Schedule("piecewise", 0.01), weight_decay=5e-4)
    method, learner = build(task), SGDLearner(model.train(), recipe)
    method.begin_epoch(model, learner, 1)
    x = torch.rand((batch_size, *image_shape), device=device).contiguous(memory_format=layout)
    y = torch.arange(batch_size, device=device) % 10
    index = torch.arange(batch_size, device=device)
    return Rehearsal(method, model, learner, Batch(x, y, index, views.centred(batch_size, pad, device), 2, 1))


class _Flops(TorchDispatchMode):
    """Sums torch's formula of every operation. Its own FlopCounterMode refuses `autograd.grad` at a leaf."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, flops = shapes.call(func, args, kwargs or {})
        self.total += flops
        return out


class _Seen(TorchDispatchMode):
    """Watches one network: a probe between stem and trunk, and the backward of the stem's convolution."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.count = model, Counter[str]()
        self.under_way: list[_Pass] = []  # backward passes that left the trunk and have not gone through the stem yet

    def __enter__(self) -> "_Seen":
        stem, trunk = self.model.stem, self.model.trunk
        assert isinstance(stem, nn.Sequential) and isinstance(trunk, nn.Module)
        conv = stem[-1]
        assert isinstance(conv, nn.Conv2d)
        self.weight = conv.weight
        self.hooks = [
            stem.register_forward_hook(lambda _module, _args, z: self.count.update(stem_forward=len(z))),
            trunk.register_forward_pre_hook(lambda _, args: (_Probe.apply(args[0], self, _Pass()),)),
        ]
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        for hook in self.hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default and args[2].data_ptr() == self.weight.data_ptr():
            to_input, to_weight = args[-1][0], args[-1][1]
            kind = (
                "joint_backward" if to_input and to_weight else "input_backward" if to_input else "parameter_backward"
            )
            images = len(args[0])
            one = self.under_way.pop() if self.under_way else None
            if one is None:
                self.count[f"stem_{kind}"] += images
            elif not one.doubled:  # else it is the end of a double backward, which is counted as such
                self.count[kind] += images
        return func(*args, **(kwargs or {}))


class _Pass:
    """One forward pass through the trunk."""

    doubled = False


class _Probe(Function):
    """The identity; counts forward passes and announces backward ones."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, seen: _Seen, one: _Pass) -> Tensor:
        ctx.seen, ctx.one = seen, one
        seen.count["forward"] += len(z)
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _ProbeBackward.apply(grads[0], ctx.seen, ctx.one), None, None


class _ProbeBackward(Function):
    """The identity on gradients; a backward through it is a double backward."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, seen: _Seen, one: _Pass) -> Tensor:
        ctx.seen, ctx.one = seen, one
        seen.under_way.append(one)
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        ctx.one.doubled = True
        ctx.seen.count["double_backward"] += len(grads[0])
        return grads[0], None, None
