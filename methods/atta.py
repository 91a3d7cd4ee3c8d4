"""ATTA: one sign step from where the last epoch's attack on this image ended.

Zheng, Zhang, Gu, Lee, Prakash, "Efficient adversarial training with transferable adversarial examples", CVPR 2020
(arXiv 1912.11969). Tables I and II, row ATTA; Eq. 2 of the ATAS paper.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward. State: one perturbation per training image.
Departures: perturbations, not images, are stored; the start is clipped to the pixel range (docs/departures.md).
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import eval_mode, input_gradient, project_linf
from fastat.store import DeltaStore
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: ATAS paper, App. B (alpha = 4/255); ATAS code, ATAS.py:165 (reset every 10 epochs)."""

    alpha: Length = "4/255"
    reset_every: int = 10
    store: str = "float32"  # or float16, int8: what delta is kept in
    store_size: int | None = None  # ImageNet: 32, the pixels a side that delta is kept in


class Method(nn.Module):
    """ATTA-1 with the plain (MAT) loss."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.reset_every < 1:
            raise ValueError(f"reset_every must be 1 or more, got {config.reset_every}")
        self.config, self.task = config, task
        self.delta = DeltaStore(task, config.store, size=config.store_size)
        self.alpha = in_pixels(config.alpha, task.eps)

    def redraws(self, epoch: int) -> bool:
        """At the start and every `reset_every` epochs, but not for the last one."""
        return epoch == 1 or (epoch % self.config.reset_every == 0 and epoch != self.task.n_epochs)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """delta_i ~ U(-eps, eps)."""
        if self.redraws(epoch):
            self.delta.redraw()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Eq. 2 of the ATAS paper; the attack in eval mode, as adv_attack.py:11 of the ATTA code."""
        x, y, eps = batch.x, batch.y, self.task.eps
        x_prev = project_linf(x + self.delta.read(batch), x, eps)  # x_i^{j-1}, seen through this crop
        with eval_mode(model):
            grad = input_gradient(model, x_prev, y)
        x_adv = project_linf(x_prev + self.alpha * grad.sign(), x, eps)  # x_i^j
        self.delta.write(batch, x_adv - x)
        loss = cross_entropy(model(x_adv), y)
        learner.descend(loss)
        return StepReport(loss, x_adv, grad=grad)
