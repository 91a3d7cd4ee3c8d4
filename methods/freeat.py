"""FreeAT: each batch is replayed m times; one backward pass serves both the weights and the perturbation.

Shafahi et al., "Adversarial training for free!", NeurIPS 2019 (arXiv 1904.12843), Algorithm 1. Tables I and II, row
FreeAT.
Cost per batch: m forwards, m backwards to weights and input together.
State: one perturbation per position in the batch, carried from batch to batch, never drawn anew.
Departures: the m replays of a batch share one learning rate (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task

VERSION = 1
PASSES = {"forward": 8, "joint_backward": 8}


@dataclass(frozen=True)
class Config:
    """Defaults: ATAS paper, App. B (m = 8 on CIFAR, 4 on ImageNet)."""

    m: int = 8
    label_smoothing: float = 0.0  # of attack and descent, which are one backward


class Method(nn.Module):
    """Free-m."""

    REPLAYABLE = True
    SHARDED = ("delta",)
    delta: Tensor

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.m < 1:
            raise ValueError(f"m must be 1 or more, got {config.m}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.register_buffer("delta", torch.zeros((task.batch_size, *task.image_shape), device=task.device))

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do: delta outlives epochs."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """The loop body of Algorithm 1: g_theta and g_x come from the same backward pass."""
        x, y, eps = batch.x, batch.y, self.task.eps
        delta, losses = self.delta[: len(y)], []
        for _ in range(self.config.m):
            inside = (x + delta >= 0) & (x + delta <= 1)  # the clamp passes no gradient outside
            x_adv = (x + delta).clamp_(0, 1).requires_grad_()
            loss = cross_entropy(model(x_adv), y, label_smoothing=self.config.label_smoothing)
            learner.accumulate(loss, inputs=(x_adv,))
            assert x_adv.grad is not None
            delta.add_(eps * (x_adv.grad * inside).sign()).clamp_(-eps, eps)
            learner.apply()
            losses.append(loss.detach())
        return StepReport(torch.stack(losses).mean(), x_adv.detach())
