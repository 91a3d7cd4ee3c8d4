"""Which of a data set's images test, and in which order they lie: stratified, and the same for the same seed."""

from typing import Any

import numpy as np
import torch

from fastat.data import subsets
from fastat.data.fit import n_asked
from fastat.errors import BadInput

ORDER_SEED = 0  # of the order of an own data set's images


def tested(labels: np.ndarray, options: dict[str, Any], where: str) -> np.ndarray:
    """(n,) bool: the images that `test`, a share or a number, takes for testing, of every class its share.

    Raises: BadInput if a part would have none, or training none of a class.
    """
    n_test = n_asked(options["test"], len(labels), where)
    mine = np.zeros(len(labels), bool)
    mine[subsets.stratified(torch.from_numpy(labels), n_test, options.get("seed", 0)).numpy()] = True
    if lost := sorted(set(labels.tolist()) - set(labels[~mine].tolist())):
        raise BadInput(f"{where}: test: {options['test']} leaves no training image of class {lost[0]}. Take fewer")
    return mine


def order(labels: np.ndarray) -> np.ndarray:
    """The order of a part's images: a recipe's `n_train`, the first n, has its share of every class."""
    return subsets.by_share(torch.from_numpy(labels), ORDER_SEED).numpy()


def in_parts(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Part -> images and labels, as a prepared file has them: in `order`, under {part}_images and {part}_labels."""
    arrays: dict[str, np.ndarray] = {}
    for part, (images, labels) in parts.items():
        rows = order(labels)
        arrays[f"{part}_images"] = np.ascontiguousarray(images[rows])
        arrays[f"{part}_labels"] = labels[rows]
    return arrays
