"""fastat.evaluate: the rows and numbers of the command line, and what cannot be evaluated."""

import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fastat
from fastat.cli import main
from fastat.config.grid import load_config, overlay
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.data import datasets
from fastat.networks import models

NAME = "digits/preact_tiny/eps26/clean/paper/seed0"
NAMES = [
    "apgd-ce+square L2 eps=0.2", "autoattack Linf eps=26/255", "autoattack Linf eps=30/255 survivors=26/255",
    "pgd-5 alpha=0.25eps L2 eps=0.3 restarts=2 best",
]  # fmt: skip
X = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3


def small(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width)).eval()


def test_it_gives_the_rows_and_numbers_of_the_command_line(tmp_path):
    every = {"epochs": 1, "n_train": 200, "n_test": 30, "numerics": "native"}
    config = overlay(load_config(), {"recipes": {"digits": {"every": every}}})
    recipe = resolve(RunSpec.parse(NAME), config).to_json()
    protocol = (
        '{"batch_size": 20, "pgd_step": "0.2 eps", "pgd_restarts": 1, "seed": 0, "numerics": "native", '
        '"autoattack": {"n_images": 12, "batch_size": 20}}'
    )
    run = ["--run", NAME, "--results", str(tmp_path), "--device", "cpu"]
    assert main(["data", "--dataset", "digits", "--out", str(tmp_path / "data/digits.safetensors")]) == 0
    assert main(["train", *run, "--recipe", recipe]) == 0
    assert main(["evaluate", *run, "--protocol", protocol, "--attacks", ", ".join(NAMES)]) == 0

    data = datasets.load(tmp_path / "data/digits.safetensors", torch.device("cpu"), 200, 30)
    model = models.build("preact_tiny", 1, 10)
    folder = tmp_path / "runs" / NAME
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    before = torch.random.get_rng_state()
    found = fastat.evaluate(
        model.eval(), data.test.images, data.test.labels, 26 / 255, n_autoattack=12, batch_size=20, device="cpu",
        attacks=NAMES,
    )  # fmt: skip
    assert torch.equal(before, torch.random.get_rng_state())
    for name, rows in (("whitebox", found.whitebox), ("autoattack", found.autoattack), ("attacks", found.attacks)):
        written = pd.read_csv(folder / f"eval/{name}.csv", keep_default_na=False)
        mine = pd.DataFrame(rows).astype(written.dtypes)
        pd.testing.assert_frame_equal(mine, written)
    assert found.table["attack"].tolist() == ["clean", "fgsm", "pgd10", "pgd50", "aa", *NAMES]
    assert found.table["n"].tolist() == [30, 30, 30, 30, 12, 12, 12, 12, 30]
    assert (found.table["low"] <= found.table["accuracy"]).all() and str(found).endswith(f"sanity: {found.sanity}")
    assert found.failed == []


def test_images_as_bytes_and_as_floats_are_the_same_images():
    images = (X * 255).to(torch.uint8)
    one, other = (fastat.evaluate(small(), x, Y, 0.1, n_autoattack=0) for x in (images, images.numpy() / 255))
    assert one.whitebox == other.whitebox and one.autoattack == []
    assert one.table["attack"].tolist() == ["clean", "fgsm", "pgd10", "pgd50"]


class Nan(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
        self[2].running_mean[1] = float("nan")
        self.eval()


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"x": 255 * X}, "pixels must lie in .0, 1., got"),
        ({"y": Y + 1}, "labels must be below the network's 3 classes, got 3"),
        ({"y": Y - 1}, "labels must be 0 or more, got -1"),
        ({"y": Y[:3]}, "y must have a label for each of 8 images"),
        ({"eps": 8}, "eps must be above 0 and below 0.5, in the unit of pixels, got 8. Did you mean 8 / 255"),
        ({"model": small().train()}, "the model is in train mode"),
        ({"model": small().half()}, "fails on images of shape"),
        ({"model": Nan()}, "2.running_mean holds what is no number"),
        ({"model": nn.Sequential(small(), nn.Softmax(1)).eval()}, "gives probabilities in place of logits"),
        ({"model": nn.Identity().eval()}, "logits must be"),
        ({"model": "preact_tiny"}, "model must be a torch.nn.Module, got str"),
        ({"n_autoattack": 9}, "n_autoattack must be a number of images from 0 to 8, or None, got 9"),
        ({"pgd_step": "0 eps"}, "pgd_step: a step must be above 0, got '0 eps'. Write 0.2 eps"),
        ({"pgd_step": "2/255"}, "PGD10's ten steps of 2/255 lead 20/255 far.*at eps 25.5/255. Write a step in propor"),
        ({"pgd_restarts": 0}, "evaluate: pgd_restarts must be a whole number above 0, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of images above 0, got 0"),
        ({"seed": -1}, "evaluate: seed must be a whole number, 0 or more, got -1"),
        ({"attacks": ["pgd-20 eps=8"]}, "attacks: '8' is no Linf radius.*Did you mean 8/255"),
        ({"attacks": "pgd-20"}, "attacks must be a list of names"),
        ({"attacks": ["pgd-20 targets=3"]}, "of 3 classes 2 are others than the label"),
        ({"attacks": ["autoattack L2 eps=0.5"]}, "n_autoattack is 0, and 'autoattack L2 eps=0.5' attacks so many"),
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(changes, words):
    said = {"model": small(), "x": X, "y": Y, "eps": 0.1, "n_autoattack": 0, **changes}
    with pytest.raises(fastat.BadInput, match=words):
        fastat.evaluate(said.pop("model"), said.pop("x"), said.pop("y"), said.pop("eps"), **said)


def test_import_fastat_loads_neither_torch_nor_the_evaluator():
    code = (
        "import sys, fastat; dir(fastat).index('evaluate'); assert not {'torch', 'fastat.evaluator'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
