"""Files of weights that others wrote: read without running what is in them, and taken out of what they are wrapped in.

A file is safetensors, or what torch.save writes (.pt, .pth, .pth.tar), known by its first bytes and not by its name. It
holds a state dict, by itself or as an entry of mappings; that has names behind prefixes of what the network was wrapped
in, and sometimes the constants of a normalising layer. Whose names they are: fastat/networks/released.py.
"""

import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastat.errors import BadInput
from fastat.machine.foreign import head, instead

DAMAGED = (  # what torch.load raises for bytes that it did not write
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    OverflowError, struct.error,
)  # fmt: skip
# Where a file holds more than a state dict, it is under one of these; of several, under the first.
WRAPPERS = ("state_dict", "model", "last", "net", "model_state_dict", "model_state", "network", "weights", "params")
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged?|avg|wa)($|_)")  # what a moving average of the weights is called
TWINS = ("ema.", "ema_model.", "model_ema.", "ema_net.", "averaged_model.")  # one that stands in the same state dict
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "1.")  # of what networks are wrapped in
COPIES = ("attacker.",)  # what wrappers hold of the network a second time
STATISTICS = {  # a normalising layer's constants -> ours
    **{f"{layer}{key}": key for layer in ("", "0.", "normalize.", "stem.0.") for key in ("mean", "std")},
    **{f"normalizer.{theirs}": key for key in ("mean", "std") for theirs in (key, f"new_{key}")},
    "mu": "mean",
    "sigma": "std",
}
# What training scripts save beside the weights. It is neither built nor called: Dropped takes its place.
BESIDE = (
    "argparse.Namespace", "numpy.dtype", "numpy.ndarray", *(f"numpy.dtypes.{kind}DType" for kind in (
        "Float16", "Float32", "Float64", "Int32", "Int64", "UInt8", "Bool",
    )),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
)  # fmt: skip
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"\x28\xb5\x2f\xfd": "zstd"}
WAY_OUT = "Name the file of weights itself, as it lies from where you are, or download it."
STATE_DICT_ALONE = "Ask for, or make, a file of its state dict alone."
COUNTER = "num_batches_tracked"  # of BatchNorm: not in files of torch before 0.4.1, and not used in eval mode
DEEPEST = 3  # mappings in mappings
NAMED = 4  # keys that an error names


class Dropped:
    """Stands where a file has an object that is no tensor; nothing of it is kept."""

    def __init__(self, *_args: Any, **_kwargs: Any):
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file.

    weights: by the authors' names, in float32 where they are numbers with a point, without the prefixes of what the
    network was wrapped in. statistics: `mean` and `std` of its normalising layer, where that stores them.
    entry: the part of the file, as `model.state_dict`; '' if it is all of it. others: further parts with weights.
    prefix: what was taken off the names. kinds: in what the weights were stored.
    """

    weights: dict[str, Tensor]
    statistics: dict[str, Tensor]
    entry: str = ""
    others: tuple[str, ...] = ()
    prefix: str = ""
    kinds: tuple[str, ...] = ("float32",)


def packed(path: Path, part: str | None = None) -> Checkpoint:
    """The file's tensors, by their names in the file. Nothing in it is executed (weights_only).

    Raises: BadInput if it is missing, no checkpoint, has no such part, several that may be meant, holds objects that
    only code can rebuild, or weights that are no numbers.
    """
    content = content_of(path)
    tables = dict(state_dicts(content))
    entry = chosen(path, content, tables, part)
    others = tuple(name for name in tables if name != entry)
    return Checkpoint(*in_float32(path, tables[entry]), entry=entry, others=others, kinds=kinds(tables[entry]))


def content_of(path: Path) -> Any:
    """What the file holds.

    Raises: BadInput if it cannot be read without running it.
    """
    beginning = head(path, WAY_OUT)
    if int.from_bytes(beginning[:8], "little") < path.stat().st_size and beginning[8:9] == b"{":
        try:
            return load_file(path)
        except (SafetensorError, OSError, KeyError) as error:  # KeyError: of a type that torch has not
            raise BadInput(f"{path} is damaged safetensors ({error}). Download it again.") from error
    check_zip(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of other pickle protocols
            with torch.serialization.safe_globals([(Dropped, name) for name in BESIDE]), open(path, "rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)  # by path it would go by the suffix
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}. Download it again.") from error
    except DAMAGED as error:
        raise BadInput(f"{path} is no file of plain tensors{reason(error, beginning, path)}") from error


def state_dicts(content: Any, name: str = "", deep: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping from names to tensors, with its place, as `model.state_dict`; an average beside others as `ema`."""
    if not isinstance(content, dict) or not content or deep > DEEPEST:
        return
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        twin = next((prefix for prefix in TWINS if any(key.startswith(prefix) for key in content)), None)
        rest = {key: tensor for key, tensor in content.items() if twin is None or not key.startswith(twin)}
        if rest:
            yield name, rest
        if twin:
            averaged = {key: tensor for key, tensor in content.items() if key.startswith(twin)}
            yield f"{name}.{twin}".strip("."), without_prefix(averaged, twin)
        return
    for key, value in content.items():
        if isinstance(key, str):
            yield from state_dicts(value, f"{name}.{key}".strip("."), deep + 1)


def chosen(path: Path, content: Any, tables: dict[str, dict[str, Tensor]], part: str | None) -> str:
    """Which of the state dicts: `part`, the only one, or that under the first of WRAPPERS, and no average.

    part: its whole name, or the beginning or end that no other has.
    Raises: BadInput if there is none of it, or nobody can tell.
    """
    if part:
        named = [name for name in tables if f".{name}".endswith(f".{part}") or name.startswith(f"{part}.")]
        if not named:
            held = ", ".join(tables) or (
                ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            )
            raise BadInput(f"{path} has no part {part!r}. It holds {held[:200]}")
        if part not in named and len(named) > 1:
            raise BadInput(
                f"{path}: several state dicts are called {part!r}: {', '.join(named)}. Name one of them in full "
                "(--entry)"
            )
        return part if part in named else named[0]
    if not tables:
        raise BadInput(
            f"{path} holds no state dict, a mapping from names to one tensor or more: neither by itself nor under "
            f"{', '.join(WRAPPERS)}. Save what model.state_dict() gives"
        )
    first = min(tables, key=rank)
    if [rank(name) for name in tables].count(rank(first)) > 1:
        raise BadInput(f"{path} holds several state dicts, {', '.join(tables)}. Name the one that is meant (--entry)")
    return first


def rank(name: str) -> tuple[bool, tuple[int, ...]]:
    """A sorting key for the places of state dicts: averages last, then as WRAPPERS has them.

    What lies below a word that is not among these, as `student`, does not put it before `teacher`.
    """
    parts, places = name.split(".") if name else [], list[int]()
    for part in parts:
        places.append(WRAPPERS.index(part) if part in WRAPPERS else len(WRAPPERS))
        if part not in WRAPPERS:
            break
    return any(AVERAGED.search(part) for part in parts), tuple(places)


def in_float32(path: Path, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict with its numbers as float32, and no statistics yet.

    Raises: BadInput for weights that are no numbers.
    """
    for name, tensor in state.items():
        if tensor.is_meta:
            raise BadInput(f"{path}: {name} has a shape and no numbers (device meta). Save the weights themselves")
        if tensor.is_complex() or tensor.is_quantized or tensor.is_sparse:
            raise BadInput(f"{path}: {name} must be a plain tensor of real numbers, got {tensor.dtype} {tensor.layout}")
    weights = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    bad = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise BadInput(
            f"{path}: {', '.join(bad[:NAMED])}{more} hold what is no number: no accuracy would mean anything. Take the "
            "weights of an epoch before the training diverged, or ask for the file again."
        )
    return weights, {}


def kinds(state: dict[str, Tensor]) -> tuple[str, ...]:
    """`float16`, `float32`: in what the weights are stored."""
    return tuple(sorted({str(t.dtype).removeprefix("torch.") for t in state.values() if t.is_floating_point()}))


def unwrapped(found: Checkpoint) -> list[Checkpoint]:
    """The tensors as they are, and again after each thing that is taken off their names.

    In turns a normalising layer is put aside, with what is held twice, and a prefix of PREFIXES that all have is cut.
    """
    stages = [found]
    while True:
        last = stages[-1]
        weights, statistics = dict(last.weights), dict(last.statistics)
        for theirs, ours in STATISTICS.items():
            if theirs in weights:
                statistics[ours] = weights.pop(theirs)
        weights.pop("n_averaged", None)  # torch's AveragedModel counts there
        weights = {key: tensor for key, tensor in weights.items() if not key.startswith(COPIES)}
        if weights.keys() != last.weights.keys() and weights:
            stages.append(replace(last, weights=weights, statistics=statistics))
            continue
        cut = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in weights)), None)
        if not cut or not weights:
            return stages
        stages.append(replace(last, weights=without_prefix(weights, cut), prefix=last.prefix + cut))


def without_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same, less a prefix that all keys have."""
    return {key[len(prefix) :]: tensor for key, tensor in state.items()}


# What torch.save wrote, and what it did not


def check_zip(path: Path) -> None:
    """torch keeps tensors as they are in a zip archive, with a CRC-32 each, which torch.load does not look at.

    Raises: BadInput if it is another's archive, one part is damaged, or all have more bytes than the file: megabytes
    may unpack to gigabytes.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return  # torch's older format, or no checkpoint: torch.load finds out
    with archive:
        begins = min((member.header_offset for member in archive.infolist()), default=0) == 0  # a tar may hold one
        if begins and (foreign := other_archive(archive.namelist())):
            raise BadInput(f"{path} is no file of plain tensors: it is {foreign}")
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


def other_archive(names: list[str]) -> str:
    """What a zip archive with these files is, if torch.save did not write it, and the way out; ''."""
    if any(name.endswith(".npy") for name in names):
        return (
            "an archive of numpy arrays (.npz). Write them as tensors: torch.save({name: torch.tensor(array) for "
            "name, array in numpy.load(FILE).items()}, 'weights.pt')"
        )
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        return f"a TorchScript archive, which holds code. {STATE_DICT_ALONE}"
    if any(name.endswith("archive_format") or name.endswith("serialized_exported_program.json") for name in names):
        return f"a program of torch.export, which holds code. {STATE_DICT_ALONE}"
    if not any(name.endswith("data.pkl") for name in names):
        return f"a zip archive of {', '.join(names[:NAMED]) or 'nothing'}. Unpack it, and name the file of weights"
    return ""


def reason(error: Exception, beginning: bytes, path: Path) -> str:
    """Why a file could not be read, in our words: torch's advise to read it in a way that runs what is in it."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        whole = any(name.startswith("torch.nn.") for name in mentioned(path))
        if whole:
            return (
                f": it is a whole pickled network ({named[1]}), which only code can rebuild. Where that code is, "
                "torch.save(network.state_dict(), 'weights.pt') writes its weights alone: make or ask for that file."
            )
        return f": it needs {named[1]}, which is code. {STATE_DICT_ALONE}"
    if beginning[257:262] == b"ustar":
        return ". It is a tar archive: unpack it, and name a file of it."
    if packed := next((kind for start, kind in PACKED.items() if beginning.startswith(start)), ""):
        return f". It is packed by {packed}: unpack it, and name the file that comes out."
    if beginning.startswith((b"PK\x03\x04", b"\x80")) or beginning[8:9] == b"{":
        return ", or damaged, as by a download that was cut off. Download it again."
    if known := instead(beginning):
        return f".{known}"
    return f". It begins with {beginning[:12]!r}, as no such file does: name the file of weights."


def mentioned(path: Path) -> set[str]:
    """`torch.nn.modules.linear.Linear`: the modules and names that a pickle mentions. It is not run."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((one for one in archive.namelist() if one.endswith("data.pkl")), None)
            stream = io.BytesIO(archive.read(name)) if name else io.BytesIO()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        stream = io.BytesIO(path.read_bytes())
    found, texts = set(), [""]
    try:
        while True:  # torch's older format is several pickles in a row
            for code, text, _ in pickletools.genops(stream):
                if code.name == "GLOBAL":
                    found.add(str(text).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.add(".".join(texts[-2:]))
                elif isinstance(text, str):
                    texts.append(text)
    except (ValueError, UnicodeDecodeError, EOFError, IndexError, OverflowError, struct.error):
        return found
