"""config/photos.yaml: with a stand-in for its images it is trained; without them it says what to do."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fastat import ROOT
from fastat.cli import main
from fastat.config import catalog, own_data
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
    way_out = (f"{here / 'data/cifar10_jpeg'} is not there", "git clone https://github.com/", "config/fashion.yaml")
    assert main(["check", "--configfile", str(CONFIG)]) == 0
    said = capsys.readouterr().out
    assert all(words in said for words in way_out)
    assert main(["data", "--dataset", "cifar10_jpeg", "--configfile", str(CONFIG)]) == 2
    said = capsys.readouterr().err
    assert "there is no such folder" in said and all(words in said for words in way_out[1:])
    config = load_config([CONFIG])
    (line,) = own_data.absent(expand(config), config)
    assert line.startswith("cifar10_jpeg: ") and all(words in line for words in way_out)


def test_with_a_stand_in_it_is_checked_prepared_and_trained(here, capsys):
    stand_in(here)
    (here / "few.yaml").write_text(yaml.safe_dump(FEW))
    files = ["--configfile", str(CONFIG), "few.yaml"]
    assert main(["data", "--dataset", "cifar10_jpeg", *files]) == 0
    assert main(["check", *files]) == 0
    assert "the config is good" in capsys.readouterr().out
    config = load_config([CONFIG, here / "few.yaml"])
    specs = expand(config)
    assert not own_data.absent(specs, config)
    run = next(spec.name for spec in specs if spec.method == "fgsm_rs" and spec.eps_255 == 16)
    assert main(["train", "--run", run, *files]) == 0
    assert (here / "results/runs" / run / "weights.safetensors").is_file()
