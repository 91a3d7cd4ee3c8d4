"""Archives in the real formats, made of random pixels: what tests and benchmarks read where the real ones are not."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastat.config import catalog
from fastat.data import cifar

CLASSES = ["n01440764", "n02102040", "n03000684"]
FIVE = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]


def cifar_batch(name: str, n: int, seed: int) -> dict[bytes, Any]:
    """A pickled batch of n random images, before it is pickled."""
    rng = np.random.default_rng(seed)
    labels = b"labels" if name == "cifar10" else b"fine_labels"
    classes = 10 if name == "cifar10" else 100
    return {
        b"batch_label": b"a batch",
        b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        labels: [int(y) for y in rng.integers(0, classes, n)],
        b"filenames": [b"x.png"] * n,
    }


def cifar_archive(name: str, folder: Path, patch: Any, batches: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the archive of five times (or once) four training images and three test images.

    The reader's checksums and the catalogue become those of what was made. patch: as pytest's MonkeyPatch.
    """
    facts = cifar.SETS[name]
    members = [*FIVE, "test_batch"] if name == "cifar10" else ["train", "test"]
    batches = batches or {m: cifar_batch(name, 3 if m.startswith("test") else 4, k) for k, m in enumerate(members)}
    raw = {m: batch if isinstance(batch, bytes) else pickle.dumps(batch, protocol=2) for m, batch in batches.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / facts.filename, "w:gz") as tar:
        for member, data in raw.items():
            info = tarfile.TarInfo(f"{facts.base_folder}/{member}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    sums = {m: hashlib.md5(data).hexdigest() for m, data in raw.items()}
    patch.setattr(facts, "train_list", [[m, sums[m]] for m in members if not m.startswith("test")])
    patch.setattr(facts, "test_list", [[m, sums[m]] for m in members if m.startswith("test")])
    n_train = 4 * (len(members) - 1)
    few = replace(catalog.CATALOG[name], n_train=n_train, n_test=3)
    patch.setitem(catalog.CATALOG, name, few)
    return batches


def imagenet_tree(folder: Path, n_train: int = 6, n_val: int = 2) -> Path:
    """Three classes of photographs of many sizes; one image is grey and one CMYK, as in the real set."""
    rng = np.random.default_rng(0)
    for part, n in (("train", n_train), ("val", n_val)):
        for k, name in enumerate(CLASSES):
            (folder / "imagenet" / part / name).mkdir(parents=True)
            for i in range(n):
                size = (int(rng.integers(60, 300)), int(rng.integers(60, 300)))
                coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
                image = coarse.resize(size, Image.Resampling.BICUBIC)
                image = image.convert({(0, 0): "L", (1, 1): "CMYK"}.get((k, i), "RGB"))
                image.save(folder / f"imagenet/{part}/{name}/{name}_{i}.JPEG", quality=90)
    return folder


def expect_imagenet(patch: Any, n_train: int = 18, n_test: int = 6) -> None:
    """Let the catalogue say that ImageNet is what `imagenet_tree` made. patch: as pytest's MonkeyPatch."""
    few = replace(catalog.CATALOG["imagenet"], n_classes=3, n_train=n_train, n_test=n_test)
    patch.setitem(catalog.CATALOG, "imagenet", few)
