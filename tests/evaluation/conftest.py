"""A real run, small, that several tests attack."""

import pytest

from fastat.cli import main
from fastat.config.grid import load_config, overlay
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    """A results folder with the run that the module calls NAME, of one epoch and 30 test images."""
    name, folder = request.module.NAME, tmp_path_factory.mktemp("trained")
    every = {"epochs": 1, "n_train": 200, "n_test": 30, "numerics": "native"}
    recipe = resolve(RunSpec.parse(name), overlay(load_config(), {"recipes": {"digits": {"every": every}}})).to_json()
    assert main(["data", "--dataset", "digits", "--out", str(folder / "data/digits.safetensors")]) == 0
    assert main(["train", "--run", name, "--results", str(folder), "--device", "cpu", "--recipe", recipe]) == 0
    return folder
