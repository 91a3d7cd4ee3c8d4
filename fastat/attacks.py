"""The inner maximisation: pure functions of tensors and a model, for the L-infinity ball and, where said, the L2 ball.

Everything is in pixel space: normalisation is the first layer of the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.machine.processes import ALONE, SharedGenerator


def project_linf(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """The point of the eps-ball around x, cut with the pixel range [0, 1], that is nearest to x_adv.

    Shapes: x_adv, x (B, C, H, W) -> (B, C, H, W). The radius holds up to float32 rounding (3e-8).
    """
    return x_adv.clamp(x - eps, x + eps).clamp_(0, 1)


def uniform_like(x: Tensor, eps: float, rng: torch.Generator | None) -> Tensor:
    """Independent draws from U(-eps, eps) in the shape, layout and place of x.

    Where processes share a batch, each draws for the whole batch and keeps its rows: the numbers of one process.
    """
    processes = rng.processes if isinstance(rng, SharedGenerator) else ALONE
    whole = torch.empty_like(x) if processes.size == 1 else torch.empty_like(torch.cat([x] * processes.size))
    return processes.mine(whole.uniform_(-eps, eps, generator=rng))


def project_l2(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """The nearest point to x_adv of the L2 ball of radius eps around x, then cut to the pixel range [0, 1].

    Shapes: x_adv, x (B, C, H, W) -> (B, C, H, W). Cutting moves no pixel away from x: the radius holds up to rounding.
    """
    delta = x_adv - x
    return (x + delta * (eps / l2_norm(delta).clamp(min=eps))).clamp_(0, 1)


def uniform_in_l2(x: Tensor, eps: float, rng: torch.Generator | None) -> Tensor:
    """Independent uniform draws from each image's L2 ball of radius eps (by volume), in the shape and place of x.

    A normal direction and the d-th root of a uniform radius, d numbers an image. Where processes share a batch, each
    draws for itself: not for training.
    """
    direction = torch.empty_like(x).normal_(generator=rng)
    radius = x.new_empty((len(x), 1, 1, 1)).uniform_(generator=rng).pow(1 / x[0].numel())
    return direction * (eps * radius / l2_norm(direction))


def along_l2(grad: Tensor) -> Tensor:
    """Each image's gradient at length 1, however small it was; zero where it is zero."""
    grad = grad / grad.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(grad.dtype).tiny)
    return grad / l2_norm(grad).clamp(min=1)  # a largest component of 1 makes the norm at least 1


def l2_norm(delta: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, 1, 1)."""
    return delta.square().sum((1, 2, 3), keepdim=True).sqrt()


class Ball(NamedTuple):
    """What PGD needs to know of a norm, all in the shape of a batch of images."""

    uniform: Callable[[Tensor, float, torch.Generator | None], Tensor]  # draws from the ball around 0
    steepest: Callable[[Tensor], Tensor]  # gradient -> the step of length 1 that raises a linear loss most
    project: Callable[[Tensor, Tensor, float], Tensor]  # into the ball around x and the pixel range


LINF = Ball(uniform_like, torch.sign, project_linf)
L2 = Ball(uniform_in_l2, along_l2, project_l2)


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Gradient of each image's own cross-entropy, against smoothed labels if asked, with respect to its pixels.

    Shapes:  x (B, C, H, W), y (B,) -> (B, C, H, W)
    Units:   per image. The gradient of the batch mean is this divided by B. In train mode BatchNorm couples the
             images, and it is the gradient of the sum of their losses.
    Effects: none on p.grad, and no weight gradient is computed. BatchNorm statistics move in train mode.
             The gradient is taken at the leaf x: a clamp in the graph would zero it on saturated pixels.
    Source:  ATAS paper, Eq. 3.
    """
    return gradient_and_logits(model, x, y, label_smoothing)[0]


def gradient_and_logits(model: nn.Module, x: Tensor, y: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """`input_gradient`, and the logits (B, K) of the forward pass that it needed."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        loss = cross_entropy(logits, y, reduction="sum", label_smoothing=label_smoothing)
    (grad,) = torch.autograd.grad(loss, x)
    return grad, logits.detach()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """BatchNorm uses, and does not move, its running statistics inside; each module's mode is restored."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Attacked(NamedTuple):
    """The result of an attack that watches its own progress."""

    x_adv: Tensor  # (B, C, H, W), the last iterate
    correct: Tensor  # (B,) bool, the model is still right at x_adv
    step: Tensor  # (B,) int64, the first iterate that the model got wrong (0: the start); -1 if none was
    loss: Tensor  # (B,), cross-entropy at x_adv


def fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Attacked:
    """One step of size eps from x itself (Goodfellow et al. 2015; ATAS paper, Sec. II-A)."""
    return ascend(model, x, y, eps=eps, alpha=eps, n_steps=1, x_start=x)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    alpha: float,
    n_steps: int,
    rng: torch.Generator,
    ball: Ball = LINF,
) -> Attacked:
    """Projected gradient ascent from a uniform start (Madry et al. 2018; ATAS paper, Sec. II-A)."""
    x_start = (x + ball.uniform(x, eps, rng)).clamp_(0, 1)
    return ascend(model, x, y, eps=eps, alpha=alpha, n_steps=n_steps, x_start=x_start, ball=ball)


def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    alpha: float,
    n_steps: int,
    x_start: Tensor,
    ball: Ball = LINF,
) -> Attacked:
    """`n_steps` steps of size alpha from x_start, projected after each; the last iterate counts."""
    step = torch.full_like(y, -1)
    walk = iterates(model, x, y, eps=eps, alpha=alpha, n_steps=n_steps, x_start=x_start, ball=ball)
    for k, (x_adv, logits) in enumerate(walk):  # noqa: B007
        step = first_wrong(step, k, logits, y)
    return Attacked(x_adv, logits.argmax(1) == y, step, cross_entropy(logits, y, reduction="none"))


def iterates(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    alpha: float,
    n_steps: int,
    x_start: Tensor,
    ball: Ball = LINF,
    target: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """x_start and the `n_steps` points that the steps lead to, each with the logits (B, K) there.

    A step goes up the cross-entropy of y, or down that of the classes `target` (B,).
    """
    x_adv, signed = x_start, alpha if target is None else -alpha
    for _ in range(n_steps):
        grad, logits = gradient_and_logits(model, x_adv, y if target is None else target)
        yield x_adv, logits
        x_adv = ball.project(x_adv + signed * ball.steepest(grad), x, eps)
    with torch.no_grad():
        logits = model(x_adv)
    yield x_adv, logits


def first_wrong(step: Tensor, k: int, logits: Tensor, y: Tensor) -> Tensor:
    """`step`, with k where the model is wrong now and was right until now."""
    return torch.where((step < 0) & (logits.argmax(1) != y), k, step)
