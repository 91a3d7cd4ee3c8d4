"""Small real things that many tests need."""

import pytest
import torch

from fastat import models
from fastat.types import Batch, Task, View

N_PARAMS = sum(p.numel() for p in models.build("preact_tiny", 1, 10).parameters())


@pytest.fixture
def tiny_task() -> Task:
    """Twelve 1x8x8 images in 10x10 frames, eps 0.1."""
    return Task(
        0.1, 12, 10, (1, 8, 8), (1, 10, 10), 30, 4, 3, N_PARAMS, torch.device("cpu"), torch.Generator().manual_seed(0)
    )


@pytest.fixture
def tiny_batch() -> Batch:
    """Four images, each cropped and flipped in its own way."""
    rng = torch.Generator().manual_seed(1)
    view = View(torch.tensor([0, 1, 2, 1]), torch.tensor([2, 1, 0, 0]), torch.tensor([True, False, True, False]))
    x = torch.rand((4, 1, 8, 8), generator=rng)
    return Batch(x, torch.tensor([3, 1, 4, 1]), torch.tensor([5, 0, 11, 7]), view, 1, 0)


@pytest.fixture
def tiny_model() -> torch.nn.Module:
    """preact_tiny in train mode."""
    torch.manual_seed(0)
    return models.build("preact_tiny", 1, 10).train()
