"""One perturbation per training image, kept in the un-cropped frame between visits."""

import torch
from torch import Tensor, nn

from fastat.data import views
from fastat.types import Batch, Task


class DeltaStore(nn.Module):
    """delta_i for i = 1..n, (n, C, Hf, Wf) float32: a buffer, so it moves, saves and resumes with its method.

    Drawn by `redraw`, which a method calls when its first epoch begins. Memory: 4 n C Hf Wf bytes (960 MB for
    CIFAR with pad 4).
    """

    delta: Tensor

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        frames = torch.zeros((task.n_train, *task.frame_shape), device=task.device)
        self.register_buffer("delta", frames)

    def redraw(self) -> None:
        """delta_i ~ U(-eps, eps), independently in every pixel of the frame."""
        self.delta.uniform_(-self.task.eps, self.task.eps, generator=self.task.rng)

    def read(self, batch: Batch) -> Tensor:
        """delta of the batch's images as its views show it, (B, C, H, W)."""
        return views.see(self.delta, batch.index, batch.view, self.task.image_shape[1:])

    def write(self, batch: Batch, delta: Tensor) -> None:
        """Store delta (B, C, H, W) back where it was read; pixels outside the windows keep their value."""
        views.write(self.delta, batch.index, batch.view, delta)
