"""ImageNet from the standard folder, decoded and resized once into one numpy file a part, which is then memory-mapped.

Raw pixels, not JPEGs of 256 pixels: exact (a second compression would move pixels by as much as eps = 2/255) and read
without decoding; see docs/decisions/imagenet-store.md. Preparation can be killed at any moment and run again.
"""

import hashlib
import json
import logging
import os
import stat
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from tqdm import tqdm

from fastat.config.catalog import CATALOG, DatasetFacts
from fastat.data import prepared
from fastat.errors import BadInput
from fastat.machine import platforms
from fastat.machine.files import atomic, exclusive
from fastat.machine.foreign import head, instead

log = logging.getLogger(__name__)

CHUNK = 64  # images that one thread decodes at a time and one line of the progress file stands for
FOLDERS = {"train": "train", "test": "val"}


def prepare(name: str, source: Path, out: Path) -> None:
    """Write `out`, labels and checksums, and beside it {name}/train.npy and test.npy, uint8 (n, 3, 256, 256).

    `source`/imagenet has train/ and val/ with a folder of images for each class; a class's number is its rank among
    the sorted names. `out` is written last: where it is, the pixels are whole. Run again, it decodes what has changed:
    images whose file is another one (by size and times), and pixels that are not what was written.
    Raises: BadInput if classes or images are missing or broken, or the disk is too small.
    """
    facts, folder = CATALOG[name], out.parent / name
    listed = {part: list_images(source / "imagenet" / sub) for part, sub in FOLDERS.items()}
    check(listed, facts, source / "imagenet")
    assert facts.stored is not None
    arrays: dict[str, np.ndarray] = {}
    with exclusive(folder):
        files = {part: Pixels(folder / f"{part}.npy", images, facts.stored) for part, images in listed.items()}
        with writing(folder):
            out.unlink(missing_ok=True)  # an older one must not vouch for pixels that are half made
            allocate([pixels for pixels in files.values() if not pixels.begun()])
            for part, pixels in files.items():
                arrays[f"{part}_chunks"] = pixels.fill()
                arrays[f"{part}_labels"] = numbers(listed[part])
        about = {"dataset": name, "sha256": prepared.content_hash(arrays), "chunk": str(CHUNK)}
        about |= {part: f"{name}/{part}.npy" for part in FOLDERS} | {"source": json.dumps(origin(listed))}
        with atomic(out) as partial:
            save_file(arrays, partial, metadata=about)
    log.info("%s: %d training and %d test images -> %s", name, facts.n_train, facts.n_test, folder)


def allocate(files: list["Pixels"]) -> None:
    """Make all files, or none.

    Raises: BadInput if the disk has not as many bytes.
    """
    try:
        for pixels in files:
            pixels.allocate()
    except BadInput:
        for pixels in files:
            pixels.remove()
        raise


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises: BadInput for what the disk refuses. What is done stays, and is gone on from."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"cannot write into {folder}: {error.strerror}. Make room there, or choose another folder, and run again."
        ) from error


def list_images(folder: Path) -> list[Path]:
    """Every image of a part, sorted by class and name. Hidden files are none: macOS leaves `._x.JPEG` beside x.JPEG.

    Raises: BadInput if there is no such folder, or it cannot be read.
    """
    endings = (".jpeg", ".jpg", ".png")
    try:
        if not folder.is_dir():
            raise BadInput(
                f"there is no folder {folder}. ImageNet is expected there as train/CLASS/*.JPEG and val likewise."
            )
        classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = [file for one in classes for file in sorted(one.iterdir())]
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}. Its owner can give the right to.") from error
    return [file for file in files if file.suffix.lower() in endings and not file.name.startswith(".")]


def numbers(images: list[Path]) -> np.ndarray:
    """(n,) int64: the class of each image, its folder's rank."""
    number = {one: k for k, one in enumerate(sorted(images_of_class(images)))}
    return np.array([number[image.parent.name] for image in images], np.int64)


def origin(listed: dict[str, list[Path]]) -> dict[str, dict[str, Any]]:
    """What each part was read from: how many images, their bytes, and the sha256 of their names and sizes."""
    found = {}
    for part, images in listed.items():
        sizes = [image.stat().st_size for image in images]
        lines = "\n".join(f"{image.parent.name}/{image.name} {size}" for image, size in zip(images, sizes, strict=True))
        sha256 = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
        found[part] = {"images": len(images), "bytes": sum(sizes), "listing": sha256}
    return found


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
        found, counts = len(listed[part]), images_of_class(listed[part])
        least, most = min(counts, key=lambda one: counts[one]), max(counts, key=lambda one: counts[one])
        if found != expected:
            raise BadInput(
                f"{folder / FOLDERS[part]}: {found} images, expected {expected}. "
                + (
                    f"The class with the fewest is {least}, with {counts[least]}. Unpack the missing ones."
                    if found < expected
                    else f"That is {found - expected} too many: take away what is not of the data set. "
                    f"The class with the most is {most}, with {counts[most]}."
                )
            )


@dataclass(frozen=True)
class Pixels:
    """One numpy file, filled chunk by chunk; {file}.progress has a line for each that is on disk.

    The line is `chunk sha256 source`: the hash of the pixels, and that of the state of the files that they came from.
    """

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
        return hashlib.sha256(f"{names}\n{self.size}\n{CHUNK}".encode(errors="surrogateescape")).hexdigest()

    def begun(self) -> bool:
        """Whether there is a file to go on with."""
        try:
            prepared.mapped(self.path, self.shape, "")
            return self.progress.read_text(encoding="utf-8").startswith(self.key())
        except (OSError, UnicodeDecodeError, BadInput):
            return False

    def allocate(self) -> None:
        """Make the file in its full size, so that a full disk shows before the first image is decoded.

        Raises: BadInput if the disk has not as many bytes.
        """
        self.remove()  # it may be a pipe, or a link to another set's pixels
        try:
            np.lib.format.open_memmap(self.path, mode="w+", dtype=np.uint8, shape=self.shape)
            with open(self.path, "rb+") as file:
                platforms.reserve(file.fileno(), os.fstat(file.fileno()).st_size)
            self.progress.write_text(self.key(), encoding="utf-8")
        except OSError as error:
            raise BadInput(
                f"{self.path} needs {np.prod(self.shape) / 1e9:.1f} GB: {error.strerror}. Make room, or link "
                f"{self.path.parent} to a larger disk."
            ) from error

    def remove(self) -> None:
        """Away with the pixels and what is known of them."""
        self.progress.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def fill(self) -> np.ndarray:
        """Decode what is missing or has changed, on all cores. Returns (n_chunks, 32) uint8, the sha256 of each chunk.

        Raises: BadInput naming the first image that is broken.
        """
        lines = [line.split() for line in self.progress.read_text(encoding="utf-8").splitlines()[1:]]
        whole = [line for line in lines if [len(word) for word in line[1:]] == [64, 64]]  # one may be torn
        done = {line[0]: line for line in whole}
        chunks, n_new, quiet = range(-(-len(self.images) // CHUNK)), 0, not sys.stderr.isatty()
        bar = tqdm(total=len(chunks) * CHUNK, desc=self.path.stem, unit="image", disable=quiet)
        hashes, n_threads = np.empty((len(chunks), 32), np.uint8), platforms.n_processors()
        with bar, open(self.progress, "a", encoding="utf-8") as file, ThreadPoolExecutor(n_threads) as pool:
            for chunk, line in zip(chunks, pool.map(lambda k: self.made(k, done.get(str(k))), chunks), strict=True):
                hashes[chunk] = np.frombuffer(bytes.fromhex(line[1]), np.uint8)
                if line != done.get(line[0]):
                    file.write(
                        "\n" + " ".join(line)
                    )  # the line break first: what follows a torn line is a line of its own
                    file.flush()
                    n_new += 1
                bar.update(CHUNK)
        if done:
            log.info(
                "%s: %d of %d chunks were whole, the others are made anew", self.path, len(chunks) - n_new, len(chunks)
            )
        return hashes

    def made(self, chunk: int, known: list[str] | None) -> list[str]:
        """The chunk's line of the progress file. It is decoded, unless file and images are as the known line says."""
        source = self.source(chunk)
        if known and known[2] == source:
            pixels = np.lib.format.open_memmap(self.path, mode="r")
            if prepared.chunk_hash(pixels, chunk, CHUNK).hex() == known[1]:
                return known
        return [str(chunk), self.write_chunk(chunk), source]

    def source(self, chunk: int) -> str:
        """sha256 of size and times of the chunk's images: a file that was replaced has other ones.

        Raises: BadInput if one is missing, or is no file.
        """
        state = []
        for image in self.images[chunk * CHUNK : (chunk + 1) * CHUNK]:
            try:
                now = image.stat()
            except OSError as error:
                raise BadInput(f"cannot read {image}: {error.strerror}. Replace it and run again.") from error
            if not stat.S_ISREG(now.st_mode):
                raise BadInput(f"{image} must be a file, but it is a folder, pipe or device. Replace it and run again.")
            state.append(f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}")
        return hashlib.sha256("\n".join(state).encode()).hexdigest()

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
        with Image.open(path, formats=("JPEG", "PNG")) as image:  # no other reader of Pillow's meets foreign bytes
            resized = image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        what = instead(head(path, "Replace it and run again."))
        raise BadInput(
            f"{path} is no whole image ({error}).{what} Replace it and run again: what is done is kept."
        ) from error
    return np.asarray(resized).transpose(2, 0, 1)
