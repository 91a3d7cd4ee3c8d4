"""FGSM-PGK: FGSM-PGI whose prior heeds a batch the more the stronger its step was, and an average that knows of it.

Jia, Zhang, Wei, Wu, Ma, Wang, Cao, "Improving fast adversarial training with prior-guided knowledge", IEEE TPAMI 2024
(arXiv 2304.00202). Not in the ATAS paper. It counts the images that are right at the attacked image and,
independently, those at the prior; their quotient may exceed 1, and one that grows tells of catastrophic overfitting.
The average of the weights, which is what is reported, then moves less (not in a first fifth of the training).
Cost per batch: as FGSM-PGI. State: as FGSM-PGI, and the number of updates; beside it the average.
Departures: all images are trained on, and a batch with no image right divides by 1 (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastat.attacks import project_linf
from fastat.losses import soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from methods import fgsm_pgi
from methods.fgsm_pgi import logits_and_gradient

VERSION = 1
PASSES = fgsm_pgi.PASSES


@dataclass(frozen=True)
class Config(fgsm_pgi.Config):
    """Defaults: FGSM_PGK_CIFAR10.py:22-44; CIFAR100 as FGSM_PGK_CIFAR100.py:19-41."""

    reset_every: int = 10  # CIFAR100: 40
    mu: float = 0.3  # CIFAR100: 0.1
    lam: float = 5.6  # CIFAR100: 1
    s: float = 0.5  # CIFAR100: 0.8
    threshold: float = 0.82  # of the share, from where on the step is weak; CIFAR100: 0.9
    added: int = 0  # to the number of images that are right at the prior; CIFAR100: 1
    averaged: str = "all"  # batches; `weak`: those alone whose step was weak (FGSM_PGK_CIFAR100.py, released)

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        super().__post_init__()
        if self.prior != "mep":
            raise ValueError(f"prior must be mep: FGSM-PGK is about its momentum; got {self.prior!r}")
        if not (self.threshold > 0 and self.added >= 0):
            raise ValueError(f"threshold must be above 0 and added 0 or more, got {self.threshold} and {self.added}")
        if self.averaged not in ("all", "weak"):
            raise ValueError(f"averaged must be all or weak, got {self.averaged!r}")


class Method(fgsm_pgi.Method):
    """FGSM-PGK."""

    updates: Tensor
    config: Config

    def __init__(self, config: Config, task: Task):
        super().__init__(config, task)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=task.device))

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """methods/fgsm_pgi.py with the next prior after the second forward (FGSM_PGK_CIFAR10.py:285-352)."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        x_prior = x + self.delta.read(batch)
        z_prior, grad = logits_and_gradient(model, x_prior, y, config.s)
        x_adv = project_linf(x_prior + self.alpha * grad.sign(), x, eps)
        z = model(x_adv)
        still_right = self.still_right(z, z_prior, y)
        assert self.momentum is not None
        self.delta.write(batch, self.momentum.next_prior(batch, x_prior, grad, 2 - still_right) - x)
        loss = soft_target_loss(z, y, config.s) + config.lam * (z - z_prior).square().mean()
        decay = self.decay(still_right, learner.average_decay)
        learner.descend(loss, decay)
        return StepReport(loss, x_adv, {"still_right": still_right, "average_decay": decay})

    def still_right(self, z: Tensor, z_prior: Tensor, y: Tensor) -> Tensor:
        """Images right at x_adv by those at the prior, of the whole batch. Shapes: (B, K) twice, (B,) -> scalar."""
        right = torch.stack([(logits.argmax(1) == y).sum() for logits in (z, z_prior)])
        at_adv, at_prior = self.task.processes.total(right).unbind()
        return at_adv / (at_prior + self.config.added).clamp(min=1)

    def decay(self, still_right: Tensor, usual: float) -> Tensor:
        """The average's decay: `usual` while the step is strong, else about 1, and small at first (:74-84,338-346)."""
        share = still_right / self.config.threshold
        decay = torch.where(share < 1, usual, (0.99999 * share).clamp(max=1))
        decay = torch.minimum(decay, (self.updates + 1) / (self.updates + 10))
        if self.config.averaged == "all":
            self.updates.add_(1)
            return decay
        self.updates.add_(share >= 1)
        return torch.where(share < 1, 1.0, decay)
