"""ATAS + FGSM-SDI: the learnt start, and ATAS's step size from there.

The ATAS paper says that learnable initialisation "can be synergistically combined with ATAS" and never ran it; this
definition is ours: v_i comes from the gradient at the learnt start, in train mode as SDI takes it, and no perturbation
is carried. alpha_i may exceed eps; only the sum of start and step is cut to eps. In a batch that also trains the
generator v_i moves twice.
Cost per batch: as FGSM-SDI. State: as FGSM-SDI, and one number v_i per training image.
"""

from dataclasses import dataclass

from torch import Tensor

from fastat.types import Batch, Task
from fastat.units import Length
from methods import fgsm_sdi
from methods.atas import StepSize

VERSION = 1
CYCLE = fgsm_sdi.CYCLE
PASSES = fgsm_sdi.PASSES


@dataclass(frozen=True)
class Config(fgsm_sdi.Config):
    """Defaults: as methods/fgsm_sdi.py and methods/atas.py; `alpha` is not used."""

    beta: float = 0.5
    c: float = 1.28
    gamma_over_c: Length = "16/255"


class Method(fgsm_sdi.Method):
    """FGSM-SDI, with alpha_i for alpha."""

    def __init__(self, config: Config, task: Task):
        super().__init__(config, task)
        self.adaptive = StepSize(task, config.beta, config.c, config.gamma_over_c)

    def step_size(self, batch: Batch, grad: Tensor) -> Tensor:
        """alpha_i of ATAS, from the gradient at the start."""
        return self.adaptive(batch, grad)
