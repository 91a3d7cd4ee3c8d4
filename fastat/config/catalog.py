"""What is known of each data set before it is read. Standard library only: the workflow imports it."""

from dataclasses import dataclass


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
