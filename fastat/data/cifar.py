"""CIFAR10 and CIFAR100 from the archives that torchvision knows. Its pickles are read by a reader that runs nothing."""

import hashlib
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import download_url

from fastat.errors import BadInput

SETS: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}  # file names, addresses and MD5s are theirs
HARMLESS = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
HARMLESS |= {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}


def read(name: str, source: Path) -> dict[str, Tensor]:
    """uint8 images (n, 3, 32, 32) and int64 labels of both parts.

    From `source`: the archive (cifar-10-python.tar.gz) or the folder that it unpacks to; else it is downloaded.
    Raises: BadInput if it is missing and cannot be downloaded, is another file, or is damaged.
    """
    facts = SETS[name]
    members = _members(facts, source)
    tensors = {}
    for part, listed in (("train", facts.train_list), ("test", facts.test_list)):
        batches = [_batch(members, member, md5) for member, md5 in listed]
        images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = [y for batch in batches for y in batch.get(b"labels") or batch[b"fine_labels"]]
        tensors[f"{part}_images"] = torch.from_numpy(images)
        tensors[f"{part}_labels"] = torch.tensor(labels)
    return tensors


def _members(facts: type[CIFAR10], source: Path) -> Any:
    """A function: name of a file in the archive -> its bytes."""
    archive, folder = source / facts.filename, source / facts.base_folder
    if folder.is_dir() and not archive.exists():
        return lambda member: (folder / member).read_bytes()
    if not archive.exists():
        source.mkdir(parents=True, exist_ok=True)
        try:
            download_url(facts.url, str(source), facts.filename, facts.tgz_md5)
        except (OSError, RuntimeError) as error:
            raise BadInput(
                f"{facts.filename} is not in {source}, and could not be downloaded from {facts.url} ({error}). "
                f"Put it there, or the folder {facts.base_folder}."
            ) from error

    def member_of_archive(member: str) -> bytes:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(f"{facts.base_folder}/{member}")
            assert file is not None
            return file.read()

    return member_of_archive


def _batch(members: Any, member: str, md5: str) -> dict[bytes, Any]:
    way_out = "Delete it and run again to download it."
    try:
        content = members(member)
    except (OSError, EOFError, KeyError, AssertionError, tarfile.TarError, zlib.error) as error:
        raise BadInput(f"CIFAR: no whole file {member} in the archive ({error}). {way_out}") from error
    if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        raise BadInput(f"CIFAR: wrong checksum: {member} has MD5 {found}, expected {md5}. {way_out}")
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
