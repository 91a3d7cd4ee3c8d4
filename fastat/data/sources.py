"""Data sets from their sources into one file each: ours and the user's own through the same table of readers.

`prepare` writes a safetensors file of uint8 images and int64 labels (data/prepared.py).
"""

import functools
import gzip
import hashlib
import json
import logging
import math
import os
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from fastat.config import catalog, own_data
from fastat.config.absent import PLACES
from fastat.config.catalog import CATALOG
from fastat.data import measure, prepared
from fastat.data.measure import Found
from fastat.errors import BadInput, did_you_mean
from fastat.machine import seals
from fastat.machine.files import atomic
from fastat.machine.foreign import head, instead

log = logging.getLogger(__name__)

SPLIT_SEED = 20230913  # of the fixed splits of digits; changing it changes every digits number
Reader = Callable[[dict[str, Any], Path], Found]  # what the config says of it, and the folder of archives


def prepare(name: str, source: Path, out: Path, options: dict[str, Any] | None = None) -> None:
    """Read data set `name` from its source and write it to `out`, or write nothing.

    options: of an own data set, where it comes from, as `datasets` of the config says it.
    Raises: BadInput if files are missing, damaged, or not the size that the catalogue says; or `out` cannot be written.
    """
    check_names(name, out, options)
    if options is not None:
        prepare_own(name, source, out, options)
        return
    if CATALOG[name].stored:
        from fastat.data import imagenet

        imagenet.prepare(name, source, out)
        return
    found, facts = READERS[name]({}, source), CATALOG[name]
    for part, n in (("train", facts.n_train), ("test", facts.n_test)):
        shape = found.arrays[f"{part}_images"].shape
        if shape != (n, *facts.shape):
            raise BadInput(f"{name}: {part} images have shape {shape}, expected {(n, *facts.shape)}")
        prepared.check_labels(found.arrays[f"{part}_labels"], facts.n_classes, f"{name}: {part}", "Replace its files.")
    write(name, found, out, {})
    log.info("%s: %d training and %d test images -> %s", name, facts.n_train, facts.n_test, out)


def check_names(name: str, out: Path, options: dict[str, Any] | None) -> None:
    """Raises: BadInput for a data set that nobody knows, or a file that would be named like another one."""
    if options is None and name not in CATALOG:
        said = did_you_mean(name, CATALOG)
        raise BadInput(
            f"unknown dataset {name!r}: neither one of ours nor in `datasets` of the config (--configfile).{said}"
        )
    if out.is_dir():
        raise BadInput(f"--out must be a file, as {out / name}.safetensors, but {out} is a folder.")
    if out.stem != name and (out.stem in CATALOG or options is not None):
        must = f"hold {out.stem}, not {name}" if out.stem in CATALOG else f"be named {name}.safetensors"
        raise BadInput(f"a file named {out.name} must {must}. Choose another name.")


def prepare_own(name: str, source: Path, out: Path, options: dict[str, Any]) -> None:
    """Read, measure and write a data set of the user's own, and log what was measured.

    Raises: BadInput as its reader does.
    """
    own_data.check({name: options})
    before = own_data.state_of(options)
    found = READERS[own_data.door(options, name)](options, source)
    facts = measure.facts(found)
    content = json.dumps(own_data.of_content(options), sort_keys=True)
    more = {"facts": json.dumps(facts), "options": content, "state": before}
    write(name, found, out, more)
    log.info("%s", catalog.in_words(name, facts))
    for part, counts in facts["per_class"].items():
        names = facts["classes"] or range(len(counts))
        log.info(
            "%s images by class: %s", part, ", ".join(f"{one} {n:,}" for one, n in zip(names, counts, strict=True))
        )
    log.info("%s -> %s", name, out)


def write(name: str, found: Found, out: Path, more: dict[str, str]) -> None:
    """The prepared file; `more` goes into its header."""
    tensors = {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in found.arrays.items()}
    sha256 = prepared.content_hash(found.arrays)
    about = {"dataset": name, "sha256": sha256, "source": json.dumps(found.origin), **more}
    with atomic(out) as partial:
        save_file(tensors, partial, metadata=about)


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


FASHION_PLACES = (Path(PLACES["fashion_mnist"][1]),)  # where Debian's dataset-fashion-mnist puts it
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


def ours(read: Callable[[Path], dict[str, Tensor]], library: str | Callable[[Path], list[Path]]) -> Reader:
    """A data set of ours: what reads it from the folder of archives, and the library or the files that it reads."""

    def found(_options: dict[str, Any], source: Path) -> Found:
        arrays = {key: tensor.numpy() for key, tensor in read(source).items()}
        return Found(arrays, origin(library, source))

    return found


def origin(library: str | Callable[[Path], list[Path]], source: Path) -> dict[str, Any]:
    """What a data set was read from: file -> bytes and sha256, or library -> version."""
    if isinstance(library, str):
        return {library: version(library)}
    return {"files": [seals.of_file(path) for path in library(source)]}


def _folder(options: dict[str, Any], source: Path) -> Found:
    from fastat.data import folder

    return folder.read(options, source)


def _npz(options: dict[str, Any], source: Path) -> Found:
    from fastat.data import arrays

    return arrays.read(options, source)


def _reader(options: dict[str, Any], source: Path) -> Found:
    from fastat.data import arrays

    return arrays.read_by(options, source)


def _torchvision(options: dict[str, Any], source: Path) -> Found:
    from fastat.data import image_sets

    return image_sets.read(options, source)


# Data set, or door of the user's own (config/own_data.py) -> what reads it. ImageNet is written as it is read.
READERS: dict[str, Reader] = {
    "digits": ours(_digits, "scikit-learn"),
    "digits_dev": ours(_digits_dev, "scikit-learn"),
    "fashion_mnist": ours(_fashion_mnist, _fashion_files),
    "cifar10": ours(functools.partial(_cifar, "cifar10"), functools.partial(_cifar_files, "cifar10")),
    "cifar100": ours(functools.partial(_cifar, "cifar100"), functools.partial(_cifar_files, "cifar100")),
    "folder": _folder,
    "npz": _npz,
    "reader": _reader,
    "torchvision": _torchvision,
}
