"""Methods of other packages: found, checked, trained and reported; their code imported only when one is named."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastat import ROOT
from fastat.config import method_files
from fastat.errors import BadInput

RUN = "digits/preact_tiny/eps77/noisy/paper/seed0"
RECIPE = """
RECIPE = {
    "paper": {
        "epochs": [30, "as FGSM-RS"],
        "batch_size": [128, "as FGSM-RS"],
        "schedule": [{"kind": "triangular", "lr": 0.2}, "my own choice"],
        "weight_decay": [0.0005, "as FGSM-RS"],
        "params.alpha": ["1.5 eps", "Sec. 9"],
    },
    "half": {"params.alpha": ["0.5 eps", "my own choice"]},
}
"""


@pytest.fixture
def package(tmp_path) -> Path:
    """An installed package with the method `noisy`, which is the template's; importing it leaves a mark."""
    site = tmp_path / "site"
    (site / "theirs/inner").mkdir(parents=True)
    (site / "theirs/__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    (site / "theirs/inner/__init__.py").touch()
    text = (ROOT / "methods/_template.py").read_text().replace("newone", "noisy").replace("NEWONE", "NOISY")
    (site / "theirs/inner/noisy.py").write_text(text + RECIPE)
    (site / "theirs-1.0.dist-info").mkdir()
    (site / "theirs-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (site / "theirs-1.0.dist-info/entry_points.txt").write_text("[fastat.methods]\nnoisy = theirs.inner.noisy\n")
    return site


def said(package: Path, *arguments: str, code: int = 0) -> str:
    """What fastat says where the package is installed."""
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "fastat", *arguments]
    done = subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def config(package: Path, method: str = "noisy") -> str:
    """A config of one smallest run."""
    path = package.parent / "own.yaml"
    path.write_text(
        f"grid: [{{dataset: digits, model: preact_tiny, eps: 77/255, method: {method}, seed: 0}}]\n"
        "recipes: {digits: {every: {epochs: 1, n_train: 128, n_test: 16}}}\n"
        "evaluation: {autoattack: {n_images: 10, batch_size: 10}}\n"
    )
    return str(path)


def test_it_is_listed_checked_trained_and_reported(package):
    listed = said(package, "methods")
    assert "noisy          paper, half" in listed and "atas  " in listed
    assert '"noisy": {' in said(package, "methods", "--json")
    assert "45 runs: the config is good" in said(package, "check")
    assert not (package.parent / "imported").exists()

    own = config(package)
    assert "1 runs: the config is good" in said(package, "check", "--configfile", own)
    assert (package.parent / "imported").exists()
    described = said(package, "recipe", RUN, "--configfile", own)
    line = next(line for line in described.splitlines() if line.startswith("params.alpha"))
    number = next(
        n for n, text in enumerate((package / "theirs/inner/noisy.py").read_text().splitlines(), 1) if "1.5 eps" in text
    )
    assert "1.5 eps" in line and f"theirs/inner/noisy.py:{number}" in line and "Sec. 9" in line
    assert "0.5 eps" in said(package, "methods", "noisy")

    said(package, "data", "--dataset", "digits", "--out", "results/data/digits.safetensors")
    said(package, "train", "--run", RUN, "--configfile", own)
    assert '"theirs.inner.noisy": "' in (package.parent / f"results/runs/{RUN}/run.json").read_text()
    said(package, "evaluate", "--run", RUN, "--suite", "whitebox", "--configfile", own)
    said(package, "report")
    assert "| noisy" in (package.parent / "results/tables/table2.md").read_text()


def test_what_its_package_lacks_is_named(package):
    file = package / "theirs/inner/noisy.py"
    whole = file.read_text()
    for text, words in (
        (whole.replace(RECIPE, ""), "a method of a package brings RECIPE"),
        (whole.replace('"paper"', '"papr"'), "there is no `paper` in it"),
        (whole.replace('"as FGSM-RS"', "WHY"), "must be written out, without names or calls"),
        (whole.replace('[30, "as FGSM-RS"]', "30"), "noisy/paper: epochs must be [value, source]"),
        (whole.replace("VERSION = 1", ""), "has no line `VERSION = 1`"),
        ("def (", "is no Python file that can be read"),
    ):
        file.write_text(text)
        assert words in said(package, "check", "--configfile", config(package), code=2)
    for text, words in (
        (whole.replace("PASSES =", "PASES ="), "has no PASSES"),
        (re.sub("PASSES = .*", "PASSES = 3", whole), "PASSES must be as {'forward': 2, 'input_backward': 1}, got 3"),
        (whole + "\nimport there_is_no_such_module\n", "cannot be imported: ModuleNotFoundError"),
        (whole + "\nraise SystemError('broken')\n", "cannot be imported: SystemError: broken"),
    ):
        file.write_text(text)
        assert words in said(package, "check", "--configfile", config(package), code=2)
    file.unlink()
    assert "there is no such Python file" in said(package, "check", code=2)


def test_a_name_of_ours_is_refused(package):
    (package / "theirs-1.0.dist-info/entry_points.txt").write_text("[fastat.methods]\natas = theirs.inner.noisy\n")
    assert "calls its method 'atas', which is taken" in said(package, "check", code=2)


@pytest.mark.parametrize("module", ["no_such_package.x", "fastat..x", "fastat.config.no_such", "sys", "fastat"])
def test_a_module_s_file_is_found_or_not(module):
    assert method_files.found(module) == (ROOT / "fastat/__init__.py" if module == "fastat" else None)
    assert method_files.found("fastat.config.spec") == ROOT / "fastat/config/spec.py"


def test_an_unknown_method_has_no_file():
    with pytest.raises(BadInput, match="unknown method 'atass'. Did you mean 'atas'"):
        method_files.method_file("atass")
