"""Parts of a data set: the same few images for every network, and D_i^j, the images ranked by gradient norm."""

import torch
from torch import Tensor

from fastat.errors import BadInput
from fastat.machine.seeds import generator


def stratified(labels: Tensor, n: int, seed: int) -> Tensor:
    """Positions of n images in which every class has its share, to within one; the same for the same seed.

    Raises: BadInput if there are fewer than n.
    """
    if n > len(labels):
        raise BadInput(f"{n} images asked for, but there are only {len(labels)}")
    rng = generator(torch.device("cpu"), seed, "stratified")
    shuffled = torch.randperm(len(labels), generator=rng)
    rank = torch.empty(len(labels))
    owners = labels.cpu()[shuffled]
    for label in owners.unique():
        members = shuffled[owners == label]
        rank[members] = (torch.arange(len(members)) + 0.5) / len(members)
    return rank.argsort(stable=True)[:n].sort().values.to(labels.device)
