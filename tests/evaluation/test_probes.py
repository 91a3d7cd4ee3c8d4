"""What figures are made of: loss surfaces, single steps, trainings on ranked images, snapshots."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastat.attacks import input_gradient
from fastat.cli import main
from fastat.config.grid import load_config, overlay
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.data import subsets
from fastat.data.datasets import Part
from fastat.evaluation import probes
from fastat.machine import seals

ATAS = "digits/preact_tiny/eps77/atas/paper/seed0"


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()


@pytest.fixture
def part():
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(100, 150, (12, 1, 8, 8), dtype=torch.uint8, generator=rng)
    return Part(images, torch.arange(12) % 3, (8, 8))


def loss(model, x, y) -> float:
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(model(x), y))


def test_a_surface_has_the_loss_of_x_in_its_middle_and_of_fgsm_at_its_edge(linear, part):
    index, eps = torch.tensor([4, 7]), 0.05
    rows = list(probes.surfaces(linear, part, {"two": index}, eps=eps, seed=3))
    at = {(row["u"], row["w"]): row["loss"] for row in rows}
    assert len(rows) == len(at) == len(probes.AXIS) ** 2
    x, y = part.take(index)
    assert at[0, 0] == pytest.approx(loss(linear, x, y), rel=1e-5)
    v1 = input_gradient(linear, x, y).sign()
    assert at[1, 0] == pytest.approx(loss(linear, x + eps * v1, y), rel=1e-5)
    v2 = torch.stack([probes.random_signs(x[0], 3, int(i)) for i in index])
    assert at[-0.5, 1] == pytest.approx(loss(linear, x + eps * (v2 - 0.5 * v1), y), rel=1e-5)
    assert max(at, key=at.__getitem__)[0] == 1  # a linear network loses most along its own gradient


def test_the_random_direction_belongs_to_the_image_and_not_to_the_network_or_the_group(part):
    one, other = (probes.random_signs(part.take(torch.tensor([0]))[0][0], 0, number) for number in (4, 5))
    assert torch.equal(one, probes.random_signs(one, 0, 4)) and not torch.equal(one, other)


def test_single_steps_of_a_linear_network_lose_more_the_longer_they_are(linear, part):
    rows = list(probes.single_steps(linear, part, eps=0.05, seed=0))
    assert {row["n"] for row in rows} == {12} and len({row["pgd10_loss"] for row in rows}) == 1
    for start in ("uniform", "carried"):
        losses = [row["loss"] for row in rows if row["start"] == start]
        assert losses == sorted(losses) and losses[-1] == pytest.approx(rows[0]["pgd10_loss"], rel=1e-4)


def test_the_epochs_around_a_collapse_stay_in_the_training():
    assert probes.around(11, 30) == [9, 10, 11, 12]
    assert probes.around(1, 30) == [1, 2] and probes.around(30, 30) == [28, 29, 30]
    assert probes.around(None, 30) == [8, 15, 23, 30]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Digits and a short ATAS run."""
    folder = tmp_path_factory.mktemp("results")
    assert main(["data", "--dataset", "digits", "--out", str(folder / "data/digits.safetensors")]) == 0
    assert train(folder, ATAS) == 0
    return folder


def train(folder: Path, name: str, *more: str) -> int:
    config = overlay(load_config(), {"recipes": {"digits": {"every": {"epochs": 2}}}})
    recipe = resolve(RunSpec.parse(name), config).to_json()
    call = ["train", "--run", name, "--results", str(folder), "--recipe", recipe, "--threads", "1"]
    return main([*call, *more])


def test_a_run_leaves_its_instances_also_when_it_was_interrupted(results, tmp_path, monkeypatch):
    whole = load_file(results / "runs" / ATAS / "instances.safetensors")
    assert whole["grad_norm"].shape == (1437, 2) and not whole["grad_norm"].isnan().any()
    assert whole["delta_linf"].max() <= 77 / 255 + 1e-6
    (tmp_path / "data").symlink_to(results / "data")
    from fastat.training import trainer

    monkeypatch.setattr(trainer, "write_results", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert train(tmp_path, ATAS) == 130
    monkeypatch.undo()
    assert train(tmp_path, ATAS) == 0  # from the state after the last epoch
    resumed = load_file(tmp_path / "runs" / ATAS / "instances.safetensors")
    assert resumed.keys() == whole.keys() and all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_subset_run_trains_on_the_ranked_images_alone_for_as_many_iterations(results):
    name = "digits/preact_tiny/eps77/atas/paper_d9_10/seed1"
    assert train(results, name) == 0
    tenth = subsets.deciles(load_file(results / "runs" / ATAS / "instances.safetensors")["grad_norm"])
    kept = load_file(results / "runs" / name / "instances.safetensors")
    assert len(kept["grad_norm"]) == int((tenth >= 9).sum())
    about = json.loads((results / "runs" / name / "run.json").read_text())
    assert about["recipe"]["epochs"] == about["epochs_done"] == 10  # five times two, of a fifth of the images
    assert about["images"] == f"D_9^10 by {ATAS}"


def test_a_subset_run_needs_the_run_that_ranks_and_says_so(results, capsys):
    assert train(results, "digits/preact_tiny/eps77/atta/paper_d1_2/seed0") == 2
    message = capsys.readouterr().err
    assert (
        "needs the gradient norms" in message
        and "fastat train --run digits/preact_tiny/eps77/atta/paper/seed0" in message
    )
    other = "digits/preact_tiny/eps77/pgd10/paper/seed0"
    path = results / "runs" / other / "instances.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"delta_l2": torch.zeros(3)}, path)  # as of a method without a single step
    seals.write(path.parent / "run.json", {"status": "finished"})
    assert train(results, "digits/preact_tiny/eps77/pgd10/paper_d1_2/seed0") == 2
    assert "grad_norm" in capsys.readouterr().err


def test_snapshots_give_the_surfaces_around_the_collapse(results, capsys):
    name = "digits/preact_tiny/eps77/atas/paper/seed1"
    probe = ["probe", "--run", name, "--results", str(results), "--threads", "1"]
    assert main(probe) == 2 and "holds no finished run" in capsys.readouterr().err
    assert train(results, name) == 0
    assert main(probe) == 2 and "snapshots/epoch001.safetensors" in capsys.readouterr().err
    (results / "runs" / name / "run.json").unlink()
    assert train(results, name, "--snapshots") == 0
    assert main(probe) == 0
    lines = (results / "runs" / name / "eval/surfaces_by_epoch.csv").read_text().splitlines()
    assert lines[0] == "epoch,group,n,u,w,loss"
    assert {tuple(line.split(",")[:3]) for line in lines[1:]} == {
        (epoch, group, "128") for epoch in ("1", "2") for group in ("D1", "D10")
    }
    path = results / "runs" / name / "run.json"
    about = seals.read(path)
    listed = {file: sha for file, sha in about["files"].items() if not file.startswith("snapshots/")}
    seals.write(path, about | {"files": listed})  # as of a training without, over one that had kept its weights
    assert main(probe) == 2 and "epoch001.safetensors is not what this run wrote" in capsys.readouterr().err
    seals.write(path, about | {"status": "diverged"})
    assert main(probe) == 0  # its last epoch left no snapshot: no rows, and the report goes on
    assert (results / "runs" / name / "eval/surfaces_by_epoch.csv").read_text() == "epoch,group,n,u,w,loss\n"


def test_a_training_that_replaces_another_keeps_none_of_its_snapshots(results):
    name = "digits/preact_tiny/eps77/atas/paper/seed2"
    old = results / "runs" / name / "snapshots/epoch009.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of a longer one")
    assert train(results, name, "--snapshots") == 0
    assert sorted(path.name for path in old.parent.iterdir()) == ["epoch001.safetensors", "epoch002.safetensors"]
    listed = [file for file in seals.read(results / "runs" / name / "run.json")["files"] if "snapshots" in file]
    assert listed == ["snapshots/epoch001.safetensors", "snapshots/epoch002.safetensors"]


@pytest.mark.parametrize("damage", ["norms", "data"])
def test_norms_that_the_ranking_run_did_not_write_and_those_of_other_images_rank_nothing(results, capsys, damage):
    run, subset = results / "runs" / ATAS, "digits/preact_tiny/eps77/atas/paper_d1_2/seed0"
    path = run / ("instances.safetensors" if damage == "norms" else "run.json")
    before = path.read_bytes()
    if damage == "norms":
        changed = bytearray(before)
        changed[-3] ^= 64
        path.write_bytes(changed)
    else:
        seals.write(path, seals.read(path) | {"data_sha256": "0" * 64})
    try:
        assert train(results, subset) == 2
    finally:
        path.write_bytes(before)
    said = "run.json has another sha256" if damage == "norms" else "it is of other images than these"
    assert said in capsys.readouterr().err
