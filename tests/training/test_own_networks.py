"""Networks that are not ours, through the verbs: trained, resumed, attacked, gathered; and never imported uninvited."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fastat.cli import main
from fastat.config import plugins
from fastat.config.grid import load_config
from fastat.config.recipe import Recipe, resolve
from fastat.config.spec import RunSpec
from fastat.training import checkpoint

CODE = '''
import random

import numpy as np
import torch
from torch import nn


class Drawing(nn.Module):
    """Stem and trunk; draws from all three generators, has tied weights and one that is never used."""

    def __init__(self, n_channels, n_classes, width=8):
        super().__init__()
        self.stem = nn.Conv2d(n_channels, width, 3, 2, 1)
        first, second = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        second.weight = first.weight
        self.trunk = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), first, Skipped(), nn.ReLU(), second, nn.Flatten(),
            nn.Linear(width * 16, n_classes),
        )
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.trunk(self.stem(x))


class Skipped(nn.Module):
    def forward(self, x):
        if self.training:
            x = x * random.choice([0.5, 1.0]) * float(np.random.uniform(0.9, 1.1))
            x = x * torch.bernoulli(torch.full((len(x), 1, 1, 1), 0.9))
        return x
'''
NAME = "digits/mine/eps77/{}/paper/seed0"


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """Prepared digits."""
    out = tmp_path_factory.mktemp("data") / "digits.safetensors"
    assert main(["data", "--dataset", "digits", "--out", str(out)]) == 0
    return out


@pytest.fixture
def here(tmp_path, digits, monkeypatch) -> Path:
    """A folder to start in: a module of networks, a config that names one, prepared data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    sys.modules.pop("mynets", None)
    (tmp_path / "mynets.py").write_text(CODE)
    importlib.invalidate_caches()
    (tmp_path / "results/data").mkdir(parents=True)
    os.link(digits, tmp_path / "results/data/digits.safetensors")
    write_config()
    yield tmp_path
    sys.modules.pop("mynets", None)


def write_config(path="own.yaml", door=None, methods="fgsm_rs", **every) -> None:
    every = {"epochs": 2, "numerics": "native", "n_train": 256, "n_test": 40, "pad": 1} | every
    every |= {"schedule": {"kind": "triangular", "lr": 0.1}, "weight_decay_epochs": None}
    config = {
        "grid": [{"dataset": "digits", "model": "mine", "eps": "77/255", "method": methods, "seed": 0}],
        "models": {"mine": door or {"factory": "mynets:Drawing", "normalise": {"mean": [0.3], "std": [0.3]}}},
        "recipes": {"digits": {"every": every, "subat": {"params": {"sampling_epochs": 2, "n_components": 5}}}},
        "evaluation": {"autoattack": {"n_images": 10, "batch_size": 10}},
        "numerics": "native",
    }
    Path(path).write_text(json.dumps(config))


def train(method="fgsm_rs", results="results", *options) -> int:
    call = ["train", "--run", NAME.format(method), "--results", results, "--configfile", "own.yaml", "--threads", "1"]
    return main([*call, *options])


def evaluate(*options, method="fgsm_rs") -> int:
    return main(["evaluate", "--run", NAME.format(method), "--threads", "1", *options])


def folder(method="fgsm_rs", results="results") -> Path:
    return Path(results) / "runs" / NAME.format(method)


@pytest.mark.parametrize("method", ["fgsm_rs", "yopo", "subat", "fgsm_ga", "nuat"])
def test_stopped_between_two_batches_it_ends_with_the_same_weights(here, method, monkeypatch):
    write_config(average=0.9 if method == "nuat" else 0.0, epochs=4, hold_out=0.1)
    (here / "other").mkdir()
    (here / "other/data").symlink_to(here / "results/data")
    assert train(method) == 0

    class Killed(Exception):
        pass

    def stop_after(epoch):
        real = checkpoint.save

        def save(path, state, now, made):
            real(path, state, now, made)
            if now.epoch == epoch:
                raise Killed

        monkeypatch.setattr(checkpoint, "save", save)
        with pytest.raises(Killed):
            train(method, "other")
        monkeypatch.setattr(checkpoint, "save", real)

    for epoch in (2, 4):
        stop_after(epoch)
        torch.manual_seed(7)  # whatever else the process has drawn
    assert train(method, "other") == 0
    for file in ("weights.safetensors", "best.safetensors"):
        found = [(folder(method, where) / file).read_bytes() for where in ("results", "other")]
        assert found[0] == found[1], file


def test_trained_attacked_gathered_and_verified_by_the_verbs(here, capsys):
    assert main(["check", "--configfile", "own.yaml"]) == 0
    said = capsys.readouterr().out
    assert "mine is mynets:Drawing: 1,980 parameters" in said and "1 runs: the config is good" in said
    assert train("fgsm_rs", "results", "--snapshots") == 0
    held = load_file(folder() / "weights.safetensors")
    assert torch.equal(held["network.trunk.2.weight"], held["network.trunk.5.weight"])  # tied, and kept twice
    about = json.loads((folder() / "run.json").read_text())
    assert about["recipe"]["network"] == {"factory": "mynets:Drawing", "normalise": {"mean": [0.3], "std": [0.3]}}
    assert about["n_parameters"] == 80 + 16 + (576 + 8 + 8) + 1290 + 2 and [*about["network"]] == ["mynets"]
    assert evaluate("--configfile", "own.yaml") == 0
    assert main(["tidy", "--configfile", "own.yaml", "--out", "results"]) == 0
    assert Path("results/problems.csv").read_text().count("\n") == 1
    assert ",mine,77/255,fgsm_rs,paper,0,aa,," in Path("results/measured.csv").read_text()
    assert main(["verify", "--all", "--configfile", "own.yaml"]) == 0
    assert main(["plan", "--configfile", "own.yaml"]) == 0
    assert main(["plan", "--configfile", "own.yaml", "--calibrate", "rates.json"]) == 0
    assert main(["plan", "--configfile", "own.yaml", "--calibration", "rates.json"]) == 0
    assert "calibration" in capsys.readouterr().out


def test_another_door_under_the_same_name_is_another_run(here, capsys):
    assert train() == 0
    write_config("wide.yaml", {"factory": "mynets:Drawing", "args": {"width": 12}})
    assert main(["verify", "--all", "--configfile", "wide.yaml"]) == 1
    assert 'network/args is null, the config says {"width": 12}' in capsys.readouterr().out
    assert evaluate("--configfile", "wide.yaml") == 2
    said = capsys.readouterr().err
    assert (
        "run.json says that its network comes from mynets:Drawing, the config that it is mynets:Drawing(width" in said
    )
    with safe_open(folder() / "weights.safetensors", framework="pt") as file:
        assert {key for key in file.keys() if "trunk.5" in key} == {"network.trunk.5.weight", "network.trunk.5.bias"}


def test_a_network_whose_file_has_changed_since_is_attacked_with_a_warning(here, caplog):
    assert train() == 0
    sys.modules.pop("mynets")
    Path("mynets.py").write_text(CODE + "\n# a comment\n")
    importlib.invalidate_caches()
    assert evaluate("--configfile", "own.yaml", "--suite", "whitebox") == 0
    assert "the code of its network was {'mynets': '" in caplog.text


def test_a_plan_of_a_network_that_reads_its_images_says_what_is_unknown(here, capsys):
    reading = (
        "class Reading(Drawing):\n    def forward(self, x):\n        return super().forward(x if x.sum() > 0 else -x)\n"
    )
    Path("mynets.py").write_text(f"{CODE}\n\n{reading}")
    write_config(door={"factory": "mynets:Reading"})
    assert main(["plan", "--configfile", "own.yaml"]) == 0
    said = capsys.readouterr().out
    assert "Unknown: passes, FLOPs, hours and activations of mine, whose code needs the" in said and "nan" not in said


@pytest.mark.parametrize(
    "door,method,message",
    [
        ({"factory": "mynets:Skipped"}, "fgsm_rs", "network mynets:Skipped: cannot be built: TypeError"),
        ({"torchvision": "resnet18"}, "fgsm_rs", "torchvision's networks read 3 channels"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_check_plan_and_train_alike(here, capsys, door, method, message):
    write_config(door=door, methods=method)
    for call in (["check"], ["plan"], ["train", "--run", NAME.format(method)]):
        assert main([*call, "--configfile", "own.yaml"]) == 2
        assert message in capsys.readouterr().err
    assert not folder(method).exists()


def test_a_method_says_what_it_needs_before_anything_is_trained(here, capsys):
    plain = "\n\ndef plain(n_channels, n_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, n_classes))\n"
    Path("mynets.py").write_text(CODE + plain)
    write_config(door={"factory": "mynets:plain"}, methods=["fgsm_rs", "yopo"])
    assert main(["check", "--configfile", "own.yaml"]) == 2
    assert "yopo needs stem and trunk of a network, and it has no stem and no trunk" in capsys.readouterr().err
    write_config(door={"factory": "mynets:plain"}, methods=["fgsm_rs", "atas_pgi"], n_train=129, batch_size=128)
    assert main(["check", "--configfile", "own.yaml"]) == 0


def test_two_processes_cannot_share_a_norm_of_another_library(here, capsys):
    other = (
        "\n\nclass Norm(nn.BatchNorm2d):\n    pass\n\n\ndef normed(n_channels, n_classes):\n"
        "    return nn.Sequential(Norm(n_channels), nn.Flatten(), nn.Linear(64, n_classes))\n"
    )
    Path("mynets.py").write_text(CODE + other)
    write_config(door={"factory": "mynets:normed"}, shards=2, drop_last=True)
    config = json.loads(Path("own.yaml").read_text())
    Path("own.yaml").write_text(json.dumps({**config, "processes": {"digits": 2}}))
    assert main(["check", "--configfile", "own.yaml"]) == 2
    assert "the Norm 0 cannot be computed over the whole batch" in capsys.readouterr().err


def test_no_code_is_imported_for_what_a_file_in_results_says(here, capsys, short_theory):
    assert train() == 0 and evaluate("--configfile", "own.yaml", "--suite", "whitebox") == 0
    sys.modules.pop("mynets")
    Path("mynets.py").write_text("raise SystemExit('imported')\n")
    importlib.invalidate_caches()
    run = NAME.format("fgsm_rs")
    capsys.readouterr()
    for call in (
        ["verify", run], ["verify", "--all"], ["tidy", "--out", "results"], ["status"], ["clean"], ["agree"],
        ["report"], ["judge"], ["figure-data"], ["verify", "--all", "--configfile", "own.yaml"],
        ["status", "--configfile", "own.yaml"], ["recipe", run, "--configfile", "own.yaml"],
    ):  # fmt: skip
        main(call)
        assert "imported" not in "".join(capsys.readouterr()), call
    for call in (["evaluate"], ["probe"], ["evaluate", "--protocol", json.dumps(protocol())]):
        assert main([*call, "--run", run]) == 2
        said = capsys.readouterr().err
        assert (
            "its network comes from mynets:Drawing: name it in a config (--configfile), as mine under `models`" in said
        )
    assert "mynets" not in sys.modules
    door = json.dumps({"factory": "mynets:Drawing", "normalise": {"mean": [0.3], "std": [0.3]}})
    assert evaluate("--suite", "whitebox", "--network", door) == 2
    assert "network mynets:Drawing: cannot be built: SystemExit: imported (mynets.py:1)" in capsys.readouterr().err


def protocol() -> dict:
    config = load_config()
    return {key: config["evaluation"][key] for key in config["evaluation"] if key != "datasets"} | {
        "numerics": "native"
    }


def test_one_of_ours_cannot_be_given_another_network(here, capsys):
    recipe = json.loads(resolve(RunSpec.parse(NAME.format("fgsm_rs")), load_config([Path("own.yaml")])).to_json())
    call = ["train", "--run", "digits/preact_tiny/eps77/fgsm_rs/paper/seed0", "--recipe", json.dumps(recipe)]
    assert main(call) == 2
    assert "network must be left out of its recipe: preact_tiny is one of our own" in capsys.readouterr().err
    assert main([*call[:2], NAME.format("fgsm_rs"), "--recipe", json.dumps(recipe | {"network": {"timm": "a:b"}})]) == 2
    assert "timm must be a name of a network there" in capsys.readouterr().err


def test_an_installed_package_offers_a_network_by_name(here, monkeypatch, capsys):
    folder = here / "site/netspack-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: netspack\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[fastat.networks]\ntheirs = mynets:Drawing\npreact_tiny = mynets:no\n")
    monkeypatch.syspath_prepend(str(here / "site"))
    plugins.entries.cache_clear()
    try:
        name = "digits/theirs/eps77/fgsm_rs/paper/seed0"
        config = json.loads(Path("own.yaml").read_text())
        grid = [{**config["grid"][0], "model": "theirs"}]
        Path("theirs.yaml").write_text(json.dumps({**config, "models": {}, "grid": grid}))
        assert main(["recipe", name, "--configfile", "theirs.yaml"]) == 0
        assert "mynets:Drawing  entry point theirs of fastat.networks, an installed package" in capsys.readouterr().out
        assert "mynets" not in sys.modules
        assert main(["train", "--run", name, "--configfile", "theirs.yaml"]) == 0
        Path("both.yaml").write_text(json.dumps({**config, "models": {"theirs": {"factory": "a:b"}}, "grid": grid}))
        assert main(["check", "--configfile", "both.yaml"]) == 2
        assert "two networks are called 'theirs': of `models` of the config and of an inst" in capsys.readouterr().err
        assert main(["recipe", "digits/preact_tiny/eps77/fgsm_rs/paper/seed0"]) == 2
        assert "two networks are called 'preact_tiny': of fastat/networks/models.py and of" in capsys.readouterr().err
        assert main(["recipe", "digits/theirz/eps77/fgsm_rs/paper/seed0", "--configfile", "theirs.yaml"]) == 2
        assert "unknown model 'theirz'. Did you mean 'theirs'?" in capsys.readouterr().err
    finally:
        plugins.entries.cache_clear()


def test_the_door_is_part_of_a_recipe_and_of_none_that_has_no_need_of_it():
    config = {**load_config(), "models": {"mine": {"timm": "resnet10t", "args": {}, "normalise": "inside"}}}
    recipe = resolve(RunSpec.parse(NAME.format("fgsm_rs")), config)
    assert recipe.network == {"timm": "resnet10t"} and Recipe.from_json(recipe.to_json()) == recipe
    ours = resolve(RunSpec.parse("digits/preact_tiny/eps77/fgsm_rs/paper/seed0"), config)
    assert ours.network == {} and "network" not in json.loads(ours.to_json())
