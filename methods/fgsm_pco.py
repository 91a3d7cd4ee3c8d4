"""FGSM-PCO: train on a blend of the last epoch's attack on an image and this one's, the more of the last the less sure.

Wang, Wang, Tian, Jin, "Preventing catastrophic overfitting in fast adversarial training: A bi-level optimization
perspective", ECCV 2024 (arXiv 2407.12443). Not in the ATAS paper. Variant `detached` takes the blend's weight for a
constant; as released, the loss is differentiated through it too.
Cost per batch: 3 forwards, 1 input backward, 2 parameter backwards, 1 of both; `detached`: 3 parameter backwards.
State: one perturbation per training image (int8 where that is exact), drawn once.
Departures: none in what is computed; no weight gradient is computed and thrown away (docs/departures.md). As released,
the perturbation does not follow the crop and flip of its image, and the blend leaves ball and pixel range.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softmax

from fastat.attacks import project_linf
from fastat.losses import check_soft_target, soft_target_loss
from fastat.store import DeltaStore
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels
from methods.fgsm_pgi import logits_and_gradient, stays_whole

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 2, "joint_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: FGSM-PCO.py:30,35,190,201 (CIFAR10)."""

    alpha: Length = "1 eps"
    beta: float = 1.5  # this epoch's perturbation enters the blend so many times as large
    lam: float = 10.0  # weight of the penalty
    s: float = 0.6  # target probability of the true class
    detach_blend: bool = False  # no gradient through the weight of the blend
    store: str | None = None  # float32, float16 or int8; None: int8 where that is exact, else float32
    store_size: int | None = None  # ImageNet: 32, the pixels a side that the perturbation is kept in

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        if not (self.beta >= 0 and self.lam >= 0):
            raise ValueError(f"beta and lam must be 0 or more, got {self.beta} and {self.lam}")


class Method(nn.Module):
    """FGSM-PCO."""

    REPLAYABLE = True
    leaves_pixel_range = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.alpha, self.radius = in_pixels(config.alpha, task.eps), max(config.beta, 1.0) * task.eps
        whole = stays_whole(task.eps, self.alpha) and config.store_size is None
        dtype = config.store or ("int8" if whole else "float32")
        self.delta = DeltaStore(task, dtype, framed=False, whole=whole, size=config.store_size)

    def redraws(self, epoch: int) -> bool:
        """Before the first epoch alone (FGSM-PCO.py:152)."""
        return epoch == 1

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Random corners."""
        if self.redraws(epoch):
            self.delta.redraw_corners(min(self.alpha, self.task.eps))

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """FGSM-PCO.py:177-209; the model stays in train mode, the gradient flows through all three forwards."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        x_last = x + self.delta.read(batch)  # may leave the pixel range
        z_last, grad = logits_and_gradient(model, x_last, y, config.s)
        x_fgsm = project_linf(x_last + self.alpha * grad.sign(), x, eps)
        self.delta.write(batch, x_fgsm - x)
        doubt = 1 - probability(z_last.detach() if config.detach_blend else z_last, y).to(x.dtype)
        x_adv = torch.lerp(x + config.beta * (x_fgsm - x), x_last, doubt)
        z, z_fgsm = model(x_adv), model(x_fgsm)
        gap = mse_loss(z_fgsm, z_last) - mse_loss(z_fgsm, z)
        sign = self.task.processes.total(gap.detach()).sign()  # |gap| is of the whole batch
        loss = soft_target_loss(z, y, config.s) + config.lam * sign * gap
        learner.descend(loss)
        return StepReport(loss, x_adv.detach(), {"doubt": doubt.detach().mean()})


def probability(z: Tensor, y: Tensor) -> Tensor:
    """What the network gives the true class. Shapes: z (B, K), y (B,) -> (B, 1, 1, 1)."""
    return softmax(z, 1).gather(1, y[:, None])[:, :, None, None]
