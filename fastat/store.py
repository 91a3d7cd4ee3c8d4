"""One perturbation per training image, kept between visits."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fastat.data import views
from fastat.types import Batch, Task

DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


class DeltaStore(nn.Module):
    """delta_i for i = 1..n: a buffer, so it moves, saves and resumes with its method.

    Kept in the un-cropped frame, (n, C, Hf, Wf), read and written through the batch's views; or, not `framed`, as
    the network last saw it, (n, C, H, W). float32 takes 4 n C Hf Wf bytes (960 MB for CIFAR with pad 4), float16
    half, int8 a quarter. int8 counts in units of 1/255, exact for perturbations that are whole 255ths, if `whole`,
    else in units of eps/127, wrong by at most eps/254. float16 is wrong by at most eps/2048.

    With a `size`, kept as (n, C, size, size): resized bilinearly on the way out and, without antialiasing, on the way
    back (ATAS paper, Algorithm 2; card 6 of the ATAS code, data_aug.py:64-119).

    A `frozen` one is drawn and never written: the released ATAS code writes into a copy (data_aug.py:105-119).
    """

    SHARDED = ("delta",)
    delta: Tensor

    def __init__(
        self,
        task: Task,
        dtype: str = "float32",
        framed: bool = True,
        whole: bool = False,
        size: int | None = None,
        frozen: bool = False,
    ):
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"store must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if size is not None and size < 1:
            raise ValueError(f"store_size must be 1 or more pixels, or left out, got {size}")
        self.task, self.framed, self.size, self.frozen = task, framed, size, frozen
        self.per_pixel = 255 if whole else 127 / task.eps  # int8: how many units make the pixel range
        self.shape = task.frame_shape if framed else task.image_shape  # what is read and written
        kept = (self.shape[0], size, size) if size else self.shape
        self.register_buffer("delta", torch.zeros((task.n_train, *kept), dtype=DTYPES[dtype], device=task.device))

    def redraw(self) -> None:
        """delta_i ~ U(-eps, eps), independently in every pixel."""
        eps = self.task.eps
        for rows, whole in self._pieces():
            rows.copy_(self._pack(self.task.processes.mine(whole.uniform_(-eps, eps, generator=self.task.rng))))

    def redraw_corners(self, size: float) -> None:
        """delta_i = +size or -size in every pixel, with equal chances."""
        for rows, whole in self._pieces():
            signs = self.task.processes.mine(whole.bernoulli_(generator=self.task.rng)).mul(2).sub_(1)
            rows.copy_(self._pack(size * signs))

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of this process, and an empty float32 tensor for those of all: never a second store in float32."""
        n_processes = self.task.processes.size
        for rows in self.delta.split(5040 // n_processes):  # of 5040 images in all, for any number of processes
            yield rows, torch.empty((len(rows) * n_processes, *rows.shape[1:]), device=rows.device)

    def read(self, batch: Batch) -> Tensor:
        """delta of the batch's images, (B, C, H, W) float32: through its views, if framed."""
        if self.size:
            grown = self._grown(batch)
            return views.see(grown, self._places(batch), batch.view, self._seen) if self.framed else grown
        if not self.framed:
            return self._unpack(self.delta[batch.index])
        return self._unpack(views.see(self.delta, batch.index, batch.view, self._seen))

    def write(self, batch: Batch, delta: Tensor) -> None:
        """Store delta (B, C, H, W) back where it was read; pixels outside the windows keep their value."""
        if self.frozen:
            return
        if self.size:
            grown = delta
            if self.framed:
                grown = self._grown(batch)
                views.write(grown, self._places(batch), batch.view, delta)
            small = interpolate(grown, (self.size, self.size), mode="bilinear", align_corners=False)
            self.delta[batch.index] = self._pack(small)
        elif self.framed:
            views.write(self.delta, batch.index, batch.view, self._pack(delta))
        else:
            self.delta[batch.index] = self._pack(delta)

    def _grown(self, batch: Batch) -> Tensor:
        """delta of the batch's images, enlarged to the frame or image they belong to."""
        small = self._unpack(self.delta[batch.index])
        return interpolate(small, tuple(self.shape[1:]), mode="bilinear", align_corners=False)

    @property
    def _seen(self) -> tuple[int, int]:
        return self.task.image_shape[1:]

    def _places(self, batch: Batch) -> Tensor:
        return torch.arange(len(batch.index), device=batch.index.device)

    def _pack(self, delta: Tensor) -> Tensor:
        if self.delta.dtype == torch.int8:
            return (delta * self.per_pixel).round_().clamp_(-127, 127).to(torch.int8)
        return delta.to(self.delta.dtype)

    def _unpack(self, stored: Tensor) -> Tensor:
        if self.delta.dtype == torch.int8:
            return stored.float() / self.per_pixel
        return stored.float()
