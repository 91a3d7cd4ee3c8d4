"""Data, and a Python, that are not here are said before anything runs, with how to get them, and what runs without."""

import os
import subprocess
import sys

import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.config.absent import INSTEAD, PLACES, lines
from fastat.config.grid import expand, load_config, overlay


def said(tmp_path, dataset, **config):
    block = {"dataset": dataset, "model": "preact_tiny", "eps": "8/255", "method": "clean", "seed": 0}
    whole = overlay(load_config(), {"grid": [block], "data_dir": str(tmp_path / "data"), **config})
    return lines(expand(whole), whole, tmp_path / "results")


@pytest.mark.parametrize("dataset,way_out", [
    ("cifar10", "170 MB are downloaded into {}/data. Without a network put cifar-10-python.tar.gz there"),
    ("cifar100", "169 MB are downloaded into {}/data"),
    ("imagenet", "put imagenet/train/CLASS/*.JPEG and imagenet/val/CLASS/*.JPEG into {}/data (see docs/scale.md)"),
])  # fmt: skip
def test_of_what_is_not_here_it_is_said_how_to_get_it_and_what_runs_without(tmp_path, dataset, way_out):
    line, instead = said(tmp_path, dataset)
    assert line.startswith(f"{dataset}: its files are not here") and way_out.format(tmp_path) in line
    assert instead == INSTEAD
    (tmp_path / "data" / PLACES[dataset][-1]).mkdir(parents=True)
    assert said(tmp_path, dataset) == []


def test_what_is_prepared_or_comes_with_a_library_is_here(tmp_path):
    assert said(tmp_path, "digits") == []
    (tmp_path / "results/data").mkdir(parents=True)
    (tmp_path / "results/data/cifar10.safetensors").touch()
    assert said(tmp_path, "cifar10") == []


def test_fashion_mnist_is_looked_for_where_debian_puts_it(tmp_path, monkeypatch):
    monkeypatch.setitem(PLACES, "fashion_mnist", (PLACES["fashion_mnist"][0], str(tmp_path / "debian")))
    assert "install Debian's dataset-fashion-mnist" in said(tmp_path, "fashion_mnist")[0]
    (tmp_path / "debian").mkdir()
    assert said(tmp_path, "fashion_mnist") == []


def test_of_an_own_data_set_the_place_that_the_config_names_is_said(tmp_path):
    for options in ({"folder": f"{tmp_path}/mine"}, {"npz": f"{tmp_path}/mine"}):
        assert (
            f"mine: there is no {tmp_path}/mine. Put its images there"
            in said(tmp_path, "mine", datasets={"mine": options})[0]
        )
    assert said(tmp_path, "mine", datasets={"mine": {"reader": "package.module:function"}}) == []
    (tmp_path / "mine").mkdir()
    assert said(tmp_path, "mine", datasets={"mine": {"folder": f"{tmp_path}/mine"}}) == []


def test_check_says_it_and_the_config_is_good_all_the_same(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "grid: [{dataset: cifar10, model: preact_resnet18, eps: 8/255, method: clean, seed: 0}]"
    )
    assert main(["check", "--configfile", "c.yaml"]) == 0
    out = capsys.readouterr()
    assert "1 runs: the config is good" in out.out and "warning: cifar10: its files are not here; 170 MB" in out.err
    assert f"warning: {INSTEAD}" in out.err
    (tmp_path / "elsewhere/data").mkdir(parents=True)
    (tmp_path / "elsewhere/data/cifar10.safetensors").touch()
    assert main(["check", "--configfile", "c.yaml", "--results", "elsewhere"]) == 0
    assert "its files are not here" not in capsys.readouterr().err


def test_a_python_without_the_suite_is_said_before_the_first_job(tmp_path):
    """Who starts .venv/bin/snakemake by its path, with another `python` before it on PATH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "bare"], cwd=tmp_path, check=True)
    path = os.pathsep.join([str(tmp_path / "bare/bin"), os.environ["PATH"]])
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "1", "theory"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "results/figures").exists()
    assert f"the jobs' `python` is {tmp_path}/bare/bin/python: it lacks numpy, safetensors, yaml" in done.stderr
    assert "`. .venv/bin/activate`" in done.stderr
