"""ATAS + FGSM-SDI: the learnt start, and ATAS's step size from there.

The ATAS paper says that learnable initialisation "can be synergistically combined with ATAS" and never ran it; this
definition is ours: v_i comes from the gradient at the learnt start, in train mode as SDI takes it, and no perturbation
is carried. alpha_i may exceed eps; only the sum of start and step is cut to eps. In a batch that also trains the
generator v_i moves twice.
Cost per batch: as FGSM-SDI. State: as FGSM-SDI, and one number v_i per training image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastat.adam import Adam
from fastat.attacks import input_gradient
from fastat.losses import check_soft_target, soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length
from methods import fgsm_sdi
from methods.atas import StepSize
from methods.fgsm_sdi import Generator

VERSION = 1
CYCLE = fgsm_sdi.CYCLE
PASSES = fgsm_sdi.PASSES


@dataclass(frozen=True)
class Config(fgsm_sdi.Config):
    """Defaults: as methods/fgsm_sdi.py and methods/atas.py; `alpha` is not used."""

    beta: float = 0.5
    c: float = 1.28
    gamma_over_c: Length = "16/255"


class Method(nn.Module):
    """The learnt start and the loss of FGSM-SDI; the step size of ATAS."""

    REPLAYABLE = True
    ONE_PROCESS = fgsm_sdi.Method.ONE_PROCESS

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.leaves_pixel_range = not config.clip
        self.generator = Generator(task.image_shape[0], config.width, task.eps).to(task.device)
        self.adam = Adam(self.generator.parameters(), config.generator_lr, config.generator_weight_decay)
        self.adaptive = StepSize(task, config.beta, config.c, config.gamma_over_c)

    def differs(self, batch: Batch) -> bool:
        """Whether the generator learns from this batch, too."""
        return batch.number % self.config.generator_every == 0

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """As methods/fgsm_sdi.py: every `generator_every` batches the generator learns, then the network."""
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
        """Line by line methods/fgsm_sdi.py, with alpha_i, from the gradient at the learnt start, for alpha."""
        x, y, eps = batch.x, batch.y, self.task.eps
        start = self.generator(torch.cat([x, signs], 1))
        grad = input_gradient(model, x + start, y)
        alpha = self.adaptive(batch, grad)
        x_adv = x + (start + alpha * grad.sign()).clamp(-eps, eps)
        return x_adv.clamp(0, 1) if self.config.clip else x_adv

    def get_extra_state(self) -> Tensor:
        """The generator's Adam."""
        return self.adam.state()

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.adam.load(state)
