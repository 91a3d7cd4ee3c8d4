"""What a training step costs, counted and not estimated: passes through the network, FLOPs, state.

Passes are counted per batch, each over as many images as the batch has:

forward, input_backward, parameter_backward   of the whole network; a backward is named for what it was made for
joint_backward                                one backward for weights and input together
double_backward                               through a gradient, with everything that this entails
stem_forward, stem_input_backward, stem_parameter_backward   of the first layer alone
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


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
    """Floating point operations of one call, by torch's counter (convolutions and matrix products)."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def state_bytes(method: nn.Module) -> int:
    """Bytes that the method keeps between batches."""
    return sum(t.numel() * t.element_size() for t in method.state_dict().values())


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
