"""The state of an unfinished training: one safetensors file, replaced atomically; nothing is ever unpickled.

It holds the model, the method, the learner's momentum, the method's random generator and, as JSON in the file's
header, where the run stands: epoch, batch, log rows, seconds, and the fingerprint of what it was made from.
"""

import json
import logging
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastat.errors import BadInput
from fastat.machine.files import atomic

log = logging.getLogger(__name__)
FORMAT = 1


@dataclass
class Standing:
    """Where a run stands, between two batches."""

    epoch: int = 1  # the epoch to go on with
    batch: int = 0  # its next batch
    seconds: float = 0.0  # spent in batches of this epoch so far
    peak_memory_mb: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)  # one row per finished epoch


def save(path: Path, parts: dict[str, dict[str, Tensor]], standing: Standing, made_from: str) -> None:
    """Write all tensors of `parts` (name of the part -> its state_dict) and the standing, each with its checksum."""
    tensors = apart({f"{part}/{name}": t for part, state in parts.items() for name, t in state.items()})
    about = {"format": FORMAT, "made_from": made_from, "standing": asdict(standing)}
    sums = checksums(tensors, about)
    with atomic(path) as partial:
        save_file(tensors, partial, metadata={"fastat": json.dumps({**about, "checksums": sums})})


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same values on the CPU, none in the memory of another: safetensors takes no weights that are tied."""
    kept: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous().cpu()
        kept[name] = own.clone() if own.untyped_storage().data_ptr() in taken else own
        taken.add(kept[name].untyped_storage().data_ptr())
    return kept


def checksums(tensors: dict[str, Tensor], about: dict[str, Any]) -> dict[str, int]:
    """CRC-32 of each tensor's bytes, and of the JSON beside them: it finds every flipped bit, at 6 GB/s."""
    sums = {key: zlib.crc32(t.cpu().reshape(-1).view(torch.uint8).numpy().data) for key, t in tensors.items()}
    return {**sums, "about": zlib.crc32(json.dumps(about, sort_keys=True).encode())}


def load(path: Path, made_from: str) -> tuple[dict[str, dict[str, Tensor]], Standing]:
    """The inverse of `save`; all tensors are on the CPU.

    Raises: BadInput if the file is damaged or belongs to another run, recipe, data or version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["fastat"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        kept = about.pop("checksums", None)
        standing, found = Standing(**about["standing"]), (about["format"], about["made_from"])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} is damaged or not a state file ({error}). {way_out(path)}") from error
    if kept is None:
        log.warning("%s has no checksums: a version before this one made it. It goes on, unverified", path)
    elif (sums := checksums(tensors, about)) != kept:
        wrong = sorted(key for key in {*sums, *kept} if sums.get(key) != kept.get(key))
        raise BadInput(f"{path} is damaged: {', '.join(wrong)} is not what was saved. {way_out(path)}")
    if found != (FORMAT, made_from):
        raise BadInput(
            f"{path} was made by another run: fingerprint {found[1]}, this run has {made_from} "
            f"(name, recipe, data or method version differ). {way_out(path)}"
        )
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts, standing


def way_out(path: Path) -> str:
    """How to start afresh."""
    return f"Delete it to start this run afresh: rm {path}"
