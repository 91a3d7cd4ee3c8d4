"""Made-up runs with a real network, whole as `verify` wants them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fastat.machine import seals
from fastat.networks import models
from tests import fabricate

RUN = "digits/preact_tiny/eps77/atas/paper/seed0"


def with_network(results: Path, name: str, seed: int = 0, **recipe) -> Path:
    """The files of a finished run of preact_tiny, and with `hold_out` those of its best epoch; its folder."""
    folder = fabricate.finished(results, name, **recipe)
    best = ["best.safetensors"] if recipe.get("hold_out") else []
    about = seals.read(folder / "run.json")
    for k, file in enumerate(["weights.safetensors", *best]):
        torch.manual_seed(2 * seed + k)
        save_file(models.build("preact_tiny", 1, 10, recipe.get("arch", "shared")).state_dict(), folder / file)
        about["files"][file] = seals.sha256(folder / file)
    seals.write(folder / "run.json", about)
    for suite, rows in fabricate.evaluations(12 + seed).items():
        fabricate.evaluation(folder, suite, rows)
        if best and f"best_{suite}" in ("best_whitebox", "best_autoattack"):
            fabricate.evaluation(folder, f"best_{suite}", rows)
            path = folder / f"eval/best_{suite}.json"
            kept = seals.read(folder / f"eval/{suite}.json")["protocol"]
            made = seals.read(path) | {"weights": about["files"]["best.safetensors"], "protocol": kept}
            seals.write(path, made)
    return folder


def diverge(folder: Path) -> None:
    """Make a finished run one that diverged, evaluated as such: its evaluations have no rows."""
    path = folder / "run.json"
    seals.write(path, seals.read(path) | {"status": "diverged", "cause": "loss nan"})
    for suite, (columns, *_) in fabricate.evaluations(12).items():
        fabricate.evaluation(folder, suite, [columns])


@pytest.fixture
def results(tmp_path) -> Path:
    """A results folder with one such run."""
    with_network(tmp_path / "results", RUN)
    return tmp_path / "results"
