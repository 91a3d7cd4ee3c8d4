"""Prepared data as they lie on disk, and the proof that they are what was prepared. No torch: the report reads them.

{dataset}.safetensors holds uint8 images (n, C, H, W) and int64 labels (n,) of both parts. Where the catalogue says
`stored`, the images lie in one numpy file a part, mapped, and the safetensors file has the sha256 of their chunks.
The header's `sha256` is that of the content; a run's `data_sha256` is made of it.
"""

import hashlib
import json
import os
import re
import shlex
import tokenize
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from fastat.config import catalog
from fastat.config.catalog import CATALOG, DatasetFacts
from fastat.errors import BadInput
from fastat.machine import platforms
from fastat.machine.foreign import head, instead

PARTS = ("train", "test")
PAGE = 4096
# what numpy raises for a file that it did not write
BROKEN = (OSError, ValueError, TypeError, EOFError, OverflowError, SyntaxError, tokenize.TokenError)
SAMPLE_BYTES = 2**28  # of mapped pixels, a part: what `read` compares with its checksums


@dataclass(frozen=True)
class Prepared:
    """A prepared data set whose content is what its header says.

    arrays: {part}_images uint8 and {part}_labels int64, of both parts.
    unverified: why the pixels could not be compared with anything; '' if they were.
    """

    name: str
    sha256: str
    facts: DatasetFacts
    arrays: dict[str, np.ndarray]
    unverified: str = ""


def read(path: Path, whole: bool = False) -> Prepared:
    """The data set at `path`, verified: every byte of the file; of mapped pixels a sample, or all of them if `whole`.

    A file that is named like a data set must hold it.
    Raises: BadInput if it is missing, of another data set, damaged, or not of the catalogue's sizes.
    """
    about, arrays = header(path), _tensors(path)
    name = about["dataset"]
    facts, labels = facts_of(about), {part: arrays[f"{part}_labels"] for part in PARTS}
    for part in PARTS:
        check_labels(labels[part], facts.n_classes, f"{path}: {part}", way_out(path))
    unverified = ""
    if facts.stored and "train_chunks" not in arrays:
        unverified = "it was prepared before its pixels had checksums"
    elif (found := content_hash(arrays)) != about["sha256"]:
        raise BadInput(
            f"{path} is damaged: its content has sha256 {found}, but its header says {about['sha256']}. {way_out(path)}"
        )
    if facts.stored:
        for part in PARTS:
            pixels = mapped(path.parent / about[part], (len(labels[part]), *facts.stored), way_out(path))
            if not unverified:
                _check_pixels(pixels, arrays[f"{part}_chunks"], int(about["chunk"]), whole, way_out(path))
            arrays[f"{part}_images"] = pixels
    kept = {f"{part}_{what}": arrays[f"{part}_{what}"] for part in PARTS for what in ("images", "labels")}
    return Prepared(name, about["sha256"], facts, kept, unverified)


def verify(path: Path) -> Prepared:
    """`read`, with every byte: of ImageNet that is 262 GB from the disk.

    Raises: BadInput as `read` does.
    """
    return read(path, whole=True)


def header(path: Path) -> dict[str, str]:
    """What the file says of itself: `dataset`, `sha256`, `source`; nothing else of it is read.

    Raises: BadInput if it is no prepared data set, or of another one than its name says.
    """
    beginning = head(path, way_out(path))
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} is not a prepared data set ({error}).{instead(beginning)} {way_out(path)}") from error
    name, expected = about.get("dataset"), path.stem
    if not name or not known(about) or "sha256" not in about:
        raise BadInput(f"{path} is not a prepared data set (its header names no known data set). {way_out(path)}")
    if name != expected and (expected in CATALOG or name not in CATALOG):
        raise BadInput(f"{path} must hold {expected}, but it holds {name}. {way_out(path)}")
    pixels = {part: about.get(part) for part in PARTS}
    if facts_of(about).stored and pixels != {part: f"{name}/{part}.npy" for part in PARTS}:
        raise BadInput(f"{path} must have its pixels in {name}/, but its header says {pixels}. {way_out(path)}")
    if not re.fullmatch("[0-9]{1,9}", about.get("chunk", "0")):
        raise BadInput(f"{path}: chunk must be a number of images, got {about['chunk'][:50]!r}. {way_out(path)}")
    return about


def known(about: dict[str, str]) -> bool:
    """Whether a header is of one of ours, or says the sizes of an own data set."""
    return about.get("dataset") in CATALOG or catalog.from_json(catalog.loaded(about.get("facts"))) is not None


def facts_of(about: dict[str, str]) -> DatasetFacts:
    """The sizes of the data set that a header is of."""
    found = CATALOG.get(about["dataset"]) or catalog.from_json(catalog.loaded(about.get("facts")))
    assert found is not None  # `header` has seen to it
    return found


def content_hash(arrays: dict[str, np.ndarray]) -> str:
    """sha256 of images and labels, by name; of mapped pixels that of their chunks' hashes, with the labels."""
    digest = hashlib.sha256()
    if "train_chunks" in arrays:
        for part in PARTS:
            lines = "".join(row.tobytes().hex() for row in arrays[f"{part}_chunks"])
            digest.update(hashlib.sha256(lines.encode()).hexdigest().encode())
            digest.update(np.ascontiguousarray(arrays[f"{part}_labels"]).data)
    else:
        for key in sorted(arrays):
            digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()


def data_sha256(sha256: str, n_train: int, n_test: int) -> str:
    """What a run's `data_sha256` is: the first n_train and n_test images of the data set with this sha256."""
    return hashlib.sha256(json.dumps([sha256, n_train, n_test]).encode()).hexdigest()


def labels(path: Path, part: str) -> np.ndarray:
    """(n,) int64, the labels of `train` or `test`; no image is read.

    Raises: BadInput as `header` does, or if the labels are not there.
    """
    _check_layout(path)
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor(f"{part}_labels")


def way_out(path: Path) -> str:
    """The sentence that ends every refusal: how the file is made."""
    name = path.stem if path.stem in CATALOG else f"{path.stem} --configfile FILE"
    return f"Prepare it again: python -m fastat data --dataset {name} --out {shlex.quote(str(path))}"


def check_labels(labels: np.ndarray, n_classes: int, where: str, way_out: str) -> None:
    """Raises: BadInput if a label is no class: an image of it would always be wrong."""
    wrong = labels[(labels < 0) | (labels >= n_classes)]
    if len(wrong):
        raise BadInput(f"{where} labels must be 0 to {n_classes - 1}, got {int(wrong[0])}. {way_out}")


def mapped(path: Path, shape: tuple[int, ...], way_out: str) -> np.memmap:
    """The pixels of a part, uint8, mapped: nothing is read before it is used, and what is written never reaches it.

    Raises: BadInput if the file is missing, unreadable, or not of this shape.
    """
    beginning = head(path, f"It is missing or damaged. {way_out}")
    if not beginning.startswith(np.lib.format.MAGIC_PREFIX):
        raise BadInput(f"{path} is damaged: it is no numpy file.{instead(beginning)} {way_out}")
    try:
        pixels = np.load(path, mmap_mode="c")
    except BROKEN as error:
        raise BadInput(f"{path} is damaged ({error}). {way_out}") from error
    if pixels.dtype != np.uint8 or not pixels.flags.c_contiguous:
        raise BadInput(f"{path} holds no plain bytes, expected uint8 {shape}. {way_out}")
    if pixels.shape != shape:
        raise BadInput(f"{path} holds {pixels.shape}, expected {shape}. {way_out}")
    return pixels


def chunk_hash(pixels: np.ndarray, chunk: int, size: int) -> bytes:
    """sha256 of the images chunk * size to (chunk + 1) * size - 1, as far as there are any."""
    return hashlib.sha256(pixels[chunk * size : (chunk + 1) * size].data).digest()


def _tensors(path: Path) -> dict[str, np.ndarray]:
    names = _check_layout(path)
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in names}


def _check_layout(path: Path) -> list[str]:
    """The names of the file's tensors, which are those that the catalogue calls for, in kind and size.

    Raises: BadInput for the first that is not.
    """
    about = header(path)
    layout = _layout(facts_of(about), int(about.get("chunk", 0)))
    with safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        found = {name: f"{one.get_dtype()} {tuple(one.get_shape())}" for name, one in slices.items()}
    for name in sorted(layout.keys() | found.keys()):
        if found.get(name) != layout.get(name):
            rule = f"{name} must be {layout[name]}" if name in layout else f"{name} must not be there"
            raise BadInput(f"{path}: {rule}, got {found.get(name, 'none')}. {way_out(path)}")
    return list(layout)


def _layout(facts: DatasetFacts, chunk: int) -> dict[str, str]:
    """Name -> kind and shape of each tensor. chunk: images that a checksum stands for; 0: there are none."""
    layout = {}
    for part, n in (("train", facts.n_train), ("test", facts.n_test)):
        layout[f"{part}_labels"] = f"I64 {(n,)}"
        if not facts.stored:
            layout[f"{part}_images"] = f"U8 {(n, *facts.shape)}"
        elif chunk:
            layout[f"{part}_chunks"] = f"U8 {(-(-n // chunk), 32)}"
    return layout


def _check_pixels(pixels: np.memmap, hashes: np.ndarray, size: int, whole: bool, way_out: str) -> None:
    """Compare chunks with their sha256: all, or some spread evenly and every one that has zeros where it is looked at.

    Raises: BadInput naming the images of the first that differs.
    """
    chunks = range(len(hashes)) if whole else sorted({*_sample(pixels, size), *_dark(pixels, size)})
    with ThreadPoolExecutor(platforms.n_processors()) as pool:
        right = pool.map(lambda chunk: chunk_hash(pixels, chunk, size) == hashes[chunk].tobytes(), chunks)
        wrong = [chunk for chunk, is_right in zip(chunks, right, strict=True) if not is_right]
    if wrong:
        first = wrong[0] * size
        what = "" if pixels[first : first + size].any() else ": they are zeros"
        raise BadInput(
            f"{pixels.filename} is damaged: images {first} to {min(first + size, len(pixels)) - 1} are not what was "
            f"prepared{what} ({len(wrong)} of {len(chunks)} chunks that were looked at). {way_out}"
        )


def _sample(pixels: np.ndarray, size: int) -> Iterable[int]:
    """Chunks of SAMPLE_BYTES together, spread evenly, the first and the last among them; all, if there are no more."""
    n_chunks = -(-len(pixels) // size)
    n = max(2, SAMPLE_BYTES // (size * pixels[0].nbytes))
    return range(n_chunks) if n >= n_chunks else np.linspace(0, n_chunks - 1, n).round().astype(int).tolist()


def _dark(pixels: np.memmap, size: int) -> Iterable[int]:
    """Chunks whose first image is black in the middle: it may be so, or its pixels never reached the disk."""
    each, filename = pixels[0].nbytes, str(pixels.filename)
    with open(filename, "rb") as file:
        platforms.read_here_and_there(file.fileno())
        for chunk in range(-(-len(pixels) // size)):
            at = int(pixels.offset) + chunk * size * each + each // 2
            if not any(os.pread(file.fileno(), min(PAGE, each // 2), at)):
                yield chunk
