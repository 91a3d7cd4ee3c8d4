"""Robust accuracy of saved weights, image by image. Knows no method and no training.

Every attack leaves one row per attacked image: attack, index, label, correct (1 or 0) and step, the first iterate
that the model got wrong (empty where the attack does not say). Every later statistic comes from these rows.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import Attacked, fgsm, input_gradient, pgd, project_linf, uniform_like
from fastat.config import grid
from fastat.data.datasets import Part
from fastat.data.subsets import stratified
from fastat.errors import BadInput
from fastat.machine import devices
from fastat.machine.seeds import generator
from fastat.units import in_pixels

log = logging.getLogger(__name__)
COLUMNS = grid.ROWS
FAR = 128 / 255  # where any image can be made grey all over: nothing is left to recognise
FAR_IMAGES = 100
Row = dict[str, Any]
Attack = Callable[[Tensor, Tensor, int], Attacked]  # images, labels and the position of the first one


@dataclass(frozen=True)
class Protocol:
    """What the numbers depend on besides weights and images; `evaluation` in the config."""

    eps: float
    batch_size: int = 500
    pgd_step: str = "0.2 eps"
    pgd_restarts: int = 1
    seed: int = 0


def attack_all(model: nn.Module, part: Part, protocol: Protocol) -> Iterator[Row]:
    """Rows of `clean`, `fgsm`, `pgd10` and `pgd50`, and of what an honest network must stand: the sanity panel's.

    PGD: uniform start, step `pgd_step`, the last iterate counts; with restarts an image is correct if it survives
    all of them. Each batch of each attack has its own generator, so no attack depends on another.
    `inside`: PGD50's image lies in the eps-ball and the pixel range. `noise`: random signs times eps.
    `gradient`: the input gradient is not zero everywhere. `far`: PGD50 at eps = FAR, on up to FAR_IMAGES images.
    """
    require_eval(model)
    eps = protocol.eps

    def many(n_steps: int, radius: float) -> Attack:
        alpha = in_pixels(protocol.pgd_step, radius)

        def attack(x: Tensor, y: Tensor, first: int) -> Attacked:
            worst: Attacked | None = None
            for restart in range(protocol.pgd_restarts):
                rng = generator(x.device, protocol.seed, f"pgd{n_steps}", restart, first)
                worst = worse(worst, pgd(model, x, y, eps=radius, alpha=alpha, n_steps=n_steps, rng=rng))
            assert worst is not None
            return worst

        return attack

    def clean(x: Tensor, y: Tensor, _first: int) -> Attacked:
        return looked_at(model, x, y)

    def noise(x: Tensor, y: Tensor, first: int) -> Attacked:
        rng = generator(x.device, protocol.seed, "noise", first)
        return looked_at(model, project_linf(x + eps * uniform_like(x, 1.0, rng).sign(), x, eps), y)

    def gradient(x: Tensor, y: Tensor, _first: int) -> Attacked:
        grad = input_gradient(model, x, y).flatten(1)
        there = looked_at(model, x, y)._replace(correct=grad.ne(0).any(1))
        return there._replace(loss=there.loss + 0 * grad.sum(1))  # NaN where the gradient is no number

    attacks: dict[str, Attack] = {"clean": clean, "fgsm": lambda x, y, _: fgsm(model, x, y, eps)}
    attacks |= {"pgd10": many(10, eps), "pgd50": many(50, eps), "noise": noise, "gradient": gradient}
    attacks |= {"far": many(50, FAR)}
    everyone = torch.arange(len(part), device=part.labels.device)
    for name, attack in attacks.items():
        chosen = everyone if name != "far" else stratified(part.labels, min(FAR_IMAGES, len(part)), seed=0)
        right = 0
        for number, index in enumerate(chosen.split(protocol.batch_size)):
            x, y = part.take(index)
            x = x.contiguous(memory_format=devices.layout(x.device))
            found = attack(x, y, number * protocol.batch_size)
            right += int(found.correct.sum())
            yield from rows(name, index, y, found)
            if name == "pgd50":
                yield from rows("inside", index, y, found._replace(correct=inside(found.x_adv, x, eps)))
        log.info("%s: %d of %d", name, right, len(chosen))


def looked_at(model: nn.Module, x: Tensor, y: Tensor) -> Attacked:
    """No attack: x as it is. Wrong at step 0, or never."""
    with torch.no_grad():
        logits = model(x)
    correct = logits.argmax(1) == y
    return Attacked(x, correct, -correct.long(), cross_entropy(logits, y, reduction="none"))


def inside(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """(B,) bool: is each image in the eps-ball and the pixel range, up to float32 rounding?"""
    near = (x_adv - x).abs().flatten(1).amax(1) <= eps + 1e-6
    return near & (x_adv.flatten(1).amin(1) >= 0) & (x_adv.flatten(1).amax(1) <= 1)


def worse(one: Attacked | None, other: Attacked) -> Attacked:
    """The union of two attacks on the same images: an image is correct if both left it so.

    The loss is that of the attack whose image it has, and no number if one of the two is none.
    """
    if one is None:
        return other
    broken = one.correct & ~other.correct
    x_adv = torch.where(broken[:, None, None, None], other.x_adv, one.x_adv)
    step = torch.where((one.step < 0) | broken, other.step, one.step)
    loss = torch.where(broken, other.loss, one.loss) + 0 * one.loss + 0 * other.loss
    return Attacked(x_adv, one.correct & other.correct, step, loss)


def rows(attack: str, index: Tensor, label: Tensor, result: Attacked) -> list[Row]:
    """One row per image.

    Raises: BadInput if the network's output on an image is no number: argmax would call it class 0.
    """
    good = torch.isfinite(result.loss)
    if not good.all():
        image, loss = int(index[~good][0]), float(result.loss[~good][0])
        raise BadInput(
            f"{attack}: the loss on image {image} is {loss}: an accuracy of such a network would be an accident. "
            "Train it again, with a lower learning rate."
        )
    columns = (index.tolist(), label.tolist(), result.correct.tolist(), result.step.tolist())
    return [
        dict(zip(COLUMNS, (attack, i, y, int(correct), "" if step < 0 else step), strict=True))
        for i, y, correct, step in zip(*columns, strict=True)
    ]


def require_eval(model: nn.Module) -> None:
    """Refuse a model that would move its BatchNorm statistics while it is evaluated."""
    if any(module.training for module in model.modules()):
        raise BadInput("the model is in train mode: its BatchNorm statistics would move. Call model.eval() first.")
