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

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        if self.prior not in ("mep", "ep", "bp"):
            raise ValueError(f"prior must be mep, ep or bp, got {self.prior!r}")
        if self.reset_every < 1:
            raise ValueError(f"reset_every must be 1 or more, got {self.reset_every}")
        if not (self.mu >= 0 and self.lam >= 0):
            raise ValueError(f"mu and lam must be 0 or more, got {self.mu} and {self.lam}")


class Method(nn.Module):
    """FGSM-MEP, -EP, -BP. Two perturbations: one to train on, one to keep."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        self.delta = Prior(config, task, whole=stays_whole(task.eps, self.alpha))
        self.momentum = Momentum(config, task) if config.prior == "mep" else None

    def redraws(self, epoch: int) -> bool:
        """Every `reset_every` epochs, the first one included (FGSM_MEP.py:187-197)."""
        return (epoch - 1) % self.config.reset_every == 0

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Random corners, no momentum."""
        if self.redraws(epoch):
            self.delta.redraw_corners(min(self.alpha, self.task.eps))
            if self.momentum is not None:
                self.momentum.delta.zero_()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Algorithm 1; the model stays in train mode, gradients of the penalty flow through both forwards."""
        y, config = batch.y, self.config
        x_adv, z_prior = self.attack(model, batch)
        z = model(x_adv)
        loss = soft_target_loss(z, y, config.s) + config.lam * (z - z_prior).square().mean()
        learner.descend(loss)
        return StepReport(loss, x_adv)

    def attack(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images to train on, and the logits (B, K) at the prior with their graph; the next prior is kept."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        x_prior = x + self.delta.read(batch)  # may leave the pixel range (FGSM_MEP.py:242)
        z_prior, grad = logits_and_gradient(model, x_prior, y, config.s)
        x_adv = project_linf(x_prior + self.alpha * grad.sign(), x, eps)
        kept = x_adv if self.momentum is None else self.momentum.next_prior(batch, x_prior, grad)
        self.delta.write(batch, kept - x)
        return x_adv, z_prior


class Prior(DeltaStore):
    """Where the step starts: one perturbation per training image or, with `bp`, per position in the batch.

    `whole`: what is written is made of whole 255ths; then int8 keeps it exactly, and is taken unless `store` says else.
    """

    def __init__(self, config: Config, task: Task, whole: bool):
        whole = whole and config.store_size is None
        dtype = config.store or ("int8" if whole else "float32")
        n_rows = task.batch_size if config.prior == "bp" else task.n_train
        kept = replace(task, n_train=n_rows)
        super().__init__(kept, dtype, framed=config.align_prior, whole=whole, size=config.store_size)
        self.by_position = config.prior == "bp"

    def read(self, batch: Batch) -> Tensor:
        """The prior of the batch's images, (B, C, H, W)."""
        return super().read(self.rows(batch))

    def write(self, batch: Batch, delta: Tensor) -> None:
        """What the next visit starts from."""
        super().write(self.rows(batch), delta)

    def rows(self, batch: Batch) -> Batch:
        """The batch, its images numbered as this store keeps them."""
        n, device = len(batch.index), batch.index.device
        return replace(batch, index=torch.arange(n, device=device)) if self.by_position else batch


class Momentum(DeltaStore):
    """MEP: m_i, the memory of an image's gradients, and the prior that follows its sign."""

    def __init__(self, config: Config, task: Task):
        super().__init__(task, framed=config.align_prior, size=config.store_size)
        self.mu, self.alpha = config.mu, in_pixels(config.alpha, task.eps)

    def next_prior(self, batch: Batch, x_prior: Tensor, grad: Tensor, v: Tensor | None = None) -> Tensor:
        """m <- v g / |g|_1 + mu m, with the norm over the whole batch (FGSM_MEP.py:253-254); a step along sign m.

        v: a scalar, FGSM-PGK's weight of the batch; None: 1.
        """
        norm = self.task.processes.total(grad.abs().sum())
        fresh = grad / norm.clamp(min=1e-30)
        momentum = (fresh if v is None else v * fresh) + self.mu * self.read(batch)
        self.write(batch, momentum)
        return project_linf(x_prior + self.alpha * momentum.sign(), batch.x, self.task.eps)


def logits_and_gradient(model: nn.Module, x: Tensor, y: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """Logits (B, K) with their graph, for the penalty; gradient of the batch's mean soft-target loss, (B, C, H, W)."""
    x = x.detach().requires_grad_()
    logits = model(x)
    (grad,) = torch.autograd.grad(soft_target_loss(logits, y, s), x, retain_graph=True)
    return logits, grad


def stays_whole(eps: float, alpha: float) -> bool:
    """Whether steps of alpha leave delta in whole 255ths that int8 can count.

    Images are whole 255ths, so that cutting x + delta to [0, 1] does not change that.
    """
    whole = all(abs(255 * length - round(255 * length)) < 1e-6 for length in (eps, alpha))
    return whole and round(255 * eps) <= 127
