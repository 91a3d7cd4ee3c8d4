"""SubAT: FGSM-RS first shows which directions its weights move in; then training restarts inside their span.

Li, Wu, Chen, Fang, Huang, "Subspace adversarial training", CVPR 2022 (arXiv 2111.12229), Fast Sub-AT. Tables I and II,
row SubAT.
Cost per batch: 2 forwards, 1 input backward, 1 parameter backward; in the subspace also two products with an
n_components x D matrix (D weights).
State: per_epoch * sampling_epochs + 1 snapshots of the weights (5.4 GB for PreActResNet-18), saved with every epoch;
the basis is written over them.
Departures: 4 snapshots an epoch, not 2, since 80 components need 81; 30 + 18 epochs (docs/departures.md).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from fastat.attacks import input_gradient, project_linf, uniform_like
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 2, "input_backward": 1, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: run.sh, "Fast Sub-AT" (alphas, radius, components); the epochs are ours (docs/departures.md)."""

    sampling_epochs: int = 30
    per_epoch: int = 4  # snapshots, evenly spaced, the last one at the end of the epoch
    n_components: int = 80
    alpha: Length = "1.25 eps"
    subspace_alpha: Length = "2.5 eps"
    subspace_radius: Length = "2 eps"  # the attack in the subspace is twice as strong (run.sh: 16/255 for eps 8/255)


class Method(nn.Module):
    """Fast Sub-AT. Row 0 of `snapshots` is theta_0; rows 1..n_components become the orthonormal basis P."""

    REPLAYABLE = True
    snapshots: Tensor

    def __init__(self, config: Config, task: Task):
        super().__init__()
        n_snapshots = config.per_epoch * config.sampling_epochs + 1
        if min(config.sampling_epochs, config.per_epoch, config.n_components) < 1:
            raise ValueError("sampling_epochs, per_epoch and n_components must be 1 or more")
        if config.n_components > n_snapshots - 1:
            raise ValueError(
                f"n_components is {config.n_components}, but {n_snapshots} snapshots span at most {n_snapshots - 1} "
                "directions. Sample more epochs, more per epoch, or ask for fewer components."
            )
        if config.per_epoch > task.n_batches:
            raise ValueError(f"per_epoch is {config.per_epoch}, but an epoch has only {task.n_batches} batches")
        if config.sampling_epochs >= task.n_epochs:
            raise ValueError(
                f"sampling_epochs is {config.sampling_epochs}, but there are only {task.n_epochs} epochs: "
                "none is left for the subspace"
            )
        self.config, self.task = config, task
        self.radius = in_pixels(config.subspace_radius, task.eps)
        self.register_buffer("snapshots", torch.zeros((n_snapshots, task.n_params), device=task.device))

    def differs(self, batch: Batch) -> bool:
        """Whether the weights after this batch are kept."""
        return self.row_after(batch) is not None

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Keep theta_0; when sampling is over, find the subspace and start again from theta_0 inside it."""
        if epoch == 1:
            self.snapshots[0] = flat(list(model.parameters()))
        if epoch == self.config.sampling_epochs + 1:
            principal_directions(self.snapshots, self.config.n_components)
            unflatten(self.snapshots[0], list(model.parameters()))
            for layer in model.modules():
                if isinstance(layer, _BatchNorm):
                    layer.reset_running_stats()  # as in a fresh network
            learner.restart()

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """FGSM-RS, with the plain gradient while sampling, with its projection on the subspace afterwards."""
        x, y, eps, config = batch.x, batch.y, self.task.eps, self.config
        sampling = batch.epoch <= config.sampling_epochs
        radius = eps if sampling else self.radius
        alpha = in_pixels(config.alpha if sampling else config.subspace_alpha, eps)
        x_start = project_linf(x + uniform_like(x, radius, self.task.rng), x, radius)
        grad = input_gradient(model, x_start, y)  # in train mode, as train_adv.py:310,368
        x_adv = project_linf(x_start + alpha * grad.sign(), x, radius)
        loss = cross_entropy(model(x_adv), y)
        learner.accumulate(loss)
        if not sampling:
            self.project(model)
        learner.apply()
        if (row := self.row_after(batch)) is not None:
            self.snapshots[row] = flat(list(model.parameters()))
        return StepReport(loss, x_adv)

    def project(self, model: nn.Module) -> None:
        """g <- P^T (P g), with P of orthonormal rows (train_adv_psgd.py:446-455)."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        basis = self.snapshots[1 : 1 + self.config.n_components]
        device = "cuda" if basis.is_cuda else "cpu"
        with torch.autocast(device, enabled=False):  # in bf16 it would leave the subspace
            unflatten(basis.T @ (basis @ flat(grads)), grads)

    def row_after(self, batch: Batch) -> int | None:
        """Where the weights after this batch are kept; None: nowhere, as in the subspace."""
        if batch.epoch > self.config.sampling_epochs:
            return None
        n, k = self.task.n_batches, self.config.per_epoch
        done, before = (batch.number + 1) * k // n, batch.number * k // n
        return (batch.epoch - 1) * k + done if done > before else None


def principal_directions(snapshots: Tensor, n_components: int, chunk: int = 1 << 20) -> None:
    """Replace rows 1..n_components of `snapshots` (n, D) by orthonormal directions of largest variance; row 0 stays.

    The n x n Gram matrix of the centred rows has the same spectrum as their D x D covariance. It is summed over
    chunks of columns, and the directions are written chunk by chunk over the rows that they are made of: no second
    copy of the snapshots. Directions without variance become zero rows.
    """
    bounds = list(pairwise([*range(0, snapshots.shape[1], chunk), snapshots.shape[1]]))

    def centred(left: int, right: int) -> Tensor:
        part = snapshots[:, left:right].double()
        return part - part.mean(0)

    gram = sum((part @ part.T for part in (centred(*b) for b in bounds)), torch.zeros((), device=snapshots.device))
    variances, vectors = torch.linalg.eigh(gram)
    variances, vectors = variances.flip(0)[:n_components], vectors.flip(1)[:, :n_components]
    scale = torch.where(variances > 1e-12 * variances[0], variances.clamp(min=1e-300).rsqrt(), 0)
    for left, right in bounds:
        snapshots[1 : 1 + n_components, left:right] = (scale[:, None] * (vectors.T @ centred(left, right))).float()


def flat(tensors: list[Tensor]) -> Tensor:
    """All entries in one vector (D,)."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def unflatten(vector: Tensor, tensors: list[Tensor]) -> None:
    """The inverse of `flat`: write the vector into the tensors."""
    with torch.no_grad():
        for t, part in zip(tensors, vector.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.reshape(t.shape))
