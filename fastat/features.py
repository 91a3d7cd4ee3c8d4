"""Penultimate features: what a network's last nn.Linear reads, of our networks and of others."""

from torch import Tensor, nn

FEATURES = "features"  # in NEEDS of a method that reads them


def last_linear(model: nn.Module) -> nn.Linear | None:
    """The last layer, where the logits come from; None of a network without an nn.Linear."""
    return next((module for module in reversed([*model.modules()]) if isinstance(module, nn.Linear)), None)


def n_features(model: nn.Module) -> int:
    """How many there are of an image; 0 of a network without an nn.Linear."""
    layer = last_linear(model)
    return layer.in_features if layer else 0


def logits_and_features(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """One forward pass: logits (B, K) and features (B, D), both with their graph.

    Not of a network that is compiled, whose layers run no hooks: fastat/training/run.py compiles none for a method
    that NEEDS features.
    """
    layer, read = last_linear(model), list[Tensor]()
    assert layer is not None  # of a network that is not ours checked before: networks/own.py
    hook = layer.register_forward_pre_hook(lambda _layer, args: read.append(args[0]))
    try:
        logits = model(x)
    finally:
        hook.remove()
    return logits, read[-1]
