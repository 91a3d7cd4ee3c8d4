"""Runs made before this code are its own: fingerprints and states of commit 1b972dd, of all methods that it had."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fastat.cli import main
from fastat.config.grid import load_config
from fastat.config.recipe import fingerprint, resolve
from fastat.config.spec import RunSpec
from fastat.data import datasets

MADE = Path(__file__).parent / "made_before"
STATES = json.loads((MADE / "states.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A results folder with prepared digits."""
    folder = tmp_path_factory.mktemp("results")
    assert main(["data", "--dataset", "digits", "--out", str(folder / "data/digits.safetensors")]) == 0
    return folder


def test_the_default_runs_are_made_from_what_they_were(results):
    known, config = json.loads((MADE / "fingerprints.json").read_text()), load_config()
    images = datasets.load(results / "data/digits.safetensors", torch.device("cpu")).sha256
    assert len(known) == 58
    for name, made_from in known.items():
        recipe = replace(resolve(RunSpec.parse(name), config), numerics="native")  # they were, before it had a name
        assert fingerprint(name, recipe.to_json(), images) == made_from, name


@pytest.mark.parametrize("name", STATES)
def test_a_state_made_then_is_gone_on_from(name, results):
    kept, rng = STATES[name], torch.Generator().manual_seed(0)
    tensors = {key: torch.zeros(shape, dtype=getattr(torch, kind)) for key, (kind, shape) in kept["tensors"].items()}
    for key, tensor in tensors.items():
        if key == "rng/method":
            tensor.copy_(rng.get_state())
        elif tensor.dtype == torch.float32:
            tensor.uniform_(0.01, 0.1, generator=rng)
    state = results / "runs" / name / "state/state.safetensors"
    state.parent.mkdir(parents=True)
    about = {"format": 1, "made_from": kept["made_from"], "standing": kept["standing"]}
    save_file(tensors, state, metadata={"fastat": json.dumps(about)})
    call = ["train", "--run", name, "--results", str(results), "--threads", "1"]
    assert main([*call, "--recipe", json.dumps(kept["recipe"])]) == 0
    told = json.loads((results / "runs" / name / "run.json").read_text())
    assert (told["made_from"], told["epochs_done"], told["status"]) == (kept["made_from"], 2, "finished")
