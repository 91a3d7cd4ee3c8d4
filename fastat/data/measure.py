"""What a data set is, measured when it is prepared: sizes, classes, mean and spread, images that are there twice."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastat.data.prepared import PARTS

ROWS = 1000  # images whose values are counted at a time


@dataclass(frozen=True)
class Found:
    """A data set as its source has it.

    arrays: {part}_images uint8 (n, C, H, W) and {part}_labels int64 (n,), of both parts.
    origin: what it was read from, for the prepared file. classes: their names, by label; () if they have none.
    """

    arrays: dict[str, np.ndarray]
    origin: dict[str, Any]
    classes: tuple[str, ...] = ()


def facts(found: Found) -> dict[str, Any]:
    """What a prepared file's header keeps under `facts`.

    mean, std: of the training images, by channel, in [0, 1]. in_both: test images that are, byte for byte, training
    images. twice: images of a part that are there before in it.
    """
    train = found.arrays["train_images"]
    n_classes = int(found.arrays["train_labels"].max()) + 1
    mean, std = mean_and_std(train)
    seen = {part: [hashlib.sha256(image).digest() for image in found.arrays[f"{part}_images"]] for part in PARTS}
    known = set(seen["train"])
    return {
        "shape": list(train.shape[1:]),
        "n_classes": n_classes,
        "n_train": len(train),
        "n_test": len(found.arrays["test_images"]),
        "classes": list(found.classes),
        "per_class": {p: np.bincount(found.arrays[f"{p}_labels"], minlength=n_classes).tolist() for p in PARTS},
        "mean": mean,
        "std": std,
        "in_both": sum(image in known for image in seen["test"]),
        "twice": {part: len(images) - len(set(images)) for part, images in seen.items()},
    }


def mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """By channel, in [0, 1], to six digits: exact, from how often each of the 256 values is there."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for first in range(0, len(images), ROWS):
        for channel, count in enumerate(counts):
            count += np.bincount(images[first : first + ROWS, channel].ravel(), minlength=256)
    values, n = np.arange(256) / 255, counts.sum(1)
    mean = counts @ values / n
    std = np.sqrt(np.maximum(counts @ values**2 / n - mean**2, 0))
    return [round(value, 6) for value in mean.tolist()], [round(value, 6) for value in std.tolist()]
