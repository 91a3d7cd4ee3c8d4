"""FGSM-GA: FGSM, and a penalty when the input gradient turns within the eps-ball (GradAlign).

Andriushchenko, Flammarion, "Understanding and improving fast adversarial training", NeurIPS 2020 (arXiv 2007.02617),
Eq. 4. Tables I and II, row FGSM-GA.
Cost per batch: 3 forwards, 2 input backwards, 1 parameter backward, 1 double backward.
Departures: the gradient at x is taken at x itself, not through a clamp, which left out pixels at 0 and 1: variant
`released` leaves them out, too (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 3, "input_backward": 2, "parameter_backward": 1, "double_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: sh/exps_diff_eps_cifar10.sh:48 (lam at eps 8/255); train.py:37 (alpha, cut to eps by projection)."""

    lam: float = 0.2
    alpha: Length = "1.25 eps"
    label_smoothing: float = 0.0  # of the descent; both input gradients are of the plain cross-entropy
    attack_saturated: bool = True  # released: pixels at 0 and 1 are not (train.py:152, on torch 1.4.0)


class Method(nn.Module):
    """FGSM + GradAlign. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not config.lam >= 0:
            raise ValueError(f"lam must be 0 or more, got {config.lam}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """l(x + delta) + lam (1 - cos(grad l(x), grad l(x + eta))); the model stays in train mode (train.py:91)."""
        x, y, eps = batch.x, batch.y, self.task.eps
        grad = input_gradient(model, x, y)
        aimed = grad if self.config.attack_saturated else grad * ((x > 0) & (x < 1))
        x_adv = project_linf(x + self.alpha * aimed.sign(), x, eps)
        attack_loss = cross_entropy(model(x_adv), y, label_smoothing=self.config.label_smoothing)
        x_eta = (x + uniform_like(x, eps, self.task.rng)).requires_grad_()  # not clipped (train.py:193)
        eta_loss = cross_entropy(model(x_eta), y, reduction="sum")
        (grad_eta,) = torch.autograd.grad(eta_loss, x_eta, create_graph=True)
        cos = mean_cosine(aimed, grad_eta)
        loss = attack_loss + self.config.lam * (1 - cos)
        learner.descend(loss)
        return StepReport(loss, x_adv, {"cos": cos.detach()}, grad)


def mean_cosine(grad: Tensor, other: Tensor) -> Tensor:
    """Mean over images of the cosine between two gradients; images where either is zero do not count.

    Shapes: (B, C, H, W) twice -> scalar; 1, without a gradient, if no image counts.
    """
    one, two = grad.flatten(1), other.flatten(1)
    norm_one, norm_two = (torch.linalg.vector_norm(g, dim=1, keepdim=True) for g in (one, two))
    counts = (norm_one > 0) & (norm_two > 0)
    # each divided by its own norm: the product of two tiny norms would underflow
    cos = (one / torch.where(counts, norm_one, 1) * (two / torch.where(counts, norm_two, 1))).sum(1, keepdim=True)
    n = counts.sum()
    return torch.where(n > 0, torch.where(counts, cos, 0).sum() / n.clamp(min=1), 1)
