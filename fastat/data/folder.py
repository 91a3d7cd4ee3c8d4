"""A folder of images, a folder a class, as a data set of the user's own: JPEG, PNG and WebP."""

import hashlib
import logging
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fastat.config import own_data
from fastat.data import fit
from fastat.data.fit import listed
from fastat.data.measure import Found
from fastat.data.split import split
from fastat.errors import BadInput
from fastat.machine.foreign import head, instead

log = logging.getLogger(__name__)

ENDINGS = (".jpeg", ".jpg", ".png", ".webp")
UNREAD = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".jxl", ".pgm", ".ppm", ".svg", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP")
ANNOTATIONS = "val_annotations.txt"  # Tiny-ImageNet's: `val_0.JPEG n03444034 0 32 44 62`
CHUNK = 256  # images that one thread reads at a time
SMALL = 128 * 128  # pixels: below, most of the time is Python's, where threads only wait for one another (benchmark)
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
LAYOUT = "It must hold train/CLASS/*.jpg and test/CLASS/*.jpg (or val/), or, with `test: 0.2`, CLASS/*.jpg"


@dataclass(frozen=True)
class Labelled:
    """One file and the name of its class."""

    path: Path
    label: str


def read(options: dict[str, Any], source: Path) -> Found:
    """The data set in the folder; without a test part of its own, `test` of it is split off.

    Raises: BadInput naming every class or file that cannot be used.
    """
    root, where = own_data.path_of(options["folder"], "folder"), f"folder {options['folder']}"
    parts = {part: list(images) for part, images in parts_of(root, options, where).items()}
    classes = checked_classes(parts, where, "test" in options)
    images = [image for part in parts.values() for image in part]
    pixels, number = decoded(images, options, where), {name: k for k, name in enumerate(classes)}
    labels = np.array([number[image.label] for image in images], np.int64)
    origin = {part: listing(root, listed) for part, listed in parts.items()}
    n_train = len(parts["train"])
    if "test" in options:
        return Found(split(pixels, labels, options, where), origin, tuple(classes))
    arrays = {
        "train_images": pixels[:n_train], "train_labels": labels[:n_train],
        "test_images": pixels[n_train:], "test_labels": labels[n_train:],
    }  # fmt: skip
    return Found(arrays, origin, tuple(classes))


# Which images there are


def parts_of(root: Path, options: dict[str, Any], where: str) -> dict[str, Iterator[Labelled]]:
    """`train` and `test` -> their images; `train` alone, if it is to be split.

    Raises: BadInput if the folder is not laid out as its options say.
    """
    if not root.is_dir():
        raise BadInput(f"{where}: there is no such folder (looked for at {root.absolute()}). {LAYOUT}")
    train, test = root / "train", next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if (root / "val" / ANNOTATIONS).is_file():
        test = root / "val"
    if "test" in options:
        if train.is_dir() and test:
            raise BadInput(f"{where} has train/ and {test.name}/: there is nothing to split. Leave `test` out")
        return {"train": images_of(train if train.is_dir() else root, where)}
    if not train.is_dir() or test is None:
        there = listed(sorted(path.name for path in root.iterdir() if path.is_dir()), 5) or "no folder"
        raise BadInput(f"{where} has no train/ with test/ or val/ (it has {there}). {LAYOUT}")
    if test.name == "test" and (root / "val").is_dir():
        log.info("%s: test/ is the test part; val/ is left alone", where)
    if (test / ANNOTATIONS).is_file():
        return {"train": images_of(train, where), "test": annotated(test, where)}
    return {"train": images_of(train, where), "test": images_of(test, where)}


def images_of(folder: Path, where: str) -> Iterator[Labelled]:
    """The images of every class folder, sorted by class and path; those in folders below belong to the class.

    Hidden files are none. Raises: BadInput naming the classes without images, and images in formats that are not read.
    """
    classes = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    if not classes:
        raise BadInput(f"{where}: there is no class folder in {folder}. {LAYOUT}")
    found, unread, others = {one: sorted(files_below(one)) for one in classes}, [], Counter[str]()
    empty = []
    for one, files in found.items():
        unread += [path for path in files if path.suffix.lower() in UNREAD]
        others.update(path.suffix for path in files if path.suffix.lower() not in (*ENDINGS, *UNREAD))
        found[one] = [path for path in files if path.suffix.lower() in ENDINGS]
        empty += [] if found[one] else [one.name]
    if unread:
        raise BadInput(
            f"{where}: {len(unread)} images are no JPEG, PNG or WebP: {listed(unread)}. Convert or remove them"
        )
    if empty:
        raise BadInput(f"{where}: {folder.name}/ has classes without an image: {listed(empty)}. Fill or remove them")
    if others:
        shown = ", ".join(f"{ending or 'without ending'} {n}" for ending, n in others.most_common())
        log.info("%s: files that are no images were left alone: %s", folder, shown)
    return (Labelled(path, one.name) for one, files in found.items() for path in files)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and in those below it; hidden ones are none (macOS leaves `._x.jpg` beside x.jpg)."""

    def refuse(error: OSError) -> None:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}. Its owner can give the right to.") from error

    for path, inner, names in os.walk(folder, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(path, name) for name in names if not name.startswith("."))


def annotated(folder: Path, where: str) -> Iterator[Labelled]:
    """The images that a Tiny-ImageNet's val_annotations.txt gives a class.

    Raises: BadInput for a line that does not.
    """
    found = []
    for number, line in enumerate((folder / ANNOTATIONS).read_text("utf-8", errors="replace").splitlines(), 1):
        words = line.split("\t") if "\t" in line else line.split()
        if len(words) < 2 or "/" in words[0]:
            raise BadInput(f"{where}: {folder / ANNOTATIONS}, line {number} must be FILE CLASS ..., got {line[:60]!r}")
        found.append(Labelled(folder / "images" / words[0], words[1]))
    return iter(sorted(found, key=lambda image: (image.label, image.path)))


def checked_classes(parts: dict[str, list[Labelled]], where: str, splits: bool) -> list[str]:
    """The names of the classes, sorted: their ranks are the labels.

    Raises: BadInput for one class alone, those of test that train lacks, or with one image where a split needs two.
    """
    counts = Counter(image.label for image in parts["train"])
    classes = sorted(counts)
    if len(classes) < 2:
        raise BadInput(f"{where}: there is one class, {classes[0]}; two are needed to tell one from another. {LAYOUT}")
    if splits:
        fit.check_classes(dict(counts), where)
        return classes
    tested = {image.label for image in parts["test"]}
    if unknown := sorted(tested - counts.keys()):
        raise BadInput(
            f"{where}: test has classes that train lacks: {listed(unknown)}. Give each the folder name that it has in "
            "train, or remove it"
        )
    if untested := sorted(counts.keys() - tested):
        log.warning("%s: classes without a test image: %s", where, listed(untested))
    return classes


def listing(root: Path, images: list[Labelled]) -> dict[str, Any]:
    """How many images a part was read from, their bytes, and the sha256 of their names and sizes."""
    sizes = [image.path.stat().st_size for image in images]
    lines = "\n".join(f"{image.path.relative_to(root)} {n}" for image, n in zip(images, sizes, strict=True))
    sha256 = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    return {"images": len(images), "bytes": sum(sizes), "listing": sha256}


# Their pixels


def decoded(images: list[Labelled], options: dict[str, Any], where: str) -> np.ndarray:
    """uint8 (n, C, H, W), after a first look at every file's header.

    Raises: BadInput naming all files that are no whole images, or if sizes or modes are mixed and nothing is said.
    """
    paths = [image.path for image in images]
    seen = over(paths, header, "headers", 1)
    if any(isinstance(one, str) for one in seen):
        seen = over(paths, whole, "images", 1)  # the others may be damaged behind their headers
    refuse([one for one in seen if isinstance(one, str)], len(paths), where)
    known = [one for one in seen if not isinstance(one, str)]
    chosen = fit.plan(Counter(size for size, _ in known), Counter(mode for _, mode in known), options, where)
    fit.room_for(len(paths) * int(np.prod(chosen.shape)), where)
    pixels = np.empty((len(paths), *chosen.shape), np.uint8)
    large = sum(w * h for (w, h), _ in known) > SMALL * len(known)
    n_threads = len(os.sched_getaffinity(0)) if large else 1
    place = {path: k for k, path in enumerate(paths)}

    def into(path: Path) -> str:
        found = opened(path, lambda image: fit.fitted(image, chosen))
        if isinstance(found, str):
            return found
        pixels[place[path]] = found
        return ""

    refuse([said for said in over(paths, into, "images", n_threads) if said], len(paths), where)
    return pixels


def over(paths: list[Path], look: Callable[[Path], Any], what: str, n_threads: int) -> list[Any]:
    """What `look` finds in each file, in order, by threads that take CHUNK files at a time; a bar on a terminal."""
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    found: list[Any] = []
    bar = tqdm(total=len(paths), desc=what, unit="image", disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(n_threads) as pool:
        try:
            for part in pool.map(lambda chunk: [look(path) for path in chunk], chunks):
                found += part
                bar.update(len(part))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def header(path: Path) -> tuple[tuple[int, int], str] | str:
    """(width, height) and mode, or why there are none; no pixel is read."""
    return opened(path, lambda image: (image.size, image.mode))


def whole(path: Path) -> tuple[tuple[int, int], str] | str:
    """`header`, or why the pixels cannot be read."""
    return opened(path, lambda image: (image.load(), (image.size, image.mode))[1])


def opened(path: Path, look: Callable[[Image.Image], Any]) -> Any:
    """What `look` finds in an image, or in a text why it is none. No other reader of Pillow's meets foreign bytes."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return look(image)
    except BROKEN as error:
        return f"{path} ({cause(path, error)})"


def cause(path: Path, error: Exception) -> str:
    """Why a file is no image, in a few words."""
    try:
        beginning = head(path, "").strip()
    except BadInput as refused:
        return str(refused).removeprefix(f"cannot read {path}: ").strip(" .")
    if not beginning:
        return "0 bytes" if not path.stat().st_size else "blank"
    kind = instead(beginning).strip(" .").removeprefix("It is ")
    return kind or ("no image" if isinstance(error, UnidentifiedImageError) else f"damaged: {error}")


def refuse(bad: list[str], n: int, where: str) -> None:
    """Raises: BadInput naming the first files that are no images, and how many there are."""
    if bad:
        raise BadInput(
            f"{where}: {len(bad)} of {n} files are no whole images: {listed(bad)}. Replace or remove them; nothing was "
            "written"
        )
