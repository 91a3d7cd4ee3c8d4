"""LIET: the step starts along what the network takes for the image's class, or against it; smoothed labels are random.

Pan, Tang, Li, Yao, "Mitigating catastrophic overfitting in fast adversarial training via label information
elimination", ICCV 2025. Not in the ATAS paper. What a class looks like is asked of the network on grey images.
Cost per batch: 2 forwards, 1 input backward, 2 parameter backwards; every 20th batch also a forward and an input
backward of one grey image per class.
State: per class the signs of a perturbation, in int8.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from fastat.attacks import eval_mode, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
CYCLE = 20
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 2}
PASSES_PER_CLASS = {"forward": 1, "input_backward": 1}  # of one image, every CYCLE batches


@dataclass(frozen=True)
class Config:
    """Defaults: configs.yaml of its code, CIFAR10 at eps 8/255."""

    label_smoothing: float = 0.6  # what the other classes share, in proportions drawn for each image
    lam: float = 100.0  # of the Jensen-Shannon divergence, in the last epoch; it grows from 0 with the epochs
    noisy: tuple[float, float] = (0.1, 0.5)  # between these lies the share of a batch's pixels that start at noise
    noise: float = 1.0  # which is from U(-noise eps, noise eps); above 8/255: 2
    alpha: Length = "1 eps"
    projected: bool = True  # above 8/255: not
    refresh_every: int = 20  # batches, from the first of an epoch

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        check_label_smoothing(self.label_smoothing)
        if not (self.lam >= 0 and self.noise >= 0):
            raise ValueError(f"lam and noise must be 0 or more, got {self.lam} and {self.noise}")
        if not (len(self.noisy) == 2 and 0 <= self.noisy[0] <= self.noisy[1] <= 1):
            raise ValueError(f"noisy must be two shares from 0 to 1, the lower first, got {self.noisy}")
        if self.refresh_every < 1:
            raise ValueError(f"refresh_every must be 1 or more, got {self.refresh_every}")


class Method(nn.Module):
    """LIET."""

    REPLAYABLE = True
    of_class: Tensor  # (K, C, H, W) int8, signs

    def __init__(self, config: Config, task: Task):
        super().__init__()
        self.config, self.task = config, task
        self.alpha, self.noise = in_pixels(config.alpha, task.eps), config.noise * task.eps
        self.radius = task.eps if config.projected else max(task.eps, self.noise) + self.alpha
        signs = torch.zeros((task.n_classes, *task.image_shape), dtype=torch.int8, device=task.device)
        self.register_buffer("of_class", signs)

    def differs(self, batch: Batch) -> bool:
        """Whether the network is asked about its classes before this batch."""
        return batch.number % self.config.refresh_every == 0

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """main.py:108-213; the model stays in train mode but for the grey images."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        if self.differs(batch):
            self.ask(model)
        x_start = self.start(batch).requires_grad_()
        z_start = model(x_start)
        (grad,) = torch.autograd.grad(self.loss(z_start, y), x_start, retain_graph=True)
        x_adv = x_start.detach() + self.alpha * grad.sign()
        x_adv = project_linf(x_adv, x, eps) if config.projected else x_adv.clamp_(0, 1)
        z = model(x_adv)
        lam = config.lam * batch.epoch / self.task.n_epochs
        loss = self.loss(z, y) + lam * jensen_shannon(z_start, z)
        learner.descend(loss)
        return StepReport(loss, x_adv)

    def ask(self, model: nn.Module) -> None:
        """Per class, the signs of the gradient at a grey image that is called so; as many at once as a batch has."""
        n, size, device = len(self.of_class), self.task.batch_size, self.of_class.device
        draws = torch.empty((n, n), device=device).uniform_(generator=self.task.rng)
        target = spread(draws, torch.arange(n, device=device), self.config.label_smoothing)
        with eval_mode(model):
            for signs, called in zip(self.of_class.split(size), target.split(size), strict=True):
                grey = torch.full(signs.shape, 0.5, device=device, requires_grad=True)
                (grad,) = torch.autograd.grad(cross_entropy(model(grey), called), grey)
                signs.copy_(grad.sign())

    def start(self, batch: Batch) -> Tensor:
        """The class's perturbation, a share of its pixels noise instead; all of the batch with it or all against it."""
        x, rng = batch.x, self.task.rng
        share = torch.empty((), device=x.device).uniform_(*self.config.noisy, generator=rng)
        coin = torch.empty((), device=x.device).bernoulli_(generator=rng)
        is_noisy = uniform_like(x, 0.5, rng) + 0.5 < share
        delta = torch.where(is_noisy, uniform_like(x, self.noise, rng), self.task.eps * self.of_class[batch.y])
        return (x + (2 * coin - 1) * delta).clamp_(0, 1)

    def loss(self, z: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy against labels that are smoothed anew in every call."""
        draws = uniform_like(z.detach().float(), 0.5, self.task.rng) + 0.5
        return cross_entropy(z, spread(draws, y, self.config.label_smoothing))


def spread(draws: Tensor, y: Tensor, share: float) -> Tensor:
    """1 - share on the true class, and `share` over the others in proportion to (B, K) `draws` >= 0. Shape: (B, K)."""
    is_true = torch.arange(draws.shape[1], device=y.device) == y[:, None]
    others = torch.where(is_true, 0, draws.clamp(min=1e-30))
    return torch.where(is_true, 1 - share, share * others / others.sum(1, keepdim=True))


def jensen_shannon(z: Tensor, other: Tensor) -> Tensor:
    """Divergence of two softmax outputs in nats, a mean over images; at most ln 2. Shapes: (B, K) twice -> scalar."""
    log_p, log_q = log_softmax(z, 1), log_softmax(other, 1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(1).mean()
