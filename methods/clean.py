"""Clean training: no attack. The reference that every cost and every clean accuracy is measured against.

Cost per batch: 1 forward, 1 parameter backward.
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cross_entropy

from fastat.types import Batch, Learner, StepReport, Task

VERSION = 1
PASSES = {"forward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


class Method(nn.Module):
    """Empirical risk minimisation."""

    REPLAYABLE = True
    radius = 0.0

    def __init__(self, config: Config, task: Task):
        super().__init__()
        self.config, self.task = config, task

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """One descent on the images as they are."""
        loss = cross_entropy(model(batch.x), batch.y)
        learner.descend(loss)
        return StepReport(loss, batch.x)
