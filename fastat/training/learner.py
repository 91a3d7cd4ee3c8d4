"""The outer minimisation: SGD whose learning rate and momentum are pure functions of progress in epochs."""

import torch
from torch import Tensor, nn

from fastat.runs import Recipe, Schedule


def learning_rate(schedule: Schedule, progress: float, epochs: int) -> float:
    """The learning rate when `progress` epochs (0 <= progress < epochs) are done.

    piecewise:  lr, x factor at each milestone that is reached (ATAS paper, App. B; ATAS.py:131,159-160)
    triangular: 0 -> lr -> 0, straight, peak half-way (fast_adversarial train_fgsm.py:87-88)
    """
    if schedule.kind == "piecewise":
        return schedule.lr * schedule.factor ** sum(progress >= stone for stone in schedule.milestones)
    return schedule.lr * (1 - abs(2 * progress / epochs - 1))


def momentum(schedule: Schedule, progress: float, epochs: int, highest: float) -> float:
    """The momentum at the same time: constant, or cycled against the learning rate by 0.1.

    Source: torch's CyclicLR overrides the momentum argument in fast_adversarial train_fgsm.py:87.
    """
    if not schedule.cycle_momentum:
        return highest
    return highest - 0.1 * (1 - abs(2 * progress / epochs - 1))


class SGDLearner:
    """SGD with weight decay on every parameter, BatchNorm included (ATAS.py:150)."""

    def __init__(self, model: nn.Module, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.optimizer = self._fresh()
        self.seek(0.0)

    def _fresh(self) -> torch.optim.SGD:
        decay = self.recipe.weight_decay
        fused = all(p.device.type in ("cpu", "cuda") for p in self.model.parameters())  # one kernel, not one each
        return torch.optim.SGD(self.model.parameters(), lr=0.0, weight_decay=decay, fused=fused)

    def seek(self, progress: float) -> None:
        """Take learning rate and momentum for `progress` epochs done. Called by the trainer before each batch."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe.schedule, progress, recipe.epochs)
            group["momentum"] = momentum(recipe.schedule, progress, recipe.epochs, recipe.momentum)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def descend(self, loss: Tensor) -> None:
        """theta <- theta - lr * grad_theta loss."""
        self.accumulate(loss)
        self.apply()

    def accumulate(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to what the next `apply` will use."""
        loss.backward()

    def apply(self) -> None:
        """One optimiser step with the accumulated gradient, which is then cleared."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def restart(self) -> None:
        """Forget the momentum."""
        groups = [{k: g[k] for k in ("lr", "momentum")} for g in self.optimizer.param_groups]
        self.optimizer = self._fresh()
        for group, kept in zip(self.optimizer.param_groups, groups, strict=True):
            group.update(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Momentum buffers by parameter name. Everything else follows from progress."""
        buffers = {}
        for name, p in self.model.named_parameters():
            buffer = self.optimizer.state.get(p, {}).get("momentum_buffer")
            if buffer is not None:
                buffers[name] = buffer
        return buffers

    def load_state_dict(self, buffers: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.restart()
        for name, p in self.model.named_parameters():
            if name in buffers:
                self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(buffers[name])
