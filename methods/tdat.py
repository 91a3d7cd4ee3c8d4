"""TDAT: the step starts where the last batch's perturbations say, and targets soften as training goes on.

Tong, Jiang, Gui, Cao, "Taxonomy driven fast adversarial training", AAAI 2024 (arXiv 2408.03944), Algorithm 1. Not in
the ATAS paper. A penalty binds the logits at the start and at the attacked image together, the more the less sure the
network is of the true class at the start.
Variant `printed` has Eqs. 5-7 as printed, where its code differs, whose logs have the published numbers; `momentum` has
Eq. 5 alone, which the code never computed.
Cost per batch: 2 forwards, 1 input backward, 2 parameter backwards.
State: one perturbation per position in the batch, drawn once.
Departures: the penalty's first logits are those at the start and not at the clean image, as its code has them
(docs/departures.md).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax

from fastat.attacks import project_linf
from fastat.losses import check_soft_target, soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels
from methods import fgsm_pgi
from methods.fgsm_pgi import Prior, logits_and_gradient

VERSION = 1
PASSES = fgsm_pgi.PASSES
FALL = {"tan": math.tan, "tanh": math.tanh}


@dataclass(frozen=True)
class Config:
    """Defaults: TDAT.py; README of its code, CIFAR10."""

    s_min: float = 0.15  # gamma_min, what the target probability of the true class falls to; CIFAR100: 0.05
    beta: float = 0.6
    fall: str = "tan"  # TDAT.py:130; Eq. 7: tanh
    outer: str = "smoothed"  # in the descent torch's label smoothing by 1 - s (TDAT.py:165); Eq. 6: soft, as the attack
    lam: float = 0.6  # CIFAR100: 0.05
    momentum: float = 0.0  # TDAT.py:158-160, where what it makes is overwritten; Eq. 5: 0.75
    alpha: Length = "1 eps"

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        for name, known in (("fall", tuple(FALL)), ("outer", ("smoothed", "soft"))):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
        if not (self.lam >= 0 and 0 <= self.momentum <= 1):
            raise ValueError(f"lam must be 0 or more and momentum in [0, 1], got {self.lam} and {self.momentum}")
        if not 0 <= self.beta * FALL[self.fall](1) <= 1:
            raise ValueError(f"beta {self.fall}(1), the first s, must be between 0 and 1, got beta {self.beta}")


class Method(nn.Module):
    """TDAT. `delta` of a position goes from batch to batch, whichever images are there."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s_min, task.n_classes, "s_min")
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        self.delta = Prior(fgsm_pgi.Config("bp", store="float32"), task, whole=False)

    def redraws(self, epoch: int) -> bool:
        """Once, before the first epoch (TDAT.py:114-119)."""
        return epoch == 1

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Random corners."""
        if self.redraws(epoch):
            self.delta.redraw_corners(min(self.alpha, self.task.eps))

    def s(self, epoch: int) -> float:
        """The target probability of the true class in an epoch (from 1): gamma of Eq. 7."""
        left = 1 - (epoch - 1) / self.task.n_epochs
        return max(self.config.beta * FALL[self.config.fall](left), self.config.s_min)

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """TDAT.py:138-173; the model stays in train mode, gradients of the penalty flow through both forwards."""
        x, y, eps, config, s = batch.x, batch.y, self.task.eps, self.config, self.s(batch.epoch)
        x_start = x + self.delta.read(batch)  # may leave the pixel range: delta is of another image
        z_start, grad = logits_and_gradient(model, x_start, y, s)
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, eps)
        kept = project_linf(config.momentum * x_start + (1 - config.momentum) * x_adv, x, eps)
        self.delta.write(batch, kept - x)
        z = model(x_adv)
        smoothed = config.outer == "smoothed"
        loss = cross_entropy(z, y, label_smoothing=1 - s) if smoothed else soft_target_loss(z, y, s)
        loss = loss + config.lam * disagreement(z_start, z, y).mean()
        learner.descend(loss)
        return StepReport(loss, x_adv)


def disagreement(z_start: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """|z_start - z|^2 tanh(1 - p_y), p of z_start (Eq. 8). Shapes: (B, K) twice, (B,) -> (B,)."""
    p = softmax(z_start, 1).gather(1, y[:, None]).squeeze(1)
    return (z_start - z).square().sum(1) * torch.tanh(1.0000001 - p)  # TDAT.py:169
