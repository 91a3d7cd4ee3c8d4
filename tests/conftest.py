"""Small real things that many tests need. One thread each: the tests run on all cores, where threads would wait."""

import os
import signal
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; processes that tests start inherit it

# As in an activated environment: a workflow's jobs are `python ...`, and must find the one that has the suite.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

# What starts the tests may ignore Ctrl-C, as a shell's `&` does, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
import torch  # noqa: E402

from fastat.config import catalog  # noqa: E402
from fastat.networks import models  # noqa: E402
from fastat.types import Batch, Task, View  # noqa: E402

SLOW = (  # files of minutes, begun first, so that no core waits for the last of them
    "test_own_pages.py", "test_contributing.py", "test_workflow.py", "test_shards.py", "test_processes.py",
    "test_gpu_rehearsal.py", "test_slurm.py", "test_library.py", "test_masking.py", "test_captured.py",
)  # fmt: skip
N_PARAMS = sum(p.numel() for p in models.build("preact_tiny", 1, 10).parameters())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; otherwise as they were."""
    place = {name: k for k, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path.name, len(SLOW)))


@pytest.fixture(autouse=True)
def no_own_data_is_known():
    """What one test learns of its own data sets is no other's."""
    catalog.forget()
    yield
    catalog.forget()


@pytest.fixture(autouse=True)
def no_module_of_a_test_is_anothers(tmp_path_factory):
    """Many tests write a mynets.py, and one process runs many tests."""
    yield
    written = f"{tmp_path_factory.getbasetemp()}{os.sep}"
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(written):
            del sys.modules[name]


@pytest.fixture
def tiny_task() -> Task:
    """Twelve 1x8x8 images in 10x10 frames, eps 0.1."""
    rng = torch.Generator().manual_seed(0)
    return Task(0.1, 12, 10, (1, 8, 8), (1, 10, 10), 30, 4, 3, N_PARAMS, torch.device("cpu"), rng, n_features=64)


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


@pytest.fixture
def short_theory(monkeypatch):
    """A few steps of the theory's experiment: its own tests are in tests/report/test_theory.py."""
    monkeypatch.setattr("fastat.report.theory.HORIZONS", (20, 40))
