"""Training end to end on digits: exact resume, refused state, SIGTERM and Ctrl-C."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import methods.clean
from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import load_config, overlay
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.data.datasets import Part
from fastat.data.subsets import stratified
from fastat.machine import files, seals
from fastat.machine.seeds import generator
from fastat.networks import models
from fastat.training import checkpoint, run, trainer
from fastat.training.checkpoint import Standing
from fastat.training.learner import learning_rate
from fastat.types import StepReport

NAME = "digits/preact_tiny/eps77/atas/paper/seed0"


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Prepared digits."""
    out = tmp_path_factory.mktemp("data") / "digits.safetensors"
    assert main(["data", "--dataset", "digits", "--out", str(out)]) == 0
    return out


@pytest.fixture
def results(tmp_path, data) -> Path:
    """A results folder with prepared data."""
    (tmp_path / "data").mkdir()
    os.link(data, tmp_path / "data/digits.safetensors")
    return tmp_path


def recipe(name=NAME, **changes) -> str:
    every = {"epochs": 4, "pad": 1, "numerics": "native"} | changes  # here torch is loaded, and a subprocess must agree
    config = overlay(load_config(), {"recipes": {"digits": {"every": every}}})
    return resolve(RunSpec.parse(name), config).to_json()


def command(results: Path, name: str = NAME) -> list[str]:
    return ["train", "--run", name, "--results", str(results), "--recipe", recipe(name), "--threads", "1"]


def forget_hashes(path: Path) -> None:
    """Make a run.json one of before it named its files."""
    about = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in about.items() if key not in ("files", "seal")}))


def weights(results: Path) -> bytes:
    return (results / "runs" / NAME / "weights.safetensors").read_bytes()


def test_what_is_finished_is_neither_trained_again_nor_lost(results, capsys, caplog):
    folder, short = results / "runs" / NAME, [*command(results)[:-3], recipe(epochs=2), "--threads", "1"]
    assert main(short) == 0
    before = (folder / "run.json").stat()
    caplog.set_level("INFO")
    assert main(short) == 0 and f"finished before, nothing to do. To train it again: rm -r {folder}" in caplog.text
    assert main(command(results)) == 2
    assert "holds another training: epochs is 2, asked for is 4. Train into another" in capsys.readouterr().err
    assert (folder / "run.json").stat() == before
    copied = folder.with_name("seed1")  # a folder is believed by its content, not its path
    shutil.copytree(folder, copied)
    assert main([*short[:2], NAME.replace("seed0", "seed1"), *short[3:]]) == 2
    assert f"{copied} holds another training: its run is {NAME}. Train" in capsys.readouterr().err
    assert main([*short, "--snapshots"]) == 0 and (folder / "snapshots/epoch002.safetensors").exists()
    shutil.rmtree(folder / "snapshots")  # as by `clean`
    before = (folder / "run.json").stat()
    assert main(short) == 0 and (folder / "run.json").stat() == before
    (folder / "log.csv").unlink()  # what is not whole is made again
    assert main(short) == 0 and (folder / "log.csv").exists()
    assert f"{folder}: not as it was written, or not there: log.csv. It is trained again" in caplog.text


def test_where_any_numerics_will_do_those_that_are_there_will(results, monkeypatch, caplog):
    short = [*command(results)[:-3], recipe(epochs=1, numerics="auto"), "--threads", "1"]
    assert main(short) == 0
    about = json.loads((results / "runs" / NAME / "run.json").read_text())
    other = {"portable": "native", "native": "portable"}[about["numerics"]]
    monkeypatch.setattr(run.numerics, "settled", lambda wanted, device: other if wanted == "auto" else wanted)
    caplog.set_level("INFO")
    assert main(short) == 0 and "finished before, nothing to do" in caplog.text


def test_a_method_that_gives_no_report_is_said(results, monkeypatch, capsys):
    monkeypatch.setattr(methods.clean.Method, "train_batch", lambda self, model, learner, batch: torch.zeros(()))
    assert main(command(results, NAME.replace("atas", "clean"))) == 2
    assert "train_batch must return a StepReport, got Tensor. See docs/own-method.md" in capsys.readouterr().err


def test_killed_at_any_moment_a_run_ends_with_the_same_weights(results, tmp_path_factory):
    assert main(command(results)) == 0
    other = tmp_path_factory.mktemp("killed")
    (other / "data").symlink_to(results / "data")
    state = other / "runs" / NAME / "state/state.safetensors"
    for sign, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-m", "fastat", *command(other)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while (not state.exists() or state.stat().st_mtime_ns == before) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(sign)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code and "Traceback" not in said
        assert sign == signal.SIGKILL or "stopped; saved at epoch" in said
    assert main(command(other)) == 0
    assert weights(other) == weights(results)
    with open(other / "runs" / NAME / "log.csv", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert not state.exists()


def test_stopped_after_the_last_batch_of_an_epoch_its_row_has_the_learning_rate_of_that_batch(results, monkeypatch):
    add, path, rates = trainer.Instances.add, results / "runs" / NAME, []

    def stopping(self, batch, report):
        if stops and (batch.epoch, batch.number + 1) == (2, self.task.n_batches):
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, batch, report)

    monkeypatch.setattr(trainer.Instances, "add", stopping)
    for stops in (False, True):
        codes = [main(command(results)) for _ in range(1 + stops)]
        assert codes == ([143, 0] if stops else [0])
        with open(path / "log.csv", encoding="utf-8") as file:
            rates.append([row["lr"] for row in csv.DictReader(file)])
        (path / "run.json").unlink()
    assert rates[0] == rates[1]


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, bytes(range(256)) * 9])
def test_a_damaged_state_file_is_refused_with_the_way_out(results, content, capsys):
    state = results / "runs" / NAME / "state/state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    assert main(command(results)) == 2
    assert f"rm {state}" in capsys.readouterr().err


@pytest.fixture
def stopped(results, monkeypatch) -> Path:
    """The state of a run that ended after its second epoch."""

    def kill(*_args):
        raise SystemExit(9)

    real = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda path, state, now, made: (real(path, state, now, made), now.epoch == 3 and kill())
    )
    with pytest.raises(SystemExit):
        main(command(results))
    monkeypatch.setattr(checkpoint, "save", real)
    return results / "runs" / NAME / "state/state.safetensors"


def change_state(path: Path, keep_sums: bool = True, **standing) -> None:
    """Write the state again, with another standing."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["fastat"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    about["standing"].update(standing)
    if not keep_sums:
        about.pop("checksums")
    save_file(tensors, path, metadata={"fastat": json.dumps(about)})


def refused(results: Path, state: Path, capsys, words: str) -> None:
    """The training says what is wrong and how to start afresh, and deletes nothing."""
    assert main(command(results)) == 2
    message = capsys.readouterr().err
    assert words in message and f"rm {state}" in message
    assert state.exists()


@pytest.mark.parametrize("at", [0.3, 0.7, 0.999])
def test_one_flipped_bit_in_a_state_is_refused(results, stopped, capsys, at):
    content = bytearray(stopped.read_bytes())
    content[int(at * len(content))] ^= 16
    stopped.write_bytes(content)
    refused(results, stopped, capsys, "is not what was saved")


def test_a_lost_tensor_is_refused_with_checksums_and_without(results, stopped, capsys):
    with safe_open(stopped, framework="pt") as file:
        about, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    tensors.pop("method/step_size.v")
    save_file(tensors, stopped, metadata=about)
    refused(results, stopped, capsys, "is damaged: method/step_size.v")
    change_state(stopped, keep_sums=False)
    refused(results, stopped, capsys, "step_size.v")


@pytest.mark.parametrize("standing", [{"epoch": 9}, {"epoch": 0}, {"log": []}])
def test_an_epoch_that_cannot_be_is_refused_with_checksums_and_without(results, stopped, capsys, standing):
    change_state(stopped, **standing)
    refused(results, stopped, capsys, "about is not what was saved")
    change_state(stopped, keep_sums=False, **standing)
    refused(results, stopped, capsys, "is damaged: it stands at epoch")


def test_a_state_made_before_there_were_checksums_goes_on_and_says_so(results, stopped, caplog):
    change_state(stopped, keep_sums=False)
    assert main(command(results)) == 0
    assert "has no checksums" in caplog.text and not stopped.exists()


def test_the_state_of_another_recipe_is_refused_with_both_fingerprints(results, capsys):
    state = results / "runs" / NAME / "state/state.safetensors"
    state.parent.mkdir(parents=True)
    checkpoint.save(state, {"model": {"w": torch.zeros(1)}}, Standing(), "fingerprint-of-another")
    assert main(command(results)) == 2
    message = capsys.readouterr().err
    assert "made by another run: fingerprint fingerprint-of-another" in message and f"rm {state}" in message
    assert state.exists()  # nothing is lost: it may be the other recipe's


def test_two_processes_on_one_run_folder_are_told_apart(results, capsys):
    with files.exclusive(results / "runs" / NAME / "state"):
        second = subprocess.run(
            [sys.executable, "-m", "fastat", *command(results)], cwd=ROOT, capture_output=True, text=True
        )
    assert second.returncode == 2 and "another process is working on" in second.stderr


def test_divergence_is_a_result_with_its_cause(results):
    import json

    text = recipe(schedule={"kind": "piecewise", "lr": 1e20}, weight_decay=0.5)
    assert main([*command(results), "--recipe", text]) == 0
    about = json.loads((results / "runs" / NAME / "run.json").read_text())
    assert about["status"] == "diverged" and "became" in about["cause"]


def test_a_batchnorm_statistic_that_is_no_number_is_divergence_too():
    model = models.build("preact_tiny", 1, 10)
    row = {"epoch": 3, "loss": 2.3, "pgd10_loss": 2.3}
    assert trainer.divergence(row, model) == ""
    model.trunk[0].bn1.running_var[2] = float("nan")
    assert trainer.divergence(row, model) == "trunk.0.bn1.running_var became nan in epoch 3"
    assert "under PGD10 became inf" in trainer.divergence(row | {"pgd10_loss": float("inf")}, model)


@pytest.mark.parametrize("name,value", [("trunk.0.bn1.running_var", float("nan")), ("stem.1.weight", float("inf"))])
def test_weights_that_are_no_numbers_get_no_accuracy(results, capsys, name, value):
    assert main([*command(results), "--recipe", recipe(epochs=1)]) == 0
    path = results / "runs" / NAME / "weights.safetensors"
    held = load_file(path)
    held[name].view(-1)[0] = value
    save_file(held, path)
    forget_hashes(path.with_name("run.json"))
    assert main(["evaluate", "--run", NAME, "--results", str(results), "--suite", "whitebox"]) == 2
    assert f"{name} holds what is no number" in capsys.readouterr().err
    assert not (results / "runs" / NAME / "eval").exists()


def test_too_little_memory_and_weights_of_another_network_are_said_plainly(results, capsys):
    assert main([*command(results), "--recipe", recipe(pad=200_000)]) == 2
    assert "out of memory" in capsys.readouterr().err
    assert main([*command(results), "--recipe", recipe(epochs=1)]) == 0
    folder, evaluate = results / "runs" / NAME, ["evaluate", "--run", NAME, "--results", str(results)]
    (folder / "weights.safetensors").write_bytes(b"junk")
    assert main([*evaluate, "--suite", "whitebox"]) == 2
    assert "weights.safetensors is not what this run wrote" in capsys.readouterr().err
    forget_hashes(folder / "run.json")
    for content in (b"junk", None):
        if content:
            (folder / "weights.safetensors").write_bytes(content)
        else:
            other = models.build("preact_small", 1, 10).state_dict()
            save_file(other, folder / "weights.safetensors")
        capsys.readouterr()
        assert main([*evaluate, "--suite", "whitebox"]) == 2
        assert "is damaged or of another network" in capsys.readouterr().err


def test_missing_data_and_unwritable_results_are_bad_input(tmp_path, results, capsys):
    assert main(command(tmp_path / "nowhere")) == 2
    assert "cannot read" in capsys.readouterr().err
    (results / "runs").write_text("a file, not a folder")
    assert main(command(results)) == 2
    assert "cannot write into" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name,said,redrawn",
    [
        ("digits/preact_tiny/eps77/yopo/paper/seed0", {"n_outer": 5, "n_inner": 3, "sigma": "0.25 eps"}, []),
        (NAME, {"beta": 0.5, "gamma_over_c": "2 eps", "reset_every": 10}, [1]),
    ],
)
def test_run_json_says_every_value_of_the_method_its_defaults_too(results, name, said, redrawn):
    whole = json.loads(resolve(RunSpec.parse(name), load_config()).to_json())
    short = json.dumps(whole | {"epochs": 1, "n_train": 128, "schedule": {"kind": "triangular"}})
    assert main(["train", "--run", name, "--results", str(results), "--recipe", short, "--threads", "1"]) == 0
    about = json.loads((results / "runs" / name / "run.json").read_text())
    assert about["config"].items() >= said.items() and about["redrawn"] == redrawn


def test_an_evaluation_is_refused_of_foreign_weights_and_data(results, capsys):
    other = NAME.replace("seed0", "seed1")
    for name in (NAME, other):
        assert main([*command(results, name)[:-4], "--recipe", recipe(name, epochs=1), "--threads", "1"]) == 0
    mine, theirs = (results / "runs" / name for name in (NAME, other))
    evaluate = ["evaluate", "--run", NAME, "--results", str(results), "--suite", "whitebox"]
    kept = {name: (mine / name).read_bytes() for name in ("run.json", "weights.safetensors")}
    for name, said in (("run.json", f"is of the run '{other}'"), ("weights.safetensors", "is not what this run wrote")):
        (mine / name).write_bytes((theirs / name).read_bytes())
        assert main(evaluate) == 2 and said in capsys.readouterr().err
        (mine / name).write_bytes(kept[name])
    about = seals.read(mine / "run.json")
    seals.write(mine / "run.json", about | {"data_sha256": "0" * 64})
    assert main(evaluate) == 2 and "is not what digits/preact_tiny" in capsys.readouterr().err
    (mine / "run.json").write_text(json.dumps(about | {"epochs_done": 7}))
    assert main(evaluate) == 2 and "its seal is of other content" in capsys.readouterr().err
    assert not (mine / "eval").exists()


def test_a_training_that_replaces_a_damaged_one_does_not_leave_the_first_ones_run_json(results, monkeypatch):
    short = [*command(results)[:-3], recipe(epochs=1), "--threads", "1"]
    assert main(short) == 0
    path = results / "runs" / NAME / "run.json"
    assert set(seals.read(path)["files"]) == {"log.csv", "weights.safetensors", "instances.safetensors"}

    def fail(*_args):
        raise SystemExit(9)

    monkeypatch.setattr(trainer, "write_weights", fail)
    (path.parent / "log.csv").unlink()
    with pytest.raises(SystemExit):
        main(short)
    assert not path.exists()


def test_a_log_has_means_over_images_and_not_over_batches():
    totals = trainer.Totals(torch.device("cpu"))
    for loss, n in ((1.0, 4), (3.0, 1)):
        totals.add(StepReport(torch.tensor(loss), torch.zeros(n, 1)), n)
    assert totals.means() == {"loss": pytest.approx(1.4)}


def test_what_is_watched_is_fgsm_and_pgd10_on_the_reported_network_as_it_evaluates():
    """Every word on collapse rests on these numbers: here they are made by hand, on a network that was trained."""
    network = models.PreActResNet(4, (1, 1), 1, 1, 10)
    network.load_state_dict(load_file(ROOT / "tests/evaluation/frozen.safetensors"))
    found = load_digits()
    pixels = torch.tensor(found.images / 16 * 255).round().to(torch.uint8)[:, None]
    part, eps, cpu = Part(pixels[:300], torch.tensor(found.target)[:300], (8, 8)), 0.2, torch.device("cpu")
    run = SimpleNamespace(
        task=SimpleNamespace(eps=eps, device=cpu, image_shape=(1, 8, 8)), watched=part, seed=3,
        recipe=SimpleNamespace(monitor_images=50), learner=SimpleNamespace(reported=network.train()), model=None,
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seen = trainer.monitor(run, 5)
    assert network.training and all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    network.eval()
    x, y = part.take(stratified(part.labels, 50, seed=0))

    def climbed(x_adv, alpha, n_steps):
        for _ in range(n_steps):
            x_adv = x_adv.detach().requires_grad_()
            grad = torch.autograd.grad(cross_entropy(network(x_adv), y), x_adv)[0]
            x_adv = torch.minimum(torch.maximum(x_adv + alpha * grad.sign(), x - eps), x + eps).clamp(0, 1)
        return network(x_adv).detach()

    noise = torch.rand(x.shape, generator=generator(cpu, 3, "monitor", 5)) * 2 - 1
    single, many = climbed(x, eps, 1), climbed((x + eps * noise).clamp(0, 1), eps / 5, 10)
    right = {"clean": network(x), "fgsm": single, "pgd10": many}
    expected = {f"{name}_acc": float((z.argmax(1) == y).double().mean()) for name, z in right.items()}
    assert len(set(expected.values())) == 3
    assert seen == pytest.approx({**expected, "pgd10_loss": float(cross_entropy(many, y))}, abs=1e-6)


def test_the_learning_rate_moves_with_every_batch_and_the_order_with_the_seed(results, monkeypatch):
    orders = []
    add = trainer.Instances.add
    monkeypatch.setattr(trainer.Instances, "add", lambda self, b, r: (orders.append(b.index.tolist()), add(self, b, r)))
    for seed in (0, 1):
        name = f"digits/preact_tiny/eps77/fgsm_rs/paper/seed{seed}"
        small = {"epochs": 2, "n_train": 128, "batch_size": 32, "monitor_images": 10}
        call = ["train", "--run", name, "--results", str(results), "--recipe", recipe(name, **small), "--threads", "1"]
        assert main(call) == 0
    assert len(orders) == 16 and sorted(sum(orders[:4], [])) == sorted(sum(orders[8:12], []))
    assert orders[:4] != orders[8:12] and orders[:4] != orders[4:8]
    schedule = resolve(RunSpec.parse(name), load_config()).schedule
    with open(results / "runs" / name / "log.csv", encoding="utf-8") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([learning_rate(schedule, 0.75, 2), learning_rate(schedule, 1.75, 2)])
    assert rates[0] != learning_rate(schedule, 0.0, 2)
