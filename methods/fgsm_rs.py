"""FGSM-RS: one large sign step from a random start.

Wong, Rice, Kolter, "Fast is better than free: Revisiting adversarial training", ICLR 2020 (arXiv 2001.03994).
Tables I and II, row FGSM-RS; variant `fgsm` (no random start, step eps) is the method of Goodfellow et al. 2015.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: ATAS paper, App. B (alpha = 1.25 eps); fast_adversarial train_fgsm.py:30-31."""

    alpha: Length = "1.25 eps"
    random_start: bool = True
    label_smoothing: float = 0.0  # of attack and descent


class Method(nn.Module):
    """FGSM-RS. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """The loop body of Algorithm 3; both forwards in train mode, as train_fgsm.py:73,112,120."""
        x, y, eps, smoothing = batch.x, batch.y, self.task.eps, self.config.label_smoothing
        delta = uniform_like(x, eps, self.task.rng) if self.config.random_start else torch.zeros_like(x)
        x_start = project_linf(x + delta, x, eps)
        grad = input_gradient(model, x_start, y, smoothing)
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, eps)
        loss = cross_entropy(model(x_adv), y, label_smoothing=smoothing)
        learner.descend(loss)
        return StepReport(loss, x_adv, grad=grad)
