"""One perturbation per training image, kept between visits."""

import torch
from torch import Tensor, nn

from fastat.data import views
from fastat.types import Batch, Task

DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


class DeltaStore(nn.Module):
    """delta_i for i = 1..n: a buffer, so it moves, saves and resumes with its method.

    Kept in the un-cropped frame, (n, C, Hf, Wf), read and written through the batch's views; or, not `framed`, as
    the network last saw it, (n, C, H, W). float32 takes 4 n C Hf Wf bytes (960 MB for CIFAR with pad 4), float16
    half, int8 a quarter. int8 counts in units of 1/255, exact for perturbations that are whole 255ths, if `whole`,
    else in units of eps/127, wrong by at most eps/254. float16 is wrong by at most eps/2048.
    """

    delta: Tensor

    def __init__(self, task: Task, dtype: str = "float32", framed: bool = True, whole: bool = False):
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"store must be one of {', '.join(DTYPES)}, got {dtype!r}")
        self.task, self.framed = task, framed
        self.per_pixel = 255 if whole else 127 / task.eps  # int8: how many units make the pixel range
        shape = task.frame_shape if framed else task.image_shape
        self.register_buffer("delta", torch.zeros((task.n_train, *shape), dtype=DTYPES[dtype], device=task.device))

    def redraw(self) -> None:
        """delta_i ~ U(-eps, eps), independently in every pixel."""
        eps = self.task.eps
        if self.delta.dtype == torch.float32:
            self.delta.uniform_(-eps, eps, generator=self.task.rng)
            return
        for rows in self.delta.split(4096):  # never a second store in float32
            fresh = torch.empty(rows.shape, device=rows.device).uniform_(-eps, eps, generator=self.task.rng)
            rows.copy_(self._pack(fresh))

    def redraw_corners(self, size: float) -> None:
        """delta_i = +size or -size in every pixel, with equal chances."""
        for rows in self.delta.split(4096):
            signs = torch.empty(rows.shape, device=rows.device).bernoulli_(generator=self.task.rng).mul_(2).sub_(1)
            rows.copy_(self._pack(size * signs))

    def read(self, batch: Batch) -> Tensor:
        """delta of the batch's images, (B, C, H, W) float32: through its views, if framed."""
        if not self.framed:
            return self._unpack(self.delta[batch.index])
        return self._unpack(views.see(self.delta, batch.index, batch.view, self.task.image_shape[1:]))

    def write(self, batch: Batch, delta: Tensor) -> None:
        """Store delta (B, C, H, W) back where it was read; pixels outside the windows keep their value."""
        if self.framed:
            views.write(self.delta, batch.index, batch.view, self._pack(delta))
        else:
            self.delta[batch.index] = self._pack(delta)

    def _pack(self, delta: Tensor) -> Tensor:
        if self.delta.dtype == torch.int8:
            return (delta * self.per_pixel).round_().clamp_(-127, 127).to(torch.int8)
        return delta.to(self.delta.dtype)

    def _unpack(self, stored: Tensor) -> Tensor:
        if self.delta.dtype == torch.int8:
            return stored.float() / self.per_pixel
        return stored.float()
