"""Checkpoints from elsewhere: evaluated like any run, and refused before anything is attacked if they cannot be."""

import csv
import json
import os
import pickle
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyautoattack
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastat.cli import main
from fastat.config import external as said
from fastat.config.grid import load_config
from fastat.data import datasets
from fastat.errors import BadInput
from fastat.evaluation import external
from fastat.evaluation.run import PADDING
from fastat.machine import seals
from fastat.networks import models
from fastat.networks.external import BORDER, opened, pool_as_released

MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.24, 0.26]
BRIGHTNESS = torch.tensor([0.2, 0.4, 0.6, 0.8])  # of a class's images
DATA = Path("results/data/few.safetensors")
NETWORK = '{"factory": "doornets:Means"}'
NETS = """
import torch
from torch import nn


class Means(nn.Module):
    def __init__(self, n_channels, n_classes, kind="logits"):
        super().__init__()
        self.fc, self.kind = nn.Linear(n_channels, n_classes), kind
        if kind == "normalises":
            self.register_buffer("mean", torch.zeros(n_channels, 1, 1))

    def train(self, mode=True):
        return super().train(mode or self.kind == "trains")

    def forward(self, x):
        x = x - self.mean if self.kind == "normalises" else x.detach() if self.kind == "blind" else x
        logits = self.fc(x.mean((2, 3)))
        if self.kind == "draws":
            logits = nn.functional.dropout(logits, 0.5)
        return {"probabilities": logits.softmax(1), "pair": (logits, x)}.get(self.kind, logits)


class Probabilities(Means):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes, "probabilities")


class Trains(Means):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes, "trains")


class Blind(Means):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes, "blind")


class Draws(Means):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes, "draws")


class Pair(Means):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes, "pair")


class Normalises(Means):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes, "normalises")
"""


def state(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
    """Weights of Means that are right on every image of `few` behind that normalisation: the nearest brightness."""
    seen = (BRIGHTNESS[:, None] - torch.tensor(mean)) / torch.tensor(std)  # (4, 3)
    return {"fc.weight": 60 * seen, "fc.bias": -30 * (seen**2).sum(1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four classes of 3 x 8 x 8 images, 30 to train on and 10 to test, prepared; and a file of networks."""
    folder, rng = tmp_path_factory.mktemp("door"), np.random.default_rng(0)
    labels = np.arange(40) % 4
    pixels = BRIGHTNESS.numpy()[labels][:, None, None, None] + rng.normal(0, 0.02, (40, 8, 8, 3))
    np.savez(folder / "few.npz", images=np.rint(255 * pixels).astype(np.uint8), labels=labels)
    (folder / "few.yaml").write_text(
        f"datasets: {{few: {{npz: {folder}/few.npz, test: 0.25}}}}\n"
        "evaluation: {autoattack: {n_images: 4, batch_size: 4}}\n"
    )
    (folder / "doornets.py").write_text(NETS)
    out = folder / "results/data/few.safetensors"
    assert main(["data", "--dataset", "few", "--configfile", str(folder / "few.yaml"), "--out", str(out)]) == 0
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A folder to work in, with these data."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    return tmp_path


def evaluate(*words, weights="theirs.pt", model="doornets:Means", dataset="few", eps="26/255", suite="whitebox"):
    """Exit code of `fastat evaluate --weights`."""
    named = ["--weights", weights, "--model", model, "--dataset", dataset, "--eps", eps, "--suite", suite]
    return main(["evaluate", *named, "--configfile", "few.yaml", *words])


def folder_of(name="theirs", model="doornets_means", eps=26):
    return Path(f"results/runs/few/{model}/eps{eps}/external/{name}/seed0")


def rows(folder):
    with open(folder / "eval/whitebox.csv", newline="") as file:
        return list(csv.DictReader(file))


def share(folder, attack="clean"):
    return np.mean([int(row["correct"]) for row in rows(folder) if row["attack"] == attack])


def prefixed(prefix, tensors):
    return {prefix + key: tensor for key, tensor in tensors.items()}


KINDS = {  # what is saved -> of Means's weights
    "plain": lambda s: s,
    "DataParallel in a wrapper": lambda s: {"net": prefixed("module.", s), "acc": 1.0, "epoch": 3},
    "compiled": lambda s: {"model_state_dict": prefixed("_orig_mod.", s), "loss": torch.tensor(0.1)},
    "beside an average": lambda s: {"state_dict": s, "ema_state_dict": {key: 0 * t for key, t in s.items()}},
    "half precision": lambda s: {key: tensor.half() for key, tensor in s.items()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_a_run_with_its_evidence(kind, here):
    torch.save(KINDS[kind](state()), "theirs.pth.tar")
    assert evaluate("--normalise", "inside", weights="theirs.pth.tar") == 0
    about = seals.read(folder_of() / "run.json")
    assert (about["status"], about["source"]["file"]) == ("external", "theirs.pth.tar")
    assert about["source"]["sha256"] == seals.sha256(Path("theirs.pth.tar"))
    assert about["source"]["stored"] == ["float16" if kind == "half precision" else "float32"]
    assert share(folder_of()) == 1
    assert main(["verify", "few/doornets_means/eps26/external/theirs/seed0"]) == 0


def test_safetensors_are_evaluated_likewise(here):
    save_file(state(), "theirs.safetensors")
    assert evaluate("--normalise", "none", "--name", "mine", weights="theirs.safetensors") == 0
    assert share(folder_of("mine")) == 1


def test_the_average_is_taken_if_it_is_asked_for_and_named_if_not(here, caplog):
    torch.save(KINDS["beside an average"](state()), "theirs.pt")
    assert evaluate("--normalise", "inside") == 0
    assert "its weights are those of state_dict; it holds ema_state_dict, too (--entry takes them)" in caplog.text
    assert evaluate("--normalise", "inside", "--entry", "ema_state_dict", "--name", "ema") == 0
    assert (share(folder_of()), share(folder_of("ema"))) == (1, pytest.approx(0.25, abs=0.1))


def test_a_run_of_ours_has_the_same_rows_as_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text(
        "grid: [{dataset: digits, model: preact_tiny, eps: 77/255, method: fgsm_rs, seed: 0}]\n"
        "recipes: {digits: {fgsm_rs: {epochs: 1}}}\nevaluation: {autoattack: {n_images: 4, batch_size: 4}}\n"
    )
    config, run = ["--configfile", "short.yaml"], "digits/preact_tiny/eps77/fgsm_rs/paper/seed0"
    assert main(["data", "--dataset", "digits", *config]) == 0
    for verb in ("train", "evaluate"):
        assert main([verb, "--run", run, *config]) == 0
    whole = Path("results/runs/digits/preact_tiny/eps77")
    words = ["--model", "preact_tiny", "--arch", "shared", "--dataset", "digits", "--eps", "77/255"]
    weights = str(whole / "fgsm_rs/paper/seed0/weights.safetensors")
    assert main(["evaluate", "--weights", weights, *words, "--suite", "whitebox", *config]) == 0
    ours, theirs = rows(whole / "fgsm_rs/paper/seed0"), rows(whole / "external/weights/seed0")
    assert len(ours) == 7 * 360 + 100 and ours == theirs
    held, kept = load_file(weights), load_file(whole / "external/weights/seed0/weights.safetensors")
    assert held.keys() == kept.keys() and all(torch.equal(held[key], kept[key]) for key in held)


# How its input is normalised


def test_what_nobody_says_is_asked_for_with_what_each_answer_gives(here, capsys):
    torch.save(state(*models.CIFAR10), "theirs.pt")
    assert evaluate() == 2
    error = capsys.readouterr().err
    assert "say how the input of doornets_means is normalised, by --normalise inside, cifar10, imagenet" in error
    assert "cifar10 100.0 %" in error and "On 10 images it is right on: inside" in error
    assert not Path("results/runs").exists()


def test_a_normalisation_that_is_said_wrongly_is_warned_of(here, caplog):
    torch.save(state(*models.CIFAR10), "theirs.pt")
    assert evaluate("--normalise", "inside") == 0
    assert "normalised as said, on 100.0 % by cifar10. If it was trained so, say it by --normalise" in caplog.text
    assert seals.read(folder_of() / "run.json")["clean_by_normalisation"]["cifar10"] == 100
    caplog.clear()
    assert evaluate("--normalise", "cifar10", "--name", "right") == 0
    assert "WARNING" not in caplog.text and share(folder_of("right")) == 1


def test_mean_and_std_are_applied_inside_so_that_attacks_see_pixels(here):
    torch.save(state(MEAN, STD), "theirs.pt")
    assert evaluate("--normalise", "127.5/255,0.45,0.4", "0.25,0.24,0.26") == 0
    about = seals.read(folder_of() / "run.json")
    assert about["found"]["normalise"] == {"mean": MEAN, "std": STD}
    assert share(folder_of()) == 1 and share(folder_of(), "inside") == 1


def test_a_normalisation_of_many_digits_is_applied_as_it_is_said(here):
    torch.save(state((0, 0, 0), (1 / 255,) * 3), "theirs.pt")
    assert evaluate("--normalise", "0", "1/255") == 0
    said = seals.read(folder_of() / "run.json")["found"]["normalise"]
    assert said["mean"] == [0] * 3 and torch.equal(torch.tensor(said["std"]), torch.tensor([1 / 255] * 3))
    assert share(folder_of()) == 1


def test_half_of_a_normalising_layer_is_asked_for_and_said(here, capsys, caplog):
    torch.save({"mean": torch.tensor(MEAN), **state(MEAN, STD)}, "theirs.pt")
    assert evaluate() == 2
    assert "theirs.pt holds mean of a normalising layer, and not the other of mean and std. Say how its input" in (
        capsys.readouterr().err
    )
    assert evaluate("--normalise", "0.5,0.45,0.4", "0.25,0.24,0.26") == 0
    assert "it is normalised as said, by {'mean'" in caplog.text and share(folder_of()) == 1


@pytest.mark.parametrize(
    "names", [("0.mean", "0.std", "1."), ("mu", "sigma", "model."), ("normalize.mean", "normalize.std", "")]
)
def test_what_the_file_normalises_by_is_taken(names, here):
    mean, std, prefix = names
    held = {mean: torch.tensor(MEAN).reshape(1, 3, 1, 1), std: torch.tensor(STD).reshape(1, 3, 1, 1)}
    torch.save(held | prefixed(prefix, state(MEAN, STD)), "theirs.pt")
    assert evaluate() == 0
    assert seals.read(folder_of() / "run.json")["found"]["normalise"] == {"mean": MEAN, "std": STD}
    assert share(folder_of()) == 1


def test_what_the_file_normalises_by_must_be_what_is_said(here, capsys):
    torch.save({"mean": torch.tensor(MEAN), "std": torch.tensor(STD), **state(MEAN, STD)}, "theirs.pt")
    assert evaluate("--normalise", "cifar10") == 2
    assert "holds a normalising layer of its own, by {'mean': [0.5, 0.45, 0.4]" in capsys.readouterr().err


def test_a_network_whose_own_state_normalises_needs_no_saying(here):
    torch.save({"mean": torch.zeros(3, 1, 1), **state()}, "theirs.pt")
    assert evaluate(model="doornets:Normalises") == 0
    assert share(folder_of(model="doornets_normalises")) == 1


@pytest.mark.parametrize("said", [["cifar10"], ["imagenet"], ["0.5,0.45,0.4", "0.25,0.24,0.26"]])
def test_a_network_whose_own_state_normalises_is_not_normalised_twice(said, here, capsys):
    torch.save({"mean": torch.zeros(3, 1, 1), **state()}, "theirs.pt")
    assert evaluate("--normalise", *said, model="doornets:Normalises") == 2
    error = capsys.readouterr().err
    assert "doornets:Normalises normalises by itself: its state dict has mean. " in error
    assert "Leave it out, or write --normalise inside" in error and not Path("results/runs").exists()
    assert evaluate("--normalise", "inside", model="doornets:Normalises") == 0
    assert evaluate("--normalise", "none", "--name", "none", model="doornets:Normalises") == 0
    assert share(folder_of(model="doornets_normalises")) == 1


def test_a_door_that_says_inside_says_it_on_the_command_line_as_in_a_config(here):
    torch.save(state(), "theirs.pt")
    door = '{"factory": "doornets:Means", "normalise": "inside"}'
    assert evaluate("--network", door, model="means") == 0
    assert seals.read(folder_of(model="means") / "run.json")["recipe"]["normalise"] == "inside"
    assert share(folder_of(model="means")) == 1


def test_a_network_of_others_takes_a_file_without_batchnorms_counters(here):
    Path("normed.py").write_text(
        "from torch import nn\n\n\ndef net(n_channels, n_classes):\n    return nn.Sequential("
        "nn.BatchNorm2d(n_channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_channels, n_classes))\n"
    )
    norm = torch.nn.BatchNorm2d(3, eps=0).state_dict()
    held = prefixed("0.", {key: norm[key] for key in ("weight", "bias", "running_mean", "running_var")})
    torch.save(held | {"3.weight": state()["fc.weight"], "3.bias": state()["fc.bias"]}, "theirs.pt")
    assert evaluate("--normalise", "inside", model="normed:net") == 0
    assert share(folder_of(model="normed_net")) == 1


def test_ours_normalise_by_their_arch_or_as_is_said(here, caplog):
    torch.manual_seed(0)
    network = models.build("preact_tiny", 3, 4)
    torch.save({k: t for k, t in network.state_dict().items() if not k.startswith("stem.0")}, "theirs.pt")
    assert evaluate("--arch", "shared", model="preact_tiny") == 0
    assert evaluate("--arch", "shared", "--normalise", "0.5", "0.25", "--name", "other", model="preact_tiny") == 0
    ours, other = (seals.read(folder_of(name, "preact_tiny") / "run.json") for name in ("theirs", "other"))
    assert (ours["found"]["arch"], ours["found"]["normalise"]["mean"]) == ("shared", list(models.IMAGENET[0]))
    assert other["found"]["normalise"] == {"mean": [0.5] * 3, "std": [0.25] * 3}
    held = load_file(folder_of("other", "preact_tiny") / "weights.safetensors")
    assert held["stem.0.mean"].flatten().tolist() == [0.5] * 3


def test_archs_that_names_and_shapes_cannot_tell_are_told_by_accuracy(here, capsys):
    save_file(models.build("postact_tiny", 3, 4, "nuat").state_dict(), "theirs.safetensors")
    assert evaluate(weights="theirs.safetensors", model="postact_tiny") == 2
    error = capsys.readouterr().err
    assert "fits postact_tiny by the rules of several archs" in error
    assert "On 10 images it is right on: --arch nuat" in error and "--arch sdi_pgi" in error


def test_the_network_in_pyautoattacks_wheel_is_a_postact_resnet18(here, capsys):
    weights = Path(pyautoattack.__file__).parent / "examples/model_test.pt"
    assert evaluate(weights=str(weights), model="preact_resnet18") == 2
    assert "layer2.0.bn1.weight is (128,), not (64,)" in (error := capsys.readouterr().err)
    assert "It fits postact_resnet18 for 10 classes (arch nuat or sdi_pgi)" in error


# Which rows


def test_training_images_and_the_released_protocol_are_marked_and_never_paired(here, caplog, short_theory):
    rng = np.random.default_rng(0)
    np.savez("large.npz", images=rng.integers(0, 256, (40, 12, 12, 3), np.uint8), labels=np.arange(40) % 4)
    text = Path("few.yaml").read_text().replace("datasets: {", "datasets: {large: {npz: large.npz, test: 0.25}, ")
    Path("few.yaml").write_text(text)
    assert main(["data", "--dataset", "large", "--configfile", "few.yaml"]) == 0
    torch.manual_seed(0)
    save_file(models.build("preact_tiny", 3, 4).state_dict(), "ours.safetensors")
    known = {"weights": "ours.safetensors", "model": "preact_tiny", "dataset": "large"}
    assert evaluate("--arch", "shared", **known) == 0
    assert evaluate("--arch", "shared", "--part", "train", **known) == 0
    assert evaluate("--arch", "shared", "--protocol", "released", **known) == 0
    for name, n in {"ours": 10, "ours_train": 30, "ours_released": 10}.items():
        folder = Path(str(folder_of(name, "preact_tiny")).replace("few", "large"))
        assert sum(row["attack"] == "clean" for row in rows(folder)) == n
    assert main(["report"]) == 0
    with open("results/correct.csv", newline="") as file:
        images = {row["variant"]: row["images"] for row in csv.DictReader(file) if row["attack"] == "far"}
    assert len(set(images.values())) == 3
    assert main(["verify", "--all"]) == 0


def test_the_released_protocol_sees_a_border_and_pools_the_upper_left(here):
    network = models.build("preact_tiny", 3, 4).eval()
    x = torch.rand(2, 3, 12 + 2 * BORDER, 12 + 2 * BORDER, generator=torch.Generator().manual_seed(0))
    maps = []
    pool = next(module for module in network.trunk if isinstance(module, torch.nn.AdaptiveAvgPool2d))
    pool.register_forward_pre_hook(lambda _, args: maps.append(args[0]))
    linear = network.trunk[-1]
    network(x)
    pool_as_released(network, "preact_tiny", (12, 12))
    assert BORDER == PADDING and maps[0].shape[2:] == (5, 5)
    torch.testing.assert_close(network(x), linear(torch.nn.functional.avg_pool2d(maps[0], 3).flatten(1)))


@pytest.mark.parametrize(
    "model,image,fits",
    [
        ("preact_resnet18", (32, 32), True), ("preact_tiny", (8, 8), False), ("preact_tiny", (12, 12), True),
        ("preact_tiny", (12, 16), False), ("preact_tiny_s2", (28, 28), True), ("wrn16_1", (8, 8), False),
    ],
)  # fmt: skip
def test_the_released_protocol_is_refused_where_its_window_fits_twice(model, image, fits):
    network = models.build(model, 3, 4).eval()
    if not fits:
        with pytest.raises(BadInput, match="the released code would not run. Leave it out"):
            pool_as_released(network, model, image)
        return
    pool_as_released(network, model, image)
    assert network(torch.rand(2, 3, *(side + 2 * BORDER for side in image))).shape == (2, 4)


def test_the_released_protocol_on_small_images_writes_nothing(here, capsys):
    save_file(models.build("preact_tiny", 3, 4).state_dict(), "ours.safetensors")
    words = ["--arch", "shared", "--protocol", "released"]
    assert evaluate(*words, weights="ours.safetensors", model="preact_tiny") == 2
    error = capsys.readouterr().err
    assert "On 8 x 8 pixels and a border of 4 preact_tiny's has 4 rows or columns, the window 2" in error
    assert not Path("results/runs").exists()


def test_its_rows_stand_in_the_supplement_and_on_the_page_and_not_in_the_papers_tables(here, short_theory):
    torch.save(state(), "theirs.pt")
    assert evaluate("--normalise", "inside", suite="all") == 0
    assert main(["report"]) == 0
    assert "external/theirs" in Path("results/tables/supplement.md").read_text()
    assert all("external" not in Path(f"results/tables/table{k}.md").read_text() for k in (1, 2))
    assert "theirs" in Path("results/report/index.html").read_text()
    with open("results/sanity.csv", newline="") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == {"theirs"}
    with open("results/figures/surfaces.csv", newline="") as file:
        assert list(csv.DictReader(file)) == []


def test_what_verify_calls_another_formats_is_not_gone_on_with(here, capsys):
    torch.save(state(), "theirs.pt")
    assert evaluate("--normalise", "inside") == 0
    about = seals.read(folder_of() / "run.json")
    seals.write(folder_of() / "run.json", {**about, "made_from": "0123456789abcdef"})
    assert main(["verify", "few/doornets_means/eps26/external/theirs/seed0"]) == 1
    assert "is of another name, recipe or data than it says" in capsys.readouterr().out
    assert evaluate("--normalise", "inside") == 2
    assert f"(made_from of its run.json). Give this one another --name, or remove that: rm -r {folder_of()}" in (
        capsys.readouterr().err
    )


def test_again_it_goes_on_and_another_checkpoint_of_the_name_is_refused(here, capsys, caplog):
    torch.save(state(), "theirs.pt")
    assert evaluate("--normalise", "inside") == 0
    before = (folder_of() / "run.json").read_bytes()
    assert evaluate("--normalise", "inside", "--images", "2", suite="autoattack") == 0
    assert (folder_of() / "run.json").read_bytes() == before
    with open(folder_of() / "eval/autoattack.csv", newline="") as file:
        assert len({row["index"] for row in csv.DictReader(file)}) == 2
    assert "WARNING: its rows" not in caplog.text
    assert evaluate("--normalise", "inside", "--images", "3", suite="autoattack") == 0
    assert 'autoattack.csv: WARNING: its rows, by {"autoattack": {"n_images": 2, ' in caplog.text
    torch.save({key: 2 * tensor for key, tensor in state().items()}, "theirs.pt")
    assert evaluate("--normalise", "inside") == 2
    error = capsys.readouterr().err
    assert "has the evaluation of another checkpoint, or of this one otherwise (source, files" in error
    assert "another --name, or remove that: rm -r results/runs/few" in error


# What is refused


class Runs:
    """A pickle of it leaves a file where it is run."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


WHOLE = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
WRONG = {  # what lies there -> what is said of it
    "a web page": (lambda p: p.write_bytes(b"<!DOCTYPE html><title>Sign in</title>"), "It is a web page"),
    "an LFS pointer": (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a Git-LFS pointer"),
    "nothing": (lambda p: p.write_bytes(b""), "It is empty"),
    "a pickle that runs": (lambda p: p.write_bytes(pickle.dumps({"a": Runs()})), "is no file of plain tensors"),
    "a checkpoint that runs": (lambda p: torch.save({"fc.weight": Runs()}, p), "it needs posix.mkdir, which is code"),
    "a whole network": (lambda p: torch.save(WHOLE, p), "torch.save(network.state_dict(), 'weights.pt')"),
    "no number": (
        lambda p: torch.save({**state(), "fc.bias": torch.full((4,), torch.nan)}, p),
        "fc.bias hold what is no",
    ),
    "another network": (
        lambda p: torch.save(prefixed("conv1.", state()), p),
        "missing: fc.weight, fc.bias; extra: conv1.fc.weight, conv1.fc.bias",
    ),
    "other classes": (
        lambda p: torch.save({"fc.weight": torch.ones(10, 3), "fc.bias": torch.ones(10)}, p),
        "of another shape: fc.weight (10, 3), not (4, 3), fc.bias (10,), not (4,)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_no_checkpoint_of_this_network_is_refused(what, here, capsys):
    make, message = WRONG[what]
    make(Path("theirs.pt"))
    assert evaluate("--normalise", "inside") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not any(word in error for word in ("weights_only", "trust", "torch.load", "safe_globals"))
    assert not Path("executed").exists() and not Path("results/runs").exists()


def test_a_file_that_is_replaced_while_it_is_read_is_refused(here, capsys, monkeypatch):
    """What is evaluated would be the old weights, and their name the new file's hash."""
    torch.save(state(), "theirs.pt")

    def read(*asked):
        found = opened(*asked)
        torch.save({key: 2 * tensor for key, tensor in state().items()}, "theirs.pt")
        return found

    monkeypatch.setattr(external, "opened", read)
    assert evaluate("--normalise", "inside") == 2
    assert "theirs.pt changed while it was read. Evaluate it again" in capsys.readouterr().err
    assert not Path("results/runs").exists()


def test_whole_numbers_are_no_weights_of_ours(here, capsys):
    held = {key: tensor.to(torch.int8) for key, tensor in models.build("preact_tiny", 3, 4).state_dict().items()}
    torch.save({key: tensor for key, tensor in held.items() if not key.startswith("stem.0.")}, "theirs.pt")
    assert evaluate("--arch", "shared", model="preact_tiny") == 2
    assert "stem.1.weight holds whole numbers (torch.int8), as of a quantised network" in capsys.readouterr().err
    assert not Path("results/runs").exists()


def test_a_network_of_no_size_takes_no_weights(here, capsys):
    Path("lazy.py").write_text(
        "from torch import nn\n\n\ndef net(n_channels, n_classes):\n"
        "    return nn.Sequential(nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(n_classes))\n"
    )
    torch.save(state(), "theirs.pt")
    assert evaluate("--normalise", "inside", model="lazy:net") == 2
    assert "has no size before an image is seen. Write its size, in place of a Lazy layer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name,message",
    [
        ("Probabilities", "it gives probabilities in place of logits"),
        ("Trains", "the model is in train mode"),
        ("Blind", "its logits have no gradient to the pixels"),
        ("Draws", "in eval mode it gives other logits for the same images"),
        ("Pair", "it must give a tensor of logits, in eval mode got tuple"),
        ("Nobody", "doornets has no 'Nobody'"),
    ],
)
def test_a_network_that_cannot_be_attacked_is_refused(name, message, here, capsys):
    torch.save(state(), "theirs.pt")
    assert evaluate("--normalise", "inside", model=f"doornets:{name}") == 2
    assert message in capsys.readouterr().err
    assert not Path("results/runs").exists()


@pytest.mark.parametrize(
    "words,message",
    [
        ({"eps": "8"}, "got '8'. Did you mean 8/255?"),
        ({"eps": "0.03137"}, "got '0.03137'. Did you mean 8/255?"),
        ({"eps": "200/255"}, "eps is written N/255"),
        ({"eps": "0.1"}, "got '0.1'. Any other radius is an attack by name: --attacks \"autoattack eps=0.1\""),
        ({"model": "preact_resnt18"}, "unknown model 'preact_resnt18'. Did you mean 'preact_resnet18'?"),
        ({"model": "timm:"}, "must be a name of a network there"),
        ({"dataset": "cifar"}, "unknown value 'cifar'"),
        ({"weights": ""}, "weights must be a file of weights, as text"),
        ({"weights": "none.pt"}, "cannot read none.pt: No such file"),
        (("--normalise", "125.3,123.0,113.9", "63.0,62.1,66.7"), "In units of bytes write 125.3/255"),
        (("--normalise", "0.5"), "--normalise takes MEAN and STD, got one of them: write --normalise 0.5 STD"),
        (("--normalise", "cifar"), "got 'cifar'. Did you mean 'cifar10'?"),
        (("--normalise", "half"), "normalise must be inside, none, imagenet, cifar10, or"),
        (("--normalise", "0.5,0.5", "0.2,0.2"), "must have a number for each of 3 channels, got 2 and 2"),
        (("--normalise", "0.5,0.5,0.5", "0.2,0.2,0"), "normalise"),
        (("--arch", "shared"), "arch says whose rules build one of our networks"),
        (("--name", "a b"), "name must be a name of a-z, 0-9 and _"),
        (("--name", "mine_train"), "'mine_train' is as the names of other things are. Give it another (--name)"),
        (("--name", "paper"), "'paper' is as the names of other things are"),
        (
            {"weights": "\u043c\u043e\u0434\u0435\u043b\u044c.pth.tar"},
            "has no letter a-z and no digit to be called by. Give it a name (--name)",
        ),
        (("--images", "11"), "images must be at most 10"),
        (("--images", "some"), "images must be a whole number of images above 0, or all"),
        (("--entry", "ema"), "has no part 'ema'"),
        (("--epoch", "best"), "a checkpoint is one epoch's"),
        (("--run", "few/x/eps1/atas/paper/seed0"), "name a run by --run, or a checkpoint by --weights, got both"),
    ],
)
def test_what_is_said_wrongly_is_refused_with_the_way_out(words, message, here, capsys):
    torch.save(state(), "theirs.pt")
    named = words if isinstance(words, dict) else {}
    more = () if named else words
    assert evaluate(*(() if "--normalise" in more else ("--normalise", "inside")), *more, **named) == 2
    assert message in capsys.readouterr().err
    assert not Path("results/runs").exists()


def test_images_in_bytes_as_floats_and_labels_out_of_range_never_become_data(here, capsys):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (8, 4, 4, 3)), np.arange(8) % 2
    for images, classes, message in (
        (pixels.astype(np.float32), labels, "[0, 1]"),
        (pixels.astype(np.uint8), labels - 1, "-1"),
    ):
        np.savez("bad.npz", images=images, labels=classes)
        Path("bad.yaml").write_text("datasets: {bad: {npz: bad.npz, test: 0.25}}")
        assert main(["data", "--dataset", "bad", "--configfile", "bad.yaml"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_few_classes_are_attacked_by_what_there_is_for_so_many(n_classes, here, short_theory):
    images = np.repeat(np.linspace(20, 230, n_classes).astype(np.uint8), 4)[:, None, None, None]
    labels = np.repeat(np.arange(n_classes), 4)
    np.savez("kinds.npz", images=np.broadcast_to(images, (4 * n_classes, 4, 4, 3)).copy(), labels=labels)
    with open("few.yaml", "a") as file:
        file.write("\n")
    text = Path("few.yaml").read_text().replace("datasets: {", "datasets: {kinds: {npz: kinds.npz, test: 0.25}, ")
    Path("few.yaml").write_text(text)
    assert main(["data", "--dataset", "kinds", "--configfile", "few.yaml"]) == 0
    means = torch.linspace(20, 230, n_classes)[:, None].expand(n_classes, 3) / 255
    torch.save({"fc.weight": 60 * means, "fc.bias": -30 * (means**2).sum(1)}, "theirs.pt")
    assert evaluate("--normalise", "inside", "--images", "2", dataset="kinds", suite="autoattack") == 0
    run = "kinds/doornets_means/eps26/external/theirs/seed0"
    with open(f"results/runs/{run}/eval/autoattack.csv", newline="") as file:
        assert {row["attack"] for row in csv.DictReader(file)} <= {"clean", "apgd-ce", "apgd-t", "fab-t", "square"}
    few = ["apgd-ce", "fab-t", "square"] if n_classes < 4 else None
    assert seals.read(Path(f"results/runs/{run}/eval/autoattack.json")).get("parts") == few
    assert main(["verify", run]) == 0
    assert main(["report"]) == 0
    assert ("kinds: AutoAttack is without apgd-t" in Path("results/report/index.html").read_text()) == bool(few)


# In a config


def blocks(text, folder=Path()):
    (folder / "ext.yaml").write_text(f"grid: []\n{text}")
    return said.of_config(load_config([folder / "few.yaml", folder / "ext.yaml"]))


def test_a_block_names_a_run_for_each_eps_and_says_it_again_as_options(here):
    one, other = blocks(
        "models: {mine: {factory: 'doornets:Means', normalise: cifar10}}\n"
        "external: [{weights: a/Theirs-1.pth.tar, model: mine, dataset: few, eps: [8/255, 4/255], part: train, "
        "images: 3}]"
    )
    assert [found.spec.name for found in (one, other)] == [
        f"few/mine/eps{eps}/external/theirs_1_train/seed0" for eps in (4, 8)
    ]
    assert one.path == "a/Theirs-1.pth.tar"
    (home,) = blocks(f"external: [{TINY.replace('a.pt', '~/a.pt')}]")
    assert (home.path, home.spec.variant) == (str(Path.home() / "a.pt"), "a")
    assert one.recipe["normalise"] == "cifar10" and one.door == {"factory": "doornets:Means"}
    for words in ("--weights a/Theirs-1.pth.tar", "--eps 4/255", "--part train", "--images 3", "--normalise cifar10"):
        assert words in one.options
    assert one.protocol({"pgd_step": "0.1 eps", "autoattack": {"n_images": 9, "batch_size": 1}}) == {
        "pgd_step": "0.1 eps",
        "autoattack": {"n_images": 3, "batch_size": 1},
    }


TINY = "{weights: a.pt, model: preact_tiny, dataset: few, eps: 8/255}"


@pytest.mark.parametrize(
    "text,message",
    [
        ("{model: preact_tiny, dataset: few, eps: 8/255}", "there is no 'weights'"),
        ("{weights: a.pt, model: preact_tiny, dataset: few, eps: 8}", "Did you mean 8/255?"),
        (TINY.replace("}", ", ep: 1}"), "unknown key 'ep'. Did you mean 'eps'"),
        ("{weights: a.pt, model: nobody, dataset: few, eps: 8/255}", "unknown model 'nobody'"),
        ("{weights: a.pt, model: preact_tiny, dataset: nowhere, eps: 8/255}", "unknown value 'nowhere'"),
        (TINY.replace("}", ", suite: autoattack}"), "suite must be whitebox"),
        ("{weights: a.pt, model: resnet18, dataset: imagenet, eps: 4/255, protocol: released}", "Leave it out"),
        ("{weights: a.pt, model: preact_tiny, dataset: digits, eps: 8/255, images: 361}", "has 360 test images"),
        (f"{TINY}, {TINY}", "Give one of them a `name`"),
    ],
)
def test_a_block_that_breaks_a_rule_is_refused(text, message, here):
    with pytest.raises(BadInput) as caught:
        blocks(f"external: [{text}]")
    assert message in str(caught.value)


def test_a_config_without_runs_needs_a_checkpoint(here):
    with pytest.raises(BadInput, match="grid must be a list of one or more blocks"):
        blocks("external: []")


def test_a_model_that_states_its_normalisation_is_found_again_by_evaluate_and_export(here, capsys):
    torch.save(state(*models.CIFAR10), "theirs.pt")
    (one,) = blocks(
        "models: {mine: {factory: 'doornets:Means', normalise: cifar10}}\n"
        "external: [{weights: theirs.pt, model: mine, dataset: few, eps: 26/255, suite: whitebox}]"
    )
    config, run = ["--configfile", "few.yaml", "ext.yaml"], one.spec.name
    assert main(["evaluate", *shlex.split(one.options), "--suite", "all", *config]) == 0
    before = rows(folder_of(model="mine"))
    assert main(["evaluate", "--run", run, "--suite", "whitebox", *config]) == 0, capsys.readouterr().err
    assert rows(folder_of(model="mine")) == before and share(folder_of(model="mine")) == 1
    assert main(["export", run, "--out", "out", *config]) == 0, capsys.readouterr().err
    door = json.dumps({"factory": "doornets:Means", "normalise": "cifar10"})
    assert main(["evaluate", "--run", run, "--suite", "whitebox", "--network", door, "--configfile", "few.yaml"]) == 0
    assert rows(folder_of(model="mine")) == before
    Path("other.yaml").write_text("models: {mine: {factory: 'doornets:Normalises', normalise: cifar10}}")
    assert main(["evaluate", "--run", run, "--suite", "whitebox", "--configfile", "few.yaml", "other.yaml"]) == 2
    assert "the config that it is doornets:Normalises. Name the one" in capsys.readouterr().err


def test_check_opens_the_checkpoints_and_verify_holds_them_against_the_config(here, capsys):
    torch.save(state(), "theirs.pt")
    (one,) = blocks(
        "models: {mine: {factory: 'doornets:Means', normalise: inside}}\n"
        + "external: [{weights: theirs.pt, model: mine, dataset: few, eps: 26/255, suite: whitebox}]"
    )
    config = ["--configfile", "few.yaml", "ext.yaml"]
    assert main(["check", *config]) == 0
    assert "theirs: theirs.pt is a mine: 16 parameters" in (out := capsys.readouterr().out)
    assert "0 runs and 1 checkpoints: the config is good" in out
    assert main(["evaluate", *shlex.split(one.options), "--suite", "whitebox", *config]) == 0
    assert main(["verify", "--all", *config]) == 0
    assert main(["status", *config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["grid"]["done"] == 1
    Path("theirs.pt").write_bytes(Path("theirs.pt").read_bytes())
    assert main(["status", *config]) == 0
    assert "1 done" in capsys.readouterr().out  # younger, and of the same content
    torch.save({"net": state()}, "theirs.pt")
    assert main(["status", *config]) == 0
    assert "theirs.pt is another file than was evaluated. The workflow evaluates it; by hand" in capsys.readouterr().out
    Path("theirs.pt").unlink()
    assert main(["status", *config]) == 0
    assert "1 done" in (out := capsys.readouterr().out) and "theirs.pt is not here: whether" in out
    (folder_of("theirs", "mine") / "eval/whitebox.csv").unlink()
    assert main(["status", *config]) == 0
    assert "1 failed" in (out := capsys.readouterr().out) and "theirs.pt is not here. Bring it, or name another" in out
    Path("ext.yaml").write_text(Path("ext.yaml").read_text().replace("suite: whitebox", "suite: whitebox, entry: x"))
    assert main(["verify", "--all", *config]) == 1
    assert "is of another recipe than the config's (entry is" in capsys.readouterr().out


def test_what_was_kept_is_attacked_without_the_file_and_held_to_its_hash(here, capsys):
    torch.save(state(), "theirs.pt")
    run = "few/doornets_means/eps26/external/theirs/seed0"
    again = ["evaluate", "--run", run, "--suite", "whitebox", "--configfile", "few.yaml"]
    again += ["--network", NETWORK]
    assert main(again) == 2
    assert "Name its file: python -m fastat evaluate --weights FILE" in capsys.readouterr().err
    assert evaluate("--normalise", "cifar10") == 0
    before = rows(folder_of())
    Path("theirs.pt").unlink()
    assert main(again) == 0
    assert rows(folder_of()) == before
    held = load_file(folder_of() / "weights.safetensors")
    save_file({key: tensor + 1 for key, tensor in held.items()}, folder_of() / "weights.safetensors")
    assert main(again) == 2
    assert f"Remove {folder_of()}, and evaluate its file again." in capsys.readouterr().err
    assert main(["verify", run]) == 1
    assert "weights.safetensors is not what this run wrote" in (out := capsys.readouterr().out)
    assert "Remove the folder, and run its `python -m fastat evaluate --weights FILE ...` again" in out


@pytest.mark.parametrize(
    "words,message",
    [
        (
            ["recipe", "few/preact_tiny/eps26/external/theirs/seed0"],
            "external is no method: so the rows of checkpoints",
        ),
        (["train", "--run", "few/preact_tiny/eps26/external/theirs/seed0"], "external is no method"),
        (["probe", "--run", "few/mine/eps26/external/theirs/seed0"], "was trained elsewhere: there are no epochs"),
        (["plan", "--configfile", "ext.yaml"], "the grid is empty: nothing is trained"),
        (["evaluate"], "name a run by --run, or a checkpoint by --weights, got none"),
        (["evaluate", "--weights", "a.pt"], "--weights needs --model and --dataset and --eps"),
        (
            ["evaluate", "--run", "few/mine/eps1/atas/paper/seed0", "--eps", "8/255", "--images", "3"],
            "--eps --images go with --weights: of a run its name and run.json say the like, and a config how many",
        ),
        (["evaluate", "--run", "few/mine/eps1/atas/paper/seed0", "--protocol", "released"], "is of checkpoints"),
    ],
)
def test_what_is_not_for_checkpoints_says_so(words, message, here, capsys):
    Path("ext.yaml").write_text(f"grid: []\nexternal: [{TINY.replace('few', 'digits')}]")
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_data_that_are_prepared_need_no_config(here):
    """So the rules of the workflow say it."""
    torch.save(state(), "theirs.pt")
    words = [
        "--weights",
        "theirs.pt",
        "--model",
        "mine",
        "--network",
        '{"factory": "doornets:Means"}',
        "--eps",
        "26/255",
    ]
    words += ["--normalise", "inside", "--suite", "whitebox"]
    assert main(["evaluate", *words, "--dataset", "few"]) == 0
    assert share(folder_of(model="mine")) == 1


def test_it_is_attacked_by_name_and_goes_out_and_in_again(here, capsys):
    torch.save(state(), "theirs.pt")
    name, run = "pgd-5 alpha=0.25eps L2 eps=2", "few/doornets_means/eps26/external/theirs/seed0"
    assert evaluate("--normalise", "inside", "--attacks", name, suite="all") == 0
    with open(folder_of() / "eval/attacks.csv", newline="") as file:
        assert [row["attack"] for row in csv.DictReader(file)] == [name] * 10
    assert main(["verify", "--all"]) == 0
    out = ["--out", "theirs", "--network", NETWORK]
    assert main(["export", run, *out]) == 0, capsys.readouterr().err
    Path("mine.yaml").write_text("models: {doornets_means: {factory: 'doornets:Means'}}")  # it names no checkpoint
    again = ["--out", "again", "--configfile", "few.yaml", "mine.yaml"]
    assert main(["export", f"results/runs/{run}", *again]) == 0, capsys.readouterr().err
    assert Path("again/SHA256SUMS").read_bytes() == Path("theirs/SHA256SUMS").read_bytes()
    shutil.copytree("results/data", "elsewhere/data")
    assert main(["import", "theirs", "--results", "elsewhere"]) == 0
    for file in ("run.json", "weights.safetensors", "eval/whitebox.csv", "eval/attacks.csv"):
        assert (Path("elsewhere/runs") / run / file).read_bytes() == (Path("results/runs") / run / file).read_bytes()
    assert main(["verify", "--all", "--results", "elsewhere"]) == 0


# Whose rows


def test_rows_of_one_arch_are_never_those_of_another(here, capsys):
    """Names, shapes and weights are the same: what was attacked is not. The workflow deletes run.json before a rule."""
    torch.manual_seed(0)
    network, data = models.build("postact_tiny", 3, 4, "nuat"), datasets.load(DATA, torch.device("cpu")).train
    optimizer, (x, y) = torch.optim.Adam(network.parameters(), 0.01), data.take(torch.arange(len(data)))
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    torch.save(network.state_dict(), "theirs.pt")

    def go(arch, name, suite="all"):
        return evaluate("--arch", arch, "--name", name, model="postact_tiny", eps="14/255", suite=suite)

    def folder_at(name):
        return folder_of(name, "postact_tiny", 14)

    assert go("nuat", "one") == 0 and go("sdi_pgi", "fresh") == 0
    kept = {path.name for path in (folder_at("one") / "state").glob("autoattack-*.csv")}
    for file in ("whitebox.csv", "autoattack.csv"):
        assert (folder_at("one") / "eval" / file).read_bytes() != (folder_at("fresh") / "eval" / file).read_bytes()
    (folder_at("one") / "run.json").unlink()
    assert go("sdi_pgi", "one", "whitebox") == 0
    assert main(["verify", "--all"]) == 1
    assert "eval/autoattack.csv was not made from this run's made_from" in capsys.readouterr().out
    assert go("sdi_pgi", "one") == 0
    assert len([*(folder_at("one") / "state").glob("autoattack-*.csv")]) == 1 + len(kept)
    for file in ("whitebox.csv", "autoattack.csv"):
        assert (folder_at("one") / "eval" / file).read_bytes() == (folder_at("fresh") / "eval" / file).read_bytes()
    assert main(["verify", "--all"]) == 0


def test_code_that_changed_under_the_name_is_another_network(here, capsys, monkeypatch):
    torch.save(state(), "theirs.pt")
    Path("changing.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(here))
    assert evaluate("--normalise", "inside", model="changing:Means") == 0
    Path("changing.py").write_text(NETS + "\n# another line\n")
    assert evaluate("--normalise", "inside", model="changing:Means") == 2
    assert "(network of its run.json). Give this one another --name" in capsys.readouterr().err
    run = "few/changing_means/eps26/external/theirs/seed0"
    assert main(["evaluate", "--run", run, "--network", '{"factory": "changing:Means"}', "--suite", "whitebox"]) == 2
    assert "the code of its network was" in capsys.readouterr().err


def test_a_config_that_names_another_file_is_not_served_by_the_one_that_was_there(here, capsys):
    torch.save(state(), "theirs.pt")
    torch.save({name: 0 * tensor for name, tensor in state().items()}, "zero.pt")
    assert evaluate("--normalise", "inside") == 0
    said = "model: 'doornets:Means', dataset: few, eps: 26/255, suite: whitebox, name: theirs, normalise: inside"
    Path("ext.yaml").write_text(f"grid: []\nexternal: [{{weights: theirs.pt, {said}}}]")
    config = ["--configfile", "few.yaml", "ext.yaml"]
    assert main(["verify", "--all", *config]) == 0
    Path("ext.yaml").write_text(Path("ext.yaml").read_text().replace("theirs.pt", "zero.pt"))
    assert main(["verify", "--all", *config]) == 1
    assert "run.json is of another file than the config's" in capsys.readouterr().out
    Path("zero.pt").unlink()
    assert main(["verify", "--all", *config]) == 1
    Path("ext.yaml").write_text(Path("ext.yaml").read_text().replace("zero.pt", "elsewhere/theirs.pt"))
    assert main(["verify", "--all", *config]) == 0
    assert "elsewhere/theirs.pt is not here" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"]
)
def test_a_file_is_known_by_its_content_and_not_by_its_name(content, here, capsys):
    Path("theirs.safetensors").write_bytes(content)
    assert evaluate("--normalise", "inside", weights="theirs.safetensors") == 2
    assert "theirs.safetensors" in capsys.readouterr().err
    torch.save(state(), "theirs.safetensors")
    assert evaluate("--normalise", "inside", weights="theirs.safetensors") == 0


def test_weights_in_whole_numbers_are_no_weights(here, capsys):
    torch.save({name: (100 * tensor).to(torch.int8) for name, tensor in state().items()}, "theirs.pt")
    assert evaluate("--normalise", "inside") == 2
    assert "whole numbers: fc.weight int8, fc.bias int8" in capsys.readouterr().err


def test_weights_that_did_not_come_along_are_not_called_damaged(here, capsys):
    torch.save(state(), "theirs.pt")
    assert evaluate("--normalise", "inside") == 0
    (folder_of() / "weights.safetensors").unlink()
    run = "few/doornets_means/eps26/external/theirs/seed0"
    assert main(["evaluate", "--run", run, "--suite", "whitebox", "--network", NETWORK]) == 2
    assert "is not there: it was removed, or left out of the archive" in capsys.readouterr().err


def test_check_asks_how_a_network_normalises_before_anything_is_trained(here, capsys):
    torch.save(state(), "theirs.pt")
    said = "model: 'doornets:Means', dataset: few, eps: 26/255"
    Path("ext.yaml").write_text(f"grid: []\nexternal: [{{weights: theirs.pt, {said}}}]")
    assert main(["check", "--configfile", "few.yaml", "ext.yaml"]) == 2
    assert "external: theirs: say how the input of doornets_means is normalised: `normalise:" in capsys.readouterr().err


def test_the_recipe_of_a_run_on_prepared_own_data_needs_no_config(here, capsys):
    assert main(["recipe", "few/preact_tiny/eps26/atas/paper/seed0"]) == 0
    assert "epochs" in capsys.readouterr().out
    assert main(["recipe", "few/preact_tiny/eps26/atas/paper/seed0", "--results", "elsewhere"]) == 2
    assert "unknown dataset 'few'" in capsys.readouterr().err
