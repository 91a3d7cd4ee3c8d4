"""YOPO-5-3: five full passes; after each, three attack steps that go through the first layer alone.

Zhang et al., "You only propagate once: Accelerating adversarial training via maximal principle", NeurIPS 2019
(arXiv 1905.00877), Algorithm 1. Tables I and II, row YOPO.
Cost per batch: 5 forwards, 5 parameter backwards; of the first layer 20 forwards, 15 input and 5 parameter backwards.
No state: the adjoint p lives inside a batch.
Departures: the first layer's gradient is the sum of its full backward and its Hamiltonian one, as the released
pre-res18 code leaves it; no extra logging forward (docs/departures.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.attacks import project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {
    "forward": 5,
    "parameter_backward": 5,
    "stem_forward": 20,
    "stem_input_backward": 15,
    "stem_parameter_backward": 5,
}
NEEDS = ("stem", "trunk")  # of a network, whose forward is trunk(stem(x))


@dataclass(frozen=True)
class Config:
    """Defaults: pre-res18.yopo-5-3/config.py:30-33 (sigma 2/255 at eps 8/255), kept in proportion to eps."""

    n_outer: int = 5
    n_inner: int = 3
    sigma: Length = "0.25 eps"
    layer1_grad: str = "both"  # or hamiltonian: without the full backward's share


class Method(nn.Module):
    """YOPO-m-n. Needs a network with forward = trunk(stem(x)), the stem one convolution."""

    REPLAYABLE = True
    leaves_pixel_range = True  # eta_0 is not cut to it

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.n_outer < 1 or config.n_inner < 1:
            raise ValueError(f"n_outer and n_inner must be 1 or more, got {config.n_outer} and {config.n_inner}")
        if config.layer1_grad not in ("both", "hamiltonian"):
            raise ValueError(f"layer1_grad must be both or hamiltonian, got {config.layer1_grad!r}")
        self.config, self.task = config, task
        self.sigma = in_pixels(config.sigma, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """theta receives the sum of the gradients at eta_0 .. eta_4 (training_function.py:82-125).

        The stem also gets its Hamiltonian's gradients. Reported are the mean loss and the images of the last full pass.
        """
        x, y, eps = batch.x, batch.y, self.task.eps
        stem, trunk = model.stem, model.trunk
        assert isinstance(stem, nn.Module) and isinstance(trunk, nn.Module)
        x_adv = x + uniform_like(x, eps, self.task.rng)  # eta_0 may leave the pixel range
        losses = []
        for _ in range(self.config.n_outer):
            seen, z = x_adv, stem(x_adv)
            if self.config.layer1_grad == "hamiltonian":
                z = z.detach().requires_grad_()
            loss = cross_entropy(trunk(z), y)
            learner.accumulate(loss, inputs=(z,))
            p = z.grad  # the adjoint: the loss's gradient at the first layer's output, fixed from here on
            for _ in range(self.config.n_inner):
                grad = hamiltonian_gradient(stem, p, x_adv)
                x_adv = project_linf(x_adv + self.sigma * grad.sign(), x, eps)
            learner.accumulate((p * stem(x_adv)).sum())
            losses.append(loss.detach())
        learner.apply()
        return StepReport(torch.stack(losses).mean(), seen)


def hamiltonian_gradient(stem: nn.Module, p: Tensor, x_adv: Tensor) -> Tensor:
    """grad of <p, f_1(clamp(x_adv, 0, 1))>: zero where x_adv lies outside the pixel range."""
    inside = (x_adv >= 0) & (x_adv <= 1)
    leaf = x_adv.clamp(0, 1).requires_grad_()
    (grad,) = torch.autograd.grad(stem(leaf), leaf, grad_outputs=p)
    return grad * inside
