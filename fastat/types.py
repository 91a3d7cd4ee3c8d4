"""The words that methods and trainer share. Shapes are said here, once.

B images in a batch, C channels, H x W pixels seen by the network, Hf x Wf pixels of the un-cropped frame
(H + 2 pad), K classes, n training images. Pixels lie in [0, 1]; eps and alpha are in the same unit.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fastat.machine.processes import ALONE, Processes


class View(NamedTuple):
    """Which window of its frame each image of a batch shows, and whether it is mirrored."""

    top: Tensor  # (B,) int64, first row of the window
    left: Tensor  # (B,) int64, first column of the window
    flip: Tensor  # (B,) bool, mirrored left to right


@dataclass(frozen=True)
class Batch:
    """What a method is given: images, labels, and who they are."""

    x: Tensor  # (B, C, H, W) float32 in [0, 1], cropped and flipped by `view`, perhaps with a black square
    y: Tensor  # (B,) int64
    index: Tensor  # (B,) int64, the images' rows in whatever has one row per training image
    view: View
    epoch: int  # from 1
    number: int  # of the batch in its epoch, from 0


@dataclass(frozen=True)
class Task:
    """What may be known before the first batch. `rng` serves every random draw of a method."""

    eps: float
    n_train: int
    n_classes: int
    image_shape: tuple[int, int, int]  # (C, H, W)
    frame_shape: tuple[int, int, int]  # (C, Hf, Wf)
    n_epochs: int
    batch_size: int
    n_batches: int  # in an epoch
    n_params: int  # of the network
    device: torch.device
    rng: torch.Generator | None = field(compare=False)  # on `device`; None only where nothing is drawn
    processes: Processes = ALONE  # n_train and batch_size are of this process's share
    n_features: int = 0  # what the network's last nn.Linear reads of an image; 0: it has none


class StepReport(NamedTuple):
    """What a method tells the trainer about one batch. Nothing here waits for the device."""

    loss: Tensor  # scalar, the loss that was descended
    x_adv: Tensor  # (B, C, H, W), the images that were trained on
    stats: dict[str, Tensor] = {}  # scalars worth a column in log.csv, averaged over the epoch
    grad: Tensor | None = None  # (B, C, H, W), each image's own loss gradient where the single step started
    alpha: Tensor | None = None  # (B, 1, 1, 1), the step sizes of a method that has one per image


class Learner(Protocol):
    """The outer minimisation over the weights."""

    average_decay: float  # of the weights' moving average, by the recipe; 0: none is kept

    def descend(self, loss: Tensor, decay: Tensor | None = None) -> None:
        """theta <- theta - eta * grad_theta loss: accumulate, then apply."""

    def accumulate(self, loss: Tensor, inputs: tuple[Tensor, ...] = ()) -> None:
        """Add grad_theta loss to what the next `apply` will use; tensors in `inputs` get their `.grad` too."""

    def apply(self, decay: Tensor | None = None) -> None:
        """One optimiser step with the accumulated gradient, which is then cleared; the average follows.

        decay: a scalar on the device, the average's decay at this step (1: it stays); None: as the recipe says.
        """

    def restart(self) -> None:
        """Forget the optimiser's momentum."""


class Method(Protocol):
    """An adversarial training algorithm: an `nn.Module` for its state, with two verbs.

    `config` holds its every value. What is not as usual is said in attributes of the class or instance: `radius` of a
    method that trains outside the eps-ball, `leaves_pixel_range`, `redraws(epoch)` of one that draws its perturbations
    anew before some epochs, `ONE_PROCESS` (why several processes cannot share its training) and, on every module that
    holds them, `SHARDED`: its buffers with a row per training image or per position in the batch. Its file says
    `NEEDS` if it treats parts of the network by themselves: `stem` and `trunk`, of a forward that is trunk(stem(x));
    `features`, what the nn.Linear that gives the logits reads (fastat/features.py).

    `REPLAYABLE = True` is a promise: within an epoch, the step of every batch of a size is one list of operations on
    the same tensors. Neither `batch.number` nor a value on the device, nor anything that an earlier batch left in
    Python, decides what is computed; nothing waits for the device; what is kept is written in place. Then the step may
    be a CUDA graph (fastat/training/captured.py). `differs(batch)` names batches that the promise leaves out.
    """

    config: Any

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Called once before the first batch of `epoch` (from 1)."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Attack the batch, then descend on it."""


def differs(method: Method, batch: Batch) -> bool:
    """Whether the step of this batch is none of the others."""
    return bool(getattr(method, "differs", lambda _: False)(batch))
