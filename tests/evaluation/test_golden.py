"""One small network, frozen: what each attack leaves of forty digits, image by image, on whatever processor.

Its sums are made in float64, so that no rounding turns a verdict; benchmarks/cross_check.py has torchattacks agree on
others. The network, of width 4, was trained on digits by PGD with 3 steps at eps 0.2.
"""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import nn

from fastat import ROOT
from fastat.data.datasets import Part
from fastat.evaluation import autoattack, whitebox
from fastat.networks import models

EPS, N, BATCH = 0.2, 40, 16
GOLDEN = {
    "clean": "1111111110111111111111111111111111111111",
    "fgsm": "0011111110110111011111100101111110111111",
    "pgd10": "0001110110010111011111100100111110001111",
    "pgd50": "0001110110010111011111100100110100011101",
    "aa": "0001110110010001011111000100010100001101",
}


class Exact(nn.Module):
    """The frozen network in float64, float32 in and out: (B, 1, 8, 8) -> (B, 10)."""

    def __init__(self):
        super().__init__()
        self.network = models.PreActResNet(4, (1, 1), 1, 1, 10)
        self.network.load_state_dict(load_file(ROOT / "tests/evaluation/frozen.safetensors"))
        self.network.double()

    def forward(self, x):
        return self.network(x.double()).float()


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    pixels = torch.tensor(found.images / 16 * 255).round().to(torch.uint8)[:, None]
    return Part(pixels[1400 : 1400 + N], torch.tensor(found.target)[1400 : 1400 + N], (8, 8))


def test_whitebox_attacks_leave_what_they_left(digits):
    verdicts = {}
    for row in whitebox.attack_all(Exact().eval(), digits, whitebox.Protocol(EPS, batch_size=BATCH)):
        verdicts[row["attack"]] = verdicts.get(row["attack"], "") + str(row["correct"])
    assert {name: verdicts[name] for name in GOLDEN if name != "aa"} == {n: v for n, v in GOLDEN.items() if n != "aa"}


def test_autoattack_leaves_what_it_left(digits, tmp_path):
    options = {"eps": EPS, "batch_size": BATCH, "seed": 0, "partial": tmp_path / "partial.csv"}
    rows = autoattack.standard(Exact().eval(), digits.take, torch.arange(N), **options)
    by = {name: [r["index"] for r in rows if r["attack"] == name and not r["correct"]] for name in ("clean", "apgd-t")}
    assert by == {"clean": [9], "apgd-t": [13, 14]}
    broken = {row["index"] for row in rows if not row["correct"]}
    assert "".join("01"[i not in broken] for i in range(N)) == GOLDEN["aa"]


def test_other_kernels_leave_the_same():
    """torch without its vector instructions, in a process of its own, stands for another processor."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "leaves or leave_what"]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
