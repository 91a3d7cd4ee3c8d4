"""The outer minimisation: SGD whose learning rate and momentum are pure functions of progress in epochs."""

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from fastat.config.recipe import Recipe, Schedule
from fastat.machine.processes import ALONE, Processes


def learning_rate(schedule: Schedule, progress: float, epochs: int) -> float:
    """The learning rate when `progress` epochs (0 <= progress < epochs) are done.

    piecewise:  lr, x factor at each milestone that is reached (ATAS paper, App. B; ATAS.py:131,159-160)
    triangular: 0 -> lr -> 0, straight, peak half-way (fast_adversarial train_fgsm.py:87-88)
    linear:     through the given points; two points of one epoch are a jump
    one_cycle:  lr / 25 -> lr -> lr / 250,000 along cosines, once an epoch (FastAT_Benchmark main.py:180)
    """
    if schedule.kind == "linear":
        return on_line(schedule.points, progress)
    if schedule.kind == "one_cycle":
        rises, height = one_cycle(progress, epochs)
        low = schedule.lr / (25 if rises else 250_000)
        return low + (schedule.lr - low) * height
    if schedule.kind == "piecewise":
        return schedule.lr * schedule.factor ** sum(progress >= stone for stone in schedule.milestones)
    return schedule.lr * (1 - abs(2 * progress / epochs - 1))


def momentum(schedule: Schedule, progress: float, epochs: int, highest: float) -> float:
    """The momentum at the same time: constant, cycled against the learning rate by 0.1, or through given points.

    Source: torch's CyclicLR overrides the momentum argument in fast_adversarial train_fgsm.py:87.
    """
    if schedule.momentum_points:
        return on_line(schedule.momentum_points, progress)
    if not schedule.cycle_momentum:
        return highest
    height = one_cycle(progress, epochs)[1] if schedule.kind == "one_cycle" else 1 - abs(2 * progress / epochs - 1)
    return highest - 0.1 * height


def one_cycle(progress: float, epochs: int) -> tuple[bool, float]:
    """Of torch's OneCycleLR with one step an epoch: whether it still rises, and its height, 0 at both ends to 1.

    The peak is where 0.3 of the steps are done, by torch's count: at 0.3 epochs - 1.
    """
    done, peak = math.floor(progress), 0.3 * epochs - 1
    rises = done <= peak
    way = done / peak if rises else (epochs - 1 - done) / (epochs - 1 - peak)
    return rises, (1 - math.cos(math.pi * way)) / 2


def on_line(points: tuple[tuple[float, float], ...], progress: float) -> float:
    """The value at `progress` on the straight lines through points (epochs done, value); the later one at a jump."""
    k = max(k for k, (epoch, _) in enumerate(points) if epoch <= progress)
    if k == len(points) - 1:
        return points[k][1]
    (left, low), (right, high) = points[k], points[k + 1]
    return low + (high - low) * (progress - left) / (right - left)


@torch.no_grad()
def follow(average: AveragedModel, model: nn.Module, decay: Tensor) -> None:
    """mean <- decay * mean + (1 - decay) * now, of weights and BatchNorm statistics, from the first weights on.

    Whole numbers are copied. Nothing waits for the device.
    """
    (means, now), whole = averaged_pairs(average, model)
    for mean, number in whole:
        mean.copy_(number)
    way = torch._foreach_sub(now, means)
    torch._foreach_mul_(way, 1 - decay)
    torch._foreach_add_(means, way)
    average.n_averaged.add_(1)


@torch.no_grad()
def follow_steadily(average: AveragedModel, model: nn.Module, decay: float) -> None:
    """The same with one decay for all steps, from the weights after the first step on.

    To the bit what AveragedModel does with torch's get_ema_multi_avg_fn, which waits for the device twice a step.
    """
    (means, now), whole = averaged_pairs(average, model)
    if int(average.n_averaged) == 0:  # it lies on the host
        torch._foreach_copy_(means, now)
        for mean, number in whole:
            mean.copy_(number)
    else:
        torch._foreach_lerp_(means, now, 1 - decay)
        for mean, number in whole:
            mean.copy_(mean * decay + number * (1 - decay))
    average.n_averaged.add_(1)


def averaged_pairs(average: AveragedModel, model: nn.Module) -> tuple[list[list[Tensor]], list[tuple[Tensor, Tensor]]]:
    """[the averages, what they follow], of weights and BatchNorm statistics; and pairs of those in whole numbers."""
    both = (chain(module.parameters(), module.buffers()) for module in (average.module, model))
    pairs = list(zip(*both, strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    return [list(side) for side in zip(*floats, strict=True)], [p for p in pairs if not p[0].is_floating_point()]


class SGDLearner:
    """SGD with weight decay on every parameter, BatchNorm included (ATAS.py:150) unless the recipe leaves that out."""

    def __init__(self, model: nn.Module, recipe: Recipe, processes: Processes = ALONE):
        self.model, self.recipe, self.processes = model, recipe, processes
        self.optimizer = self._fresh()
        self.average_decay = recipe.average
        self.average: AveragedModel | None = None
        if recipe.average:
            self.average = AveragedModel(model, use_buffers=True)
        self.seek(0.0)

    def _fresh(self) -> torch.optim.SGD:
        fused = all(p.device.type in ("cpu", "cuda") for p in self.model.parameters())  # one kernel, not one each
        return torch.optim.SGD(self._groups(), lr=0.0, fused=fused)

    def _groups(self) -> list[dict[str, Any]]:
        """All parameters; or those that decay, and BatchNorm's, which do not (fast_adversarial main_fast.py:85-87)."""
        parameters = list(self.model.parameters())
        if self.recipe.decay_batchnorm:
            return [{"params": parameters, "decays": True}]
        norms = (module for module in self.model.modules() if isinstance(module, _BatchNorm))
        exempt = {p for module in norms for p in module.parameters(recurse=False)}
        groups = {True: [p for p in parameters if p not in exempt], False: [p for p in parameters if p in exempt]}
        return [{"params": group, "decays": decays} for decays, group in groups.items() if group]

    def seek(self, progress: float) -> None:
        """Take learning rate and momentum for `progress` epochs done. Called by the trainer before each batch."""
        recipe = self.recipe
        decay = recipe.weight_decay_epochs is None or progress < recipe.weight_decay_epochs
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe.schedule, progress, recipe.epochs)
            group["momentum"] = momentum(recipe.schedule, progress, recipe.epochs, recipe.momentum)
            group["weight_decay"] = recipe.weight_decay if decay and group["decays"] else 0.0

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def descend(self, loss: Tensor, decay: Tensor | None = None) -> None:
        """theta <- theta - lr * grad_theta loss."""
        self.accumulate(loss)
        self.apply(decay)

    def accumulate(self, loss: Tensor, inputs: tuple[Tensor, ...] = ()) -> None:
        """Add grad_theta loss to what the next `apply` will use; tensors in `inputs` get their `.grad` too."""
        learning = (p for p in self.model.parameters() if p.requires_grad)
        loss.backward(inputs=[*learning, *inputs])

    def apply(self, decay: Tensor | None = None) -> None:
        """One optimiser step with the accumulated gradient, which is then cleared; the average follows."""
        self.processes.average(list(self.model.parameters()))
        self.optimizer.step()
        torch.clear_autocast_cache()  # of bf16 copies of the weights that were
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None and decay is None:
            follow_steadily(self.average, self.model, self.average_decay)
        elif self.average is not None and decay is not None:
            follow(self.average, self.model, decay)

    @property
    def reported(self) -> nn.Module:
        """The network whose accuracy is reported: the average where one is kept, else the one that is trained."""
        return self.model if self.average is None else self.average.module

    def restart(self) -> None:
        """Forget the momentum."""
        groups = [{k: g[k] for k in ("lr", "momentum", "weight_decay")} for g in self.optimizer.param_groups]
        self.optimizer = self._fresh()
        for group, kept in zip(self.optimizer.param_groups, groups, strict=True):
            group.update(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Momentum buffers by parameter name, and the average. Everything else follows from progress."""
        average = {} if self.average is None else self.average.state_dict()
        buffers = {f"average/{name}": t for name, t in average.items()}
        for name, p in self.model.named_parameters():
            buffer = self.optimizer.state.get(p, {}).get("momentum_buffer")
            if buffer is not None:
                buffers[name] = buffer
        return buffers

    def load_state_dict(self, buffers: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.restart()
        if self.average is not None:
            prefix = "average/"
            self.average.load_state_dict(
                {k.removeprefix(prefix): t for k, t in buffers.items() if k.startswith(prefix)}
            )
        for name, p in self.model.named_parameters():
            if name in buffers:
                self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(buffers[name])
