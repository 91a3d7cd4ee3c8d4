"""What is known of each data set before it is read. Standard library only: the workflow imports it.

Ours are in CATALOG. One of the user's own is known once it is prepared: its file says what was measured, and so does
the run.json of every run that was trained on it. `learn` reads them from a results folder.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastat.config.plugins import entries
from fastat.errors import BadInput

OFFERED = "fastat.datasets"  # group of entry points: a name, and the reader of a data set
NAME = re.compile("[a-z0-9_]+")  # of a data set
LONGEST_HEADER = 100_000_000  # bytes of a safetensors header, by its specification


@dataclass(frozen=True)
class DatasetFacts:
    """Sizes that a config is checked against."""

    shape: tuple[int, int, int]  # (C, H, W)
    n_classes: int
    n_train: int
    n_test: int
    stored: tuple[int, int, int] | None = None  # size of the stored image, where the network sees a window of it


CATALOG = {
    # scikit-learn's 1,797 digits, split once and for all by a fixed stratified permutation.
    "digits": DatasetFacts((1, 8, 8), 10, 1437, 360),
    # The training part of `digits` alone, split again: the place to choose settings. No test image is in it.
    "digits_dev": DatasetFacts((1, 8, 8), 10, 1149, 288),
    "fashion_mnist": DatasetFacts((1, 28, 28), 10, 60000, 10000),
    "cifar10": DatasetFacts((3, 32, 32), 10, 50000, 10000),
    "cifar100": DatasetFacts((3, 32, 32), 100, 50000, 10000),
    # Stored as resized to 256 x 256; the network sees a window of 224 x 224 (data.py:48-49 of the ATAS code).
    "imagenet": DatasetFacts((3, 224, 224), 1000, 1281167, 50000, stored=(3, 256, 256)),
}


@dataclass(frozen=True)
class Learnt:
    """A data set of the user's own.

    said: what was measured when it was prepared (data/measure.py), or what a run.json kept of that.
    options: what it was prepared from, as `datasets` of the config says it; None: nobody knows.
    state: of its files then (own_data.state_of); '' if it had none, or nobody knows.
    """

    facts: DatasetFacts
    said: dict[str, Any]
    options: dict[str, Any] | None
    state: str = ""


_learnt: dict[str, Learnt] = {}  # of the results folder that `learn` read last


def facts(name: str) -> DatasetFacts | None:
    """The sizes of a data set; None of one that is not ours and not prepared."""
    own = _learnt.get(name)
    return CATALOG.get(name) or (own.facts if own else None)


def required(name: str) -> DatasetFacts:
    """The sizes of a data set.

    Raises: BadInput if nobody knows them.
    """
    if (found := facts(name)) is None:
        raise BadInput(
            f"data set {name!r} is not prepared here, so that its sizes are unknown. Prepare it: python -m fastat data "
            f"--dataset {name} --configfile FILE, the config whose `datasets` says where it is."
        )
    return found


def learnt(name: str) -> Learnt | None:
    """What is known of a data set of the user's own."""
    return None if name in CATALOG else _learnt.get(name)


def said(name: str) -> dict[str, Any]:
    """What run.json keeps of a data set, so that results are reported where no data are."""
    sizes = asdict(required(name))
    kept = {
        key: list(sizes[key]) if key == "shape" else sizes[key] for key in ("shape", "n_classes", "n_train", "n_test")
    }
    own = learnt(name)
    return kept if own is None else {**kept, **{key: value for key, value in own.said.items() if key != "per_class"}}


def own(config: dict[str, Any]) -> dict[str, Any]:
    """Name -> options of every data set that is not ours: those that installed packages offer, and the config's."""
    said = config.get("datasets")
    offered = {name: {"reader": reader} for name, reader in entries(OFFERED).items()}
    return {**offered, **({str(name): options for name, options in said.items()} if isinstance(said, dict) else {})}


def learn(results: Path) -> None:
    """Know the own data sets of a results folder, and no others: by data/NAME.safetensors, else by a run.json."""
    _learnt.clear()
    for path in sorted((results / "data").glob("*.safetensors")):
        about = metadata(path)
        found = from_json(loaded(about.get("facts")))
        if found and about.get("dataset") == path.stem and path.stem not in CATALOG:
            options = loaded(about.get("options"))
            _learnt[path.stem] = Learnt(found, loaded(about.get("facts")), options or None, about.get("state", ""))
    for folder in sorted((results / "runs").glob("*")):
        if folder.name not in CATALOG and folder.name not in _learnt and NAME.fullmatch(folder.name):
            for about in run_jsons(folder):
                if found := from_json(about):
                    _learnt[folder.name] = Learnt(found, about, None)
                    break


def forget() -> None:
    """Know ours alone."""
    _learnt.clear()


def from_json(about: dict[str, Any]) -> DatasetFacts | None:
    """The sizes that a file says; None if they are none."""
    try:
        channels, height, width = map(int, about["shape"])
        n_classes, n_train, n_test = (int(about[key]) for key in ("n_classes", "n_train", "n_test"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    good = channels in (1, 3) and min(height, width, n_train, n_test) > 0 and n_classes > 1
    return DatasetFacts((channels, height, width), n_classes, n_train, n_test) if good else None


def metadata(path: Path) -> dict[str, str]:
    """The texts in a safetensors file's header (8 bytes of length, then JSON); none of what is not such a file."""
    try:
        if not path.is_file():
            return {}
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = loaded(file.read(length)) if length <= min(LONGEST_HEADER, os.fstat(file.fileno()).st_size) else {}
    except OSError:
        return {}
    texts = header.get("__metadata__")
    return {str(key): str(text) for key, text in texts.items()} if isinstance(texts, dict) else {}


def run_jsons(folder: Path) -> Iterator[dict[str, Any]]:
    """`data` of every run.json below a folder."""
    for path in folder.glob("*/*/*/*/*/run.json"):
        try:
            about = loaded(path.read_bytes()).get("data")
        except OSError:
            continue
        if isinstance(about, dict):
            yield about


def loaded(text: str | bytes | None) -> dict[str, Any]:
    """A JSON object; {} for what is none."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def in_words(name: str, about: dict[str, Any]) -> str:
    """What was measured of an own data set, in a line."""
    channels, height, width = about["shape"]
    shown = f"{name}: {channels} x {height} x {width}, {about['n_classes']} classes"
    shown += f", {about['n_train']:,} training and {about['n_test']:,} test images"
    if "mean" in about:
        mean, std = (" ".join(f"{value:.3f}" for value in about[key]) for key in ("mean", "std"))
        shown += f"; mean {mean}, standard deviation {std}"
    if about.get("in_both"):
        shown += f"; {about['in_both']:,} test images are byte for byte training images, too"
    for part, n in (about.get("twice") or {}).items():
        shown += f"; {n:,} of the {part} images are there before" if n else ""
    return f"{shown}."
