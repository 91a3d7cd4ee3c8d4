"""N-FGSM: one step from strongly noised images, and no projection.

de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez, Dokania, "Make some noise: Reliable and efficient single-step adversarial
training", NeurIPS 2022 (arXiv 2202.01181), Algorithm 1. Not in the ATAS paper: the strongest simple rival.
Variant `clipped` projects on the eps-ball, which brings collapse back (the paper's point).
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward.
"""

from dataclasses import dataclass

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
    """Defaults: N-FGSM train.py:57 (no clip), Sec. 5 of the paper (k = 2, alpha = eps)."""

    k: float = 2.0  # noise from U(-k eps, k eps): an augmentation, not a start inside the ball
    alpha: Length = "1 eps"
    clipped: bool = False
    label_smoothing: float = 0.0  # of attack and descent


class Method(nn.Module):
    """N-FGSM. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not config.k >= 0:
            raise ValueError(f"k must be 0 or more, got {config.k}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        self.radius = task.eps if config.clipped else config.k * task.eps + self.alpha

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """train.py:218-231; the model stays in train mode."""
        x, y, smoothing = batch.x, batch.y, self.config.label_smoothing
        x_start = (x + uniform_like(x, self.config.k * self.task.eps, self.task.rng)).clamp_(0, 1)
        grad = input_gradient(model, x_start, y, smoothing)
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, self.radius)
        loss = cross_entropy(model(x_adv), y, label_smoothing=smoothing)
        learner.descend(loss)
        return StepReport(loss, x_adv, grad=grad)
