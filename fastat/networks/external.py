"""A checkpoint of others, opened: its network behind the normalisation that it was trained with, in eval mode.

Which keys fit whose network: fastat/networks/released.py. What a user says of a checkpoint: fastat/config/external.py.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastat.config import catalog
from fastat.config.catalog import DatasetFacts
from fastat.config.external import External
from fastat.config.networks import Door, shown
from fastat.data.fit import listed
from fastat.errors import BadInput
from fastat.machine import numerics
from fastat.networks import models, own, released
from fastat.networks.checkpoints import COUNTER, NAMED, STATISTICS, Checkpoint, packed, unwrapped
from fastat.networks.models import Normalize, Statistics

log = logging.getLogger(__name__)
NAMED_STATISTICS: dict[str, Statistics] = {
    "none": models.RAW,
    "cifar10": models.CIFAR10,
    "imagenet": models.IMAGENET,
    "mean and standard deviation of CIFAR100": models.CIFAR100,
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "pixels from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
BORDER = 4  # pixels on each side that images have by the released protocol

STORED = STATISTICS.keys() - {"std", "sigma"}  # a network whose state dict has one of these normalises by itself


@dataclass(frozen=True)
class Opened:
    """A network of a checkpoint.

    network: in eval mode, on the CPU, pixels in [0, 1] -> logits. found: what was read, less its tensors; normalise:
    what its input is normalised by, {mean, std}; None: nothing that the suite knows of; unsaid: and nobody said so.
    arch: whose rules, of ours.
    """

    network: nn.Module
    found: Checkpoint
    normalise: dict[str, list[float]] | None
    arch: str = ""
    unsaid: bool = False

    def behind(self, statistics: Statistics, n_channels: int) -> nn.Module:
        """The network with another normalisation in the place of its own: the two share their weights."""
        other = Normalize(n_channels, statistics)
        if isinstance(self.network, models.Network):
            first = [other, *list(self.network.stem)[1:]]
            return nn.Sequential(*first, self.network.trunk).eval()
        inner = self.network.network if isinstance(self.network, own.Normalised) else self.network
        return own.Normalised(inner, other).eval()


def opened(one: External, facts: DatasetFacts) -> list[Opened]:
    """The networks that the checkpoint may be: one, or those of several archs, which names and shapes cannot tell.

    Raises: BadInput if it cannot be read, fits no network that may be meant, or normalises in two ways.
    """
    stages = unwrapped(packed(Path(one.weights).expanduser(), one.recipe["entry"] or None))
    if stages[-1].others and not one.recipe["entry"]:
        log.warning(
            "%s: its weights are those of %s; it holds %s, too (--entry takes them)",
            one.weights, stages[-1].entry or "the file itself", ", ".join(stages[-1].others),
        )  # fmt: skip
    if one.door:
        return [of_others(one, stages, facts)]
    return list(of_ours(one, stages[-1], facts))


def in_words(one: External) -> str:
    """`theirs: theirs.pt is a preact_resnet18 of arch ssat`: what a checkpoint is, in a line.

    Raises: BadInput as `opened` does.
    """
    facts, name = catalog.facts(one.spec.dataset), one.spec.variant
    if facts is None:
        return f"{name}: {one.weights} is looked at once {one.spec.dataset} is prepared"
    every = opened(one, facts)
    if any(found.unsaid for found in every):
        raise BadInput(
            f"external: {name}: say how the input of {one.spec.model} is normalised: `normalise: inside` (it does it "
            "itself, or needs none), cifar10, imagenet, or {mean: ..., std: ...}"
        )
    archs = " or ".join(found.arch for found in every if found.arch)
    count = sum(p.numel() for p in every[0].network.parameters())
    return f"{name}: {one.weights} is a {one.spec.model}{f' of arch {archs}' if archs else ''}: {count:,} parameters"


def of_ours(one: External, found: Checkpoint, facts: DatasetFacts) -> Iterator[Opened]:
    """One of our networks for each arch that it may be by, of several that compute the same the first."""
    n_channels, n_classes, name = facts.shape[0], facts.n_classes, one.spec.model
    path = Path(one.weights)
    archs = [one.recipe["arch"]] if one.recipe["arch"] else released.archs_of(name)
    wrong = {arch: released.differences(found, name, n_channels, n_classes, arch) for arch in archs}
    nearest = min(archs, key=lambda arch: len(wrong[arch]))
    if wrong[nearest]:
        released.check(found, path, name, n_channels, n_classes, nearest)
    seen: list[models.Rules] = []
    for arch in (arch for arch in archs if not wrong[arch]):
        network = released.filled(found, name, n_channels, n_classes, arch)
        normalize = network.stem[0]
        assert isinstance(normalize, Normalize)
        if constants := settled(one, found, n_channels):
            normalize.load_state_dict(constants.state_dict())
        rules = models.ARCHS[arch][models.MODELS[name].kind]
        rules = replace(rules, init=None, dropout=0.0, last_momentum=0.1, cifar100=None)
        rules = replace(rules, statistics=models.RAW if constants else rules.statistics_of(n_classes))
        if rules not in seen:
            seen.append(rules)
            if one.recipe["protocol"] == "released":
                pool_as_released(network, name, facts.shape[1:])
            yield Opened(network.eval(), found, said_by(normalize), arch)


def of_others(one: External, stages: list[Checkpoint], facts: DatasetFacts) -> Opened:
    """The network behind a door.

    Raises: BadInput if the weights are another network's, or it would normalise twice.
    """
    n_channels = facts.shape[0]
    numerics.without_onednn()
    network = own.build(one.door, n_channels, facts.n_classes)
    own.check_kept(shown(one.door), network)
    wanted = network.state_dict()
    found = min(stages, key=lambda stage: len(wanted.keys() ^ stage.weights.keys()))
    counters = {key: tensor for key, tensor in wanted.items() if key.endswith(COUNTER)}
    check_keys(one, replace(found, weights={**counters, **found.weights}), wanted)
    with own.said(shown(one.door), f"the weights of {one.weights} cannot be loaded into it"):
        network.load_state_dict({**counters, **found.weights})
    check_once(one, wanted)
    constants = settled(one, found, n_channels)
    stated = said_by(constants) if constants else None
    unsaid = constants is None and not one.recipe["normalise"] and not STORED & wanted.keys()
    return Opened(normalised(network, one.door, stated, n_channels).eval(), found, stated, unsaid=unsaid)


def check_keys(one: External, found: Checkpoint, wanted: dict[str, Tensor]) -> None:
    """Raises: BadInput naming the keys that are missing, extra or of another shape."""
    missing, extra = ([k for k in a if k not in b] for a, b in ((wanted, found.weights), (found.weights, wanted)))
    both = [key for key in wanted if key in found.weights and found.weights[key].shape != wanted[key].shape]
    shapes = [f"{key} {tuple(found.weights[key].shape)}, not {tuple(wanted[key].shape)}" for key in both]
    whole = [
        f"{key} {found.weights[key].dtype}".replace("torch.", "")
        for key in wanted
        if key in found.weights and wanted[key].is_floating_point() and not found.weights[key].is_floating_point()
    ]
    parts = {"missing": missing, "extra": extra, "of another shape": shapes, "whole numbers": whole}
    said = [f"{what}: {listed(keys, NAMED)}" for what, keys in parts.items() if keys]
    if said:
        raise BadInput(
            f"{one.weights} is not of network {shown(one.door)}: {'; '.join(said)}. Name the network that it was "
            "trained as, with its arguments, or another part of the file (--entry)"
        )


def check_once(one: External, wanted: dict[str, Tensor]) -> None:
    """Raises: BadInput if a network that normalises by itself would stand behind a stated normalisation, too."""
    stated, held = one.recipe["normalise"], sorted(STORED & wanted.keys())
    if held and stated not in ("", "inside"):
        raise BadInput(
            f"{shown(one.door)} normalises by itself: its state dict has {', '.join(held)}. Its input must not be "
            f"normalised a second time, got --normalise {stated}. Leave it out, or write --normalise inside"
        )


def settled(one: External, found: Checkpoint, n_channels: int) -> Normalize | None:
    """What comes before the network: as it was said, else as the file has it; None: what the network itself has.

    Raises: BadInput if the file says another thing, or half of one and nobody the whole.
    """
    stated, stored, held = one.recipe["normalise"], found.statistics, None
    if {"mean", "std"} <= stored.keys():
        held = layer({key: stored[key].float() for key in ("mean", "std")}, n_channels, one.weights)
    elif stored:
        half = f"{one.weights} holds {''.join(stored)} of a normalising layer, and not the other of mean and std"
        if not stated:
            raise BadInput(f"{half}. Say how its input is normalised: --normalise MEAN STD, or inside")
        log.warning("%s: it is normalised as said, by %s", half, stated)
    if not stated:
        return held
    wanted = None
    if isinstance(stated, dict):
        wanted = layer({key: torch.tensor(stated[key]) for key in ("mean", "std")}, n_channels, "normalise")
    elif stated != "inside":
        wanted = Normalize(n_channels, NAMED_STATISTICS[stated])
    if held is not None and (wanted is None or not same(held, wanted)):
        raise BadInput(
            f"{one.weights} holds a normalising layer of its own, by {said_by(held)}: leave --normalise out, got "
            f"{stated}"
        )
    return wanted


def layer(constants: dict[str, Tensor], n_channels: int, where: str) -> Normalize:
    """(x - mean) / std by a number a channel, or one for all.

    Raises: BadInput for another number of channels.
    """
    mean, std = (constants[key].flatten() for key in ("mean", "std"))
    if {len(mean), len(std)} - {1, n_channels}:
        found = f"got {len(mean)} and {len(std)}"
        raise BadInput(f"{where}: mean and std must have a number for each of {n_channels} channels, {found}")
    normalize = Normalize(n_channels)
    normalize.mean, normalize.std = (
        values.reshape(-1, 1, 1).expand(n_channels, 1, 1).clone() for values in (mean, std)
    )
    return normalize


def same(one: Normalize, other: Normalize) -> bool:
    """Whether two normalise alike, up to the digits that people write."""
    return torch.allclose(one.mean, other.mean, atol=1e-4) and torch.allclose(one.std, other.std, atol=1e-4)


def said_by(normalize: Normalize) -> dict[str, list[float]]:
    """{mean, std}, a number a channel: of the decimals that are this float32 the shortest."""
    return {key: [float(str(value)) for value in getattr(normalize, key).flatten().numpy()] for key in ("mean", "std")}


def normalised(network: nn.Module, door: Door, stated: dict[str, list[float]] | None, n_channels: int) -> nn.Module:
    """A network that is not ours behind what it is normalised by."""
    if stated is None:
        return network
    return own.normalised(network, {**door, "normalise": stated}, n_channels)


def rebuilt(about: dict[str, Any], model: str, door: Door, facts: DatasetFacts) -> nn.Module:
    """The network of the run.json of a checkpoint, with weights that mean nothing."""
    n_channels, found = facts.shape[0], about["found"]
    if door:
        numerics.without_onednn()
        return normalised(own.build(door, n_channels, facts.n_classes), door, found["normalise"], n_channels)
    network = models.build(model, n_channels, facts.n_classes, found["arch"])
    numerics.without_onednn(network)
    if about["recipe"]["protocol"] == "released":
        pool_as_released(network, model, facts.shape[1:])
    return network


class TopLeft(nn.Module):
    """Mean over the first `side` rows and columns: avg_pool2d(x, side) of a map that is less than twice as large."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        return F.avg_pool2d(x[..., : self.side, : self.side], self.side)


def pool_as_released(network: nn.Module, model: str, image: tuple[int, ...]) -> None:
    """Pool by a window as large as the last map of images that are not padded (models/preact_resnet.py of ATAS).

    image: height and width, not padded.
    Raises: BadInput if a second window fits into the map of padded images: the linear layer was trained for one.
    """
    size = models.MODELS[model]
    if size.kind == "torchvision":
        return
    halved = size.stem_stride * 2 ** (len(size.blocks) - 1)
    side, padded = max(1, image[0] // halved), math.ceil((max(image) + 2 * BORDER) / halved)
    if padded >= 2 * side:
        raise BadInput(
            f"protocol: released pools the last map by a window as large as that of images that are not padded, which "
            f"must fit into it once. On {' x '.join(map(str, image))} pixels and a border of {BORDER} {model}'s has "
            f"{padded} rows or columns, the window {side}: the released code would not run. Leave it out"
        )
    trunk = network.get_submodule("trunk")
    for name, module in list(trunk.named_children()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            setattr(trunk, name, TopLeft(side))
