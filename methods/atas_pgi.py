"""ATAS + FGSM-PGI: the prior as the start, and ATAS's step size from there.

The ATAS paper says that prior-guided initialisation "can be synergistically combined with ATAS" and never ran it; this
definition is ours: the penalty is kept, alpha_i replaces alpha in the perturbation that is trained on, and MEP's prior
keeps its own alpha (EP and BP keep what was trained on). v_i comes from the gradient that PGI takes anyway: of the soft
target's loss, in train mode; its norm is about s - (1 - s)/(K - 1) = 0.56 of the cross-entropy's.
Cost per batch: as FGSM-PGI. State: as FGSM-PGI, and one number v_i per training image.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from fastat.attacks import project_linf
from fastat.losses import check_soft_target, soft_target_loss
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels
from methods import fgsm_pgi
from methods.atas import StepSize
from methods.fgsm_pgi import Momentum, Prior, logits_and_gradient, stays_whole

VERSION = 1
PASSES = fgsm_pgi.PASSES


@dataclass(frozen=True)
class Config(fgsm_pgi.Config):
    """Defaults: as methods/fgsm_pgi.py and methods/atas.py."""

    beta: float = 0.5
    c: float = 1.28
    gamma_over_c: Length = "16/255"


class Method(nn.Module):
    """The prior, the loss and the penalty of FGSM-PGI; the step size of ATAS."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        check_soft_target(config.s, task.n_classes)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)
        whole = config.prior == "mep" and stays_whole(task.eps, self.alpha)  # EP and BP keep steps of alpha_i
        self.delta = Prior(config, task, whole)
        self.momentum = Momentum(config, task) if config.prior == "mep" else None
        self.adaptive = StepSize(task, config.beta, config.c, config.gamma_over_c)

    def redraws(self, epoch: int) -> bool:
        """As methods/fgsm_pgi.py."""
        return (epoch - 1) % self.config.reset_every == 0

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Random corners, no momentum; v stays."""
        if self.redraws(epoch):
            self.delta.redraw_corners(min(self.alpha, self.task.eps))
            if self.momentum is not None:
                self.momentum.delta.zero_()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Line by line methods/fgsm_pgi.py."""
        y, config = batch.y, self.config
        x_adv, z_prior = self.attack(model, batch)
        z = model(x_adv)
        loss = soft_target_loss(z, y, config.s) + config.lam * (z - z_prior).square().mean()
        learner.descend(loss)
        return StepReport(loss, x_adv)

    def attack(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """So too, with alpha_i, from each image's own gradient at the prior, for alpha."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        x_prior = x + self.delta.read(batch)
        z_prior, grad = logits_and_gradient(model, x_prior, y, config.s)
        alpha = self.adaptive(batch, grad * len(y))
        x_adv = project_linf(x_prior + alpha * grad.sign(), x, eps)
        kept = x_adv if self.momentum is None else self.momentum.next_prior(batch, x_prior, grad)
        self.delta.write(batch, kept - x)
        return x_adv, z_prior
