"""The state of an unfinished training: one safetensors file, replaced atomically; nothing is ever unpickled.

It holds the model, the method, the learner's momentum, the method's random generator and, as JSON in the file's
header, where the run stands: epoch, batch, log rows, seconds, and the fingerprint of what it was made from.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastat.errors import BadInput
from fastat.machine.files import atomic

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
    """Write all tensors of `parts` (name of the part -> its state_dict) and the standing."""
    tensors = {f"{part}/{name}": t.contiguous() for part, state in parts.items() for name, t in state.items()}
    about = {"format": FORMAT, "made_from": made_from, "standing": asdict(standing)}
    with atomic(path) as partial:
        save_file(tensors, partial, metadata={"fastat": json.dumps(about)})


def load(path: Path, made_from: str, device: torch.device) -> tuple[dict[str, dict[str, Tensor]], Standing]:
    """The inverse of `save`.

    Raises: BadInput if the file is damaged or belongs to another run, recipe, data or version.
    """
    way_out = f"Delete it to start this run afresh: rm {path}"
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {})["fastat"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        standing, found = Standing(**about["standing"]), (about["format"], about["made_from"])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} is damaged or not a state file ({error}). {way_out}") from error
    if found != (FORMAT, made_from):
        raise BadInput(
            f"{path} was made by another run: fingerprint {found[1]}, this run has {made_from} "
            f"(name, recipe, data or method version differ). {way_out}"
        )
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts, standing
