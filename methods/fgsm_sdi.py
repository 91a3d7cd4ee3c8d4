"""FGSM-SDI: a small network learns where the single step should start.

Jia, Zhang, Wu, Wang, Cao, "Boosting fast adversarial training with learnable adversarial initialization", IEEE TIP
2022 (arXiv 2110.05007), Algorithm 1. Tables I and II, row FGSM-SDI.
Cost per batch: 3 forwards, 2 input backwards, 1 parameter backward and a forward of the generator; every 20th batch
also trains the generator: 2 forwards, 2 input backwards and the generator's own passes.
State: the generator and its Adam.
Departures: no gradient that is not used is computed (docs/departures.md). x_adv may leave the pixel range, as in the
released code (loss.py:57,71).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastat.adam import Adam
from fastat.attacks import input_gradient
from fastat.losses import check_soft_target, soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
CYCLE = 20  # PASSES are means over so many batches
PASSES = {"forward": 3.1, "input_backward": 2.1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: FGSM_SDI.py:32,49,111,157 (generator), :126-131 (s)."""

    alpha: Length = "1 eps"
    s: float = 0.5  # target probability of the true class
    generator_every: int = 20  # batches
    generator_lr: float = 1e-3
    generator_weight_decay: float = 5e-4
    width: int = 64  # channels of the generator
    clip: bool = False  # keep x_adv in the pixel range

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        if self.generator_every < 1:
            raise ValueError(f"generator_every must be 1 or more, got {self.generator_every}")


class Method(nn.Module):
    """FGSM-SDI. The attack uses plain cross-entropy, both descents the soft target."""

    REPLAYABLE = True
    ONE_PROCESS = "its generator has an optimiser of its own"

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.alpha, self.leaves_pixel_range = in_pixels(config.alpha, task.eps), not config.clip
        self.generator = Generator(task.image_shape[0], config.width, task.eps).to(task.device)
        self.adam = Adam(self.generator.parameters(), config.generator_lr, config.generator_weight_decay)

    def differs(self, batch: Batch) -> bool:
        """Whether the generator learns from this batch, too."""
        return batch.number % self.config.generator_every == 0

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Algorithm 1; the target network stays in train mode throughout."""
        x, y = batch.x, batch.y
        signs = input_gradient(model, x, y).sign()
        if self.differs(batch):
            self.generator.train()
            self.adam.step(-soft_target_loss(model(self.attack(model, batch, signs)), y, self.config.s))
        self.generator.eval()
        with torch.no_grad():
            x_adv = self.attack(model, batch, signs)
        loss = soft_target_loss(model(x_adv), y, self.config.s)
        learner.descend(loss)
        return StepReport(loss, x_adv)

    def attack(self, model: nn.Module, batch: Batch, signs: Tensor) -> Tensor:
        """One step from where the generator says; a function of the generator's weights through that start alone."""
        x, y, eps = batch.x, batch.y, self.task.eps
        start = self.generator(torch.cat([x, signs], 1))
        grad = input_gradient(model, x + start, y)
        x_adv = x + (start + min(self.alpha, eps) * grad.sign()).clamp(-eps, eps)
        return x_adv.clamp(0, 1) if self.config.clip else x_adv

    def get_extra_state(self) -> Tensor:
        """The generator's Adam."""
        return self.adam.state()

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.adam.load(state)


class Generator(nn.Module):
    """(x, sign of the gradient at x) -> a start in (-eps, eps); 79,173 weights at width 64 (attacker.py)."""

    def __init__(self, n_channels: int, width: int, eps: float):
        super().__init__()
        self.eps = eps
        self.head = nn.Sequential(
            nn.Conv2d(2 * n_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()
        )
        self.block = nn.Sequential(*(layer for _ in range(2) for layer in self.block_half(width)))
        self.tail = nn.Sequential(nn.BatchNorm2d(width, affine=False), nn.Conv2d(width, n_channels, 3, padding=1))

    @staticmethod
    def block_half(width: int) -> list[nn.Module]:
        """BN, PReLU, convolution."""
        conv = nn.Conv2d(width, width, 3, padding=1)
        nn.init.xavier_uniform_(conv.weight, gain=2**0.5)
        return [nn.BatchNorm2d(width, affine=False), nn.PReLU(), conv]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2C, H, W) -> (B, C, H, W)."""
        features = self.head(x)
        return self.eps * self.tail(features + self.block(features)).tanh()
