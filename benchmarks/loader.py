"""Images per second and core: our prepared ImageNet against torchvision's ImageFolder, on the same JPEGs, one run.

Photographs (those of scikit-learn, cut and scaled to some 500 x 375 pixels, quality 95) in ImageNet's layout; both give
batches of 128 float images of 224 x 224, cropped and flipped. Also what JPEGs of 256 pixels would give: images per
second to decode one, its bytes, and how far a second compression moves the pixels.

    python benchmarks/loader.py
"""

import io
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fastat.config import catalog
from fastat.data import datasets, imagenet

N, BATCH = 1536, 128


def photographs(folder: Path) -> None:
    """N training and 3 validation JPEGs in 3 classes."""
    rng, photos = np.random.default_rng(0), [Image.fromarray(image) for image in load_sample_images().images]
    for part, n in (("train", N), ("val", 3)):
        for i in range(n):
            photo, share = photos[i % 2], rng.uniform(0.6, 1)
            size = (int(photo.width * share), int(photo.height * share))
            left, top = (int(rng.integers(0, room + 1)) for room in (photo.width - size[0], photo.height - size[1]))
            cut = photo.crop((left, top, left + size[0], top + size[1]))
            cut = cut.resize((500, 375), Image.Resampling.BICUBIC)
            path = folder / f"imagenet/{part}/class{i % 3}/{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            cut.save(path, quality=95)


def rate(batches) -> float:
    """Images per second, the first two batches left out."""
    iterator, n = iter(batches), 0
    for _ in range(2):
        next(iterator)
    started = time.perf_counter()
    for x in iterator:
        n += len(x)
    return n / (time.perf_counter() - started)


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    few = replace(catalog.CATALOG["imagenet"], n_classes=3, n_train=N, n_test=3)
    catalog.CATALOG["imagenet"] = few
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs(folder)
        started = time.perf_counter()
        out = folder / "data/imagenet.safetensors"
        imagenet.prepare("imagenet", folder, out)
        print(f"preparation: {N / (time.perf_counter() - started):.0f} images/s on all cores")

        data = datasets.load(out, torch.device("cpu"))
        stream = datasets.TrainingStream(data.train, batch_size=BATCH, drop_last=True, pad=0, flip=True, seed=0)
        steps = [Resize((256, 256)), RandomCrop(224), RandomHorizontalFlip(), ToTensor()]
        theirs = ImageFolder(folder / "imagenet/train", Compose(steps))
        files = [path for path, _ in theirs.samples]
        for turn in (1, 2):
            plain = rate(x for x, _ in DataLoader(theirs, BATCH, shuffle=True, drop_last=True, num_workers=1))
            ours = rate(batch.x for batch in stream.epoch(turn))
            print(
                f"images/s: ImageFolder, 1 worker {plain:.0f}; prepared, 1 thread {ours:.0f}; ratio {ours / plain:.1f}"
            )

        small, moved = [], []
        for path in files[:256]:
            pixels = imagenet.decode(Path(path), (256, 256)).transpose(1, 2, 0)
            packed = io.BytesIO()
            Image.fromarray(pixels).save(packed, "JPEG", quality=95)
            small.append(packed.getvalue())
            again = np.asarray(Image.open(io.BytesIO(small[-1])))
            moved.append(np.abs(again.astype(int) - pixels).mean())
        started = time.perf_counter()
        for packed_bytes in small:
            np.asarray(Image.open(io.BytesIO(packed_bytes)).convert("RGB"))
        decoded = len(small) / (time.perf_counter() - started)
        original = np.mean([Path(path).stat().st_size for path in files])
        packed_size = np.mean([len(one) for one in small])
        print(f"bytes an image: original {original:,.0f}, raw 256 x 256 {3 * 256 * 256:,}, JPEG {packed_size:,.0f}")
        print(f"JPEGs of 256 pixels: {decoded:.0f} decoded/s; pixels move by {np.mean(moved):.2f}/255 on average")


if __name__ == "__main__":
    main()
