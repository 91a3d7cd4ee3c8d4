"""SSAT: one FGSM-RS direction, and on it the first of c points that fools the network, the last one if none does.

Kim, Lee, Lee, "Understanding catastrophic overfitting in single-step adversarial training", AAAI 2021
(arXiv 2010.01799), Algorithm 1. Tables I and II, row SSAT.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward, c - 1 forwards at the checkpoints.
Departures: the checkpoints of all images are evaluated, also where the answer is known, so that nothing waits for the
device (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import eval_mode, gradient_and_logits, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 4, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: ATAS paper, App. B (c = 3); catastrophic-overfitting train.py:78-79 (10/255), in proportion to eps."""

    c: int = 3
    alpha: Length = "1.25 eps"
    label_smoothing: float = 0.0  # of attack and descent


class Method(nn.Module):
    """SSAT. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.c < 1:
            raise ValueError(f"c must be 1 or more, got {config.c}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """x + s delta with s in {0, 1/c, ..., 1}; attack and checkpoints in eval mode (attack.py:248-251)."""
        x, y, eps, smoothing = batch.x, batch.y, self.task.eps, self.config.label_smoothing
        with eval_mode(model):
            x_start = (x + uniform_like(x, eps, self.task.rng)).clamp_(0, 1)
            grad, logits = gradient_and_logits(model, x_start, y, smoothing)
            delta = project_linf(x_start + self.alpha * grad.sign(), x, eps) - x
            scale = self.smallest_fooling_scale(model, x, delta, y)
        scale = torch.where(logits.argmax(1) == y, scale, 0)  # wrong at the start: train on x
        x_adv = (x + scale[:, None, None, None] * delta).clamp_(0, 1)
        loss = cross_entropy(model(x_adv), y, label_smoothing=smoothing)
        learner.descend(loss)
        return StepReport(loss, x_adv, {"scale": scale.mean()}, grad)

    def smallest_fooling_scale(self, model: nn.Module, x: Tensor, delta: Tensor, y: Tensor) -> Tensor:
        """The smallest k/c at which the network is wrong, for k = 1..c-1, else 1; (B,)."""
        c, scale = self.config.c, torch.ones_like(x[:, 0, 0, 0])
        if c == 1:
            return scale
        points = torch.cat([x + k / c * delta for k in range(1, c)])
        with torch.no_grad():
            wrong = model(points).argmax(1).reshape(c - 1, -1) != y
        for k in range(c - 1, 0, -1):
            scale = torch.where(wrong[k - 1], k / c, scale)
        return scale
