"""FGSM-LAW: outputs and features are held together, and the average of the weights passes over weak attacks.

Jia, Chen, Mao, Duan, Gu, Zhang, Xue, Liu, Cao, "Revisiting and exploring efficient fast adversarial training via LAW:
Lipschitz regularization and auto weight averaging", IEEE TIFS 2024 (arXiv 2308.11443). Not in the ATAS paper. The step
starts at a corner of half the ball. What is called a Lipschitz constant has mean delta^2 + 1/8 below the line, which at
eps 8/255 is 1/8. The average, which is what is reported, takes only batches in which the attack left few images right.
Cost per batch: 3 forwards, 1 input backward, 2 parameter backwards; one forward less with `reference: start`.
State: the number of averaged batches; beside it the average.
Departures: none in what is computed; a batch with no clean image right divides by 1, where its code stops, and no
weight gradient is computed and thrown away.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from fastat.attacks import project_linf, uniform_like
from fastat.features import logits_and_features
from fastat.losses import check_soft_target, soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
NEEDS = ("features",)


@dataclass(frozen=True)
class Config:
    """Defaults: FGSM_LAW_CIFAR_10.py:23-51,235; CIFAR100 as FGSM_LAW_CIFAR100.py."""

    start: Length = "0.5 eps"  # how far the corner is that the step starts from
    alpha: Length = "1 eps"
    s: float = 0.7  # target probability of the true class; CIFAR100: 0.5
    lam: float = 12.0  # weight of the quotient; CIFAR100: 42
    floor: float = 0.125  # added to mean delta^2 (c_num)
    reference: str = "clean"  # what the attacked image is held to; CIFAR100: start
    threshold: float = 0.82  # of the share of images that stay right, below which a batch counts; CIFAR100: 0.55
    added: int = 0  # to the number of images that are right at the reference; CIFAR100: 1

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        if self.reference not in ("clean", "start"):
            raise ValueError(f"reference must be clean or start, got {self.reference!r}")
        if not (self.lam >= 0 and self.floor > 0):
            raise ValueError(f"lam must be 0 or more and floor above 0, got {self.lam} and {self.floor}")
        if not (self.threshold >= 0 and self.added >= 0):
            raise ValueError(f"threshold and added must be 0 or more, got {self.threshold} and {self.added}")


class Method(nn.Module):
    """FGSM-LAW."""

    REPLAYABLE = True
    updates: Tensor

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.start, self.alpha = in_pixels(config.start, task.eps), in_pixels(config.alpha, task.eps)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=task.device))

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """FGSM_LAW_CIFAR_10.py:228-287; the model stays in train mode, the gradient flows through both outputs."""
        x, y, eps, config, processes = batch.x, batch.y, self.task.eps, self.config, self.task.processes
        corner = uniform_like(x, 1, self.task.rng).sign()
        x_start = project_linf(x + self.start * corner, x, eps).requires_grad_()
        at_start = logits_and_features(model, x_start)
        twice = cross_entropy(at_start[0].softmax(1), y)  # a softmax of a softmax (:243-249)
        clean = config.reference == "clean"
        (grad,) = torch.autograd.grad(twice, x_start, retain_graph=not clean)
        x_start = x_start.detach()
        x_adv = project_linf(x_start + self.alpha * grad.sign(), x, eps)
        x_held, held = (x, logits_and_features(model, x)) if clean else (x_start, at_start)
        z, features = logits_and_features(model, x_adv)
        apart = distance(z, held[0], x.dtype) + distance(features, held[1], x.dtype)
        moved = processes.total((x_adv - x_held).square().mean()) / processes.size  # of the whole batch
        loss = soft_target_loss(z, y, config.s) + config.lam * apart / (moved + config.floor)
        still_right = self.still_right(z, held[0], y)
        decay = self.decay(still_right, learner.average_decay)
        learner.descend(loss, decay)
        return StepReport(loss, x_adv, {"still_right": still_right, "average_decay": decay})

    def still_right(self, z: Tensor, z_held: Tensor, y: Tensor) -> Tensor:
        """Images right at x_adv by those at the reference, of the whole batch. Shapes: (B, K) twice, (B,) -> scalar."""
        right = torch.stack([(logits.argmax(1) == y).sum() for logits in (z, z_held)])
        at_adv, at_held = self.task.processes.total(right).unbind()
        return at_adv / (at_held + self.config.added).clamp(min=1)

    def decay(self, still_right: Tensor, usual: float) -> Tensor:
        """The average's decay: `usual`, small at first, where the attack is strong, else 1 (:110-118,285-286)."""
        is_strong = still_right < self.config.threshold
        decay = ((self.updates + 1) / (self.updates + 10)).clamp(max=usual)
        self.updates.add_(is_strong)
        return torch.where(is_strong, decay, 1)


def distance(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean squared difference of the softmax of rows. Shapes: (B, D) twice -> scalar."""
    return mse_loss(one.to(dtype).softmax(1), other.to(dtype).softmax(1))
