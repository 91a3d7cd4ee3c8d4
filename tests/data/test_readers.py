"""Data sets that a function of others gives: named in a config, or offered by an installed package."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.config import catalog, plugins
from fastat.data import prepared

STRIPES = """
import numpy as np

def both():
    y = np.arange(30) % 3
    x = np.zeros((30, 8, 8, 1), np.uint8) + (80 * y[:, None, None, None]).astype(np.uint8)
    return {"x_train": x, "y_train": y, "x_test": x[:6], "y_test": y[:6]}

def one():
    return {"images": both()["x_train"], "labels": both()["y_train"]}

def broken():
    raise OSError("no such disk")

def floats():
    return {**both(), "x_train": both()["x_train"] / 255}

def nothing():
    return None

few = {"x_train": np.zeros(3)}

def lacking():
    return few
"""
GRID = (
    "grid: [{dataset: stripes, model: preact_tiny, eps: 16/255, method: clean, seed: 0}]\n"
    "evaluation: {autoattack: {n_images: 5, batch_size: 5}}"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stripes_of_test.py").write_text(STRIPES)
    yield tmp_path
    plugins.entries.cache_clear()
    catalog.forget()


def config(here, door: dict) -> list[str]:
    (here / "own.yaml").write_text(f"datasets: {json.dumps({'stripes': door})}\n{GRID}\n")
    return ["--configfile", "own.yaml"]


@pytest.mark.parametrize(
    "door,n_train", [({"reader": "stripes_of_test:both"}, 30), ({"reader": "stripes_of_test:one", "test": 0.2}, 24)]
)
def test_a_function_gives_what_an_npz_file_would(here, door, n_train):
    assert main(["data", "--dataset", "stripes", *config(here, door)]) == 0
    found = prepared.read(here / "results/data/stripes.safetensors")
    assert found.arrays["train_images"].shape == (n_train, 1, 8, 8)
    labels, images = found.arrays["train_labels"], found.arrays["train_images"]
    assert np.array_equal(images[:, 0, 0, 0], 80 * labels)


@pytest.mark.parametrize(
    "reader,words",
    [
        (
            "stripes_of_test:broken",
            "reader stripes_of_test:broken: it fails: OSError: no such disk (stripes_of_test.py:",
        ),
        ("stripes_of_test:both2", "stripes_of_test has no 'both2'. Did you mean 'both'"),
        ("stripes_of_test:few", "few must be a function or class, got dict"),
        ("no_such_module_here:read", "there is no module no_such_module_here. Put it into the folder where you start"),
        ("stripes_of_test:nothing", "must give a mapping from names to numpy arrays, got NoneType"),
        ("stripes_of_test:lacking", "has no x_test, y_test, y_train (it has x_train)"),
        ("stripes_of_test:floats", "x_train must be uint8, 0 to 255, got float64. Write np.rint(255 * x)"),
        ("stripes_of_test", "reader must be package.module:function"),
        ("stripes_of_test:one", "has images and labels, and no test part"),
    ],
)
def test_what_it_cannot_give_is_refused_in_a_sentence(here, capsys, reader, words):
    assert main(["data", "--dataset", "stripes", *config(here, {"reader": reader})]) == 2
    assert words in capsys.readouterr().err
    assert not (here / "results/data/stripes.safetensors").exists()


@pytest.mark.parametrize(
    "line,words",
    [
        ("import no_such_module_there", "No module named 'no_such_module_there' (fails_of_test.py:1)"),
        ("def both(:", "SyntaxError: invalid syntax (fails_of_test.py, line 1)"),
        ("1 / 0", "ZeroDivisionError: division by zero (fails_of_test.py:1)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_sentence(here, capsys, line, words):
    (here / "fails_of_test.py").write_text(f"{line}\n")
    assert main(["data", "--dataset", "stripes", *config(here, {"reader": "fails_of_test:both"})]) == 2
    said = capsys.readouterr().err
    assert "reader fails_of_test:both: its module cannot be imported: " in said and words in said


def offered(here, name: str) -> None:
    """An installed package that offers a data set."""
    (here / "theirs-1.0.dist-info").mkdir()
    (here / "theirs-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    text = f"[fastat.datasets]\n{name} = stripes_of_test:both\n"
    (here / "theirs-1.0.dist-info/entry_points.txt").write_text(text)
    plugins.entries.cache_clear()


def test_a_package_offers_a_data_set_by_name(here, capsys):
    offered(here, "stripes")
    (here / "own.yaml").write_text(GRID)
    assert catalog.own({}) == {"stripes": {"reader": "stripes_of_test:both"}}
    assert main(["check", "--configfile", "own.yaml"]) == 0
    assert "stripes: not prepared" in capsys.readouterr().out
    assert main(["data", "--dataset", "stripes", "--configfile", "own.yaml"]) == 0
    assert main(["check", "--configfile", "own.yaml"]) == 0
    assert "stripes: 1 x 8 x 8, 3 classes, 30 training and 6 test images" in capsys.readouterr().out


def test_names_that_are_taken_are_refused(here, capsys):
    offered(here, "stripes")
    assert main(["check", *config(here, {"npz": "mine.npz"})]) == 2
    assert "datasets: stripes is the name of an installed package's" in capsys.readouterr().err
    (here / "theirs-1.0.dist-info/entry_points.txt").write_text("[fastat.datasets]\ndigits = stripes_of_test:both\n")
    plugins.entries.cache_clear()
    assert main(["check"]) == 2
    assert "datasets: digits is the name of one of ours" in capsys.readouterr().err


def test_nothing_is_imported_before_the_data_are_read(here):
    offered(here, "stripes")
    (here / "stripes_of_test.py").write_text("open('imported', 'w').close()\n" + STRIPES)
    (here / "own.yaml").write_text(GRID)
    command = [sys.executable, "-m", "fastat"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{here}"}
    for verb, there in (("check", False), ("data --dataset stripes", True)):
        subprocess.run([*command, *verb.split(), "--configfile", "own.yaml"], env=environment, check=True)
        assert (here / "imported").exists() == there
