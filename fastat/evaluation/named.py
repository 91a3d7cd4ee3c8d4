"""The attacks that a config or a command line asks for by name (config/attack_names.py), image by image.

Each has its own generators, those of PGD10 and PGD50 where it is as they are: no attack depends on another's being
asked for. FGSM and PGD attack all test images, AutoAttack and its parts those of `evaluation: autoattack:`; of these an
attack on survivors takes those that stood the one before it, and counts the others as broken.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import L2, LINF, Attacked, first_wrong, iterates
from fastat.config.attack_names import ALL, Attack, parse
from fastat.data.datasets import Part
from fastat.data.subsets import stratified
from fastat.evaluation import autoattack
from fastat.evaluation.whitebox import Row, require_eval, rows, worse
from fastat.machine import devices
from fastat.machine.seeds import generator

log = logging.getLogger(__name__)
BALLS = {"Linf": LINF, "L2": L2}
Loss = Callable[[Tensor], Tensor]  # logits (B, K) -> (B,)


def in_order(names: Iterable[str]) -> list[str]:
    """Each attack behind the one whose survivors it attacks."""
    return sorted(names, key=lambda name: (len(parse(name).smaller), name))


def broken_before(name: str, rows: Iterable[Row]) -> list[Row]:
    """Of an attack on survivors the rows of the images that were broken before it; its own step says by which radius.

    rows: those of the attack before, among others'.
    """
    before = parse(name).before
    if before is None:
        return []
    fallen = [row for row in rows if row["attack"] == str(before) and not row["correct"]]
    return [{**row, "attack": name, "step": before.mark(row["step"])} for row in fallen]


def attack_all(
    model: nn.Module,
    part: Part,
    name: str,
    *,
    eps: float,
    protocol: dict[str, Any],
    partial: Path,
    broken: Sequence[Row] = (),
) -> list[Row]:
    """A row per image, under the attack's canonical name.

    eps: the run's. protocol: this attack's, as grid.protocols_of gives it. Finished batches are kept in `partial`; the
    caller names that file after weights, attack and protocol. step: as whitebox.py has it; of AutoAttack the part that
    broke the image, `clean` if it was wrong before. broken: the rows of images that are not attacked.
    Raises: BadInput for a damaged `partial`, a model in train mode, and losses that are no numbers.
    """
    require_eval(model)
    attack, n = parse(name), protocol.get("n_images", ALL)
    index = stratified(part.labels, len(part) if n == ALL else n, seed=0)
    standing = index[~torch.isin(index, index.new_tensor([row["index"] for row in broken]))]
    by = by_parts if attack.parts else by_gradients
    found = by(model, part, standing, name, eps, protocol, partial) if len(standing) else []
    log.info("%s: broke %d of %d", name, sum(not row["correct"] for row in found), len(found))
    return sorted([*broken, *found], key=lambda row: row["index"])


def by_parts(
    model: nn.Module, part: Part, index: Tensor, name: str, eps: float, protocol: dict[str, Any], partial: Path
) -> list[Row]:
    """AutoAttack, or some of its parts, on the images at `index`: `attack_all`."""
    attack = parse(name)
    found = autoattack.standard(
        model, part.take, index, eps=attack.radius(eps), norm=attack.norm, parts=attack.parts,
        batch_size=protocol["batch_size"], seed=protocol["seed"], partial=partial,
    )  # fmt: skip
    return last_words(found, name)


def by_gradients(
    model: nn.Module, part: Part, index: Tensor, name: str, eps: float, protocol: dict[str, Any], partial: Path
) -> list[Row]:
    """FGSM or PGD on the images at `index`, batch by batch: `attack_all`."""
    attack = parse(name)
    found = autoattack.read_partial(partial, index)
    for number, at in enumerate(index.split(protocol["batch_size"])):
        wanted = set(at.tolist())
        if wanted <= {row["index"] for row in found}:
            continue
        x, y = part.take(at)
        x = x.contiguous(memory_format=devices.layout(x.device))
        broken = attacked(model, x, y, attack, eps=eps, seed=protocol["seed"], first=number * protocol["batch_size"])
        found = [row for row in found if row["index"] not in wanted] + rows(name, at, y, broken)
        autoattack.write_partial(partial, found)
    return found


def last_words(found: list[Row], name: str) -> list[Row]:
    """AutoAttack's rows, one for each part and image -> one for each image, with the part that broke it as its step."""
    broken = {row["index"]: row["attack"] for row in found if not row["correct"]}
    return [
        {**row, "attack": name, "correct": int(row["index"] not in broken), "step": broken.get(row["index"], "")}
        for row in found
        if row["attack"] == "clean"
    ]


def attacked(model: nn.Module, x: Tensor, y: Tensor, attack: Attack, *, eps: float, seed: int, first: int) -> Attacked:
    """A batch under FGSM or PGD: every target, with every restart, of the images that none before has broken.

    first: the position of the batch's first image. Targeted or not, an image is broken where the model is wrong.
    """
    ball, radius = BALLS[attack.norm], attack.radius(eps)
    at_start = attack.kind == "fgsm"
    alpha, n_steps = (radius, 1) if at_start else (attack.step(eps), attack.steps)
    worst: Attacked | None = None
    for rank, target in enumerate(targets(model, x, y, attack.targets)):
        for restart in range(attack.restarts):
            other = [attack.norm] * (attack.norm != "Linf") + [f"target {rank}"] * (target is not None)
            rng = generator(x.device, seed, f"pgd{n_steps}", restart, first, *other)
            x_start = x if at_start else (x + ball.uniform(x, radius, rng)).clamp_(0, 1)
            at = torch.arange(len(y), device=y.device) if worst is None else worst.correct.nonzero().flatten()
            if not len(at):
                continue
            toward = None if target is None else target[at]
            walk = iterates(
                model, packed(x, at), y[at], eps=radius, alpha=alpha, n_steps=n_steps, x_start=packed(x_start, at),
                ball=ball, target=toward,
            )  # fmt: skip
            found = counted(walk, y[at], attack.counts, objective(y[at], toward))
            worst = found if worst is None else joined(worst, at, found)
    assert worst is not None
    return worst


def targets(model: nn.Module, x: Tensor, y: Tensor, wanted: int | str) -> list[Tensor | None]:
    """Of each image the other classes (B,), those with the highest logits first; [None]: untargeted."""
    if not wanted:
        return [None]
    with torch.no_grad():
        logits = model(x)
    others = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :-1]
    return list(others.T[: None if wanted == ALL else int(wanted)])


def objective(y: Tensor, target: Tensor | None) -> Loss:
    """What the attack raises: the cross-entropy of the labels, or less that of the targets."""
    if target is None:
        return lambda logits: cross_entropy(logits, y, reduction="none")
    return lambda logits: -cross_entropy(logits, target, reduction="none")


def counted(walk: Iterable[tuple[Tensor, Tensor]], y: Tensor, counts: str, loss_of: Loss) -> Attacked:
    """Of an attack's iterates the `last`, the `best` (of the highest loss) or `any` that the model gets wrong.

    A loss that is no number on the way is one at the end.
    """
    kept: Attacked | None = None
    step = torch.full_like(y, -1)
    for k, (x_adv, logits) in enumerate(walk):
        step = first_wrong(step, k, logits, y)
        here = Attacked(x_adv, logits.argmax(1) == y, step, loss_of(logits))
        if kept is None or counts == "last":
            kept = here
            continue
        better = here.loss > kept.loss if counts == "best" else kept.correct & ~here.correct
        loss = torch.where(better, here.loss, kept.loss) + 0 * here.loss
        x_kept = torch.where(better[:, None, None, None], x_adv, kept.x_adv)
        kept = Attacked(x_kept, torch.where(better, here.correct, kept.correct), step, loss)
    assert kept is not None
    return kept


def packed(x: Tensor, at: Tensor) -> Tensor:
    """The images at these positions, as they lie in memory; all of them as they are."""
    return x if len(at) == len(x) else x[at].contiguous(memory_format=devices.layout(x.device))


def joined(worst: Attacked, at: Tensor, found: Attacked) -> Attacked:
    """What an attack left of the images `at`, in its place among all."""
    before = Attacked(*(whole[at] for whole in worst))
    return Attacked(*(whole.index_copy(0, at, part) for whole, part in zip(worst, worse(before, found), strict=True)))
