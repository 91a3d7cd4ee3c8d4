"""ATAS + FGSM-PGI: the prior as the start, and ATAS's step size from there.

The ATAS paper says that prior-guided initialisation "can be synergistically combined with ATAS" and never ran it; this
definition is ours: the penalty is kept, alpha_i replaces alpha in the perturbation that is trained on, and MEP's prior
keeps its own alpha (EP and BP keep what was trained on). v_i comes from the gradient that PGI takes anyway: of the soft
target's loss, in train mode; its norm is about s - (1 - s)/(K - 1) = 0.56 of the cross-entropy's.
Cost per batch: as FGSM-PGI. State: as FGSM-PGI, and one number v_i per training image.
"""

from dataclasses import dataclass

from torch import Tensor

from fastat.types import Batch, Task
from fastat.units import Length
from methods import fgsm_pgi
from methods.atas import StepSize

VERSION = 1
PASSES = fgsm_pgi.PASSES


@dataclass(frozen=True)
class Config(fgsm_pgi.Config):
    """Defaults: as methods/fgsm_pgi.py and methods/atas.py."""

    beta: float = 0.5
    c: float = 1.28
    gamma_over_c: Length = "16/255"


class Method(fgsm_pgi.Method):
    """FGSM-PGI, with alpha_i for alpha."""

    steps_vary = True

    def __init__(self, config: Config, task: Task):
        super().__init__(config, task)
        self.adaptive = StepSize(task, config.beta, config.c, config.gamma_over_c)

    def step_size(self, batch: Batch, grad: Tensor) -> Tensor:
        """alpha_i of ATAS, from the gradient of each image's own loss at the prior."""
        return self.adaptive(batch, grad * len(batch.y))
