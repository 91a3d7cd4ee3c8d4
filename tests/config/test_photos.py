"""config/photos.yaml: with a stand-in for its images it is trained; without them it says what to do."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fastat import ROOT
from fastat.cli import main
from fastat.config import absent, catalog
from fastat.config.grid import expand, load_config

CONFIG = ROOT / "config/photos.yaml"
FEW = {
    "recipes": {"cifar10_jpeg": {"every": {"n_train": 40, "n_test": 20, "epochs": 1, "monitor_images": 20}}},
    "evaluation": {"autoattack": {"n_images": 10, "batch_size": 10}},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to start in, where nothing is prepared."""
    monkeypatch.chdir(tmp_path)
    catalog.learn(tmp_path / "results")
    return tmp_path


def stand_in(root: Path) -> None:
    """Ten classes of noise, where the config looks for the images."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 4), ("test", 2)):
        for label, k in ((label, k) for label in range(10) for k in range(n)):
            path = root / f"data/cifar10_jpeg/{part}/c{label}/{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((rng.random((32, 32, 3)) * 60 + 18 * label).astype("uint8")).save(path)


def test_it_holds_collapse_and_what_avoids_it_at_two_radii():
    specs = expand(load_config([CONFIG]))
    named = {spec.method if spec.variant == "paper" else f"{spec.method}/{spec.variant}" for spec in specs}
    assert named >= {"fgsm_rs/fgsm", "fgsm_rs", "n_fgsm", "atta", "atas", "fgsm_pgi", "pgd10"}
    assert {8, 16} <= {spec.eps_255 for spec in specs} and {spec.dataset for spec in specs} == {"cifar10_jpeg"}


def test_without_its_images_it_says_how_to_get_them_and_what_to_run_instead(here, capsys):
    line = f"cifar10_jpeg: there is no {here / 'data/cifar10_jpeg'}. Get the images (20 MB): `git clone https://github.com/"
    assert main(["check", "--configfile", str(CONFIG)]) == 0
    said = capsys.readouterr().err
    assert line in said and absent.INSTEAD in said
    assert main(["data", "--dataset", "cifar10_jpeg", "--configfile", str(CONFIG)]) == 2
    said = capsys.readouterr().err
    assert "there is no such folder" in said and "git clone" in said
    config = load_config([CONFIG])
    (found,) = absent.own({"cifar10_jpeg"}, config)  # so that the workflow starts no job
    assert found.startswith(line)


def test_with_a_stand_in_it_is_checked_prepared_and_trained(here, capsys):
    stand_in(here)
    (here / "few.yaml").write_text(yaml.safe_dump(FEW))
    files = ["--configfile", str(CONFIG), "few.yaml"]
    assert main(["data", "--dataset", "cifar10_jpeg", *files]) == 0
    assert main(["check", *files]) == 0
    assert "the config is good" in capsys.readouterr().out
    config = load_config([CONFIG, here / "few.yaml"])
    specs = expand(config)
    assert not absent.own({"cifar10_jpeg"}, config)
    run = next(spec.name for spec in specs if spec.method == "fgsm_rs" and spec.eps_255 == 16)
    assert main(["train", "--run", run, *files]) == 0
    assert (here / "results/runs" / run / "weights.safetensors").is_file()
