"""What share of an ATAS step is augmentation and the reading and writing of stored perturbations? CIFAR's shapes.

PreActResNet-18, batch 128, 40 x 40 frames, 5,000 images; the three parts and the whole step take turns in one run.

    python benchmarks/augment.py
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch

import methods
from fastat.cost import passes
from fastat.data.datasets import Part, TrainingStream
from fastat.networks import models
from fastat.types import Batch

N, BATCH = 5000, 128


def main() -> None:
    """Print milliseconds and the share."""
    torch.manual_seed(0)
    part = Part(torch.randint(256, (N, 3, 32, 32), dtype=torch.uint8), torch.randint(10, (N,)), (32, 32))
    stream = TrainingStream(part, batch_size=BATCH, drop_last=True, pad=4, flip=True, seed=0)
    model = models.build("preact_resnet18", 3, 10).to(memory_format=torch.channels_last)
    one = passes.rehearse(partial(methods.build, "atas"), model, (3, 32, 32), pad=4, n_train=N)
    batches: Iterator[Batch] = iter([])

    def following():
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = stream.epoch(1)
            batch = next(batches)
        return batch

    batch = following()
    delta = one.method.delta.read(batch)
    parts = {
        "augmentation": following,
        "store, read": lambda: one.method.delta.read(batch),
        "store, write": lambda: one.method.delta.write(batch, delta),
        "whole step": lambda: one.method.train_batch(model, following(), one.learner),
    }
    taken = passes.seconds(parts, 10)
    for name, seconds in taken.items():
        print(f"{name:14} {1000 * seconds:9.2f} ms  {100 * seconds / taken['whole step']:6.2f} %")
    share = 1 - (taken["whole step"] - sum(taken[name] for name in list(parts)[:3])) / taken["whole step"]
    print(f"together {100 * share:.2f} % of a step; torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
