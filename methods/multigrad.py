"""MultiGrad: one step from the image itself, in the pixels where the gradients at several random points agree in sign.

Golgooni, Saberi, Eskandar, Rohban, "ZeroGrad: Mitigating and explaining catastrophic overfitting in FGSM adversarial
training", arXiv 2021 (arXiv 2103.15476). Not in the ATAS paper.
Cost per batch: 4 forwards, 3 input backwards, 1 parameter backward.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 4, "input_backward": 3, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: README of its code, CIFAR10."""

    n_points: int = 3
    n_agree: int | None = None  # of the points, so many must have the pixel's sign; None: all
    alpha: Length = "2 eps"


class Method(nn.Module):
    """MultiGrad. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.n_points < 1:
            raise ValueError(f"n_points must be 1 or more, got {config.n_points}")
        n_agree = config.n_points if config.n_agree is None else config.n_agree
        if not config.n_points / 2 < n_agree <= config.n_points:
            raise ValueError(f"n_agree must be more than half of {config.n_points} points, got {n_agree}")
        self.config, self.task = config, task
        self.alpha, self.majority = in_pixels(config.alpha, task.eps), 2 * n_agree - config.n_points

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """train_cifar.py:72-103, the points one after the other; the model stays in train mode."""
        x, y, eps = batch.x, batch.y, self.task.eps
        votes = torch.zeros_like(x)
        for _ in range(self.config.n_points):
            x_start = project_linf(x + uniform_like(x, eps, self.task.rng), x, eps)
            votes += input_gradient(model, x_start, y).sign()
        agreed = torch.where(votes.abs() >= self.majority, votes.sign(), 0)
        x_adv = project_linf(x + self.alpha * agreed, x, eps)
        loss = cross_entropy(model(x_adv), y)
        learner.descend(loss)
        return StepReport(loss, x_adv)
