"""Images: from the prepared file to the device, from there batch by batch into training."""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fastat.data import prepared, views
from fastat.errors import BadInput
from fastat.machine.processes import ALONE, Processes
from fastat.machine.seeds import generator
from fastat.types import Batch, View

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSet:
    """A whole data set on one device."""

    name: str
    sha256: str
    train: "Part"
    test: "Part"
    n_classes: int


@dataclass(frozen=True)
class Part:
    """Images (n, C, H, W) uint8 and labels (n,) int64; what the network sees of an image is `size` = (H, W) pixels.

    Labels lie on the device, and so do the images, unless they are larger than `size`: those stay on disk.
    """

    images: Tensor
    labels: Tensor
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def on_disk(self) -> bool:
        """Whether the images are read as they are used."""
        return tuple(self.images.shape[2:]) != self.size

    def only(self, index: Tensor) -> "Part":
        """The images at `index`, in memory."""
        return Part(self.images[index.to(self.images.device)], self.labels[index], self.size)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images as float32 in [0, 1], not augmented (their middle, where they are larger), and labels."""
        (height, width), (rows, cols) = self.size, self.images.shape[2:]
        top, left = (rows - height) // 2, (cols - width) // 2
        images = self.images[index.to(self.images.device)][..., top : top + height, left : left + width]
        return images.to(self.labels.device).float() / 255, self.labels[index]


def load(path: Path, device: torch.device, n_train: int | None = None, n_test: int | None = None) -> ImageSet:
    """The file that `prepare` wrote, verified, on `device`; only the first n_train and n_test images where given.

    Raises: BadInput if there is no such file, it is of another data set than its name says, or damaged.
    """
    found = prepared.read(path)
    if found.unverified:
        log.warning("%s: unverified, %s. %s", path, found.unverified, prepared.way_out(path))
    facts, parts = found.facts, {}
    for part, n in (("train", n_train), ("test", n_test)):
        labels = torch.from_numpy(found.arrays[f"{part}_labels"][:n]).to(device)
        images = torch.from_numpy(found.arrays[f"{part}_images"][:n])
        parts[part] = Part(images if facts.stored else images.to(device), labels, facts.shape[1:])
    train, test = parts["train"], parts["test"]
    sha256 = prepared.data_sha256(found.sha256, len(train), len(test))
    return ImageSet(found.name, sha256, train, test, facts.n_classes)


class TrainingStream:
    """Batches of augmented training images: order and views of an epoch are a pure function of (seed, epoch).

    Nothing of it needs saving: a run that resumes at batch b of epoch e sees what it would have seen.
    With `shards` > 1, position p of every batch holds an image of shard p mod shards, the images i = p mod shards; so
    process r of W (any divisor of `shards`) sees no image but its own r, r + W, ..., at its own positions.
    """

    def __init__(
        self,
        part: Part,
        *,
        batch_size: int,
        drop_last: bool,
        pad: int,
        flip: bool,
        seed: int,
        crop: str = "window",
        cutout: int = 0,
        shards: int = 1,
        processes: Processes = ALONE,
    ):
        if len(part) < shards:
            raise BadInput(f"{len(part)} training images cannot be divided into {shards} shards. Lower `shards`.")
        assert not (part.on_disk and pad)  # checked with the recipe
        if crop == "resized" and not part.on_disk:
            raise BadInput("crop: resized is built for images that are read from disk, and these are in memory")
        self.frames = views.frame(part.images, pad)
        self.labels, self.size, self.on_disk, self.batch_size = part.labels, part.size, part.on_disk, batch_size
        self.flip, self.seed, self.shards, self.processes = flip, seed, shards, processes
        self.resized, self.cutout = crop == "resized", cutout
        if shards > 1:
            assert drop_last and batch_size % shards == 0  # checked with the recipe
            self.n_batches = len(part) // shards // (batch_size // shards)
        else:
            self.n_batches = len(part) // batch_size if drop_last else -(-len(part) // batch_size)
        if self.n_batches == 0:
            raise BadInput(f"batches of {batch_size} with drop_last, but only {len(part)} images. Lower batch_size.")

    def epoch(self, epoch: int, first: int = 0):
        """The batches of `epoch` (from 1), from number `first` on."""
        rng = generator(torch.device("cpu"), self.seed, "stream", epoch)
        device, processes = self.labels.device, self.processes
        order = self.order(rng)
        frame = (self.frames.shape[2], self.frames.shape[3])
        if self.resized:
            view, *sizes = views.draw_boxes(len(order), frame, self.flip, rng)
        else:
            view = views.draw(len(order), (frame[0] - self.size[0], frame[1] - self.size[1]), self.flip, rng)
            sizes = [torch.tensor(length).expand(len(order)) for length in self.size]
        holes: list[Tensor] = []
        if self.cutout:  # drawn last: order and views are those without it
            drawn = views.draw_holes(len(order), self.size, self.cutout, rng)
            holes = [processes.mine(rows).to(device, non_blocking=True) for rows in drawn]
        mine_on_cpu = [processes.mine(rows) for rows in (order, *view, *sizes)]
        order, *seen = (rows.to(device, non_blocking=True) for rows in mine_on_cpu[:4])
        batch_size = self.batch_size // processes.size
        batches = [slice(b * batch_size, (b + 1) * batch_size) for b in range(first, self.n_batches)]
        if self.on_disk:
            pixels = from_disk(self.frames, self.size, [[t[rows] for t in mine_on_cpu] for rows in batches], device)
        else:
            pixels = (views.see(self.frames, order[b], View(*(t[b] for t in seen)), self.size) for b in batches)
        for number, (rows, images) in enumerate(zip(batches, pixels, strict=True), first):
            x = images.to(torch.float32, memory_format=torch.channels_last).div_(255)
            if holes:
                top, left = (first[rows] for first in holes)
                views.cut_out(x, top, left, self.cutout)
            index = order[rows]
            yield Batch(x, self.labels[index], index // processes.size, View(*(t[rows] for t in seen)), epoch, number)

    def order(self, rng: torch.Generator) -> Tensor:
        """The images of an epoch, batch after batch."""
        n, shards = len(self.labels), self.shards
        if shards == 1:
            return torch.randperm(n, generator=rng)
        per_shard = self.n_batches * self.batch_size // shards
        own = [torch.randperm(len(range(s, n, shards)), generator=rng)[:per_shard] * shards + s for s in range(shards)]
        return torch.stack(own, 1).flatten()


def from_disk(
    frames: Tensor, size: tuple[int, int], batches: list[list[Tensor]], device: torch.device
) -> Iterator[Tensor]:
    """What `views.see` gives for each [index, top, left, flip, height, width], from a mapped file some batches ahead.

    A box that is not `size` is resized to it. Each thread fills one batch, image by image; copying and resizing pixels,
    and waiting for the disk, need no interpreter lock.
    """
    n_threads = torch.get_num_threads()
    source = frames.numpy()

    def window(index: Tensor, tops: Tensor, lefts: Tensor, flip: Tensor, *sizes: Tensor) -> tuple[Tensor, Tensor]:
        shape, pinned = (len(index), len(source[0]), *size), device.type == "cuda"
        out = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        target = out.numpy()
        boxes = (rows.tolist() for rows in (index, tops, lefts, *sizes))
        for k, (i, top, left, height, width) in enumerate(zip(*boxes, strict=True)):
            box = source[i, :, top : top + height, left : left + width]
            target[k] = box if (height, width) == size else resized(box, size)
        return out, flip

    with ThreadPoolExecutor(n_threads) as pool:
        waiting = deque(pool.submit(window, *batch) for batch in batches[: n_threads + 1])
        try:
            for following in [*batches[n_threads + 1 :], *[None] * min(n_threads + 1, len(batches))]:
                out, flip = waiting.popleft().result()
                if following is not None:
                    waiting.append(pool.submit(window, *following))
                images, flip = out.to(device, non_blocking=True), flip.to(device, non_blocking=True)
                yield torch.where(flip[:, None, None, None], images.flip(3), images)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def resized(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) uint8 -> (C, H, W) uint8, bilinear and, where it shrinks, smoothed, as Pillow does it."""
    pixels = torch.from_numpy(box.copy())[None]
    return interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)[0].numpy()
