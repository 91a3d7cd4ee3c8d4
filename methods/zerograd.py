"""ZeroGrad: FGSM from a random start that does not move the pixels where the input gradient is small.

Golgooni, Saberi, Eskandar, Rohban, "ZeroGrad: Mitigating and explaining catastrophic overfitting in FGSM adversarial
training", arXiv 2021 (arXiv 2103.15476). Not in the ATAS paper. With alpha = 2 eps every pixel that moves ends at the
edge of the ball, wherever it started.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: README of its code, CIFAR10."""

    q: float = 0.35  # share of an image's pixels that do not move
    alpha: Length = "2 eps"
    label_smoothing: float = 0.0  # of the descent; the attack keeps the plain cross-entropy


class Method(nn.Module):
    """ZeroGrad. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not 0 <= config.q <= 1:
            raise ValueError(f"q must be between 0 and 1, got {config.q}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """train_cifar.py:55-70; the model stays in train mode."""
        x, y, eps = batch.x, batch.y, self.task.eps
        x_start = project_linf(x + uniform_like(x, eps, self.task.rng), x, eps)
        grad = input_gradient(model, x_start, y)
        x_adv = project_linf(x_start + self.alpha * without_the_smallest(grad, self.config.q).sign(), x, eps)
        loss = cross_entropy(model(x_adv), y, label_smoothing=self.config.label_smoothing)
        learner.descend(loss)
        return StepReport(loss, x_adv, grad=grad)


def without_the_smallest(grad: Tensor, q: float) -> Tensor:
    """Each image's gradient, with 0 where its size is below the image's q-quantile.

    Shapes: (B, C, H, W) -> the same. Of n different sizes ceil(q (n - 1)) are below, whichever way torch.quantile
    interpolates.
    """
    size = grad.abs().flatten(1)
    n_below = math.ceil(q * (size.shape[1] - 1) - 1e-9)
    least = size.kthvalue(n_below + 1, dim=1).values
    return torch.where(grad.abs() >= least[:, None, None, None], grad, 0)
