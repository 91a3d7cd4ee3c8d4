"""One training by several processes, one per device, that ends with the weights of a single process.

The rule: process r of W owns rows r, r + W, r + 2W, ... of everything that has a row per training image or per position
in the batch. Random numbers are drawn for the whole batch and the same rows are kept, BatchNorm's statistics are of the
whole batch, and weight gradients are averaged before the optimiser's step: so W changes nothing but rounding.
"""

import atexit
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastat.errors import BadInput


@dataclass(frozen=True)
class Processes:
    """The `size` processes of a training as the one of this `rank` sees them: alone, it owns all rows."""

    rank: int = 0
    size: int = 1

    def mine(self, rows: Tensor) -> Tensor:
        """Its rows of a tensor that has them all."""
        return rows[self.rank :: self.size]

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, of a tensor that needs no gradient."""
        if self.size > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes: one message for all of them."""
        if self.size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, mean in zip(grads, (flat / self.size).split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def gather(self, rows: Tensor) -> Tensor:
        """All rows, in order, on the CPU of process 0; on the others an empty tensor. Every process owns as many."""
        if self.size == 1:
            return rows
        whole = torch.empty((len(rows) * self.size if self.rank == 0 else 0, *rows.shape[1:]), dtype=rows.dtype)
        for first in range(0, len(rows), 65536):  # never a second whole tensor on the device
            mine = rows[first : first + 65536].contiguous()
            parts = [torch.empty_like(mine) for _ in range(self.size)] if self.rank == 0 else None
            dist.gather(mine, parts)
            for rank, part in enumerate(parts or ()):
                whole[self.size * first + rank : self.size * (first + len(mine)) : self.size] = part.cpu()
        return whole

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


ALONE = Processes()


def join(device: torch.device, shards: int) -> tuple[Processes, torch.device]:
    """The processes and this one's device: as torchrun says in the environment, or everything where it does not.

    Raises: BadInput if the number of processes does not divide `shards`, or there are fewer devices.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE, device
    if shards % size:
        raise BadInput(
            f"{size} processes cannot share a run of {shards} shards: the number of processes must divide it. "
            "Start fewer, or set `shards` in the recipe (it changes the order of the images)."
        )
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise BadInput(f"process {local} of this machine has no GPU: torch sees {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), size), device


class SharedGenerator(torch.Generator):
    """Every process of a run has one in the same state; `uniform_like` draws for all and keeps its share."""

    processes: Processes

    def __new__(cls, device: torch.device, _processes: Processes) -> "SharedGenerator":
        """torch.Generator takes its device here."""
        return super().__new__(cls, device)  # type: ignore[call-arg]

    def __init__(self, _device: torch.device, processes: Processes):
        super().__init__()
        self.processes = processes


def synchronise_batchnorm(model: nn.Module, processes: Processes, twice: bool = False) -> None:
    """Make every BatchNorm of the model one over the whole batch, as `is_torchs` says.

    twice: whether the method differentiates a gradient.
    """
    if processes.size == 1:
        return
    device = next(model.parameters()).device.type
    check_batchnorm(model, device, twice)
    if is_torchs(device, twice):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = WholeBatchNorm2d


def is_torchs(device: str, twice: bool) -> bool:
    """Whether BatchNorm over processes is torch's: on CUDA alone, and it has no second derivative (pytorch#61222)."""
    return device == "cuda" and not twice


def check_batchnorm(model: nn.Module, device: str, twice: bool = False) -> None:
    """Raises: BadInput for a BatchNorm that cannot be made one over the whole batch, as those of other libraries."""
    torchs = is_torchs(device, twice)
    known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm) if torchs else (nn.BatchNorm2d,)
    for name, module in model.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        whole = module.affine and module.track_running_stats and module.momentum is not None
        if type(module) not in known or not (torchs or whole):
            raise BadInput(
                f"its training cannot be shared by several processes on {device}: the {type(module).__name__} {name} "
                "cannot be computed over the whole batch. Start one process, or take another norm."
            )


class WholeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics in train mode are of all processes' images; each must have as many."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        kind = x.dtype
        if kind in (torch.bfloat16, torch.float16):  # statistics are float32, as torch's
            x = x.float()
        mean = Mean.apply(x.mean((0, 2, 3)))
        centred = x - mean[:, None, None]
        var = Mean.apply(centred.square().mean((0, 2, 3)))
        n = x.numel() // x.shape[1] * dist.get_world_size()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        normal = centred * (self.weight / (var + self.eps).sqrt())[:, None, None] + self.bias[:, None, None]
        return normal.to(kind)


class Mean(torch.autograd.Function):
    """The mean over processes; its gradient is the mean of the processes' gradients, and so on."""

    @staticmethod
    def forward(_ctx, value: Tensor) -> Tensor:
        """The mean."""
        value = value.contiguous().clone()
        dist.all_reduce(value)
        return value / dist.get_world_size()

    @staticmethod
    def backward(_ctx, grad: Tensor) -> Tensor:
        """What every process's loss says about this value."""
        return Mean.apply(grad)
