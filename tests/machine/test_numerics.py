"""Portable numerics: pinned before torch is loaded, the same bits whatever the surroundings, refused where not kept."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fastat import ROOT
from fastat.config.grid import load_config
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.machine import numerics, seals
from fastat.training import run

NAME = "digits/preact_tiny/eps77/fgsm_rs/paper/seed0"
CPU = torch.device("cpu")
HAS_AVX2 = "avx2" in numerics.processor().get("flags", "").split()


def call(*words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fastat", *words]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


def test_portable_bits_do_not_depend_on_the_surroundings(tmp_path):
    recipe = replace(resolve(RunSpec.parse(NAME), load_config()), epochs=1)
    assert call("data", "--dataset", "digits", "--out", str(tmp_path / "a/data/digits.safetensors")).returncode == 0
    hashes = {}
    for folder, wanted, around in (
        ("a", "auto", {}),
        ("b", "auto", {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
        ("c", "native", {}),
    ):
        (tmp_path / folder / "data").mkdir(parents=True, exist_ok=True)
        target = tmp_path / folder / "data/digits.safetensors"
        target.write_bytes((tmp_path / "a/data/digits.safetensors").read_bytes())
        asked = replace(recipe, numerics=wanted).to_json()
        done = call("train", "--run", NAME, "--results", str(tmp_path / folder), "--recipe", asked, **around)
        assert done.returncode == 0, done.stderr
        about = seals.read(tmp_path / folder / "runs" / NAME / "run.json")
        hashes[folder] = about["files"]["weights.safetensors"]
        kept = "portable" if wanted == "auto" and HAS_AVX2 else "native"
        assert about["numerics"] == about["recipe"].get("numerics", "native") == kept
        if kept == "portable":
            assert (about["machine"]["instruction_set"], about["machine"]["threads"]) == ("AVX2", 1)
        assert about["machine"]["processor"] and about["machine"]["blas"]
    assert hashes["a"] == hashes["b"] or not HAS_AVX2


def test_where_torch_is_already_loaded_results_are_native():
    before = dict(os.environ)
    numerics.pin("auto", "digits", "cpu", None)
    assert os.environ == before and numerics.settled("auto", CPU) == "native"
    with pytest.raises(BadInput, match="numerics: portable cannot be kept here: torch is already loaded"):
        numerics.pin("portable", "digits", "cpu", None)
    with pytest.raises(BadInput, match="portable cannot be kept here"):
        numerics.settled("portable", CPU)


@pytest.mark.parametrize(
    ("device", "threads", "flags", "reason"),
    [("cuda", None, "avx2", "a GPU"), ("cpu", 2, "avx2", "2 threads"), ("cpu", 1, "sse4_2 avx", "no AVX2"),
     ("auto", None, "avx avx2 fma", "")],
)  # fmt: skip
def test_portable_is_refused_where_it_cannot_be_kept(monkeypatch, device, threads, flags, reason):
    monkeypatch.setattr(numerics, "_pinned", True)  # as in a process that has not loaded torch
    monkeypatch.setattr(numerics, "processor", lambda: {"flags": flags})
    assert reason in numerics.obstacle(device, threads) and bool(reason) == bool(numerics.obstacle(device, threads))


def test_auto_is_portable_for_digits_alone(monkeypatch):
    monkeypatch.setattr(numerics, "obstacle", lambda device, threads: "")
    for wanted, dataset, pinned in (
        ("auto", "digits_dev", True),
        ("auto", "cifar10", False),
        ("portable", "cifar10", True),
        ("native", "digits", False),
    ):
        monkeypatch.setattr(numerics, "_pinned", False)
        for key in numerics.PINNED:
            monkeypatch.setenv(key, "")
        numerics.pin(wanted, dataset, "cpu", 1)
        assert (numerics.PINNED.items() <= os.environ.items()) == pinned
        assert numerics.settled("auto", CPU) == ("portable" if pinned else "native")
        assert numerics.settled("auto", torch.device("cuda")) == "native"


def test_what_was_made_before_numerics_had_a_name_is_native():
    recipe = resolve(RunSpec.parse(NAME), load_config())
    assert recipe.numerics == "auto"
    assert "numerics" not in json.loads(replace(recipe, numerics="native").to_json())
    assert json.loads(replace(recipe, numerics="portable").to_json())["numerics"] == "portable"


def test_the_config_or_a_recipe_says_which(capsys):
    config = load_config()
    assert resolve(RunSpec.parse(NAME), config | {"numerics": "portable"}).numerics == "portable"
    own = config | {"recipes": {"digits": {"fgsm_rs": {"numerics": "native"}}}}
    assert resolve(RunSpec.parse(NAME), own).numerics == "native"
    with pytest.raises(BadInput, match="numerics must be one of auto, portable, native, got 'exact'"):
        resolve(RunSpec.parse(NAME), config | {"recipes": {"digits": {"every": {"numerics": "exact"}}}})


@pytest.mark.skipif(not HAS_AVX2, reason="this processor has no AVX2")
def test_a_narrow_network_is_kept_off_onednn_where_kernels_are_pinned():
    """oneDNN's AVX2 convolutions of four to six channels wrote beyond their memory: the process was aborted."""
    code = """
from fastat.machine import numerics
numerics.pin("portable", "digits", "cpu", 1)
import torch
from fastat.networks import models
models.MODELS["narrow"] = models.Size("preact", 4, (1, 1))
torch.manual_seed(0)
for name, used in (("preact_tiny", True), ("narrow", False)):
    model = models.build(name, 1, 10).to(memory_format=torch.channels_last)
    numerics.without_onednn(model)
    assert torch.backends.mkldnn.enabled == used, name
for n in (64, 29) * 30:
    x = torch.rand(n, 1, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    model(x).logsumexp(1).sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_compiled_is_the_processors_own():
    recipe = replace(resolve(RunSpec.parse(NAME), load_config()), numerics="portable", compile="default")
    assert run.compiled(torch.nn.Linear(1, 1), recipe, torch.zeros(1, 1), "atas") == "off: numerics are portable"


@pytest.mark.skipif(not HAS_AVX2, reason="this processor has no AVX2")
def test_a_method_s_own_network_of_four_channels_is_kept_off_onednn_too():
    """The shipped generator's last layer has 1 or 3 channels, ran clean, and keeps its bits."""
    code = """
from fastat.machine import numerics
numerics.pin("portable", "digits", "cpu", 1)
import torch
from torch import nn
for channels, used in ((1, True), (3, True), (16, True), (4, False)):
    numerics.without_onednn(nn.Conv2d(2, channels, 3), numerics.BROKEN)
    assert torch.backends.mkldnn.enabled == used, channels
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
