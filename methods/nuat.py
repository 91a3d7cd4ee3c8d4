"""NuAT: one step from a corner, and a nuclear-norm penalty that binds clean and attacked logits together.

Sriramanan, Addepalli, Baburaj, Babu, "Towards efficient and effective adversarial training", NeurIPS 2021. Tables I
and II, row NuAT. Variant `wa` (NuAT-WA) reports a moving average of the weights: a recipe, not another method.
Cost per batch: 3 forwards, 1 input backward, 2 parameter backwards.
Departures: the second clean forward is the first one, kept; its BatchNorm update is made by hand (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from fastat.attacks import eval_mode, project_linf
from fastat.losses import check_label_smoothing, nuclear_norm
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 2}


@dataclass(frozen=True)
class Config:
    """Defaults: NuAT_cifar10.py:38-39 (4/255 and 8/255 at eps 8/255), lambda_max for ResNet-18."""

    lam_max: float = 4.5
    ramp: float = 0.9  # share of the epochs over which lambda grows to lam_max (:274-275)
    corner: Length = "0.5 eps"  # b
    alpha: Length = "1 eps"  # a
    clip: Length = "1 eps"  # released: 8/255 whatever eps is (:218)
    label_smoothing: float = 0.0  # of attack and descent


class Method(nn.Module):
    """NuAT. No state."""

    ONE_PROCESS = "its nuclear norm is of the whole batch's logits"

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if not config.lam_max >= 0:
            raise ValueError(f"lam_max must be 0 or more, got {config.lam_max}")
        if not 0 < config.ramp <= 1:
            raise ValueError(f"ramp must be above 0 and at most 1, got {config.ramp}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.corner, self.alpha = in_pixels(config.corner, task.eps), in_pixels(config.alpha, task.eps)
        self.radius = in_pixels(config.clip, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def lam(self, epoch: int) -> float:
        """lambda of an epoch (from 1): 0 in the first, then straight up to lam_max."""
        return self.config.lam_max * min((epoch - 1) / (self.config.ramp * self.task.n_epochs), 1)

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """NuAT_cifar10.py:205-230: the penalty is in every loss, and in the attack of every other batch."""
        x, y, lam, n = batch.x, batch.y, self.lam(batch.epoch), len(batch.y)
        smoothing = self.config.label_smoothing
        before = running_statistics(model)
        z = model(x)
        after = running_statistics(model)

        bernoulli = torch.empty_like(x).bernoulli_(generator=self.task.rng)
        x_start = (x + self.corner * (2 * bernoulli - 1)).clamp_(0, 1).requires_grad_()
        with eval_mode(model):
            z_start = model(x_start)
        attack_loss = cross_entropy(z_start, y, label_smoothing=smoothing)
        if lam and batch.number % 2:
            attack_loss = attack_loss + lam * nuclear_norm(z.detach() - z_start) / n
        (grad,) = torch.autograd.grad(attack_loss, x_start)
        x_adv = project_linf((x_start.detach() + self.alpha * grad.sign()).clamp_(0, 1), x, self.radius)

        z_adv = model(x_adv)
        loss = cross_entropy(z, y, label_smoothing=smoothing)
        if lam:
            loss = loss + lam * nuclear_norm(z - z_adv) / n
        learner.accumulate(loss)
        repeat_update(model, before, after)  # before `apply`, so that a weight average sees it
        learner.apply()
        return StepReport(loss, x_adv)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Copies of the running means and variances of every BatchNorm."""
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    return [t.clone() for m in layers for t in (m.running_mean, m.running_var) if t is not None]


def repeat_update(model: nn.Module, before: list[Tensor], after: list[Tensor]) -> None:
    """Move BatchNorm once more by the batch that moved it from `before` to `after`.

    after = (1 - m) before + m s, so the update (1 - m) r + m s of the running value r needs no second forward.
    """
    pairs = iter(zip(before, after, strict=True))
    for m in (m for m in model.modules() if isinstance(m, _BatchNorm)):
        assert m.momentum is not None and m.num_batches_tracked is not None
        for running in (m.running_mean, m.running_var):
            if running is not None:
                old, new = next(pairs)
                running.sub_(old).mul_(1 - m.momentum).add_(new)
        m.num_batches_tracked.add_(1)
