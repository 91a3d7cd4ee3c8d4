"""fastat from one's own Python: what it gives, refuses and leaves as it was."""

import json
import random
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fastat
from fastat import ROOT, library
from fastat.cli import main
from fastat.errors import BadInput
from fastat.networks import models

EPS = 77 / 255


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A results folder with digits."""
    folder = tmp_path_factory.mktemp("results")
    assert main(["data", "--dataset", "digits", "--out", str(folder / "data/digits.safetensors")]) == 0
    return folder


@pytest.fixture(scope="module")
def digits(results) -> tuple[torch.Tensor, torch.Tensor]:
    """The first 256 training images and their labels."""
    data = load_file(results / "data/digits.safetensors")
    return data["train_images"][:256], data["train_labels"][:256]


class Small(nn.Module):
    """A network of somebody else: it flattens by `view`, which batches in channels_last do not allow."""

    def __init__(self, n_in: int = 64, n_classes: int = 10):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, 16), nn.ReLU(), nn.Linear(16, n_classes))

    def forward(self, x):
        return self.layers(x.view(len(x), -1))


def small(seed: int = 0, **sizes) -> Small:
    torch.manual_seed(seed)
    return Small(**sizes)


def test_fastat_imports_no_torch_until_it_is_asked_to_train():
    code = (
        "import sys, fastat; assert 'torch' not in sys.modules; assert {'train', 'attacks'} <= set(dir(fastat))\n"
        "fastat.BadInput; assert 'torch' not in sys.modules\n"
        "fastat.attacks.pgd; fastat.train; assert 'torch' in sys.modules\n"
        "from fastat import train"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="module 'fastat' has no attribute 'trian'"):
        fastat.trian  # noqa: B018


@pytest.mark.parametrize("method", ["atas", "fgsm_sdi", "ssat"])
def test_it_trains_to_the_bits_of_the_command_line(method, results, digits, tmp_path):
    run, config = f"digits/preact_tiny/eps77/{method}/paper/seed3", tmp_path / "two.yaml"
    config.write_text(
        f"grid: [{{dataset: digits, model: preact_tiny, eps: 77/255, method: {method}, seed: 3}}]\nnumerics: native\n"
        "recipes: {digits: {every: {epochs: 2, n_train: 256}}}\n"
    )
    assert main(["train", "--run", run, "--results", str(results), "--configfile", str(config)]) == 0
    theirs = load_file(results / "runs" / run / "weights.safetensors")
    for x in (digits[0], digits[0].float() / 255, (digits[0].double() / 255).numpy()):
        model, log = fastat.train(method, x, digits[1], "preact_tiny", eps=EPS, dataset="digits", seed=3, epochs=2)
        assert model.state_dict().keys() == theirs.keys() and not model.training
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())
    header, *rows = (results / "runs" / run / "log.csv").read_text().splitlines()
    assert [row.split(",")[header.split(",").index("loss")] for row in rows] == [str(row["loss"]) for row in log]


def test_a_network_of_one_s_own_is_copied_and_nothing_else_is_touched(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, mode = torch.get_rng_state(), network.training
    model, log = fastat.train("fgsm_rs", *digits, network, eps=0.1, epochs=2, flip=False, pad=0)
    assert torch.equal(torch.get_rng_state(), state) and network.training == mode
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model._forward_pre_hooks and [row["epoch"] for row in log] == [1, 2]
    assert not list(tmp_path.iterdir())
    again, _ = fastat.train("fgsm_rs", *digits, network, eps=0.1, epochs=2, flip=False, pad=0)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_pixels_that_are_no_whole_255ths_are_trained_on_as_they_are(digits):
    x = (digits[0].float() / 255).clamp(0.001, 0.9).sqrt()
    seen = []

    class Watching(Small):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    torch.manual_seed(0)
    fastat.train("clean", x[:4], digits[1][:4], Watching(), eps=0.1, epochs=1, flip=False, pad=0)
    batch = next(images for images in seen if len(images) == 4)
    assert {round(float(p), 6) for p in batch.flatten()} == {round(float(p), 6) for p in x[:4].flatten()}


def test_the_learning_rate_s_drops_that_a_method_knows_move_with_it():
    spec = library.spec_of("fgsm_rs_cs", "paper", None, "preact_tiny", 8 / 255, 0)
    recipe = library.recipe_of(spec, 110, {})
    assert recipe.schedule.milestones == pytest.approx((100, 105), abs=0.02)
    assert recipe.params["decays"] == pytest.approx(recipe.schedule.milestones)


def test_a_parameter_that_is_said_is_not_moved_with_the_schedule():
    spec, said = library.spec_of("subat", "paper", "cifar10", "preact_resnet18", 8 / 255, 0), {"sampling_epochs": 100}
    jump = library.recipe_of(spec, 80, {}).params["sampling_epochs"]
    assert jump == 50 and library.recipe_of(spec, 80, {"params": said}).params["sampling_epochs"] == 100


def test_a_cycle_of_one_or_two_epochs_is_refused(digits):
    with pytest.raises(BadInput, match="epochs must be 3 or more with kind: one_cycle.*got 2"):
        library.recipe_of(library.spec_of("liet", "paper", None, "preact_tiny", 8 / 255, 0), 2, {})


def test_more_or_fewer_epochs_stretch_the_schedule(digits):
    x, y, said = digits[0][:64], digits[1][:64], {"eps": 8 / 255, "pad": 0, "batch_size": 64}
    _, log = fastat.train("atas", x, y, small(), epochs=5, **said)
    assert [round(row["lr"], 6) for row in log] == [0.1, 0.1, 0.1, 0.1, 0.01]  # 24 of 30 epochs, then a tenth
    _, log = fastat.train("atas", x, y, small(), epochs=5, schedule={"lr": 0.2}, **said)
    assert [round(row["lr"], 6) for row in log] == [0.2, 0.2, 0.2, 0.2, 0.02]
    own = {"kind": "piecewise", "lr": 0.1, "milestones": [1]}
    _, log = fastat.train("atas", x, y, small(), epochs=3, schedule=own, **said)
    assert [round(row["lr"], 6) for row in log] == [0.1, 0.01, 0.01]


def test_without_a_data_set_the_recipe_is_cifar10_s_in_proportion_to_eps(digits, tmp_path):
    for method, eps, params in (
        ("atas", 8 / 255, {}),
        ("atas", 0.1, {"gamma_over_c": "2 eps"}),  # 16/255 at 8/255
        ("fgsm_ga", 0.1, {"lam": 0.2}),  # that of 8/255
    ):
        fastat.train(method, *digits, small(), eps=eps, epochs=1, batch_size=64, pad=0, folder=tmp_path / method)
        said = json.loads((tmp_path / method / "run.json").read_text())
        assert said["eps"] == eps and params.items() <= said["recipe"]["params"].items(), said["recipe"]["params"]
        shutil.rmtree(tmp_path / method)


def test_a_folder_holds_what_a_run_leaves_and_its_weights_are_those_that_are_returned(digits, tmp_path):
    said = {"eps": 0.1, "epochs": 2, "pad": 0, "flip": False, "hold_out": 0.25, "folder": str(tmp_path / "mine")}
    model, log = fastat.train("atas", *digits, small(), **said)
    kept = load_file(tmp_path / "mine/weights.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    names = {"run.json", "log.csv", "weights.safetensors", "instances.safetensors", "best.safetensors"}
    assert names <= {path.name for path in (tmp_path / "mine").iterdir()}
    assert all("held_out_pgd10_acc" in row for row in log)


def test_it_trains_in_a_thread_that_hears_no_signals(digits, tmp_path):
    done = []
    said = {"eps": 0.1, "epochs": 1, "pad": 0, "folder": tmp_path}
    thread = threading.Thread(target=lambda: done.append(fastat.train("clean", *digits, small(), **said)))
    thread.start()
    thread.join()
    assert len(done) == 1 and (tmp_path / "run.json").is_file()


def test_a_network_with_stem_and_trunk_is_trained_by_yopo(digits):
    torch.manual_seed(0)
    model, log = fastat.train(
        "yopo", *digits, models.build("preact_tiny", 1, 10), eps=EPS, epochs=1, dataset="digits", batch_size=64
    )
    assert log[0]["loss"] > 0 and not model.stem._forward_pre_hooks


def test_what_diverges_is_raised_with_its_log(digits):
    with pytest.raises(fastat.Diverged, match="training diverged: .* became (nan|inf)") as raised:
        fastat.train("clean", *digits, small(), eps=0.1, epochs=2, schedule={"lr": 1e20}, pad=0)
    assert len(raised.value.log) >= 1


X, Y = torch.zeros((8, 1, 8, 8), dtype=torch.uint8), torch.arange(8)


class Logits(nn.Module):
    """A network that gives what it must not."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(64, 10)

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        return {"tuple": (logits,), "flat": logits.sum(1), "double": logits.double()}[self.kind]


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"method": "atass"}, "unknown method 'atass'. Did you mean 'atas'"),
        ({"variant": "papr"}, "method atas has no variant 'papr'. Did you mean 'paper'"),
        ({"variant": "paper_d9_10"}, "give these images as x"),
        ({"dataset": "cifar"}, "unknown dataset 'cifar', whose recipe is taken. Did you mean 'cifar10'"),
        ({"network": "preact_tin"}, "unknown model 'preact_tin'. Did you mean 'preact_tiny'"),
        ({"network": None}, "network must be a torch.nn.Module or the name of one of ours, got NoneType"),
        ({"network": Logits("tuple")}, "must give a tensor of logits, in eval mode got tuple"),
        ({"network": Logits("flat")}, "its logits must be .2, 8. of 2 images, got .2,."),
        ({"network": Logits("double")}, "its logits must be float32, got torch.float64"),
        ({"network": small().half()}, "parameters must be float32, got torch.float16"),
        ({"network": small().requires_grad_(False)}, "all its parameters are frozen"),
        ({"network": small(n_classes=7)}, "labels must be below the network's 7 classes, got 7"),
        ({"method": "yopo", "network": small()}, "yopo needs stem and trunk of a network, and it has no stem"),
        ({"eps": 8}, "eps must be above 0 and below 0.5, .* got 8. Did you mean 8 / 255"),
        ({"eps": float("nan")}, "eps must be above 0"),
        ({"eps": "8/255"}, "eps must be above 0"),
        ({"seed": -1}, "seed must be a whole number, 0 or more"),
        ({"epochs": 0}, "epochs must be .*, got 0"),
        ({"epochs": 2.0}, "epochs must be .*, got 2.0; write 2"),
        ({"batchsize": 4}, "unknown key 'batchsize'. Did you mean 'batch_size'"),
        ({"params": {"bta": 1.0}}, "method atas has no parameter 'bta'. Did you mean 'beta'"),
        ({"n_train": 4}, "n_train is not said here"),
        ({"batch_size": 16, "drop_last": True}, "only 8 images"),
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "meta"}, "device must be auto, cpu, cuda or cuda:N"),
        ({"numerics": "portable"}, "portable cannot be kept here"),
        ({"x": X[0]}, r"x must be images \(n, C, H, W\), got the shape \(1, 8, 8\)"),
        ({"x": X[:0], "y": Y[:0]}, "x must be images"),
        ({"x": X.long()}, "x must be uint8, or float in .0, 1., got torch.int64"),
        ({"x": X.float() + 255}, "pixels must lie in .0, 1., got 255 to 255. Divide by 255"),
        ({"x": X.float() * float("nan")}, "pixels must lie in .0, 1., got nan to nan"),
        ({"y": Y[:7]}, "y must have a label for each of 8 images"),
        ({"y": Y.float()}, "labels must be whole numbers, got torch.float32"),
        ({"y": Y - 1}, "labels must be 0 or more, got -1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_way_out(changes, message):
    said = {"method": "atas", "x": X, "y": Y, "network": small(), "eps": 0.1, "epochs": 1, "pad": 0, **changes}
    with pytest.raises(fastat.BadInput, match=message):
        fastat.train(**said)


def test_the_readme_s_example_is_ten_lines_and_runs(tmp_path):
    block = next(code for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    assert "fastat.train(" in block and "fastat.evaluate(" in block and len(block.splitlines()) <= 10
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, timeout=300)
    assert not list(tmp_path.iterdir())


class Drawing(nn.Module):
    """A network that draws from every generator there is, and none of its layers says so."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x):
        if self.training:
            x = nn.functional.dropout(x, 0.1) * (1 + 0.1 * random.random()) + 0.1 * float(np.random.rand())
        return self.layers(x)


def test_a_network_that_draws_trains_to_the_same_weights_and_leaves_the_user_s_generators(digits):
    torch.manual_seed(0)
    network, found = Drawing(), []
    for seed in (1, 2):  # of the user's own generators
        random.seed(seed)
        np.random.seed(seed)
        next_ones = random.Random(seed).random(), np.random.RandomState(seed).rand()
        model, _ = fastat.train("fgsm_rs", *digits, network, eps=EPS, epochs=1, pad=0, flip=False, monitor_images=10)
        assert (random.random(), np.random.rand()) == next_ones
        found.append([*model.state_dict().values()])
    assert all(map(torch.equal, *found))


def test_a_network_whose_average_is_reported_can_be_pickled(digits, tmp_path):
    """A copy of the network keeps the hook that gives it usual batches."""
    options = {"eps": EPS, "epochs": 1, "pad": 0, "flip": False, "average": 0.5, "monitor_images": 10}
    model, _ = fastat.train("fgsm_rs", *digits, small(), **options)
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
