"""ImageNet from the standard folder, decoded and resized once into one numpy file a part, which is then memory-mapped.

Raw pixels, not JPEGs of 256 pixels: exact (a second compression would move pixels by as much as eps = 2/255) and read
without decoding; see docs/decisions/imagenet-store.md. Preparation can be killed at any moment and run again.
"""

import hashlib
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors.torch import save_file
from tqdm import tqdm

from fastat.config.catalog import CATALOG, DatasetFacts
from fastat.errors import BadInput
from fastat.machine.files import atomic, exclusive

log = logging.getLogger(__name__)

CHUNK = 64  # images that one thread decodes at a time and one line of the progress file stands for
FOLDERS = {"train": "train", "test": "val"}


def prepare(name: str, source: Path, out: Path) -> None:
    """Write `out`, the labels of both parts, and beside it {name}/train.npy and test.npy, uint8 (n, 3, 256, 256).

    `source`/imagenet has train/ and val/ with a folder of images for each class; a class's number is its rank among
    the sorted names. `out` is written last: where it is, the pixels are whole.
    Raises: BadInput if classes or images are missing or broken, or the disk is too small.
    """
    facts, folder = CATALOG[name], out.parent / name
    listed = {part: list_images(source / "imagenet" / sub) for part, sub in FOLDERS.items()}
    check(listed, facts, source / "imagenet")
    assert facts.stored is not None
    tensors, digest = {}, hashlib.sha256()
    with exclusive(folder):
        out.unlink(missing_ok=True)  # an older one must not vouch for pixels that are half made
        files = {part: Pixels(folder / f"{part}.npy", images, facts.stored) for part, images in listed.items()}
        for pixels in files.values():
            pixels.allocate()
        for part, pixels in files.items():
            digest.update(pixels.fill().encode())
            classes = sorted(images_of_class(listed[part]))
            number = {one: k for k, one in enumerate(classes)}
            tensors[f"{part}_labels"] = torch.tensor([number[image.parent.name] for image in listed[part]])
            digest.update(tensors[f"{part}_labels"].numpy().tobytes())
        about = {"dataset": name, "sha256": digest.hexdigest()}
        about |= {part: f"{name}/{part}.npy" for part in FOLDERS}
        with atomic(out) as partial:
            save_file(tensors, partial, metadata=about)
    log.info("%s: %d training and %d test images -> %s", name, facts.n_train, facts.n_test, folder)


def list_images(folder: Path) -> list[Path]:
    """Every image of a part, sorted by class and name.

    Raises: BadInput if there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(
            f"there is no folder {folder}. ImageNet is expected there as train/CLASS/*.JPEG and val likewise."
        )
    endings = (".jpeg", ".jpg", ".png")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [file for one in classes for file in sorted(one.iterdir()) if file.suffix.lower() in endings]


def images_of_class(images: list[Path]) -> dict[str, int]:
    """Class -> how many images it has."""
    counts: dict[str, int] = {}
    for image in images:
        counts[image.parent.name] = counts.get(image.parent.name, 0) + 1
    return counts


def check(listed: dict[str, list[Path]], facts: DatasetFacts, folder: Path) -> None:
    """Raises: BadInput naming the classes or the number of images that are not as they should be."""
    train, test = (images_of_class(listed[part]) for part in FOLDERS)
    if only := sorted(train.keys() ^ test.keys()):
        raise BadInput(
            f"{folder}: train and val have different classes: {', '.join(only[:5])} only in one of them. "
            "Each needs a folder for every class; val's images, too, have to be sorted into theirs."
        )
    if len(train) != facts.n_classes:
        raise BadInput(f"{folder}: {len(train)} classes with images, expected {facts.n_classes}. Unpack the others.")
    for part, expected in (("train", facts.n_train), ("test", facts.n_test)):
        if len(listed[part]) != expected:
            counts = images_of_class(listed[part])
            least = min(counts, key=lambda one: counts[one])
            raise BadInput(
                f"{folder / FOLDERS[part]}: {len(listed[part])} images, expected {expected}. "
                f"The class with the fewest is {least}, with {counts[least]}. Unpack the missing ones."
            )


@dataclass(frozen=True)
class Pixels:
    """One numpy file, filled chunk by chunk; {file}.progress has a line `chunk sha256` for each that is on disk."""

    path: Path
    images: list[Path]
    size: tuple[int, int, int]

    @property
    def progress(self) -> Path:
        """The file that says which chunks are whole."""
        return self.path.with_suffix(".progress")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole file."""
        return len(self.images), *self.size

    def key(self) -> str:
        """A hash of the images' names and order: another list starts afresh."""
        names = "\n".join(f"{image.parent.name}/{image.name}" for image in self.images)
        return hashlib.sha256(f"{names}\n{self.size}\n{CHUNK}".encode()).hexdigest()

    def begun(self) -> bool:
        """Whether there is a file to go on with."""
        try:
            return (
                self.progress.read_text(encoding="utf-8").startswith(self.key())
                and load(self.path, self.shape) is not None
            )
        except (OSError, BadInput):
            return False

    def allocate(self) -> None:
        """Make the file in its full size, so that a full disk shows before the first image is decoded.

        Raises: BadInput if the disk has not as many bytes.
        """
        if self.begun():
            return
        self.progress.unlink(missing_ok=True)
        try:
            np.lib.format.open_memmap(self.path, mode="w+", dtype=np.uint8, shape=self.shape)
            with open(self.path, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise BadInput(
                f"{self.path} needs {np.prod(self.shape) / 1e9:.1f} GB: {error.strerror}. Make room, or link "
                f"{self.path.parent} to a larger disk."
            ) from error
        self.progress.write_text(self.key(), encoding="utf-8")

    def fill(self) -> str:
        """Decode what is missing, on all cores. Returns a hash of all pixels.

        Raises: BadInput naming the first image that is broken.
        """
        lines = [line.split() for line in self.progress.read_text(encoding="utf-8").splitlines()[1:]]
        done = {int(line[0]): line[1] for line in lines if len(line) == 2 and len(line[1]) == 64}  # one may be torn
        n_chunks, quiet = -(-len(self.images) // CHUNK), not sys.stderr.isatty()
        missing = [chunk for chunk in range(n_chunks) if chunk not in done]
        bar = tqdm(total=n_chunks * CHUNK, initial=len(done) * CHUNK, desc=self.path.stem, unit="image", disable=quiet)
        n_threads = len(os.sched_getaffinity(0))
        with bar, open(self.progress, "a", encoding="utf-8") as file, ThreadPoolExecutor(n_threads) as pool:
            for chunk, sha256 in zip(missing, pool.map(self.write_chunk, missing), strict=True):
                done[chunk] = sha256
                file.write(f"\n{chunk} {sha256}")  # the line break first: what follows a torn line is a line of its own
                file.flush()
                bar.update(CHUNK)
        return hashlib.sha256("".join(done[chunk] for chunk in range(n_chunks)).encode()).hexdigest()

    def write_chunk(self, chunk: int) -> str:
        """Decode some images into their rows of the file, and wait for the disk; returns the sha256 of the pixels.

        By threads: nine tenths of the time is Pillow's, which then holds no interpreter lock.
        """
        rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        pixels = np.stack([decode(image, self.size[1:]) for image in self.images[rows]])
        file = np.lib.format.open_memmap(self.path, mode="r+")
        file[rows] = pixels
        file.flush()
        return hashlib.sha256(pixels.tobytes()).hexdigest()


def decode(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 (3, H, W): bilinear, without keeping the aspect (Resize((256, 256)), data.py:48 of the ATAS code).

    Raises: BadInput if the file is broken.
    """
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise BadInput(
            f"{path} is no whole image ({error}). Replace it and run again: what is done is kept."
        ) from error
    return np.asarray(resized).transpose(2, 0, 1)


def load(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """The pixels of a part, memory-mapped: nothing is read before it is used.

    Raises: BadInput if the file is missing or not of this shape.
    """
    try:
        mapped = np.load(path, mmap_mode="c")  # a private mapping: what is written to it never reaches the file
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is missing or damaged ({error}). Prepare the data set again.") from error
    if mapped.shape != shape:
        raise BadInput(f"{path} holds {mapped.shape}, expected {shape}. Prepare the data set again.")
    return torch.from_numpy(mapped)
