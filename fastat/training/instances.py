"""What a run remembers of every training image, from what its steps compute anyway: the figures' raw material."""

import torch
from torch import Tensor

from fastat.types import Batch, StepReport, Task

LARGEST = 65504  # in float16


class Instances:
    """Per image: the gradient norm and the step size of every epoch, and how long its last perturbation is.

    `grad_norm` and `alpha_255` (n, epochs) float16, of methods that report a gradient or step sizes; NaN in an epoch
    that left the image out. `delta_l2` and `delta_linf` (n,) float32 of x_adv - x in the last epoch, pixels in [0, 1].
    """

    def __init__(self, task: Task):
        self.task = task
        self.kept: dict[str, Tensor] = {}

    def add(self, batch: Batch, report: StepReport) -> None:
        """Take the batch's rows. Nothing here waits for the device."""
        if report.grad is not None:
            norm = torch.linalg.vector_norm(report.grad.detach().float(), dim=(1, 2, 3))
            self._column("grad_norm", batch, norm.clamp(max=LARGEST))
        if report.alpha is not None:
            self._column("alpha_255", batch, 255 * report.alpha.detach().flatten())
        if batch.epoch == self.task.n_epochs:
            delta = (report.x_adv.detach() - batch.x).flatten(1)
            for name, order in (("delta_l2", 2), ("delta_linf", float("inf"))):
                rows = self._buffer(name, (self.task.n_train,), torch.float32)
                rows[batch.index] = torch.linalg.vector_norm(delta, order, dim=1).float()

    def _column(self, name: str, batch: Batch, values: Tensor) -> None:
        rows = self._buffer(name, (self.task.n_train, self.task.n_epochs), torch.float16)
        rows[batch.index, batch.epoch - 1] = values.to(torch.float16)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if name not in self.kept:
            self.kept[name] = torch.full(shape, float("nan"), dtype=dtype, device=self.task.device)
        return self.kept[name]

    def state_dict(self) -> dict[str, Tensor]:
        """All that is kept, of all processes, on process 0."""
        return {name: self.task.processes.gather(rows) for name, rows in sorted(self.kept.items())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        mine, device = self.task.processes.mine, self.task.device
        self.kept = {name: mine(rows).to(device, copy=True) for name, rows in state.items()}
