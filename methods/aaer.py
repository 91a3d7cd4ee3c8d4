"""RS-AAER, N-AAER: single-step training that holds back images whose loss fell along their own attack step.

Lin, Yu, Liu, "Eliminating catastrophic overfitting via abnormal adversarial examples regularization", NeurIPS 2023
(arXiv 2404.08154). Not in the ATAS paper. RS-AAER is FGSM-RS with a penalty on how far the logits of such abnormal
images moved, while it is more than those of the others did; variant `n` (N-AAER) is N-FGSM with it.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward; the penalty costs no pass.
Departures: none in what is descended. The released code adds lambda_2 times the abnormal images' mean fall of the loss,
without a gradient; variants `ce_gradient` and `n_ce_gradient` read the formula literally, and give it one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import gradient_and_logits, project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: RS-AAER; README of its code, CIFAR10 at eps 8/255."""

    k: float = 1.0  # the step starts at x + U(-k eps, k eps)
    alpha: Length = "1.25 eps"
    clipped: bool = True  # N-AAER: not, as N-FGSM
    lam1: float = 1.0  # of the whole penalty
    lam2: float = 2.5  # of the fall of the loss
    lam3: float = 1.5  # of the movement of the logits
    ce_gradient: bool = False  # the fall of the loss is descended, too, and not only logged


class Method(nn.Module):
    """AAER. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        for name in ("k", "lam1", "lam2", "lam3"):
            if not getattr(config, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(config, name)}")
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        self.radius = task.eps if config.clipped else config.k * task.eps + self.alpha

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """AAER.py:93-149; the model stays in train mode."""
        x, y, config = batch.x, batch.y, self.config
        x_start = (x + uniform_like(x, config.k * self.task.eps, self.task.rng)).clamp_(0, 1)
        grad, z_start = gradient_and_logits(model, x_start, y)
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, self.radius)
        z = model(x_adv)
        loss_start, loss_adv = (cross_entropy(logits, y, reduction="none") for logits in (z_start, z))
        abnormal = loss_start > loss_adv.detach()
        penalty = self.penalty((z - z_start).square().sum(1), loss_start - loss_adv, abnormal)
        loss = cross_entropy(z, y) + penalty
        learner.descend(loss)
        stats = {"abnormal": abnormal.double().mean(), "penalty": penalty.detach()}
        return StepReport(loss, x_adv, stats, grad)

    def penalty(self, moved: Tensor, fall: Tensor, abnormal: Tensor) -> Tensor:
        """lam1 n_A / B [lam2 C_A + lam3 max(V_A - V_N, 0)], C_A with `ce_gradient` alone; 0 if all images are alike.

        C_A is the mean of (B,) `fall` over the abnormal images, V_A and V_N are those of `moved` over both groups; V_N
        is a constant. Groups and maximum are of the whole batch, of all processes.
        """
        config, groups = self.config, (abnormal, ~abnormal)
        counts, sums = [group.sum() for group in groups], [total(moved.detach(), group) for group in groups]
        n_abnormal, n_normal, abnormal_sum, normal_sum = self.task.processes.total(torch.stack([*counts, *sums]))
        v_abnormal, v_normal = abnormal_sum / n_abnormal.clamp(min=1), normal_sum / n_normal.clamp(min=1)
        penalty = config.lam3 * (v_abnormal > v_normal) * total(moved - v_normal, abnormal)
        if config.ce_gradient:
            penalty = penalty + config.lam2 * total(fall, abnormal)
        return config.lam1 * ((n_abnormal > 0) & (n_normal > 0)) * penalty / len(moved)


def total(values: Tensor, group: Tensor) -> Tensor:
    """The sum of (B,) `values` over the images of a group."""
    return torch.where(group, values, 0).sum()
