"""FGSM-PGI: the step starts where the prior of this image says, and the two outputs are held together.

Jia, Zhang, Wei, Wu, Ma, Wang, Cao, "Prior-guided adversarial initialization for fast adversarial training", ECCV 2022
(arXiv 2207.08859), Algorithm 1, FGSM-MEP. Tables I and II, row FGSM-PGI. Variants `ep` (the image's own last
perturbation) and `bp` (the last batch's perturbations), which were never released.
Cost per batch: 2 forwards, 1 input backward, 2 parameter backwards.
State: per image a perturbation (int8 where that is exact) and, for MEP, a momentum of gradients.
Departures: none in what is computed; no weight gradient is computed and thrown away (docs/departures.md). As released,
the prior does not follow the crop and flip of its image (FGSM_MEP.py:217-225).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fastat.attacks import project_linf
from fastat.losses import check_soft_target, soft_target_loss
from fastat.store import DeltaStore
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 2}


@dataclass(frozen=True)
class Config:
    """Defaults: FGSM_MEP.py (CIFAR10)."""

    prior: str = "mep"  # mep, ep or bp
    alpha: Length = "1 eps"
    reset_every: int = 40  # epochs; CIFAR100: 10
    mu: float = 0.3  # memory of the momentum
    lam: float = 10.0  # weight of the mean squared difference of logits
    s: float = 0.6  # target probability of the true class
    align_prior: bool = False  # keep the prior in the un-cropped frame instead
    store: str | None = None  # float32, float16 or int8; None: int8 where that is exact, else float32
    store_size: int | None = None  # ImageNet: 32, the pixels a side that prior and momentum are kept in


class Method(nn.Module):
    """FGSM-MEP, -EP, -BP. Two perturbations: one to train on, one to keep."""

    steps_vary = False  # whether step_size is something else than alpha

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.prior not in ("mep", "ep", "bp"):
            raise ValueError(f"prior must be mep, ep or bp, got {config.prior!r}")
        if config.reset_every < 1:
            raise ValueError(f"reset_every must be 1 or more, got {config.reset_every}")
        if not (config.mu >= 0 and config.lam >= 0):
            raise ValueError(f"mu and lam must be 0 or more, got {config.mu} and {config.lam}")
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        # images are whole 255ths, so cutting x + delta to [0, 1] keeps delta whole
        whole = all(abs(255 * length - round(255 * length)) < 1e-6 for length in (task.eps, self.alpha))
        whole = whole and round(255 * task.eps) <= 127
        n_priors = task.batch_size if config.prior == "bp" else task.n_train
        # then delta stays in whole 255ths
        kept_whole = whole and not config.store_size and (config.prior == "mep" or not self.steps_vary)
        dtype = config.store or ("int8" if kept_whole else "float32")
        kind: dict[str, Any] = {"framed": config.align_prior, "size": config.store_size}
        self.delta = DeltaStore(replace(task, n_train=n_priors), dtype, whole=kept_whole, **kind)
        if config.prior == "mep":
            self.momentum = DeltaStore(task, **kind)

    def redraws(self, epoch: int) -> bool:
        """Every `reset_every` epochs, the first one included (FGSM_MEP.py:187-197)."""
        return (epoch - 1) % self.config.reset_every == 0

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Random corners, no momentum."""
        if self.redraws(epoch):
            self.delta.redraw_corners(min(self.alpha, self.task.eps))
            if self.config.prior == "mep":
                self.momentum.delta.zero_()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Algorithm 1; the model stays in train mode, gradients of the penalty flow through both forwards."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        where = batch if config.prior != "bp" else replace(batch, index=torch.arange(len(y), device=y.device))
        delta = self.delta.read(where)
        x_prior = (x + delta).requires_grad_()  # may leave the pixel range (FGSM_MEP.py:242)
        z_prior = model(x_prior)
        (grad,) = torch.autograd.grad(soft_target_loss(z_prior, y, config.s), x_prior, retain_graph=True)
        x_adv = project_linf(x_prior.detach() + self.step_size(batch, grad) * grad.sign(), x, eps)
        if config.prior == "mep":
            self.delta.write(where, self.next_prior(batch, x + delta, grad) - x)
        else:
            self.delta.write(where, x_adv - x)
        z = model(x_adv)
        loss = soft_target_loss(z, y, config.s) + config.lam * (z - z_prior).square().mean()
        learner.descend(loss)
        return StepReport(loss, x_adv)

    def next_prior(self, batch: Batch, x_prior: Tensor, grad: Tensor) -> Tensor:
        """m <- g / |g|_1 + mu m, with the norm over the whole batch (FGSM_MEP.py:253-254); a step along sign m."""
        norm = self.task.processes.total(grad.abs().sum())
        momentum = grad / norm.clamp(min=1e-30) + self.config.mu * self.momentum.read(batch)
        self.momentum.write(batch, momentum)
        return project_linf(x_prior + self.alpha * momentum.sign(), batch.x, self.task.eps)

    def step_size(self, batch: Batch, grad: Tensor) -> Tensor | float:
        """alpha, the same for every image."""
        return self.alpha
