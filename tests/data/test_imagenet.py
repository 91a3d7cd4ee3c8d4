"""A little ImageNet of JPEGs, made here in the real layout, through the real preparation and loader."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastat.cli import main
from fastat.data import datasets, imagenet, made_up
from fastat.data.datasets import TrainingStream
from fastat.data.made_up import CLASSES
from fastat.errors import BadInput
from fastat.machine.processes import Processes


def call(source: Path, out: Path) -> list[str]:
    return ["data", "--dataset", "imagenet", "--source", str(source), "--out", str(out / "imagenet.safetensors")]


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Source and results/data."""
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    assert main(call(source, out)) == 0
    return source, out


def test_pixels_and_labels_are_those_that_torchvision_gives(prepared):
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    source, out = prepared
    data = datasets.load(out / "imagenet.safetensors", torch.device("cpu"))
    for part, sub in ((data.train, "train"), (data.test, "val")):
        folder = ImageFolder(source / "imagenet" / sub, Compose([Resize((256, 256)), PILToTensor()]))
        assert part.labels.tolist() == [y for _, y in folder.samples]
        assert torch.equal(part.images, torch.stack([x for x, _ in folder]))
    seen = ImageFolder(source / "imagenet/val", Compose([Resize((256, 256)), CenterCrop(224), PILToTensor()]))
    x, y = data.test.take(torch.tensor([4, 1]))
    assert torch.equal((x * 255).round().byte(), torch.stack([seen[4][0], seen[1][0]])) and y.tolist() == [2, 0]


def test_batches_from_disk_are_those_from_memory_bit_by_bit(prepared):
    data = datasets.load(prepared[1] / "imagenet.safetensors", torch.device("cpu"))
    whole = data.train.images.clone()
    for settings in ({"shards": 1, "drop_last": False}, {"shards": 2, "drop_last": True}):
        for processes in (Processes(),) if settings["shards"] == 1 else (Processes(0, 2), Processes(1, 2)):
            options = {"batch_size": 4, "pad": 0, "flip": True, "seed": 1, "processes": processes, **settings}
            on_disk = TrainingStream(data.train, **options)
            in_memory = TrainingStream(data.train, **options)
            assert on_disk.on_disk
            in_memory.on_disk, in_memory.frames = False, whole
            offsets = []
            for one, other in zip(on_disk.epoch(3), in_memory.epoch(3), strict=True):
                assert one.x.shape[1:] == (3, 224, 224) and torch.equal(one.x, other.x)
                assert torch.equal(one.y, other.y) and torch.equal(one.index, other.index)
                offsets += one.view.top.tolist()
            assert 0 <= min(offsets) < 16 < max(offsets) <= 32
            resumed = list(on_disk.epoch(3, first=2))
            assert torch.equal(resumed[0].x, list(in_memory.epoch(3))[2].x)


def test_a_stream_can_be_left_in_the_middle_and_an_error_in_it_arrives(prepared, monkeypatch):
    data = datasets.load(prepared[1] / "imagenet.safetensors", torch.device("cpu"))
    stream = TrainingStream(data.train, batch_size=2, drop_last=False, pad=0, flip=False, seed=0)
    batches = stream.epoch(1)
    next(batches)
    batches.close()
    stream.frames = stream.frames[:3]  # as if the file were too short
    with pytest.raises(IndexError):
        list(stream.epoch(1))


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "CHUNK", 4)
    source = made_up.imagenet_tree(tmp_path / "source", n_train=40)
    made_up.expect_imagenet(monkeypatch, n_train=120)
    code = """
import sys
from dataclasses import replace
from fastat.cli import main
from fastat.config import catalog
from fastat.data import imagenet
imagenet.CHUNK = 4
catalog.CATALOG["imagenet"] = replace(catalog.CATALOG["imagenet"], n_classes=3, n_train=120, n_test=6)
sys.exit(main(sys.argv[1:]))
"""
    progress, done = tmp_path / "killed/imagenet/train.progress", []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *call(source, tmp_path / "killed")],
            cwd=imagenet_root(),
            start_new_session=True,
        )
        until, before = time.monotonic() + 60, len(done)
        while time.monotonic() < until and process.poll() is None:
            done = progress.read_text().splitlines() if progress.exists() else []
            if len(done) > before + 2:
                break
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed/imagenet.safetensors").exists()  # half-made is never taken for whole
    assert main(call(source, tmp_path / "killed")) == 0
    assert main(call(source, tmp_path / "whole")) == 0
    one, other = (
        datasets.load(tmp_path / name / "imagenet.safetensors", torch.device("cpu")) for name in ("killed", "whole")
    )
    assert one.sha256 == other.sha256 and torch.equal(one.train.images, other.train.images)


def imagenet_root() -> Path:
    return Path(imagenet.__file__).parents[2]


def test_a_broken_image_is_named_and_the_rest_is_kept(tmp_path, monkeypatch, capsys):
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    broken = source / f"imagenet/train/{CLASSES[2]}/{CLASSES[2]}_3.JPEG"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    assert main(call(source, out)) == 2
    assert f"{broken} is no whole image" in capsys.readouterr().err
    assert not (out / "imagenet.safetensors").exists()
    broken.write_bytes(whole)
    assert main(call(source, out)) == 0


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda root: (root / "val").rename(root / "validation"), "there is no folder .*val"),
        (
            lambda root: (root / f"val/{CLASSES[1]}").rename(root / "gone"),
            f"different classes: {CLASSES[1]}",
        ),
        (
            lambda root: (root / f"train/{CLASSES[0]}/{CLASSES[0]}_0.JPEG").unlink(),
            f"17 images, expected 18.*{CLASSES[0]}, with 5",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, spoil, message):
    source = made_up.imagenet_tree(tmp_path / "source")
    made_up.expect_imagenet(monkeypatch)
    spoil(source / "imagenet")
    with pytest.raises(BadInput, match=message):
        imagenet.prepare("imagenet", source, tmp_path / "data/imagenet.safetensors")


def test_a_full_disk_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    source = made_up.imagenet_tree(tmp_path / "source")
    made_up.expect_imagenet(monkeypatch)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(imagenet, "decode", lambda *_args: pytest.fail("decoded"))
    with pytest.raises(BadInput, match=r"train.npy needs 0.0 GB: No space left on device. Make room"):
        imagenet.prepare("imagenet", source, tmp_path / "data/imagenet.safetensors")
    assert not (tmp_path / "data/imagenet/train.npy").exists()


def test_pixels_that_are_lost_or_of_another_shape_are_refused(prepared):
    path = prepared[1] / "imagenet/train.npy"
    np.save(path, np.zeros((2, 3, 4, 4), np.uint8))
    with pytest.raises(BadInput, match=r"holds \(2, 3, 4, 4\), expected \(18, 3, 256, 256\)"):
        datasets.load(prepared[1] / "imagenet.safetensors", torch.device("cpu"))
    path.unlink()
    with pytest.raises(BadInput, match="missing or damaged"):
        datasets.load(prepared[1] / "imagenet.safetensors", torch.device("cpu"))


@pytest.mark.parametrize("method", ["atas", "fgsm_pgi", "freeat"])
def test_a_resnet_trains_some_real_steps_and_is_attacked(prepared, method, monkeypatch):
    from fastat import ROOT
    from fastat.config.grid import load_config
    from fastat.config.recipe import resolve
    from fastat.config.spec import RunSpec
    from fastat.evaluation import probes

    monkeypatch.setattr(probes, "AXIS", [-1, 0, 1])  # of the 17 x 17 points of a loss surface
    monkeypatch.setattr(probes, "ALPHAS", [1])

    name, results = f"imagenet/resnet18/eps2/{method}/paper/seed0", prepared[1].parent / "results"
    (results / "data").parent.mkdir(parents=True)
    (results / "data").symlink_to(prepared[1])
    config = load_config([ROOT / "config/paper.yaml"])
    recipe = resolve(RunSpec.parse(name), config)
    small = {"epochs": 1, "batch_size": 4, "shards": 2, "n_train": 8, "monitor_images": 2, "n_test": 1}
    recipe = replace(recipe, **small, schedule=replace(recipe.schedule, milestones=()))
    assert main(["train", "--run", name, "--results", str(results), "--recipe", recipe.to_json()]) == 0
    about = json.loads((results / "runs" / name / "run.json").read_text())
    assert about["status"] == "finished" and about["n_parameters"] == 11_178_051
    if method == "atas":  # attacks know no method
        assert main(["evaluate", "--run", name, "--results", str(results), "--suite", "whitebox"]) == 0
