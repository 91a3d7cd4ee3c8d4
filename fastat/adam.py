"""Adam for a small network inside a method."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Adam:
    """torch's, whose state is a tensor, so that it resumes with the method's buffers. Its step count is on the host."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0):
        self.params = list(params)
        self.adam = torch.optim.Adam(self.params, lr, weight_decay=weight_decay)

    def step(self, loss: Tensor) -> None:
        """One step down the loss; nothing else that it depends on gets a gradient."""
        for p, grad in zip(self.params, torch.autograd.grad(loss, self.params), strict=True):
            p.grad = grad
        self.adam.step()
        torch.clear_autocast_cache()  # of bf16 copies of the weights that were
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> Tensor:
        """Moments and step counts in one float64 vector."""
        rows = []
        for p in self.params:
            state = self.adam.state.get(p) or {"step": torch.zeros(()), "exp_avg": p * 0, "exp_avg_sq": p * 0}
            rows += [state[key].detach().to(p.device).double().reshape(-1) for key in ("step", "exp_avg", "exp_avg_sq")]
        return torch.cat(rows)

    def load(self, state: Tensor) -> None:
        """The inverse of `state`."""
        for p in self.params:
            step, mean, square, state = state.split([1, p.numel(), p.numel(), len(state) - 1 - 2 * p.numel()])
            moments = {"exp_avg": mean, "exp_avg_sq": square}
            self.adam.state[p] = {
                "step": step[0].float().cpu(),
                **{key: torch.empty_like(p).copy_(value.reshape(p.shape)) for key, value in moments.items()},
            }
