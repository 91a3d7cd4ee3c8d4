"""FGSM-UAP, -CUAP: FGSM-PGI's prior kept once for all images, or once per class, and not per image.

Pan, Li, Yao, "Adversarial initialization with universal adversarial perturbation: A new approach to fast adversarial
training", AAAI 2024. Not in the ATAS paper. The prior is larger than eps; the start is cut to the ball and to the pixel
range. Variant `class` (FGSM-CUAP) has one prior per class; methods/fgsm_fuap.py has one per cluster of features.
Cost per batch: 2 forwards, 1 input backward, 2 parameter backwards.
State: per group the signs of a perturbation, in int8, and a momentum of gradients.
Departures: no weight gradient is computed and thrown away. The gradient that the prior follows in the code is a view of
x's .grad (fat/fgsm_one_uap.py:71), to which the descent's backward adds before it is used (:84-88): `released`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import project_linf
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 2}


@dataclass(frozen=True)
class Step:
    """What does not ask whose the prior is. Defaults: fat/fgsm_one_uap.py of its code, CIFAR10 at eps 8/255."""

    alpha: Length = "1 eps"
    size: Length = "1.25 eps"  # of the prior; released: 10/255 whatever eps is
    mu: float = 0.3  # memory of the momentum
    lam: float = 10.0  # weight of the mean squared difference of logits
    label_smoothing: float = 0.4  # of attack and descent
    followed: str = "attack"  # whose gradient the prior follows; both: and the descent's, at the start of the step

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        check_label_smoothing(self.label_smoothing)
        if self.followed not in ("attack", "both"):
            raise ValueError(f"followed must be attack or both, got {self.followed!r}")
        if not (self.mu >= 0 and self.lam >= 0):
            raise ValueError(f"mu and lam must be 0 or more, got {self.mu} and {self.lam}")


@dataclass(frozen=True)
class Config(Step):
    """One prior for all images, or one per class."""

    per_class: bool = False  # FGSM-CUAP: fat/fgsm_class_uap.py


class Priors(nn.Module):
    """A prior and a momentum per group of images, and the step that starts there.

    The prior is as large as it may be, or 0, in every pixel: from +size a step against it leads to 0.
    """

    prior: Tensor  # (groups, C, H, W) int8, signs
    momentum: Tensor  # (groups, C, H, W)

    def __init__(self, config: Step, task: Task, n_groups: int):
        super().__init__()
        self.config, self.task = config, task
        self.alpha, self.size = in_pixels(config.alpha, task.eps), in_pixels(config.size, task.eps)
        shape = (n_groups, *task.image_shape)
        self.register_buffer("prior", torch.zeros(shape, dtype=torch.int8, device=task.device))
        self.register_buffer("momentum", torch.zeros(shape, device=task.device))

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Before the first, a random corner for each group."""
        if epoch == 1:
            coins = torch.empty_like(self.momentum).bernoulli_(generator=self.task.rng)
            self.prior.copy_(2 * coins - 1)

    def train_from(self, near: Tensor, group: Tensor, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """As methods/fgsm_pgi.py, but for prior and target; the prior moves last.

        Shapes: near (B, C, H, W), where the images' priors are added; group (B,), whose prior is an image's.
        """
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        x_prior = project_linf(near + self.size * self.prior[group], x, eps).requires_grad_()
        z_prior = model(x_prior)
        loss = cross_entropy(z_prior, y, label_smoothing=config.label_smoothing)
        (grad,) = torch.autograd.grad(loss, x_prior, retain_graph=True)
        x_adv = project_linf(x_prior.detach() + self.alpha * grad.sign(), x, eps)
        z = model(x_adv)
        loss = cross_entropy(z, y, label_smoothing=config.label_smoothing)
        loss = loss + config.lam * (z - z_prior).square().mean()
        if config.followed == "both":
            learner.accumulate(loss, inputs=(x_prior,))
            assert x_prior.grad is not None
            grad = grad + x_prior.grad
        else:
            learner.accumulate(loss)
        learner.apply()
        self.follow(grad, group)
        return StepReport(loss, x_adv)

    def follow(self, grad: Tensor, group: Tensor) -> None:
        """m <- mean of g / |g|_1 over the group's images + mu m, with the norm of the whole batch; a step along sign m.

        Groups without an image in the batch keep both. The sums are a product with 0 and 1, which always adds up in the
        same order; in float64, which neither autocast nor TF32 rounds.
        """
        processes = self.task.processes
        members = (group == torch.arange(len(self.prior), device=group.device)[:, None]).double()
        sums = (members @ grad.double().flatten(1)).view_as(self.momentum)
        norm, sums, n = (processes.total(part) for part in (grad.abs().sum(), sums, members.sum(1)))
        n = n[:, None, None, None]
        momentum = sums / n.clamp(min=1) / norm.clamp(min=1e-30) + self.config.mu * self.momentum
        self.momentum.copy_(torch.where(n > 0, momentum, self.momentum))
        moved = (self.prior + self.momentum.sign().to(torch.int8)).clamp_(-1, 1)
        self.prior.copy_(torch.where(n > 0, moved, self.prior))


class Method(Priors):
    """FGSM-UAP, -CUAP."""

    REPLAYABLE = True
    config: Config

    def __init__(self, config: Config, task: Task):
        super().__init__(config, task, task.n_classes if config.per_class else 1)

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """From each image's own prior."""
        group = batch.y if self.config.per_class else torch.zeros_like(batch.y)
        return self.train_from(batch.x, group, model, batch, learner)
