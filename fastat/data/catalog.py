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
}
