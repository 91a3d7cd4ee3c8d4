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

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fastat.errors import BadInput
from fastat.machine.foreign import head, instead
from fastat.networks import models

DAMAGED = (  # what torch.load raises for bytes that it did not write
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    OverflowError, struct.error,
)  # fmt: skip
WRAPPERS = ("state_dict", "model", "last")  # where a file holds more than a state dict, it is under one of these


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


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file."""

    weights: dict[str, Tensor]  # by the authors' names, without the prefixes of what the network was wrapped in
    statistics: dict[str, Tensor]  # `mean` and `std` of its normalising layer, where that stores them


def load(path: Path, name: str, n_classes: int, arch: str = "shared", part: str | None = None) -> models.Network:
    """The released network, in eval mode: x (B, 3, H, W) in [0, 1] -> logits.

    `part` is the entry of the file that holds the state dict; None: one of WRAPPERS, or the file itself.

    Raises: BadInput if the file cannot be read, or holds another network than `name` by the rules of `arch`.
    """
    network, found = models.build(name, 3, n_classes, arch), read(path, part)
    wrong = differences(found, name, n_classes, arch)
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        fits = "; ".join(fitting(found)) or "no network of fastat/networks/models.py"
        raise BadInput(
            f"{path} is no {name} of arch {arch} for {n_classes} classes: {'; '.join(wrong[:3])}{more}. It fits {fits}."
        )
    state = network.state_dict()
    state |= {ours: found.weights[theirs] for theirs, ours in key_map(network, name, arch).items()}
    network.load_state_dict(state)
    return network.eval()


def read(path: Path, part: str | None = None) -> Checkpoint:
    """The file's tensors. Nothing in it is executed (weights_only).

    Raises: BadInput if it is missing, no checkpoint, has no such part, or holds objects that only code can rebuild.
    """
    beginning = head(path, "Download it.")
    check_zip(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of other pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}. Download it again.") from error
    except DAMAGED as error:
        raise BadInput(f"{path} is no file of plain tensors{reason(error, beginning)}") from error
    for key in (part,) if part else WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
        elif part:
            held = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise BadInput(f"{path} has no part {part!r}. It holds {held[:200]}")
    items = content.items() if isinstance(content, dict) else ()
    if not items or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in items):
        raise BadInput(f"{path} holds no state dict: neither by itself nor under {', '.join(WRAPPERS)}")
    return unwrap(content)


def check_zip(path: Path) -> None:
    """torch keeps tensors as they are in a zip archive, with a CRC-32 each, which torch.load does not look at.

    Raises: BadInput if one is damaged, or all have more bytes than the file: megabytes may unpack to gigabytes.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return  # torch's older format, or no checkpoint: torch.load finds out
    with archive:
        declared = sum(member.file_size for member in archive.infolist())
        if declared > (size := path.stat().st_size):
            raise BadInput(
                f"{path} has {size:,} bytes and says that it unpacks to {declared:,}: torch writes no such file. "
                "Download it again."
            )
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError, struct.error) as error:
            damaged = str(error)
    if damaged:
        raise BadInput(f"{path} is damaged: the CRC-32 of a part of it is another one ({damaged}). Download it again.")


def reason(error: Exception, beginning: bytes) -> str:
    """Why a file could not be read, in our words: torch's advise to read it in a way that runs what is in it."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f": it needs {named[1]}, which is code. Ask for, or make, a file of its state dict alone."
    known = instead(beginning)
    return f".{known}" if known and "zip" not in known else ", or damaged. Download it again."


def unwrap(state: dict[str, Tensor]) -> Checkpoint:
    """Take off `module.` (DataParallel) and `1.` (Sequential(normalise, net)), and put the normalising layer aside."""
    weights, statistics = without_prefix(state, "module."), {}
    for key in ("0.mean", "0.std", "normalize.mean", "normalize.std"):
        if key in weights:
            statistics[key.partition(".")[2]] = weights.pop(key)
    return Checkpoint(without_prefix(weights, "1."), statistics)


def without_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same, less a prefix that all keys have."""
    cut = len(prefix) if all(key.startswith(prefix) for key in state) else 0
    return {key[cut:]: tensor for key, tensor in state.items()}


def key_map(network: models.Network, name: str, arch: str) -> dict[str, str]:
    """The authors' key -> ours, for every tensor but the normalising layer's."""
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
    keys = [key for key in network.state_dict() if not key.startswith("stem.0.")]
    prefix = {key: next(ours for ours in parts if key.startswith(ours)) for key in keys}
    return {parts[prefix[key]] + key.removeprefix(prefix[key]): key for key in keys}


def differences(found: Checkpoint, name: str, n_classes: int, arch: str) -> list[str]:
    """What keeps a checkpoint from being `name` by the rules of `arch`, in the network's order."""
    with torch.device("meta"):
        network = models.build(name, 3, n_classes, arch)
    state, known, wrong = network.state_dict(), key_map(network, name, arch), []
    for theirs, ours in known.items():
        if theirs not in found.weights:
            wrong.append(f"{theirs} is missing")
        elif found.weights[theirs].shape != state[ours].shape:
            wrong.append(f"{theirs} is {tuple(found.weights[theirs].shape)}, not {tuple(state[ours].shape)}")
    for key in found.weights:
        if key not in known and not key.startswith(SPARE.get(arch, ())):
            wrong.append(f"{key} is extra")
    rules = models.ARCHS[arch][models.MODELS[name].kind]
    for part, numbers in zip(("mean", "std"), rules.statistics_of(n_classes), strict=True):
        stored = found.statistics.get(part, torch.tensor(numbers)).float().flatten()
        if len(stored) != 3 or not stored.allclose(torch.tensor(numbers)):
            wrong.append(
                f"it normalises by {part} {[round(number, 6) for number in stored.tolist()]}, not {list(numbers)}"
            )
    return wrong


def fitting(found: Checkpoint) -> list[str]:
    """The networks that have the checkpoint's keys and shapes, as `preact_resnet18 for 10 classes (arch ssat)`."""
    fits: dict[str, list[str]] = {}
    for name, size in models.MODELS.items():
        for arch in (arch for arch, kinds in models.ARCHS.items() if size.kind in kinds):
            names = OTHER_NAMES.get((arch, size.kind), NAMES[size.kind])
            last = found.weights.get(f"{names.linear}.weight", torch.empty(0))
            if last.ndim == 2 and not differences(found, name, len(last), arch):
                fits.setdefault(f"{name} for {len(last)} classes", []).append(arch)
    return [f"{network} (arch {' or '.join(archs)})" for network, archs in fits.items()]
