"""ELLE: FGSM, and a penalty when the loss is not linear between two random points of the eps-ball.

Abad Rocamora, Liu, Chrysos, Olmos, Cevher, "Efficient local linearity regularization to overcome catastrophic
overfitting", ICLR 2024 (arXiv 2401.11618). Not in the ATAS paper: GradAlign's aim without a double backward. Variant
`adaptive` (ELLE-A) has no penalty until its error is an outlier among all before, and lets it decay from there.
Cost per batch: 5 forwards, 1 input backward, 4 parameter backwards; the two points and the one between go together.
State: ELLE-A's lambda, and number, mean and squared deviations of the errors so far.
Departures: x_adv is cut to the pixel range, and the weights are updated once (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import input_gradient, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 5, "input_backward": 1, "parameter_backward": 4}


@dataclass(frozen=True)
class Config:
    """Defaults: scripts/run_elle*_cifar10.sh at eps 8/255; train.py:124-127,216-227 (decay, deviations)."""

    lam: float = 1000.0  # of ELLE-A the lambda that an outlier sets
    k: float = 0.0  # the step starts at x + U(-k eps, k eps); 2: N-FGSM + ELLE
    alpha: Length = "1 eps"
    clip: bool = True  # keep x_adv in the pixel range
    adaptive: bool = False  # ELLE-A
    decay: float = 0.99  # of ELLE-A's lambda, each batch
    deviations: float = 2.0  # an error so many standard deviations above the mean is an outlier
    label_smoothing: float = 0.0  # of the loss at x_adv; attack and E keep the plain cross-entropy
    updates: int = 1  # released: 2, with the same gradient (utils/train.py:231,237)

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        if not (self.lam >= 0 and self.k >= 0 and self.deviations >= 0):
            raise ValueError(f"lam, k and deviations must be 0 or more, got {self.lam}, {self.k} and {self.deviations}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {self.decay}")
        check_label_smoothing(self.label_smoothing)
        if self.updates not in (1, 2):
            raise ValueError(f"updates must be 1 or 2, got {self.updates}")


class Method(nn.Module):
    """FGSM + ELLE."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        self.config, self.task = config, task
        self.alpha, self.leaves_pixel_range = in_pixels(config.alpha, task.eps), not config.clip
        self.radius = config.k * task.eps + self.alpha
        self.adaptive = Adaptive(config, task) if config.adaptive else None

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """l(x + delta) + lam E (train.py:288-339); the model stays in train mode."""
        x, y, eps, config, rng = batch.x, batch.y, self.task.eps, self.config, self.task.rng
        x_start = x + uniform_like(x, config.k * eps, rng) if config.k else x
        grad = input_gradient(model, x_start, y)
        x_adv = x_start + self.alpha * grad.sign()
        if config.clip:
            x_adv = x_adv.clamp_(0, 1)
        attack_loss = cross_entropy(model(x_adv), y, label_smoothing=config.label_smoothing)

        x_a, x_b = x + uniform_like(x, eps, rng), x + uniform_like(x, eps, rng)  # not clipped
        t = uniform_like(x[:, :1, :1, :1], 0.5, rng) + 0.5  # one per image
        z = model(torch.cat([x_a, x_b, (1 - t) * x_a + t * x_b]))
        loss_a, loss_b, loss_between = cross_entropy(z, y.repeat(3), reduction="none").chunk(3)
        error = nonlinearity(loss_a, loss_b, loss_between, t.flatten()).mean()

        lam = torch.full_like(error.detach(), config.lam)
        if self.adaptive is not None:
            lam.copy_(self.adaptive.lam)  # `see` changes it in place
        loss = attack_loss + lam * error
        learner.accumulate(loss)
        if self.adaptive is not None:
            self.adaptive.see(error.detach())
        if config.updates == 2:
            again = [(p, p.grad.clone()) for p in model.parameters() if p.grad is not None]
            learner.apply()
            for p, grad_theta in again:
                p.grad = grad_theta
        learner.apply()
        return StepReport(loss, x_adv, {"error": error.detach(), "lam": lam}, grad)


def nonlinearity(loss_a: Tensor, loss_b: Tensor, loss_between: Tensor, t: Tensor) -> Tensor:
    """Squared error of the straight line from a to b at (1 - t) a + t b. Shapes: (B,) each -> (B,)."""
    return (loss_between - (1 - t) * loss_a - t * loss_b).square()


class Adaptive(nn.Module):
    """ELLE-A's lambda: `lam` after a batch whose error is an outlier, else `decay` of what it was; 0 at first."""

    lam: Tensor
    n: Tensor  # errors so far
    mean: Tensor
    squares: Tensor  # the sum of their squared deviations

    def __init__(self, config: Config, task: Task):
        super().__init__()
        self.config, self.task = config, task
        for name in ("lam", "n", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64, device=task.device))

    def see(self, error: Tensor) -> None:
        """The lambda of the next batch; then the error of this one joins those before (by Welford's rule)."""
        error = self.task.processes.total(error).double() / self.task.processes.size
        std = (self.squares / self.n.clamp(min=1)).sqrt()
        is_outlier = (self.n > 2) & (error > self.mean + self.config.deviations * std)
        self.lam.copy_(torch.where(is_outlier, self.config.lam, self.config.decay * self.lam))
        self.n.add_(1)
        deviation = error - self.mean
        self.mean.add_(deviation / self.n)
        self.squares.add_(deviation * (error - self.mean))
