"""A folder of images, a folder a class, as a data set of the user's own: JPEG, PNG and WebP."""

import functools
import hashlib
import logging
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fastat.config import own_data
from fastat.data import fit, parallel, split
from fastat.data.fit import Fit, listed
from fastat.data.measure import Found
from fastat.data.prepared import PARTS
from fastat.errors import BadInput
from fastat.machine.foreign import head, instead

log = logging.getLogger(__name__)

ENDINGS = (".jpeg", ".jpg", ".png", ".webp")
UNREAD = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".jxl", ".pgm", ".ppm", ".svg", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP")
ANNOTATIONS = "val_annotations.txt"  # Tiny-ImageNet's: `val_0.JPEG n03444034 0 32 44 62`
CHUNK, CHUNK_BYTES = 256, 2**24  # images, and bytes of their pixels, that are read at a time
FEW = 2000  # files, up to which one process is done before others have begun
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
LAYOUT = "It must hold train/CLASS/*.jpg and test/CLASS/*.jpg (or val/), or, with `test: 0.2`, CLASS/*.jpg"


@dataclass(frozen=True)
class Labelled:
    """One file and the name of its class."""

    path: str
    label: str


def read(options: dict[str, Any], source: Path) -> Found:
    """The data set in the folder; without a test part of its own, `test` of it is split off.

    Raises: BadInput naming every class or file that cannot be used.
    """
    root, where = own_data.path_of(options["folder"], "folder"), f"folder {options['folder']}"
    parts = parts_of(root, options, where)
    classes = checked_classes(parts, where, "test" in options)
    origin = {part: listing(root, images) for part, images in parts.items()}
    number = {name: k for k, name in enumerate(classes)}
    if "test" in options:
        every = parts["train"]
        test = split.tested(numbers(every, number), options, where)
        parts = {"train": taken(every, np.flatnonzero(~test)), "test": taken(every, np.flatnonzero(test))}
    ordered = {part: taken(images, split.order(numbers(images, number))) for part, images in parts.items()}
    pixels, n_train = (
        decoded([image.path for part in PARTS for image in ordered[part]], options, where),
        len(parts["train"]),
    )
    arrays = {f"{part}_labels": numbers(ordered[part], number) for part in PARTS}
    arrays |= {"train_images": pixels[:n_train], "test_images": pixels[n_train:]}
    return Found(arrays, origin, tuple(classes))


def numbers(images: list[Labelled], number: dict[str, int]) -> np.ndarray:
    """(n,) int64: the labels."""
    return np.array([number[image.label] for image in images], np.int64)


def taken(images: list[Labelled], rows: np.ndarray) -> list[Labelled]:
    """The images in these rows, in their order."""
    return [images[row] for row in rows.tolist()]


# Which images there are


def parts_of(root: Path, options: dict[str, Any], where: str) -> dict[str, list[Labelled]]:
    """`train` and `test` -> their images; `train` alone, if it is to be split.

    Raises: BadInput if the folder is not laid out as its options say.
    """
    if not root.is_dir():
        way_out = options.get("absent", LAYOUT)
        raise BadInput(f"{where}: there is no such folder (looked for at {root.absolute()}). {way_out}")
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


def images_of(folder: Path, where: str) -> list[Labelled]:
    """The images of every class folder, sorted by class and path; those in folders below belong to the class.

    Hidden files are none. Raises: BadInput naming the classes without images, and images in formats that are not read.
    """
    classes = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    if not classes:
        raise BadInput(f"{where}: there is no class folder in {folder}. {LAYOUT}")
    found: list[Labelled] = []
    unread, empty, others = [], [], Counter[str]()
    for one in classes:
        before = len(found)
        for path in sorted(files_below(one)):
            ending = os.path.splitext(path)[1].lower()
            if ending in ENDINGS:
                found.append(Labelled(path, one.name))
            elif ending in UNREAD:
                unread.append(path)
            else:
                others[ending] += 1
        empty += [one.name] if len(found) == before else []
    if unread:
        raise BadInput(
            f"{where}: {len(unread)} images are no JPEG, PNG or WebP: {listed(unread)}. Convert or remove them"
        )
    if empty:
        raise BadInput(f"{where}: {folder.name}/ has classes without an image: {listed(empty)}. Fill or remove them")
    if others:
        shown = ", ".join(f"{ending or 'without ending'} {n}" for ending, n in others.most_common())
        log.info("%s: files that are no images were left alone: %s", folder, shown)
    return found


def files_below(folder: Path) -> Iterator[str]:
    """Every file in a folder and in those below it; hidden ones are none (macOS leaves `._x.jpg` beside x.jpg).

    Raises: BadInput for a folder that cannot be read, and for a link to one, which may lead anywhere, also back.
    """

    def refuse(error: OSError) -> None:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}. Its owner can give the right to.") from error

    for path, inner, names in os.walk(folder, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for link in (f"{path}/{name}" for name in inner if os.path.islink(f"{path}/{name}")):
            raise BadInput(f"{link} is a link to a folder, and is not followed. Put the folder itself there.")
        yield from (f"{path}/{name}" for name in names if not name.startswith("."))


def annotated(folder: Path, where: str) -> list[Labelled]:
    """The images that a Tiny-ImageNet's val_annotations.txt gives a class.

    Raises: BadInput for a line that does not.
    """
    found = []
    for number, line in enumerate((folder / ANNOTATIONS).read_text("utf-8", errors="replace").splitlines(), 1):
        words = line.split("\t") if "\t" in line else line.split()
        if len(words) < 2 or "/" in words[0]:
            raise BadInput(f"{where}: {folder / ANNOTATIONS}, line {number} must be FILE CLASS ..., got {line[:60]!r}")
        found.append(Labelled(f"{folder}/images/{words[0]}", words[1]))
    return sorted(found, key=lambda image: (image.label, image.path))


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
    sizes, below = [size_of(image.path) for image in images], len(f"{root}/")
    lines = "\n".join(f"{image.path[below:]} {size}" for image, size in zip(images, sizes, strict=True))
    sha256 = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    return {"images": len(images), "bytes": sum(sizes), "listing": sha256}


def size_of(path: str) -> int:
    """Bytes of a file; 0 of one that is not there, which is named when it is read."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


# Their pixels


def decoded(paths: list[str], options: dict[str, Any], where: str) -> np.ndarray:
    """uint8 (n, C, H, W). Files that are alike are read once; where they are not, all headers come before the pixels.

    Raises: BadInput naming all files that are no whole images, or if sizes or modes are mixed and nothing is said.
    """
    guess = first_guess(paths, options)
    pixels = np.empty((len(paths), *guess.shape), np.uint8) if fit.has_room(fit.bytes_of(len(paths), guess)) else None
    seen = read_all(paths, range(len(paths)), guess, pixels, False)
    if any(one.problem for one in seen):  # the others may be damaged behind their headers
        rest = [k for k, one in enumerate(seen) if not one.problem and not one.read]
        for k, one in zip(rest, read_all(paths, rest, guess, None, True), strict=True):
            seen[k] = one
        refuse(
            [f"{path} ({one.problem})" for path, one in zip(paths, seen, strict=True) if one.problem], where, len(paths)
        )
    chosen = fit.plan(Counter(one.size for one in seen), Counter(one.mode for one in seen), options, where)
    fit.room_for(fit.bytes_of(len(paths), chosen), where)
    if pixels is None or chosen != guess:
        pixels = np.empty((len(paths), *chosen.shape), np.uint8)
        seen = [one._replace(read=False) for one in seen]
    rest = [k for k, one in enumerate(seen) if not one.read]
    found = read_all(paths, rest, chosen, pixels, True)
    bad = [f"{paths[k]} ({one.problem})" for k, one in zip(rest, found, strict=True) if one.problem]
    refuse(bad, where, len(paths))
    return pixels


def first_guess(paths: list[str], options: dict[str, Any]) -> Fit:
    """What the images become, if all are like the first one that can be read."""
    for path in paths:
        found = opened(path, lambda image: (image.size, image.mode))
        if not isinstance(found, str):
            (width, height), mode = found
            return Fit(mode if mode in fit.CHANNELS else "RGB", height, width)
    return Fit("RGB", 1, 1)


class Seen(NamedTuple):
    """What is known of a file. read: its pixels were taken. problem: why it is no whole image."""

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    read: bool = False
    problem: str = ""


def read_all(paths: list[str], rows: Sequence[int], wanted: Fit, pixels: np.ndarray | None, fits: bool) -> list[Seen]:
    """Read the files of these rows, and put their pixels into the same rows, where there are `pixels`.

    fits: make every image what is wanted; else take those that are it already, and of others the header alone.
    A bar on a terminal; many files by as many processes as there are processors.
    """
    size = max(1, min(CHUNK, CHUNK_BYTES // int(np.prod(wanted.shape))))
    chunks = [rows[first : first + size] for first in range(0, len(rows), size)]
    look = functools.partial(read_some, wanted=wanted, keeps=pixels is not None, fits=fits)
    listed = ([paths[row] for row in chunk] for chunk in chunks)
    found: list[Seen] = []
    bar = tqdm(total=len(rows), desc="images", unit="image", disable=not sys.stderr.isatty() or not rows)
    with bar, parallel.mapping(len(rows) > FEW) as mapped:
        for chunk, (seen, content) in zip(chunks, mapped(look, listed), strict=True):
            if pixels is not None and len(content):
                pixels[[row for row, one in zip(chunk, seen, strict=True) if one.read]] = content
            found += seen
            bar.update(len(chunk))
    return found


def read_some(paths: list[str], wanted: Fit, keeps: bool, fits: bool) -> tuple[list[Seen], np.ndarray]:
    """What is known of each file, and the pixels of those that were read, (k, C, H, W)."""
    seen: list[Seen] = []
    content: list[np.ndarray] = []

    def look(image: Image.Image) -> Seen:
        if fits and not keeps:
            image.load()
        elif fits or (keeps and fit.is_one(image, wanted)):
            content.append(fit.fitted(image, wanted))
            return Seen(image.size, image.mode, True)
        return Seen(image.size, image.mode)

    for path in paths:
        found = opened(path, look)
        seen.append(Seen(problem=found) if isinstance(found, str) else found)
    return seen, np.stack(content) if content else np.empty(0, np.uint8)


def opened(path: str, look: Callable[[Image.Image], Any]) -> Any:
    """What `look` finds in an image, or in a text why it is none. No other reader of Pillow's meets foreign bytes."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return look(image)
    except BROKEN as error:
        return cause(Path(path), error)


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


def refuse(bad: list[str], where: str, n: int) -> None:
    """Raises: BadInput naming the first files that are no images, and how many there are."""
    if bad:
        raise BadInput(
            f"{where}: {len(bad)} of {n} files are no whole images: {listed(sorted(bad))}. Replace or remove them; "
            "nothing was written"
        )
