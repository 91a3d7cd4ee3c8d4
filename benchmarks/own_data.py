"""How long a folder of small JPEG files takes to prepare, beside torchvision's ImageFolder and DataLoader.

python benchmarks/own_data.py [FOLDER]: train/CLASS/*.jpg and test/CLASS/*.jpg; without one, 60,000 files of random
pixels are made. Also: a batch of the prepared set, beside one of CIFAR10's shape and size.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from fastat.data import datasets, folder, sources
from fastat.data.datasets import Part, TrainingStream

N, CLASSES, BATCH = 60_000, 10, 128
CPU = torch.device("cpu")


def made_up(root: Path) -> Path:
    """N JPEG files of 32 x 32 pixels, a sixth of them for testing."""
    rng = np.random.default_rng(0)
    for k in range(N):
        path = root / ("test" if k % 6 == 0 else "train") / f"class{k % CLASSES}" / f"{k:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=90)
    return root


def of_image_folder(root: Path) -> float:
    """Seconds to read every image once with ImageFolder and two workers."""
    started = time.perf_counter()
    for part in ("train", "test"):
        images = ImageFolder(str(root / part), transform=pil_to_tensor)
        for _ in DataLoader(images, batch_size=BATCH, num_workers=2):
            pass
    return time.perf_counter() - started


def by_threads(root: Path) -> dict[int, float]:
    """Threads -> seconds to decode a tenth of the training images."""
    paths, taken = sorted((root / "train").rglob("*.jpg"))[::10], {}
    for n in (1, 2):
        started = time.perf_counter()
        chunks = [paths[first : first + folder.CHUNK] for first in range(0, len(paths), folder.CHUNK)]
        with ThreadPoolExecutor(n) as pool:
            list(pool.map(lambda chunk: [folder.opened(path, np.asarray) for path in chunk], chunks))
        taken[n] = time.perf_counter() - started
    return taken


def epoch(part: Part) -> float:
    """Milliseconds a batch of an epoch as CIFAR10's recipe draws it, of five epochs the fastest."""
    stream = TrainingStream(part, batch_size=BATCH, drop_last=True, pad=4, flip=True, seed=0)
    taken = []
    for number in range(1, 6):
        started = time.perf_counter()
        for _ in stream.epoch(number):
            pass
        taken.append(time.perf_counter() - started)
    return 1000 * min(taken) / stream.n_batches


def main() -> None:
    """Print all of it."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else made_up(Path(temporary) / "images")
        out = Path(temporary) / "own.safetensors"
        started = time.perf_counter()
        sources.prepare("own", Path("data"), out, {"folder": str(root)})
        print(f"prepared: {time.perf_counter() - started:.1f} s")
        print(f"ImageFolder, DataLoader of two workers, read once: {of_image_folder(root):.1f} s")
        print("a tenth decoded, by threads:", ", ".join(f"{n}: {s:.2f} s" for n, s in by_threads(root).items()))
        own = datasets.load(out, CPU).train
        images = torch.randint(256, own.images.shape, dtype=torch.uint8)
        like_cifar10 = Part(images, own.labels, own.size)
        print(f"a batch of {BATCH}: {epoch(own):.2f} ms, of CIFAR10's kind {epoch(like_cifar10):.2f} ms")


if __name__ == "__main__":
    main()
