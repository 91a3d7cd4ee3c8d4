"""FGSM-MEP-CS: FGSM-PGI's attack, and the loss on the clean images held near its mean over the last epoch.

Zhao, Zhang, Kong, Yin, "Fast adversarial training with smooth convergence", ICCV 2023 (arXiv 2308.12857). Not in the
ATAS paper. Beside the loss of the attack, the clean one is pushed down where it is above last epoch's mean, and up
where it is below it (`ConvergeSmooth` of methods/fgsm_rs_cs.py). As released, FGSM-MEP's own penalty is off; variant
`mse` has it, and is all of FGSM-PGI with that constraint.
Cost per batch: 3 forwards, 1 input backward, 2 parameter backwards; `mse`: 3.
State: that of FGSM-PGI, and four numbers.
"""

from dataclasses import dataclass

from torch import nn

from fastat.losses import soft_target_loss
from fastat.store import DeltaStore
from fastat.types import Batch, Learner, StepReport, Task
from methods import fgsm_pgi, fgsm_rs_cs
from methods.fgsm_rs_cs import ConvergeSmooth

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 2}


@dataclass(frozen=True)
class Config(fgsm_pgi.Config, fgsm_rs_cs.Constraint):
    """Defaults: FGSM_MEP_CS.py:22-46, of which what is not here is FGSM-PGI's own."""

    lam: float = 0.0  # FGSM_MEP_CS.py:46,235: on if asked for; then 10


class Method(nn.Module):
    """FGSM-MEP with ConvergeSmooth."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        self.config, self.task = config, task
        self.mep = fgsm_pgi.Method(config, task)
        self.smooth = ConvergeSmooth(config, task)

    @property
    def delta(self) -> DeltaStore:
        """The priors."""
        return self.mep.delta

    def redraws(self, epoch: int) -> bool:
        """As methods/fgsm_pgi.py."""
        return self.mep.redraws(epoch)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """New priors, where it is time, and the mean that the clean loss is held to."""
        self.mep.begin_epoch(model, learner, epoch)
        self.smooth.begin_epoch()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """FGSM_MEP_CS.py:208-265; the model stays in train mode."""
        x, y, config = batch.x, batch.y, self.config
        x_adv, z_prior = self.mep.attack(model, batch)
        z = model(x_adv)
        benign = soft_target_loss(model(x), y, config.s)
        push = self.smooth.push(benign.detach(), batch)
        loss = soft_target_loss(z, y, config.s) + push * benign
        if config.lam:
            loss = loss + config.lam * (z - z_prior).square().mean()
        learner.descend(loss)
        return StepReport(loss, x_adv, {"benign_loss": benign.detach(), "push": push})
