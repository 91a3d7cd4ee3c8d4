"""FGSM-RS-CS: one step from noised images, and the loss at the noised images held near its mean over the last epoch.

Zhao, Zhang, Kong, Yin, "Fast adversarial training with smooth convergence", ICCV 2023 (arXiv 2308.12857). Not in the
ATAS paper. Beside the loss of the attack, the benign one is pushed down where it is above last epoch's mean, and up
where it is below it (`ConvergeSmooth`). The step is N-FGSM's with k = 1, not FGSM-RS's: it is not projected.
Cost per batch: 2 forwards, 1 input backward, 2 parameter backwards. State: four numbers.
Departures: the benign forward is the attack's, kept; released, it is made again, at the same images and in the same
mode (docs/departures.md). The released file does not start: it asks for arguments that it does not have.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fastat.attacks import uniform_like
from fastat.losses import check_soft_target, soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels
from methods.fgsm_pgi import logits_and_gradient

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 2}


@dataclass(frozen=True)
class Constraint:
    """Of `ConvergeSmooth`. Defaults: FGSM_MEP_CS.py:39-44."""

    gamma: float = 0.03  # convergence stride: how far a batch may be from the last epoch's mean
    ratio: float = 1.0  # the least stride is gamma / ratio, while the mean rises by less; 1: the stride is gamma
    w2: float = 1.0  # weight of the benign loss
    decays: tuple[float, ...] = ()  # epochs done where the learning rate falls
    margin: float = 1.0  # epochs around them, after the start and before the end that are not constrained


@dataclass(frozen=True)
class Config(Constraint):
    """Defaults: FGSM_RS_CS.py:37,137-151."""

    alpha: Length = "1 eps"
    s: float = 0.6  # target probability of the true class; the attack goes up the plain cross-entropy


class Method(nn.Module):
    """FGSM-RS-CS."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        self.radius = task.eps + self.alpha
        self.smooth = ConvergeSmooth(config, task)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """The mean that the benign loss is held to."""
        self.smooth.begin_epoch()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """FGSM_RS_CS.py:136-195; the model stays in train mode."""
        x, y, s = batch.x, batch.y, self.config.s
        x_start = (x + uniform_like(x, self.task.eps, self.task.rng)).clamp_(0, 1)
        z_start, grad = logits_and_gradient(model, x_start, y, 1.0)
        x_adv = (x_start + self.alpha * grad.sign()).clamp_(0, 1)
        benign = soft_target_loss(z_start, y, s)
        push = self.smooth.push(benign.detach(), batch)
        loss = soft_target_loss(model(x_adv), y, s) + push * benign
        learner.descend(loss)
        return StepReport(loss, x_adv, {"benign_loss": benign.detach(), "push": push}, grad * len(y))


class ConvergeSmooth(nn.Module):
    """Holds the benign loss to its mean over the last epoch, as it was in training."""

    mean: Tensor  # of the last epoch; 0 in the first
    stride: Tensor  # how far from it a batch may be: min(max(gamma / ratio, rise of the mean), gamma)
    total: Tensor  # of this epoch so far, over its images
    n: Tensor  # how many these are

    def __init__(self, config: Constraint, task: Task):
        super().__init__()
        if not (config.gamma >= 0 and config.w2 >= 0 and config.margin >= 0):
            got = f"{config.gamma}, {config.w2} and {config.margin}"
            raise ValueError(f"gamma, w2 and margin must be 0 or more, got {got}")
        if not config.ratio >= 1:
            raise ValueError(f"ratio must be 1 or more, got {config.ratio}")
        if not all(a < b for a, b in pairwise((0, *config.decays))):
            raise ValueError(f"decays must be epochs that rise from above 0, got {config.decays}")
        self.config, self.task = config, task
        self.marks = (0, *(epoch for epoch in config.decays if epoch < task.n_epochs), task.n_epochs)
        for name in ("mean", "stride", "total", "n"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64, device=task.device))

    def begin_epoch(self) -> None:
        """FGSM_MEP_CS.py:254,275-277."""
        mean = self.total / self.n.clamp(min=1)
        self.stride.copy_((mean - self.mean).clamp(self.config.gamma / self.config.ratio, self.config.gamma))
        self.mean.copy_(mean)
        self.total.zero_()
        self.n.zero_()

    def is_on(self, epoch: int) -> bool:
        """Not within `margin` of a mark; epochs count from 1 here, from 0 in FGSM_MEP_CS.py:242-249."""
        margin = self.config.margin
        return any(before + margin < epoch - 1 < after - margin for before, after in pairwise(self.marks))

    def push(self, loss: Tensor, batch: Batch) -> Tensor:
        """What the batch's benign loss is weighted with: w2 or -w2 if it is far above or below the mean, else 0."""
        loss_of_all = self.task.processes.total(loss) / self.task.processes.size
        n = len(batch.y)
        self.total.add_(n * loss_of_all)
        self.n.add_(n)
        gap = loss_of_all - self.mean
        weight = self.config.w2 * self.is_on(batch.epoch)
        return torch.where(gap.abs() > self.stride, weight * gap.sign(), 0).to(loss.dtype)
