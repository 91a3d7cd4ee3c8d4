"""A network that hides its gradients on purpose is caught by the sanity panel; the same network unmasked is not."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from fastat.cli import main
from fastat.data import datasets
from fastat.data.subsets import stratified
from fastat.evaluation import autoattack, probes, whitebox
from fastat.machine import files
from fastat.networks import models
from fastat.report import sanity, tidy
from fastat.report.results import of_rows
from fastat.report.verify import COLUMNS, read_rows

CELL = {"dataset": "digits", "model": "preact_tiny", "eps": "26/255", "method": "clean", "variant": "paper"}
EPS = 26 / 255


class Loud(torch.nn.Module):
    """The same decisions, with logits so large that the softmax saturates and its gradient vanishes."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 1e5 * self.network(x)


class Coarse(Loud):
    """The same decisions on pixels rounded to an eighth: constant almost everywhere."""

    def forward(self, x):
        return self.network((x * 8).round() / 8)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    assert main(["data", "--dataset", "digits", "--out", str(folder / "digits.safetensors")]) == 0
    return datasets.load(folder / "digits.safetensors", torch.device("cpu"), n_test=100)


@pytest.fixture(scope="module")
def network(digits):
    """A few epochs of training with noise: honest, and not robust."""
    torch.manual_seed(0)
    model = models.build("preact_tiny", 1, 10)
    x, y = digits.train.take(torch.arange(len(digits.train)))
    learner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for index in [rows for _ in range(6) for rows in torch.randperm(len(x)).split(64)]:
        learner.zero_grad()
        torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        learner.step()
    return model.eval()


def verdict(model: torch.nn.Module, digits, folder: Path) -> tuple[str, set[str]]:
    """The panel's word on this network, and the checks that failed."""
    found = list(whitebox.attack_all(model, digits.test, whitebox.Protocol(EPS)))
    files.write_rows(folder / "whitebox.csv", whitebox.COLUMNS, found)
    index = stratified(digits.test.labels, 30, seed=0)
    options = {"eps": EPS, "batch_size": 30, "seed": 0, "partial": folder / "partial.csv"}
    found = autoattack.standard(model, digits.test.take, index, **options)
    files.write_rows(folder / "autoattack.csv", whitebox.COLUMNS, found)
    steps = probes.single_steps(model, digits.train, eps=EPS, seed=0, n=50)
    files.write_rows(folder / "steps.csv", COLUMNS["steps"], list(steps))
    names = ("whitebox", "autoattack", "steps")
    tables = {name: read_rows((folder / f"{name}.csv").read_bytes(), COLUMNS[name]) for name in names}
    rows = [(*CELL.values(), "0", metric, None, value, n) for metric, _, value, n in tidy.evaluated(tables)]
    panel = sanity.panel(of_rows(pd.DataFrame(rows, columns=tidy.MEASURED)).runs)
    return panel["verdict"].iloc[0], set(panel.loc[panel["holds"] == 0, "check"])


def test_an_honest_network_passes(network, digits, tmp_path):
    assert verdict(network, digits, tmp_path) == ("ok", set())


@pytest.mark.parametrize("mask", [Loud, Coarse])
def test_a_masked_network_is_caught(mask, network, digits, tmp_path):
    word, failed = verdict(mask(network).eval(), digits, tmp_path)
    assert word == "masking suspected" and failed
