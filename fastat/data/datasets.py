"""Images: from their source to one file, from that file to the device, from there batch by batch into training.

`prepare` writes a safetensors file of uint8 images and int64 labels; `load` puts it whole on a device.
"""

import functools
import gzip
import hashlib
import json
import logging
import math
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from fastat.config.catalog import CATALOG
from fastat.data import prepared, views
from fastat.errors import BadInput
from fastat.machine.files import atomic
from fastat.machine.foreign import head, instead
from fastat.machine.processes import ALONE, Processes
from fastat.machine.seeds import generator
from fastat.types import Batch, View

log = logging.getLogger(__name__)

SPLIT_SEED = 20230913  # of the fixed splits of digits; changing it changes every digits number


def prepare(name: str, source: Path, out: Path) -> None:
    """Read data set `name` from its source and write it to `out`.

    Raises: BadInput if files are missing, damaged, or not the size that the catalogue says; or `out` cannot be written.
    """
    if name not in CATALOG:
        raise BadInput(f"unknown dataset {name!r}. Known: {', '.join(CATALOG)}")
    if out.stem in CATALOG and out.stem != name:
        raise BadInput(f"a file named {out.name} must hold {out.stem}, not {name}. Choose another name.")
    if out.is_dir():
        raise BadInput(f"--out must be a file, as {out / name}.safetensors, but {out} is a folder.")
    if CATALOG[name].stored:
        from fastat.data import imagenet

        imagenet.prepare(name, source, out)
        return
    tensors = READERS[name](source)
    facts = CATALOG[name]
    for part, n in (("train", facts.n_train), ("test", facts.n_test)):
        shape = tuple(tensors[f"{part}_images"].shape)
        if shape != (n, *facts.shape):
            raise BadInput(f"{name}: {part} images have shape {shape}, expected {(n, *facts.shape)}")
        prepared.check_labels(
            tensors[f"{part}_labels"].numpy(), facts.n_classes, f"{name}: {part}", "Replace its files."
        )
    sha256 = prepared.content_hash({key: tensor.numpy() for key, tensor in tensors.items()})
    about = {"dataset": name, "sha256": sha256, "source": json.dumps(origin(name, source))}
    with atomic(out) as partial:
        save_file(tensors, partial, metadata=about)
    log.info("%s: %d training and %d test images -> %s", name, facts.n_train, facts.n_test, out)


def origin(name: str, source: Path) -> dict[str, Any]:
    """What the data set was read from: file -> bytes and sha256, or library -> version."""
    if name not in ORIGINS:
        return {}
    library, files = ORIGINS[name], []
    if isinstance(library, str):
        return {library: version(library)}
    for path in library(source):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append({"file": path.name, "bytes": path.stat().st_size, "sha256": digest})
    return {"files": files}


def _digits(_source: Path) -> dict[str, Tensor]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # grey levels 0..16 -> 0..255
    return _split(images, bunch.target, CATALOG["digits"].n_test, train_test_split)


def _digits_dev(source: Path) -> dict[str, Tensor]:
    from sklearn.model_selection import train_test_split

    known = _digits(source)
    images, labels = known["train_images"].numpy(), known["train_labels"].numpy()
    return _split(images, labels, CATALOG["digits_dev"].n_test, train_test_split)


def _split(images: np.ndarray, labels: np.ndarray, n_test: int, split) -> dict[str, Tensor]:
    parts = split(images, labels, test_size=n_test, stratify=labels, random_state=SPLIT_SEED)
    names = ("train_images", "test_images", "train_labels", "test_labels")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in zip(names, parts, strict=True)}
    return {k: v.long() if k.endswith("labels") else v for k, v in tensors.items()}


FASHION_PLACES = (Path("/usr/share/datasets/fashion-mnist"),)  # where Debian's dataset-fashion-mnist puts it
FASHION_SHA256 = {  # of the unpacked files: Debian packs the same bytes again, so the .gz files differ
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def _fashion_mnist(source: Path) -> dict[str, Tensor]:
    """The four gzip files of Fashion-MNIST: in `source`/fashion_mnist, in Debian's place, or downloaded."""
    facts, tensors = CATALOG["fashion_mnist"], {}
    for file in _fashion_files(source):
        name, n_bytes = file.stem, facts.n_train * math.prod(facts.shape) + 16  # the largest of the four
        content = np.frombuffer(_unpacked(file, FASHION_SHA256[name], n_bytes), np.uint8)
        part = "train" if name.startswith("train") else "test"
        if "images" in name:  # their headers have 16 bytes, those of labels 8
            tensors[f"{part}_images"] = torch.from_numpy(content[16:].reshape(-1, *facts.shape).copy())
        else:
            tensors[f"{part}_labels"] = torch.from_numpy(content[8:].astype(np.int64))
    return tensors


def _fashion_files(source: Path) -> list[Path]:
    own = source / "fashion_mnist"
    names = [f"{name}.gz" for name in FASHION_SHA256]
    if not any(os.path.lexists(own / name) for name in names):
        for place in FASHION_PLACES:
            if all((place / name).is_file() for name in names):
                return [place / name for name in names]
    for name in names:
        if not os.path.lexists(own / name):
            _download_fashion_mnist(own / name)
    return [own / name for name in names]


def _unpacked(file: Path, sha256: str, limit: int) -> bytes:
    """The content of a gzip file, if it is the expected one; read no further than `limit` bytes."""
    way_out = "Delete it and run again to download it, or install Debian's dataset-fashion-mnist."
    beginning = head(file, way_out)
    try:
        with gzip.open(file) as unpacking:
            data = unpacking.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file} is no whole gzip file ({error}).{instead(beginning)} {way_out}") from error
    if len(data) > limit:
        raise BadInput(f"{file} unpacks to more than {limit:,} bytes, the most that the data set has. {way_out}")
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise BadInput(f"{file}: wrong checksum: its content has sha256 {found}, expected {sha256}. {way_out}")
    return data


def _download_fashion_mnist(file: Path) -> None:
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import download_url

    for mirror in FashionMNIST.mirrors:
        try:
            with atomic(file) as partial:
                download_url(f"{mirror}{file.name}", str(partial.parent), filename=partial.name)
            return
        except (OSError, RuntimeError) as error:
            log.warning("%s%s: %s", mirror, file.name, error)
    raise BadInput(
        f"Fashion-MNIST: {file.name} is neither in {file.parent} nor in {FASHION_PLACES[0]}, and it could not be "
        f"downloaded. Put the four .gz files into {file.parent}, or install Debian's dataset-fashion-mnist."
    )


def _cifar(name: str, source: Path) -> dict[str, Tensor]:
    from fastat.data import cifar

    return cifar.read(name, source)


def _cifar_files(name: str, source: Path) -> list[Path]:
    from fastat.data import cifar

    return cifar.origin(name, source)


# Data set -> what reads it from the folder of archives: {part}_images (n, C, H, W) uint8 and {part}_labels (n,) int64.
READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "digits": _digits,
    "digits_dev": _digits_dev,
    "fashion_mnist": _fashion_mnist,
    "cifar10": functools.partial(_cifar, "cifar10"),
    "cifar100": functools.partial(_cifar, "cifar100"),
}
ORIGINS: dict[str, str | Callable[[Path], list[Path]]] = {  # what each is read from: a library, or files
    "digits": "scikit-learn",
    "digits_dev": "scikit-learn",
    "fashion_mnist": _fashion_files,
    "cifar10": functools.partial(_cifar_files, "cifar10"),
    "cifar100": functools.partial(_cifar_files, "cifar100"),
}


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
    facts, parts = CATALOG[found.name], {}
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
        shards: int = 1,
        processes: Processes = ALONE,
    ):
        if len(part) < shards:
            raise BadInput(f"{len(part)} training images cannot be divided into {shards} shards. Lower `shards`.")
        assert not (part.on_disk and pad)  # checked with the recipe
        self.frames = views.frame(part.images, pad)
        self.labels, self.size, self.on_disk, self.batch_size = part.labels, part.size, part.on_disk, batch_size
        self.flip, self.seed, self.shards, self.processes = flip, seed, shards, processes
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
        slack = (self.frames.shape[2] - self.size[0], self.frames.shape[3] - self.size[1])
        view = views.draw(len(order), slack, self.flip, rng)
        mine_on_cpu = [processes.mine(rows) for rows in (order, *view)]
        order, *seen = (rows.to(device, non_blocking=True) for rows in mine_on_cpu)
        batch_size = self.batch_size // processes.size
        batches = [slice(b * batch_size, (b + 1) * batch_size) for b in range(first, self.n_batches)]
        if self.on_disk:
            pixels = from_disk(self.frames, self.size, [[t[rows] for t in mine_on_cpu] for rows in batches], device)
        else:
            pixels = (views.see(self.frames, order[b], View(*(t[b] for t in seen)), self.size) for b in batches)
        for number, (rows, images) in enumerate(zip(batches, pixels, strict=True), first):
            x = images.to(torch.float32, memory_format=torch.channels_last).div_(255)
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
    """What `views.see` gives for each [index, top, left, flip], copied from a mapped file some batches ahead.

    Each thread fills one batch, image by image; copying pixels, and waiting for the disk, need no interpreter lock.
    """
    height, width = size
    n_threads = torch.get_num_threads()
    source = frames.numpy()

    def window(index: Tensor, tops: Tensor, lefts: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        shape, pinned = (len(index), len(source[0]), height, width), device.type == "cuda"
        out = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        target = out.numpy()
        for k, (i, top, left) in enumerate(zip(index.tolist(), tops.tolist(), lefts.tolist(), strict=True)):
            target[k] = source[i, :, top : top + height, left : left + width]
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
