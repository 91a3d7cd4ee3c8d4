"""FGSM-RS with ATAS's step size: random starts, no perturbation is carried from epoch to epoch.

ATAS paper (Huang et al., IEEE TIP 2023), Sec. IV and Fig. 5a, which give no settings: ATAS's are taken.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward, and one norm per image. State: one number v_i per
training image.
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length
from methods.atas import StepSize

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: as methods/atas.py."""

    beta: float = 0.5
    c: float = 1.28
    gamma_over_c: Length = "16/255"


class Method(nn.Module):
    """FGSM-RS, with alpha_i for alpha."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        self.config, self.task = config, task
        self.step_size = StepSize(task, config.beta, config.c, config.gamma_over_c)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """methods/fgsm_rs.py, with a step size per image."""
        x, y, eps = batch.x, batch.y, self.task.eps
        x_start = project_linf(x + uniform_like(x, eps, self.task.rng), x, eps)
        grad = input_gradient(model, x_start, y)
        alpha = self.step_size(batch, grad)
        x_adv = project_linf(x_start + alpha * grad.sign(), x, eps)
        loss = cross_entropy(model(x_adv), y)
        learner.descend(loss)
        return StepReport(loss, x_adv, {"alpha_255": alpha.mean() * 255}, grad, alpha)
