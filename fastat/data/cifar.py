"""CIFAR10 and CIFAR100 from the archives that torchvision knows. Its pickles are read by a reader that runs nothing."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import download_url

from fastat.config.catalog import CATALOG
from fastat.errors import BadInput
from fastat.machine.files import atomic
from fastat.machine.foreign import head, instead

SETS: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}  # file names, addresses and MD5s are theirs
WAY_OUT = "Delete it and run again to download it."
HARMLESS = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
HARMLESS |= {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}


def read(name: str, source: Path) -> dict[str, Tensor]:
    """uint8 images (n, 3, 32, 32) and int64 labels of both parts.

    From `source`: the archive (cifar-10-python.tar.gz) or the folder that it unpacks to; else it is downloaded.
    Raises: BadInput if it is missing and cannot be downloaded, is another file, or is damaged.
    """
    facts, tensors = SETS[name], {}
    content = _content(name, source)
    for part, listed in (("train", facts.train_list), ("test", facts.test_list)):
        batches = [_batch(content[member], member, md5) for member, md5 in listed]
        images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = [y for batch in batches for y in batch.get(b"labels") or batch[b"fine_labels"]]
        tensors[f"{part}_images"] = torch.from_numpy(images)
        tensors[f"{part}_labels"] = torch.tensor(labels)
    return tensors


def origin(name: str, source: Path) -> list[Path]:
    """The files that `read` reads: the archive, or those of the folder that it unpacks to."""
    facts, members = SETS[name], _members(name)
    archive, folder = source / facts.filename, source / facts.base_folder
    return [archive] if os.path.lexists(archive) else [folder / member for member in members]


def _members(name: str) -> list[str]:
    return [member for member, _ in (*SETS[name].train_list, *SETS[name].test_list)]


def _content(name: str, source: Path) -> dict[str, bytes]:
    """File in the archive -> its bytes."""
    facts, members = SETS[name], _members(name)
    archive, folder = source / facts.filename, source / facts.base_folder
    limit = 2 * (CATALOG[name].n_train + CATALOG[name].n_test) * 3 * 32 * 32 + 2**20  # the pixels are nearly all of it
    if not os.path.lexists(archive) and folder.is_dir():
        return {member: _plain(folder / member, limit) for member in members}
    if not os.path.lexists(archive):
        _download(facts, archive)
    beginning = head(archive, WAY_OUT)
    try:
        with open(archive, "rb") as file, gzip.open(file) if beginning[:2] == b"\x1f\x8b" else file as plain:
            found = _unpack(Limited(plain, limit, archive), {f"{facts.base_folder}/{one}": one for one in members})
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"CIFAR: {archive} is no whole file ({error}).{instead(beginning)} {WAY_OUT}") from error
    if missing := [member for member in members if member not in found]:
        raise BadInput(f"CIFAR: no whole file {missing[0]} in {archive}.{instead(beginning)} {WAY_OUT}")
    return found


def _download(facts: type[CIFAR10], archive: Path) -> None:
    try:
        with atomic(archive) as partial:
            download_url(facts.url, str(partial.parent), partial.name, facts.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise BadInput(
            f"{facts.filename} is not in {archive.parent}, and could not be downloaded from {facts.url} ({error}). "
            f"Put it there, or the folder {facts.base_folder}."
        ) from error


def _plain(path: Path, limit: int) -> bytes:
    head(path, WAY_OUT)
    if (size := path.stat().st_size) > limit:
        raise BadInput(f"CIFAR: {path} has {size:,} bytes, expected at most {limit:,}. {WAY_OUT}")
    return path.read_bytes()


@dataclass
class Limited:
    """What an archive unpacks to, byte after byte, up to a limit: eight megabytes may unpack to eight gigabytes."""

    stream: Any
    left: int
    archive: Path

    def read(self, n: int) -> bytes:
        """The next n bytes, or as many as there are.

        Raises: BadInput when more than the limit has been read.
        """
        content = self.stream.read(min(n, self.left + 1))
        self.left -= len(content)
        if self.left < 0:
            raise BadInput(f"{self.archive} unpacks to more than the data set can have. {WAY_OUT}")
        return content


def _unpack(stream: Limited, wanted: dict[str, str]) -> dict[str, bytes]:
    """Read the wanted files (name in the archive -> ours) from a tar stream, onto no disk and through no link.

    Raises: BadInput if one is no plain file, or one before it declares more bytes than all may have.
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=stream, mode="r|", bufsize=2**20) as tar:  # type: ignore[call-overload]
        for member in tar:
            name = wanted.get(member.name.removeprefix("./"))
            if not 0 <= member.size <= stream.left + 2**20:
                raise BadInput(
                    f"{stream.archive}: {member.name} says that it has {member.size:,} bytes, which nothing of the "
                    f"data set can have. {WAY_OUT}"
                )
            if name and not member.isreg():
                raise BadInput(f"{stream.archive}: {member.name} must be a file, but it is a link or device. {WAY_OUT}")
            if name:
                file = tar.extractfile(member)
                assert file is not None
                found[name] = file.read()
            if len(found) == len(wanted):
                break
    return found


def _batch(content: bytes, member: str, md5: str) -> dict[bytes, Any]:
    if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        raise BadInput(f"CIFAR: wrong checksum: {member} has MD5 {found}, expected {md5}. {WAY_OUT}")
    batch = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    assert isinstance(batch, dict)
    return batch


class _PlainUnpickler(pickle.Unpickler):
    """Arrays, byte strings, numbers and lists of them. A pickle may name any function and call it: not here."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises: BadInput for whatever is not needed to rebuild an array."""
        if (module, name) not in HARMLESS:
            raise BadInput(f"CIFAR: the pickle wants to run {module}.{name}: this is not the data set. Delete it.")
        return super().find_class(module, name)
