"""What the figures look at in a trained network: loss surfaces, and the loss by step size. Computes, never plots."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import ascend, input_gradient, pgd, project_linf, uniform_like
from fastat.data.datasets import Part
from fastat.data.subsets import stratified
from fastat.evaluation.whitebox import Row, require_eval
from fastat.machine.seeds import generator

AXIS = [k / 8 for k in range(-8, 9)]  # of a surface, in eps
ALPHAS = [k / 4 for k in range(1, 9)]  # step sizes, in eps


def surfaces(
    model: nn.Module, part: Part, groups: dict[str, Tensor], *, eps: float, seed: int, epoch: int | str = ""
) -> Iterator[Row]:
    """Rows of `grid.SURFACE`: the mean loss over each group's images at x + u eps v1 + w eps v2 (Figs. 1, 2, 9).

    v1 is the sign of an image's own input gradient, v2 random signs, drawn for an image's number and `seed` alone: the
    same for every network. groups: name -> (n,) positions in `part`. Pixels are cut to [0, 1].
    """
    require_eval(model)
    for name, index in groups.items():
        total = torch.zeros((len(AXIS), len(AXIS)), device=index.device)
        for at in index.split(64):
            x, y = part.take(at)
            v1 = input_gradient(model, x, y).sign()
            v2 = torch.stack([random_signs(x[0], seed, int(i)) for i in at])
            for i, u in enumerate(AXIS):
                line = torch.cat([(x + eps * (u * v1 + w * v2)).clamp(0, 1) for w in AXIS])
                with torch.no_grad():
                    loss = cross_entropy(model(line), y.repeat(len(AXIS)), reduction="none")
                total[i] += loss.view(len(AXIS), len(y)).sum(1)
        for i, u in enumerate(AXIS):
            for j, w in enumerate(AXIS):
                mean = float(total[i, j]) / len(index)
                yield {"epoch": epoch, "group": name, "n": len(index), "u": u, "w": w, "loss": mean}


def random_signs(x: Tensor, seed: int, number: int) -> Tensor:
    """+1 or -1 in every pixel of an image (C, H, W)."""
    rng = generator(torch.device("cpu"), seed, "surface", number)
    return torch.randint(2, x.shape, generator=rng).to(x.device).mul(2).sub(1).to(x.dtype)


def last_surfaces(model: nn.Module, part: Part, *, eps: float, seed: int) -> Iterator[Row]:
    """Surfaces of three test images, `image:NUMBER`, and of the mean of 32."""
    sample = stratified(part.labels, min(32, len(part)), seed=seed).sort().values
    three = sample[:: max(1, len(sample) // 3)][:3]
    groups = {f"image:{int(i)}": i[None] for i in three} | {"mean": sample}
    yield from surfaces(model, part, groups, eps=eps, seed=seed)


def around(collapse: int | None, epochs: int) -> list[int]:
    """Four epochs to look at: from two before the collapse to one after it, or the quarters of a run without one."""
    if collapse is None:
        return sorted({math.ceil(epochs * k / 4) for k in range(1, 5)})
    return [epoch for epoch in range(collapse - 2, collapse + 2) if 1 <= epoch <= epochs]


def single_steps(model: nn.Module, part: Part, *, eps: float, seed: int, n: int = 500) -> Iterator[Row]:
    """Rows of `grid.COLUMNS["steps"]`: the loss after one sign step of each size and under PGD10, on n training images.

    `uniform`: from a uniform start, as FGSM-RS. `carried`: from where three steps of eps/2 led from a uniform start, as
    ATTA's perturbations are carried from epoch to epoch, here without the network's moving.
    """
    require_eval(model)
    index = stratified(part.labels, min(n, len(part)), seed=0)
    sums: dict[tuple[str, float], float] = dict.fromkeys(
        ((start, alpha) for start in ("uniform", "carried") for alpha in ALPHAS), 0.0
    )
    pgd10 = 0.0
    for number, at in enumerate(index.split(250)):
        x, y = part.take(at)
        rng = generator(x.device, seed, "steps", number)
        pgd10 += float(pgd(model, x, y, eps=eps, alpha=eps / 5, n_steps=10, rng=rng).loss.sum())
        uniform = (x + uniform_like(x, eps, rng)).clamp(0, 1)
        carried = ascend(model, x, y, eps=eps, alpha=eps / 2, n_steps=3, x_start=uniform).x_adv
        for start, x_start in (("uniform", uniform), ("carried", carried)):
            signs = input_gradient(model, x_start, y).sign()
            for alpha in ALPHAS:
                with torch.no_grad():
                    logits = model(project_linf(x_start + alpha * eps * signs, x, eps))
                sums[start, alpha] += float(cross_entropy(logits, y, reduction="sum"))
    count = len(index)
    for (start, alpha), total in sums.items():
        yield {"start": start, "alpha": alpha, "loss": total / count, "pgd10_loss": pgd10 / count, "n": count}


def rounded(rows: Iterable[Row]) -> list[Row]:
    """Losses with six digits: more would be noise, and not the same on every machine."""
    return [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
