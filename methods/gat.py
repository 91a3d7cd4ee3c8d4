"""GAT: clean and attacked softmax are held together, and their distance guides the step of every other batch.

Sriramanan, Addepalli, Baburaj, Babu, "Guided adversarial attack for evaluating and enhancing adversarial defenses",
NeurIPS 2020 (arXiv 2011.14969). Not in the ATAS paper: NuAT's parent. It differs from NuAT in the distance, and
in lambda, which steps up once, late, where NuAT's grows from 0.
Cost per batch: 3 forwards, 1 input backward, 2 parameter backwards.
Departures: the second clean forward is the first one, kept; its BatchNorm update is made by hand (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax

from fastat.attacks import eval_mode, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels
from methods.nuat import repeat_update, running_statistics

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 2}


@dataclass(frozen=True)
class Config:
    """Defaults: CIFAR10/GAT_cifar10.py:198,249-253 (4/255 and 8/255 at eps 8/255)."""

    lam: float = 10.0  # of the squared distance of clean and attacked softmax
    late_factor: float = 4.0  # what lam is multiplied with in the last epochs
    late: float = 0.86  # share of the epochs before these
    corner: Length = "0.5 eps"  # released: 4/255 whatever eps is
    alpha: Length = "1 eps"  # released: 8/255
    clip: Length = "1 eps"  # released: 8/255 (:198)
    label_smoothing: float = 0.0  # of attack and descent


class Method(nn.Module):
    """GAT. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not (config.lam >= 0 and config.late_factor >= 0):
            raise ValueError(f"lam and late_factor must be 0 or more, got {config.lam} and {config.late_factor}")
        if not 0 <= config.late <= 1:
            raise ValueError(f"late must be between 0 and 1, got {config.late}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.corner, self.alpha = in_pixels(config.corner, task.eps), in_pixels(config.alpha, task.eps)
        self.radius = in_pixels(config.clip, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def lam(self, epoch: int) -> float:
        """lambda of an epoch (from 1)."""
        config = self.config
        return config.lam * (config.late_factor if epoch - 1 >= config.late * self.task.n_epochs else 1)

    def differs(self, batch: Batch) -> bool:
        """Whether the distance guides the attack: in every other batch."""
        return batch.number % 2 == 1

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """GAT_cifar10.py:184-218: line by line methods/nuat.py, with another distance."""
        x, y, lam, smoothing = batch.x, batch.y, self.lam(batch.epoch), self.config.label_smoothing
        before = running_statistics(model)
        z = model(x)
        after = running_statistics(model)

        coins = uniform_like(x, 1.0, self.task.rng) < 0
        x_start = (x + torch.where(coins, -self.corner, self.corner)).clamp_(0, 1).requires_grad_()
        with eval_mode(model):
            z_start = model(x_start)
        attack_loss = cross_entropy(z_start, y, label_smoothing=smoothing)
        if self.differs(batch):
            attack_loss = attack_loss + lam * distance(z.detach(), z_start)
        (grad,) = torch.autograd.grad(attack_loss, x_start)
        x_adv = project_linf((x_start.detach() + self.alpha * grad.sign()).clamp_(0, 1), x, self.radius)

        loss = cross_entropy(z, y, label_smoothing=smoothing) + lam * distance(z, model(x_adv))
        learner.accumulate(loss)
        repeat_update(model, before, after)  # before `apply`, so that a weight average sees it
        learner.apply()
        return StepReport(loss, x_adv)


def distance(z: Tensor, other: Tensor) -> Tensor:
    """Squared distance of two softmax outputs, a mean over images; at most 2. Shapes: (B, K) twice -> scalar."""
    return (softmax(z, 1) - softmax(other, 1)).square().sum(1).mean()
