"""DOM-RE: FGSM-RS that leaves out, from half-time on, the images whose clean loss is small.

Lin, Yu, Han, Liu, "On the over-memorization during natural, robust and catastrophic overfitting", ICLR 2024
(arXiv 2310.08847). Not in the ATAS paper: a network that is sure of a clean image is taken to memorise its attack too.
The forms that augment such images instead (DOM-DA) are not here.
Cost per batch: 3 forwards, 1 input backward, 1 parameter backward.
Departures: train mode throughout, and no pass to check the attack (docs/departures.md).
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: README and DOM.py, single-step (its --clamp is the threshold)."""

    threshold: float = 2.0  # an image is learnt from if its clean loss is at least so large
    after: float = 0.5  # share of the epochs in which all are (DOM.py:259)
    alpha: Length = "1.25 eps"


class Method(nn.Module):
    """FGSM + DOM-RE. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not config.threshold >= 0:
            raise ValueError(f"threshold must be 0 or more, got {config.threshold}")
        if not 0 <= config.after <= 1:
            raise ValueError(f"after must be between 0 and 1, got {config.after}")
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def leaves_out(self, batch: Batch) -> bool:
        """Whether `after` of the epochs are done with this batch (DOM.py:215,259)."""
        done = batch.epoch - 1 + (batch.number + 1) / self.task.n_batches
        return done >= self.config.after * self.task.n_epochs

    def differs(self, batch: Batch) -> bool:
        """The batches from half-time to the end of that epoch."""
        return self.leaves_out(batch) != self.leaves_out(replace(batch, number=0))

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """FGSM-RS, with a mean over the batch to which images left out give 0 (DOM.py:219-265); all in train mode."""
        x, y, eps = batch.x, batch.y, self.task.eps
        with torch.no_grad():  # before half-time it moves BatchNorm alone
            clean_loss = cross_entropy(model(x), y, reduction="none")
        x_start = project_linf(x + uniform_like(x, eps, self.task.rng), x, eps)
        grad = input_gradient(model, x_start, y)
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, eps)
        is_kept = (clean_loss >= (self.config.threshold if self.leaves_out(batch) else 0)).float()
        loss = (cross_entropy(model(x_adv), y, reduction="none") * is_kept).mean()
        learner.descend(loss)
        return StepReport(loss, x_adv, {"kept": is_kept.mean()}, grad)
