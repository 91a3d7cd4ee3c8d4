"""Parts of a data set: the same few images for every network, and D_i^j, the images ranked by gradient norm."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastat.config.recipe import n_held_out
from fastat.config.spec import RunSpec
from fastat.data.datasets import ImageSet, Part
from fastat.errors import BadInput
from fastat.machine import files, seals
from fastat.machine.seeds import generator

HOLD_OUT = 1  # the seed of the held-out images: another one than that of the images that `monitor` watches


def stratified(labels: Tensor, n: int, seed: int) -> Tensor:
    """Positions of n images in which every class has its share, to within one; the same for the same seed.

    Raises: BadInput if there are fewer than n.
    """
    if n > len(labels):
        raise BadInput(f"{n} images asked for, but there are only {len(labels)}")
    return by_share(labels, seed)[:n].sort().values.to(labels.device)


def by_share(labels: Tensor, seed: int) -> Tensor:
    """An order of all images, of whose first n, for any n, every class has its share, to within one."""
    rng = generator(torch.device("cpu"), seed, "stratified")
    shuffled = torch.randperm(len(labels), generator=rng)
    rank = torch.empty(len(labels))
    owners = labels.cpu()[shuffled]
    for label in owners.unique():
        members = shuffled[owners == label]
        rank[members] = (torch.arange(len(members)) + 0.5) / len(members)
    return rank.argsort(stable=True)


def held_out(data: ImageSet, hold_out: float) -> tuple[ImageSet, Part | None]:
    """The data less the training images that are held out, and those, with every class in its share; None for none.

    Raises: BadInput if there are not so many, or the images are not in memory.
    """
    if not hold_out:
        return data, None
    if data.train.on_disk:
        raise BadInput(f"hold_out: {data.name} is read from disk, where holding images out is not built")
    n = len(data.train)
    held = stratified(data.train.labels, n_held_out(hold_out, n), seed=HOLD_OUT)
    kept = torch.ones(n, dtype=torch.bool, device=held.device).index_fill(0, held, False).nonzero().flatten()
    return replace(data, train=data.train.only(kept)), data.train.only(held)


def ranks(spec: RunSpec, results: Path, n_train: int, data_sha256: str) -> Tensor:
    """(n_train,) 1..10: which D_i each training image belongs to, by the run that ranks them for `spec`.

    data_sha256: of the prepared data set.
    Raises: BadInput if that run is not there, has no gradient norms or not the ones it wrote, or has other images.
    """
    path = results / "runs" / spec.ranked_by.name / "instances.safetensors"
    try:
        about = seals.read(path.parent / "run.json")
        if "files" in about and seals.sha256(path) != about["files"].get(path.name):  # runs of before it say nothing
            raise ValueError("it is not what that run wrote: run.json has another sha256")
        if about.get("data_sha256", data_sha256) != data_sha256:
            raise ValueError("it is of other images than these")
        norms = load_file(path)["grad_norm"]
        if len(norms) != n_train:
            raise ValueError(f"it has {len(norms)} images, this run {n_train}: n_train and hold_out must be the same")
        return deciles(norms)
    except (OSError, KeyError, SafetensorError, ValueError) as error:
        raise BadInput(
            f"{spec.name} needs the gradient norms of the training images, and {path} has none ({error}). "
            f"Train first: python -m fastat train --run {spec.ranked_by.name}{files.option(results)}"
        ) from error


def deciles(grad_norm: Tensor) -> Tensor:
    """(n, epochs) gradient norms -> (n,) 1..10: the D_i of each image, by its norm's mean over epochs (Sec. III).

    Raises: ValueError if an image was never visited.
    """
    mean = grad_norm.double().nanmean(1)
    if mean.isnan().any():
        raise ValueError("an image has no gradient norm: it was never visited")
    rank = mean.argsort().argsort()
    return (rank * 10).div(len(mean), rounding_mode="floor") + 1


def of_tenths(tenth: Tensor, subset: tuple[int, int]) -> Tensor:
    """The positions of D_i^j: the images of the i-th to j-th tenth, of `ranks`."""
    return torch.nonzero((tenth >= subset[0]) & (tenth <= subset[1])).flatten()


def size(n: int, subset: tuple[int, int] | None) -> int:
    """How many of n images D_i^j has, about; all for None."""
    return n if subset is None else n * (subset[1] - subset[0] + 1) // 10
