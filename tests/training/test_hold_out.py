"""Training images that are held out, and the best epoch that they choose."""

import json
import os
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fastat.cli import main
from fastat.config.grid import load_config, overlay, result_files
from fastat.config.recipe import n_held_out, resolve
from fastat.config.spec import RunSpec
from fastat.data import datasets, subsets
from fastat.errors import BadInput
from fastat.machine import seals
from fastat.report import tidy, verify
from fastat.training import run as training_run
from fastat.training import trainer

NAME = "digits/preact_tiny/eps77/fgsm_rs/paper/seed0"
SPEC = RunSpec.parse(NAME)


def config(**changes):
    every = {"epochs": 3, "n_train": 200, "n_test": 40, "hold_out": 0.25, "numerics": "native"} | changes
    evaluation = {"autoattack": {"n_images": 10, "batch_size": 10}}
    return overlay(load_config(), {"recipes": {"digits": {"every": every}}, "evaluation": evaluation})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "digits.safetensors"
    assert main(["data", "--dataset", "digits", "--out", str(out)]) == 0
    return out


@pytest.fixture
def results(tmp_path, data):
    (tmp_path / "data").mkdir()
    os.link(data, tmp_path / "data/digits.safetensors")
    return tmp_path


def train(results, **changes):
    recipe = resolve(SPEC, config(**changes)).to_json()
    assert main(["train", "--run", NAME, "--results", str(results), "--recipe", recipe]) == 0
    return results / "runs" / NAME


@pytest.mark.parametrize("hold_out,n", [(0, 0), (0.02, 29), (0.0007, 1), (1, 1), (100, 100), (1436, 1436)])
def test_a_share_or_a_count_of_the_training_images(hold_out, n):
    assert n_held_out(hold_out, 1437) == n


@pytest.mark.parametrize("hold_out", [0.0001, 0.99999, 1437, 2000])
def test_none_or_all_of_them_is_refused_before_anything_runs(hold_out):
    with pytest.raises(BadInput, match="hold_out must be at least one training image and fewer than all 200"):
        resolve(SPEC, config(hold_out=hold_out))


@pytest.mark.parametrize("hold_out", [-1, 2.5, "some", True])
def test_what_is_neither_is_refused(hold_out):
    with pytest.raises(BadInput, match="hold_out must be a share of the training images below 1"):
        resolve(SPEC, config(hold_out=hold_out))


def test_without_it_a_recipe_is_the_text_that_it_was():
    assert "hold_out" not in resolve(SPEC, config(hold_out=0)).to_json()
    assert '"hold_out":0.25' in resolve(SPEC, config()).to_json()


def test_nothing_is_trained_on_them_and_every_class_has_its_share(results):
    whole = datasets.load(results / "data/digits.safetensors", torch.device("cpu"), 200)
    rest, held = subsets.held_out(whole, 0.25)
    pixels = {image.numpy().tobytes() for image in rest.train.images}
    assert (len(rest.train), len(held), rest.sha256) == (150, 50, whole.sha256)
    assert not pixels & {image.numpy().tobytes() for image in held.images}
    counts, whole_counts = held.labels.bincount(minlength=10), whole.train.labels.bincount(minlength=10)
    assert ((counts - whole_counts * 0.25).abs() < 1).all()
    again, _ = subsets.held_out(whole, 0.25)
    assert torch.equal(again.train.images, rest.train.images)


def test_the_best_epoch_is_the_first_of_the_highest():
    rows = [{trainer.HELD_OUT: acc} for acc in (0.1, 0.4, 0.3, 0.4)]
    assert [trainer.best_epoch(rows[: n + 1]) for n in range(4)] == [1, 2, 2, 2]
    assert trainer.best_epoch([{"loss": 1.0}]) is None


def test_its_weights_are_kept_though_the_training_is_stopped_after_it(results, tmp_path_factory, monkeypatch):
    """Epochs of accuracy 0.1, 0.4, 0.2: the second epoch's weights, with and without a stop in the third."""
    given = {1: 0.1, 2: 0.4, 3: 0.2}
    monkeypatch.setattr(trainer, "on_held_out", lambda run, epoch: {trainer.HELD_OUT: given[epoch]})
    folder = train(results)
    about = json.loads((folder / "run.json").read_text())
    assert about["best_epoch"] == 2 and set(about["files"]) >= {"best.safetensors", "weights.safetensors"}
    best, last = (load_file(folder / f"{name}.safetensors") for name in ("best", "weights"))
    assert any(not torch.equal(best[name], last[name]) for name in last)

    other = tmp_path_factory.mktemp("stopped")
    (other / "data").symlink_to(results / "data")
    by_hand = trainer.monitor

    def stopped(run, epoch):
        if epoch == 3:
            raise KeyboardInterrupt
        return by_hand(run, epoch)

    monkeypatch.setattr(trainer, "monitor", stopped)
    command = ["train", "--run", NAME, "--results", str(other), "--recipe", resolve(SPEC, config()).to_json()]
    assert main(command) == 130
    monkeypatch.setattr(trainer, "monitor", by_hand)
    assert main(command) == 0
    for name in ("best.safetensors", "weights.safetensors"):
        assert (other / "runs" / NAME / name).read_bytes() == (folder / name).read_bytes()


def test_the_best_weights_are_what_two_epochs_less_would_have_reported(results, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(trainer, "on_held_out", lambda run, epoch: {trainer.HELD_OUT: 1.0 - epoch / 10})
    first = load_file(train(results) / "best.safetensors")
    kept = {}
    by_hand = trainer.Best.look

    def look(self, rows, model):
        kept.setdefault(len(rows), {name: tensor.clone() for name, tensor in model.state_dict().items()})
        by_hand(self, rows, model)

    monkeypatch.setattr(trainer.Best, "look", look)
    other = tmp_path_factory.mktemp("again")
    (other / "data").symlink_to(results / "data")
    train(other)
    assert all(torch.equal(first[name], tensor) for name, tensor in kept[1].items())


def test_of_averaged_weights_the_average_is_kept(results, monkeypatch):
    monkeypatch.setattr(trainer, "on_held_out", lambda run, epoch: {trainer.HELD_OUT: epoch / 10})
    folder = train(results, average=0.9)
    assert (folder / "best.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()


def test_both_are_attacked_and_told_apart(results):
    folder, said = train(results), config()
    protocol = json.dumps({**{k: v for k, v in said["evaluation"].items() if k != "datasets"}, "numerics": "native"})
    command = ["evaluate", "--run", NAME, "--results", str(results), "--protocol", protocol]
    for epoch in ("last", "best"):
        assert main([*command, "--epoch", epoch]) == 0
    of_the_run = {f for f in result_files(SPEC, said) if not f.startswith("instances")}
    assert all((folder / file).exists() for file in of_the_run)
    about = json.loads((folder / "run.json").read_text())
    sides = {name: json.loads((folder / f"eval/{name}.json").read_text()) for name in ("whitebox", "best_whitebox")}
    assert sides["whitebox"]["weights"] == about["files"]["weights.safetensors"]
    assert sides["best_whitebox"]["weights"] == about["files"]["best.safetensors"]
    assert tidy.write_all(results, results) == []
    found = pd.read_csv(results / "measured.csv").set_index("metric")["value"]
    for name, metric in (("whitebox", "pgd50"), ("best_whitebox", "best_pgd50")):
        rows = pd.read_csv(folder / f"eval/{name}.csv")
        assert float(found[metric]) == pytest.approx(100 * rows[rows["attack"] == "pgd50"]["correct"].mean())
    correct = pd.read_csv(results / "correct.csv")
    assert {"aa", "best_aa", "pgd50", "best_pgd50"} <= set(correct["attack"])
    assert int(found["best_epoch"]) == about["best_epoch"]


def test_the_best_epochs_autoattack_has_shards_of_its_own(results):
    folder, said = train(results), config()
    evaluation = {key: value for key, value in said["evaluation"].items() if key != "datasets"} | {"numerics": "native"}
    protocol = json.dumps({**evaluation, "autoattack": {"n_images": 10, "batch_size": 5, "shards": 2}})
    command = ["evaluate", "--run", NAME, "--results", str(results), "--protocol", protocol, "--suite", "autoattack"]
    for shard in ("2", "1"):
        assert main([*command, "--epoch", "best", "--shard", shard]) == 0
    weights = json.loads((folder / "run.json").read_text())["files"]["best.safetensors"]
    for k in (1, 2):
        about = json.loads((folder / f"state/best_shard{k}of2.json").read_text())
        assert about["weights"] == weights and about["rows"] == seals.sha256(folder / "state" / about["kept"])
    before = {path: path.stat().st_mtime_ns for path in (folder / "state").glob("autoattack-*.csv")}
    assert main([*command, "--epoch", "best"]) == 0 and len(before) == 2
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "state").glob("autoattack-*.csv")}
    assert len(set(pd.read_csv(folder / "eval/best_autoattack.csv")["index"])) == 10


def test_rows_of_the_last_weights_are_not_believed_of_the_best_ones(results, monkeypatch):
    monkeypatch.setattr(trainer, "on_held_out", lambda run, epoch: {trainer.HELD_OUT: 1.0 - epoch / 10})
    folder, said = train(results), config()
    protocol = json.dumps({**{k: v for k, v in said["evaluation"].items() if k != "datasets"}, "numerics": "native"})
    assert main(["evaluate", "--run", NAME, "--results", str(results), "--protocol", protocol]) == 0
    for ending in ("csv", "json"):
        (folder / f"eval/best_whitebox.{ending}").write_bytes((folder / f"eval/whitebox.{ending}").read_bytes())
    run = verify.Checker(results).check(NAME)
    assert [problem.rule for problem in run.problems] == ["was not made from this run's weights"]
    (folder / "best.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    assert verify.Checker(results, full=True).check(NAME).about is None


def test_a_run_that_holds_nothing_out_has_no_best_epoch(results, capsys):
    folder = train(results)
    assert (folder / "best.safetensors").exists()
    (folder / "run.json").unlink()  # as Snakemake does before it starts
    train(results, hold_out=0)
    assert not (folder / "best.safetensors").exists()
    assert main(["evaluate", "--run", NAME, "--results", str(results), "--epoch", "best"]) == 2
    assert "has no best epoch: its recipe holds no image out" in capsys.readouterr().err


def test_ranks_of_other_images_are_refused(results):
    spec = replace(SPEC, variant="paper_d1_5")
    train(results, hold_out=0)
    with pytest.raises(BadInput, match="has 200 images, this run 150: n_train and hold_out must be the same"):
        training_run.run(spec, resolve(spec, config()), results, torch.device("cpu"))
