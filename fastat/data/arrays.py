"""Arrays as a data set of the user's own: in an npz file, of which nothing is unpickled, or from a function."""

import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastat.config import own_data
from fastat.data import fit, prepared, split
from fastat.data.measure import Found
from fastat.errors import BadInput
from fastat.machine import seals
from fastat.machine.foreign import head, instead
from fastat.machine.others import imported, in_a_sentence

PAIRS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
ONE = ("images", "labels")
KEYS = "It must hold x_train, y_train, x_test and y_test, or images and labels (with `test: 0.2` in the config)"
LAYOUTS = {"NHWC": 3, "NCHW": 1, "NHW": None}  # where the channels are
BROKEN = (*prepared.BROKEN, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)  # runtime: encrypted


def read(options: dict[str, Any], source: Path) -> Found:
    """The data set in the file; of `images` and `labels`, `test` is split off.

    Raises: BadInput if the file, its keys, or an array of it cannot be used.
    """
    path, where = own_data.path_of(options["npz"], "npz"), f"npz {options['npz']}"
    held = loaded(path, where)
    return in_parts(held, seals.of_file(path), options, where)


def read_by(options: dict[str, Any], source: Path) -> Found:
    """The data set that a function of others' gives, called without arguments: a mapping as an npz file is one.

    Raises: BadInput if there is no such function, it fails, or what it gives cannot be used.
    """
    where = f"reader {options['reader']}"
    with in_a_sentence(where, "its module cannot be imported"):
        try:
            function = imported(options["reader"])
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
    with in_a_sentence(where, "it fails"):
        given = function()
    if not isinstance(given, Mapping) or not all(isinstance(value, np.ndarray) for value in given.values()):
        raise BadInput(f"{where} must give a mapping from names to numpy arrays, got {type(given).__name__}. {KEYS}")
    if missing := [key for key in wanted(given) if key not in given]:
        raise BadInput(f"{where} has no {fit.listed(missing)} (it has {fit.listed(given, 6)}). {KEYS}")
    return in_parts(dict(given), {"reader": options["reader"]}, options, where)


def wanted(held: Collection[str]) -> list[str]:
    """The names of the arrays that make a data set, of those that are there."""
    return sorted({key for pair in PAIRS.values() for key in pair} if "x_train" in held else ONE)


def in_parts(held: dict[str, np.ndarray], origin: dict[str, Any], options: dict[str, Any], where: str) -> Found:
    """The data set in these arrays; of `images` and `labels`, `test` is split off.

    Raises: BadInput if one of them cannot be used.
    """
    if "x_train" in held:
        if "test" in options:
            raise BadInput(f"{where} has x_train and x_test: there is nothing to split. Leave `test` out")
        found = {p: part(held, *keys, options, where) for p, keys in PAIRS.items()}
        shapes = {p: images.shape[1:] for p, (images, _) in found.items()}
        if shapes["train"] != shapes["test"]:
            rule = "training and test images must be of one shape (C, H, W)"
            raise BadInput(f"{where}: {rule}, got {shapes['train']} and {shapes['test']}. Bring them to one size")
        check_labels(found["train"][1], where)
        check_test_labels(found["train"][1], found["test"][1], where)
        return Found(split.in_parts(found), origin)
    if "test" not in options:
        raise BadInput(f"{where} has images and labels, and no test part. Say how many: `test: 0.2`, or `test: 1000`")
    images, labels = part(held, *ONE, options, where)
    check_labels(labels, where)
    classes, counts = np.unique(labels, return_counts=True)
    fit.check_classes(dict(zip(classes.tolist(), counts.tolist(), strict=True)), where)
    test = split.tested(labels, options, where)
    parts = {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}
    return Found(split.in_parts(parts), origin)


def loaded(path: Path, where: str) -> dict[str, np.ndarray]:
    """The file's arrays that are needed, by name.

    Raises: BadInput if it is no npz file, lacks some, or holds objects.
    """
    beginning = head(path, f"Say where it is: `npz: FILE` (looked for at {path.absolute()}).")
    if beginning.startswith(np.lib.format.MAGIC_PREFIX):
        raise BadInput(f"{where} holds one array, and is no npz file. {KEYS}; np.savez_compressed writes one")
    if not beginning.startswith(b"PK"):
        raise BadInput(f"{where} is no npz file.{instead(beginning)} {KEYS}; np.savez_compressed writes one")
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            if missing := [key for key in wanted(file) if key not in file]:
                raise BadInput(f"{where} has no {fit.listed(missing)} (it has {fit.listed(file.files, 6)}). {KEYS}")
            with zipfile.ZipFile(path) as listing:
                fit.room_for(sum(member.file_size for member in listing.infolist()), where)
            return {key: array(file, key, where) for key in wanted(file)}
    except BadInput:
        raise
    except BROKEN as error:
        raise BadInput(f"{where} is damaged ({error}). Write it again with np.savez_compressed") from error


def array(file: Any, key: str, where: str) -> np.ndarray:
    """One array.

    Raises: BadInput if it holds objects: they would have to be unpickled.
    """
    try:
        return np.asarray(file[key])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise BadInput(
            f"{where}: {key} holds Python objects, which are pickled, and a pickle may run anything: it is not read. "
            "Make it one array of numbers: np.stack(list).astype(np.uint8)"
        ) from error


def part(
    held: dict[str, np.ndarray], x: str, y: str, options: dict[str, Any], where: str
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (n, C, H, W) and int64 labels (n,) under these keys.

    Raises: BadInput if they are of another kind or shape, or not as many.
    """
    images, labels = held[x], held[y]
    if images.dtype != np.uint8:
        floats = images.dtype.kind == "f"
        way_out = "np.rint(255 * x).astype(np.uint8), if x is in [0, 1]" if floats else "x.astype(np.uint8), if it is"
        raise BadInput(f"{where}: {x} must be uint8, 0 to 255, got {images.dtype}. Write {way_out}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        one_hot = labels.ndim == 2 and labels.shape[1] > 1
        way_out = f"Write {y}.argmax(1)" if one_hot else f"Write {y}.ravel().astype(np.int64)"
        if labels.dtype.kind in "USO":
            way_out = f"Write np.unique({y}, return_inverse=True)[1]"
        rule = f"{y} must be whole numbers, one an image, of shape (n,)"
        raise BadInput(f"{where}: {rule}, got {labels.dtype} {labels.shape}. {way_out}")
    if images.ndim and (len(images) != len(labels) or not len(images)):
        raise BadInput(
            f"{where}: {x} and {y} must be as many and not none, got {len(images)} and {len(labels)}. "
            "Give each image its label"
        )
    return channels_first(images, x, options, where), labels.astype(np.int64)


def channels_first(images: np.ndarray, key: str, options: dict[str, Any], where: str) -> np.ndarray:
    """(n, C, H, W) of what is (n, H, W, C), (n, C, H, W) or (n, H, W), as `layout` says or only one can be.

    Raises: BadInput if it can be none of them, or two.
    """
    shape = images.shape
    fits = [
        name for name, axis in LAYOUTS.items() if len(shape) == len(name) and (axis is None or shape[axis] in (1, 3))
    ]
    said = options.get("layout")
    if 0 in shape or not fits or (said and said not in fits):
        rule = f"{key} must be NHWC or NCHW with 1 or 3 channels, or NHW"
        raise BadInput(
            f"{where}: {rule}, got {shape}{f' and layout: {said}' if said else ''}. Reshape it, or say its layout"
        )
    if len(fits) > 1 and not said:
        raise BadInput(f"{where}: {key} of shape {shape} may be {' or '.join(fits)}. Say which: `layout: {fits[0]}`")
    layout = said or fits[0]
    if layout == "NHW":
        return images[:, None]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if layout == "NHWC" else images


def check_labels(labels: np.ndarray, where: str) -> None:
    """Raises: BadInput unless training has every class from 0 on, and two or more."""
    every = np.unique(labels).tolist()
    low, high = every[0], every[-1]
    if low != 0:
        way_out = f"Write y - {low}" if low > 0 else "Number the classes from 0"
        raise BadInput(f"{where}: labels must run from 0, got {low} to {high}. {way_out}")
    if high == 0:
        raise BadInput(f"{where}: labels must be of two classes or more, got 0 alone")
    if len(every) <= high:
        lost = sorted(set(range(min(high, len(every) + 1))) - set(every))
        way_out = "Number the classes without gaps: np.unique(y, return_inverse=True)[1]"
        raise BadInput(f"{where}: there are labels up to {high}, but no training image of class {lost[0]}. {way_out}")


def check_test_labels(train: np.ndarray, test: np.ndarray, where: str) -> None:
    """Raises: BadInput if a test image is of a class that training lacks."""
    if unknown := sorted(set(test.tolist()) - set(train.tolist())):
        raise BadInput(
            f"{where}: test has classes that train lacks: {fit.listed(unknown)}. Number both alike, or remove them"
        )
