"""ATAS: ATTA with a step size per image, inversely proportional to its input-gradient norm.

Huang, Fan, Liu, Zhang, Zhang, Salzmann, Suesstrunk, Wang, "Fast adversarial training with adaptive step size",
IEEE TIP 2023 (arXiv 2206.02417), Algorithm 1. Tables I and II, row ATAS.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward, and one norm per image.
State: one perturbation and one number v_i per training image.
Departures: c is 1.28 on the gradient of each image's own loss; the released code's 0.01 on the gradient of a mean
over 128 images is the same step (docs/departures.md). Variant `released` adds that code's warm-up and clamp.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import eval_mode, input_gradient, project_linf
from fastat.store import DeltaStore
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: ATAS paper, Sec. V (beta, gamma/c) and ATAS.py:59,61,165 (c, beta, reset)."""

    beta: float = 0.5  # memory of v
    c: float = 1.28  # 128 x 0.01: norms are of per-image gradients
    gamma_over_c: Length = "16/255"  # the step of an image without gradient
    reset_every: int = 10
    store: str = "float32"  # or float16, int8: what delta is kept in
    store_size: int | None = None  # ImageNet: 32, the pixels a side that delta is kept in
    frozen: bool = False  # released, ImageNet: delta is drawn and never written (data_aug.py:105-119)
    warmup_epochs: int = 0  # released: 5, with the constant step eps and v untouched (ATAS.py:52,64)
    clamp: tuple[Length, Length] | None = None  # released: 4/255 .. 14/255 (adv_attack.py:47-49)


class Method(nn.Module):
    """ATAS. The lines that differ from methods/atta.py are the paper: alpha_i (`StepSize`). `frozen` is off in it."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.reset_every < 1:
            raise ValueError(f"reset_every must be 1 or more, got {config.reset_every}")
        self.config, self.task = config, task
        self.delta = DeltaStore(task, config.store, size=config.store_size, frozen=config.frozen)
        self.step_size = StepSize(task, config.beta, config.c, config.gamma_over_c, config.warmup_epochs, config.clamp)

    def redraws(self, epoch: int) -> bool:
        """At the start and every `reset_every` epochs, but not for the last one."""
        return epoch == 1 or (epoch % self.config.reset_every == 0 and epoch != self.task.n_epochs)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """delta_i ~ U(-eps, eps); v stays."""
        if self.redraws(epoch):
            self.delta.redraw()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """The loop body of Algorithm 1."""
        x, y, eps = batch.x, batch.y, self.task.eps
        x_prev = project_linf(x + self.delta.read(batch), x, eps)  # x_i^{j-1}, seen through this crop
        with eval_mode(model):
            grad = input_gradient(model, x_prev, y)
        alpha = self.step_size(batch, grad)
        x_adv = project_linf(x_prev + alpha * grad.sign(), x, eps)  # x_i^j
        self.delta.write(batch, x_adv - x)
        loss = cross_entropy(model(x_adv), y)
        learner.descend(loss)
        return StepReport(loss, x_adv, {"alpha_255": alpha.mean() * 255}, grad, alpha)


class StepSize(nn.Module):
    """alpha_i = gamma / (c + sqrt(v_i)), with v_i the running mean of ||grad_i||^2 over visits (Algorithm 1)."""

    SHARDED = ("v",)
    v: Tensor

    def __init__(
        self,
        task: Task,
        beta: float,
        c: float,
        gamma_over_c: Length,
        warmup_epochs: int = 0,
        clamp: tuple[Length, Length] | None = None,
    ):
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f"beta must be in [0, 1), got {beta}")
        if not c > 0:
            raise ValueError(f"c must be above 0, got {c}")
        if warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must be 0 or more, got {warmup_epochs}")
        self.beta, self.c, self.gamma = beta, c, c * in_pixels(gamma_over_c, task.eps)
        self.clamp = [in_pixels(length, task.eps) for length in clamp or ()]
        if self.clamp != sorted(self.clamp):
            raise ValueError(f"clamp must be [lowest, highest], got {clamp}")
        self.warmup_epochs, self.eps = warmup_epochs, task.eps
        self.register_buffer("v", torch.zeros(task.n_train, device=task.device))

    def forward(self, batch: Batch, grad: Tensor) -> Tensor:
        """Per-image gradients (B, C, H, W) -> step sizes (B, 1, 1, 1). Moves v."""
        if batch.epoch <= self.warmup_epochs:
            return torch.full_like(grad[:, :1, :1, :1], self.eps)
        norm = torch.linalg.vector_norm(grad, dim=(1, 2, 3))
        v = self.beta * self.v[batch.index] + (1 - self.beta) * norm**2
        self.v[batch.index] = v
        alpha = self.gamma / (self.c + v.sqrt())
        return (alpha.clamp(*self.clamp) if self.clamp else alpha)[:, None, None, None]
