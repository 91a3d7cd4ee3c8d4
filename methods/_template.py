"""NEWONE: what it does, in one line.

Authors, "Title", venue and year (arXiv 0000.00000), Algorithm 1. Not in the ATAS paper.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward.
Departures: none.
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1  # raised when a change here moves numbers: its runs are then trained again
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}  # per batch; the contract suite counts them


@dataclass(frozen=True)
class Config:
    """Defaults: section of the paper, or file and line of its code."""

    k: float = 1.0  # the start is from U(-k eps, k eps)
    alpha: Length = "1 eps"  # or "4/255", the same at every eps


class Method(nn.Module):
    """NEWONE. No state."""

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not config.k >= 0:  # so refuses nan too
            raise ValueError(f"k must be 0 or more, got {config.k}")
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        # what must survive a batch goes here: self.register_buffer, a submodule, or a DeltaStore (methods/atta.py)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """The loop body of Algorithm 1."""
        x, y, eps = batch.x, batch.y, self.task.eps
        x_start = project_linf(x + uniform_like(x, self.config.k * eps, self.task.rng), x, eps)  # task.rng: it resumes
        grad = input_gradient(model, x_start, y)  # moves BatchNorm; inside `with eval_mode(model):` it does not
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, eps)
        loss = cross_entropy(model(x_adv), y)
        learner.descend(loss)  # accumulate and apply in one
        return StepReport(loss, x_adv, grad=grad)
