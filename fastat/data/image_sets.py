"""Any of torchvision's labelled image sets as a data set of the user's own."""

import inspect
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from PIL import Image

from fastat.data import arrays, fit, split
from fastat.data.measure import Found
from fastat.data.prepared import PARTS
from fastat.errors import BadInput, did_you_mean, of_memory

log = logging.getLogger(__name__)


def read(options: dict[str, Any], source: Path) -> Found:
    """The set that the class torchvision.datasets.NAME has in `source`, or downloads there if that is allowed.

    Raises: BadInput for an unknown class, one without a training and a test part, or what it cannot use or find.
    """
    name, where = options["torchvision"], f"torchvision {options['torchvision']}"
    cls = class_of(name, where)
    sets = {part: opened(cls, arguments(cls, k, options, where), source, where) for k, part in enumerate(PARTS)}
    if getattr(sets["test"], "train", False) is True:
        raise BadInput(f"{where}: its test part is of training images. Save its images as class folders: folder: PATH")
    seen = {part: [look(one, k, where) for k in range(len(one))] for part, one in sets.items()}
    every = [each for part in seen.values() for each in part]
    if not all(seen.values()):
        raise BadInput(f"{where}: a part has no image. Look into {source}")
    sizes, modes = Counter(size for size, _, _ in every), Counter(mode for _, mode, _ in every)
    chosen = fit.plan(sizes, modes, options, where)
    fit.room_for(fit.bytes_of(len(every), chosen), where)
    held = {
        part: (
            np.stack([fit.fitted(one[k][0], chosen) for k in range(len(one))]),
            np.array([label for _, _, label in seen[part]], np.int64),
        )
        for part, one in sets.items()
    }
    labels = held["train"][1]
    arrays.check_labels(labels, where)
    arrays.check_test_labels(labels, held["test"][1], where)
    classes = tuple(map(str, getattr(sets["train"], "classes", ())))
    known = classes if len(classes) == int(labels.max()) + 1 else ()
    return Found(split.in_parts(held), {"torchvision": torchvision.__version__, "set": name}, known)


def class_of(name: str, where: str) -> Any:
    """The class of that name.

    Raises: BadInput if there is none.
    """
    cls = getattr(torchvision.datasets, name, None)
    if not (isinstance(cls, type) and issubclass(cls, torchvision.datasets.VisionDataset)):
        known = [one for one in torchvision.datasets.__all__ if one[0].isupper()]
        raise BadInput(f"{where}: torchvision.datasets has no such set.{did_you_mean(name, known)}")
    return cls


def arguments(cls: Any, k: int, options: dict[str, Any], where: str) -> dict[str, Any]:
    """What asks the class for part number k, 0 for training: `split`, `train` or both; and whether it may download.

    Raises: BadInput if it takes neither.
    """
    takes = parameters(cls)
    asked: dict[str, Any] = {"train": k == 0} if "train" in takes else {}
    if "split" in takes:  # of EMNIST a split has both parts
        asked["split"] = options.get("parts", PARTS)[k]
    elif not asked or "parts" in options:
        what = "`parts` belongs to classes with `split`" if "train" in takes else "it has neither `split` nor `train`"
        raise BadInput(f"{where}: {what}. Save its images as class folders, and use folder: PATH")
    return {**asked, "download": bool(options.get("download"))} if "download" in takes else asked


def parameters(cls: Any) -> set[str]:
    """What the class can be called with; where it hands `**kwargs` on, also what the class below it takes."""
    names: set[str] = set()
    for one in (one for one in cls.__mro__ if "__init__" in vars(one)):
        found = inspect.signature(one.__init__).parameters
        names |= found.keys()
        if inspect.Parameter.VAR_KEYWORD not in {each.kind for each in found.values()}:
            break
    return names


def opened(cls: Any, asked: dict[str, Any], source: Path, where: str) -> Any:
    """The part of the set.

    Raises: BadInput if it is not there, or the class wants something else.
    """
    place = source / cls.__name__ / "raw" if hasattr(cls, "raw_folder") else source  # of MNIST and its like
    with said_as_bad_input(where, place, bool(asked.get("download"))):
        return cls(root=str(source), **asked)


@contextmanager
def said_as_bad_input(where: str, place: Path, downloads: bool) -> Iterator[None]:
    """Raises: BadInput for whatever the class says against its files or arguments."""
    try:
        yield
    except Exception as error:  # anything may come out of damaged files, and code that is not ours
        if of_memory(error):
            raise
        way_out = "" if downloads else ", or say `download: true`"
        text = " ".join(str(error).split())[:300].replace(" You can use download=True to download it", "")
        text = text or type(error).__name__
        raise BadInput(
            f"{where}: {text.rstrip('.')}. Put its files, unpacked, where torchvision looks for them: {place}{way_out}"
        ) from error


def look(images: Any, k: int, where: str) -> tuple[tuple[int, int], str, int]:
    """Size, mode and label of image k.

    Raises: BadInput if it is not an image with a whole number as its label.
    """
    with said_as_bad_input(f"{where}, image {k}", Path(images.root), False):
        image, label = images[k]
        if isinstance(image, Image.Image):
            image.load()
    if not isinstance(image, Image.Image) or isinstance(label, bool) or not isinstance(label, int | np.integer):
        kinds = f"{type(image).__name__} and {type(label).__name__}"
        raise BadInput(f"{where}: it must give images with whole numbers as labels, got {kinds}. It is no labelled set")
    return image.size, image.mode, int(label)
