"""Robust accuracy of saved weights, image by image. Knows no method and no training.

Every attack leaves one row per attacked image: attack, index, label, correct (1 or 0) and step, the first iterate
that the model got wrong (empty where the attack does not say). Every later statistic comes from these rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastat.attacks import Attacked, fgsm, pgd
from fastat.data.datasets import Part, generator
from fastat.errors import BadInput
from fastat.types import in_pixels

COLUMNS = ["attack", "index", "label", "correct", "step"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What the numbers depend on besides weights and images; `evaluation` in the config."""

    eps: float
    batch_size: int = 500
    pgd_step: str = "0.2 eps"
    pgd_restarts: int = 1
    seed: int = 0


def whitebox(model: nn.Module, part: Part, protocol: Protocol) -> Iterator[Row]:
    """Rows of `clean`, `fgsm`, `pgd10` and `pgd50`.

    PGD: uniform start, step `pgd_step`, the last iterate counts; with restarts an image is correct if it survives
    all of them. Each batch of each attack has its own generator, so no attack depends on another.
    """
    require_eval(model)
    eps, alpha = protocol.eps, in_pixels(protocol.pgd_step, protocol.eps)

    def many(n_steps: int) -> Callable[[Tensor, Tensor, int], Attacked]:
        def attack(x: Tensor, y: Tensor, first: int) -> Attacked:
            worst: Attacked | None = None
            for restart in range(protocol.pgd_restarts):
                rng = generator(x.device, protocol.seed, f"pgd{n_steps}", restart, first)
                worst = worse(worst, pgd(model, x, y, eps=eps, alpha=alpha, n_steps=n_steps, rng=rng))
            assert worst is not None
            return worst

        return attack

    def clean(x: Tensor, y: Tensor, _first: int) -> Attacked:
        with torch.no_grad():
            correct = model(x).argmax(1) == y
        return Attacked(x, correct, -correct.long())

    attacks = {"clean": clean, "fgsm": lambda x, y, _: fgsm(model, x, y, eps), "pgd10": many(10), "pgd50": many(50)}
    for name, attack in attacks.items():
        for first in range(0, len(part), protocol.batch_size):
            index = torch.arange(first, min(first + protocol.batch_size, len(part)), device=part.labels.device)
            x, y = part.take(index)
            x = x.contiguous(memory_format=torch.channels_last)
            yield from rows(name, index, y, attack(x, y, first))


def worse(one: Attacked | None, other: Attacked) -> Attacked:
    """The union of two attacks on the same images: an image is correct if both left it so."""
    if one is None:
        return other
    broken = one.correct & ~other.correct
    x_adv = torch.where(broken[:, None, None, None], other.x_adv, one.x_adv)
    step = torch.where((one.step < 0) | broken, other.step, one.step)
    return Attacked(x_adv, one.correct & other.correct, step)


def rows(attack: str, index: Tensor, label: Tensor, result: Attacked) -> list[Row]:
    """One row per image."""
    columns = (index.tolist(), label.tolist(), result.correct.tolist(), result.step.tolist())
    return [
        dict(zip(COLUMNS, (attack, i, y, int(correct), "" if step < 0 else step), strict=True))
        for i, y, correct, step in zip(*columns, strict=True)
    ]


def require_eval(model: nn.Module) -> None:
    """Refuse a model that would move its BatchNorm statistics while it is evaluated."""
    if any(module.training for module in model.modules()):
        raise BadInput("the model is in train mode: its BatchNorm statistics would move. Call model.eval() first.")
