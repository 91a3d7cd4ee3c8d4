"""Checkpoints that the authors of the methods released, read into our networks.

What their files hold, as far as their code tells (none of the files is part of this repository):

| arch | file | keys |
| --- | --- | --- |
| shared (ATAS) | the state dict | `1.conv1.weight`: Sequential(Normalize, net); its Normalize stores nothing |
| fast_adversarial, CIFAR10 | the state dict | `conv1.weight` |
| fast_adversarial, ImageNet | {state_dict, ...} | `module.conv1.weight` |
| robust_overfitting | {state_dict, ...} or the state dict | `module.conv1.weight` |
| gradalign | {last, best} | `conv1.weight`, and parts of it again as `model_preact_hl1.` |
| ssat | the state dict | `0.mean`, `0.std`, `1.conv1.weight` |
| yopo | {state_dict, epoch, ...} | `conv1.weight`, and all again as `layer_one.` and `other_layers.` |
| atta | the state dict | `conv1.weight` and the unused `sub_block1.` |
| nuat | {state_dict, optimizer, scheduler, ...}; averaged weights: the state dict | `conv1.weight` |
| subat | the state dict or {state_dict, ...} | `module.normalize.mean`, `module.conv1.weight` |
| sdi_pgi | the state dict | SDI: `conv1.weight`, PGI: `module.conv1.weight`; wide: the unused `sub_block1.` |

Names and shapes cannot tell a shortcut from the raw input from one after BatchNorm, nor can they show constants that
a loader normalised by: which arch a file was trained with is for the caller to know.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fastat.errors import BadInput
from fastat.networks import models
from fastat.networks.checkpoints import COUNTER, Checkpoint


@dataclass(frozen=True)
class Names:
    """What a repository calls the parts of a network. The first convolution is conv1, blocks hold what ours hold."""

    block: str = "layer{stage}.{index}"  # stages from 1, blocks from 0
    projection: str = "shortcut.0"  # of a pre-activation block
    first_norm: str = "bn1"  # after the first convolution
    last_norm: str = "bn"  # before pooling
    linear: str = "linear"


NAMES = {  # kind of network -> names
    "preact": Names(),
    "postact": Names(),
    "wide": Names("block{stage}.layer.{index}", "convShortcut", last_norm="bn1", linear="fc"),
    "torchvision": Names(linear="fc"),
}
OTHER_NAMES = {  # arch, kind -> names
    ("yopo", "preact"): Names("other_layer{stage}.{index}", linear="linear.fc"),
    ("nuat", "wide"): Names(last_norm="bn1"),
}
SPARE = {  # arch -> prefixes of tensors that its files hold twice, or that its network never uses
    "gradalign": ("model_preact_hl1.",),
    "yopo": ("layer_one.", "other_layers.", "sub_block1."),
    "atta": ("sub_block1.",),
    "sdi_pgi": ("sub_block1.",),
}


def check(found: Checkpoint, path: Path, name: str, n_channels: int, n_classes: int, arch: str) -> None:
    """Raises: BadInput if the file at `path` holds another network than `name` by the rules of `arch`."""
    if wrong := differences(found, name, n_channels, n_classes, arch):
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        none = "no network of fastat/networks/models.py: build its own by --model module:factory (docs/checkpoints.md)"
        fits = "; ".join(fitting(found, n_channels)) or none
        raise BadInput(
            f"{path} is no {name} of arch {arch} for {n_classes} classes: {'; '.join(wrong[:3])}{more}. It fits {fits}."
        )


def filled(found: Checkpoint, name: str, n_channels: int, n_classes: int, arch: str) -> models.Network:
    """The network with these weights, which fit it, in eval mode."""
    network = models.build(name, n_channels, n_classes, arch)
    state = network.state_dict()
    known = key_map(network, name, arch, found).items()
    state |= {ours: found.weights[theirs] for theirs, ours in known if theirs in found.weights}
    network.load_state_dict(state)
    return network.eval()


def key_map(network: models.Network, name: str, arch: str, found: Checkpoint) -> dict[str, str]:
    """The authors' key -> ours, for every tensor but the normalising layer's; in a file of ours the two are one."""
    keys = [key for key in network.state_dict() if not key.startswith("stem.0.")]
    if any(key.startswith("stem.") for key in found.weights):
        return {key: key for key in keys}
    size = models.MODELS[name]
    names = OTHER_NAMES.get((arch, size.kind), NAMES[size.kind])
    blocks = ((stage, index) for stage, n_blocks in enumerate(size.blocks, 1) for index in range(n_blocks))
    parts = {"stem.1.": "conv1."}  # our prefix -> theirs; of two that fit a key, the first counts
    for child, module in network.trunk.named_children():
        ours = f"trunk.{child}."
        if size.kind == "torchvision":
            parts[ours] = f"{child}."
        elif isinstance(module, models.PreActBlock | models.PostActBlock):
            stage, index = next(blocks)
            theirs = names.block.format(stage=stage, index=index)
            if isinstance(module, models.PreActBlock):
                parts[f"{ours}shortcut."] = f"{theirs}.{names.projection}."
            parts[ours] = f"{theirs}."
        elif isinstance(module, nn.BatchNorm2d):
            parts[ours] = f"{names.first_norm if child == '0' else names.last_norm}."
        elif isinstance(module, nn.Linear):
            parts[ours] = f"{names.linear}."
    prefix = {key: next(ours for ours in parts if key.startswith(ours)) for key in keys}
    return {parts[prefix[key]] + key.removeprefix(prefix[key]): key for key in keys}


def differences(found: Checkpoint, name: str, n_channels: int, n_classes: int, arch: str) -> list[str]:
    """What keeps a checkpoint from being `name` by the rules of `arch`, in the network's order."""
    with torch.device("meta"):
        network = models.build(name, n_channels, n_classes, arch)
    state, known, wrong = network.state_dict(), key_map(network, name, arch, found), []
    for theirs, ours in known.items():
        if theirs not in found.weights and theirs.endswith(COUNTER):
            continue
        if theirs not in found.weights:
            wrong.append(f"{theirs} is missing")
        elif found.weights[theirs].shape != state[ours].shape:
            wrong.append(f"{theirs} is {tuple(found.weights[theirs].shape)}, not {tuple(state[ours].shape)}")
        elif state[ours].is_floating_point() and not found.weights[theirs].is_floating_point():
            wrong.append(f"{theirs} holds whole numbers ({found.weights[theirs].dtype}), as of a quantised network")
    for key in found.weights:
        if key not in known and not key.startswith(SPARE.get(arch, ())):
            wrong.append(f"{key} is extra")
    return wrong


def fitting(found: Checkpoint, n_channels: int = 3) -> list[str]:
    """The networks that have the checkpoint's keys and shapes, as `preact_resnet18 for 10 classes (arch ssat)`."""
    fits: dict[str, list[str]] = {}
    for name in models.MODELS:
        if n_channels != 3 and models.MODELS[name].kind == "torchvision":
            continue
        for arch in archs_of(name):
            n_classes = classes_of(found, name, arch)
            if n_classes and not differences(found, name, n_channels, n_classes, arch):
                fits.setdefault(f"{name} for {n_classes} classes", []).append(arch)
    return [f"{network} (arch {' or '.join(archs)})" for network, archs in fits.items()]


def archs_of(name: str) -> list[str]:
    """Whose rules build the network of this name."""
    return [arch for arch, kinds in models.ARCHS.items() if models.MODELS[name].kind in kinds]


def classes_of(found: Checkpoint, name: str, arch: str) -> int:
    """The rows of the last layer, as that network of `arch` calls it; 0 if there is none."""
    kind = models.MODELS[name].kind
    linear = OTHER_NAMES.get((arch, kind), NAMES[kind]).linear
    of_ours = [tensor for key, tensor in found.weights.items() if key.startswith("trunk.") and key.endswith(".weight")]
    last = found.weights.get(f"{linear}.weight", of_ours[-1] if of_ours else torch.empty(0))
    return len(last) if last.ndim == 2 else 0
