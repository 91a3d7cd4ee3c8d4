"""One set of images into a training and a test part: stratified, and the same for the same seed."""

from typing import Any

import numpy as np
import torch

from fastat.data import subsets
from fastat.data.fit import n_asked
from fastat.errors import BadInput


def split(images: np.ndarray, labels: np.ndarray, options: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    """{part}_images and {part}_labels: `test`, a share or a number, of every class its share to within one image.

    Raises: BadInput if a part would have none, or training none of a class.
    """
    n_test = n_asked(options["test"], len(labels), where)
    chosen = subsets.stratified(torch.from_numpy(labels), n_test, options.get("seed", 0)).numpy()
    tested = np.zeros(len(labels), bool)
    tested[chosen] = True
    if lost := sorted(set(labels.tolist()) - set(labels[~tested].tolist())):
        raise BadInput(f"{where}: test: {options['test']} leaves no training image of class {lost[0]}. Take fewer")
    parts = {"train": ~tested, "test": tested}
    arrays = {f"{part}_images": images[mine] for part, mine in parts.items()}
    return arrays | {f"{part}_labels": labels[mine] for part, mine in parts.items()}
