"""Where images come from, how they are cut into parts, and the order in which a training sees them."""

import gzip
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fastat.cli import main
from fastat.data import datasets, sources
from fastat.data.datasets import Part, TrainingStream
from fastat.data.sources import FASHION_PLACES
from fastat.errors import BadInput

CPU = torch.device("cpu")
needs_fashion = pytest.mark.skipif(
    not (FASHION_PLACES[0] / "t10k-labels-idx1-ubyte.gz").exists(), reason="dataset-fashion-mnist is not installed"
)


def prepared(name, folder, source="data"):
    sources.prepare(name, folder / source, folder / f"{name}.safetensors")
    return datasets.load(folder / f"{name}.safetensors", CPU)


def test_digits_are_1797_images_in_two_stratified_parts_that_share_none(tmp_path):
    digits = prepared("digits", tmp_path)
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.dtype == torch.uint8 and int(digits.train.images.max()) == 255
    share = [torch.bincount(part.labels, minlength=10) / len(part) for part in (digits.train, digits.test)]
    assert (share[0] - share[1]).abs().max() < 0.005


def test_no_test_image_of_digits_is_in_digits_dev(tmp_path):
    digits, dev = prepared("digits", tmp_path), prepared("digits_dev", tmp_path)

    def bag(part):
        return sorted(image.numpy().tobytes() for image in part.images)

    assert sorted(bag(dev.train) + bag(dev.test)) == bag(digits.train)


def stream(n=10, **settings):
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 4, 4).contiguous()
    options = {"batch_size": 4, "drop_last": False, "pad": 1, "flip": True, "seed": 3} | settings
    return TrainingStream(Part(images, torch.arange(n), tuple(images.shape[2:])), **options)


def test_an_epoch_shows_every_image_once_and_keeps_the_last_short_batch():
    batches = list(stream().epoch(1))
    assert [len(batch.y) for batch in batches] == [4, 4, 2]
    assert sorted(int(i) for batch in batches for i in batch.index) == list(range(10))
    assert [len(batch.y) for batch in stream(drop_last=True).epoch(1)] == [4, 4]


def test_order_and_views_depend_on_seed_and_epoch_alone_so_a_resumed_epoch_goes_on_exactly():
    whole, tail = list(stream().epoch(5)), list(stream().epoch(5, first=1))
    for one, other in zip(whole[1:], tail, strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.index, other.index) and one.number == other.number
    assert any(not torch.equal(a.index, b.index) for a, b in zip(whole, stream().epoch(6), strict=True))
    assert any(not torch.equal(a.index, b.index) for a, b in zip(whole, stream(seed=4).epoch(5), strict=True))


def test_a_cutout_changes_nothing_but_a_square_and_resumes_with_its_epoch():
    whole, cut = (list(stream(cutout=side).epoch(5)) for side in (0, 2))
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one.index, other.index) and all(map(torch.equal, one.view, other.view))
        changed = one.x != other.x
        assert (other.x[changed] == 0).all() and changed.flatten(1).sum(1).max() <= 4
    assert any((one.x != other.x).any() for one, other in zip(whole, cut, strict=True))
    for one, other in zip(cut[1:], stream(cutout=2).epoch(5, first=1), strict=True):
        assert torch.equal(one.x, other.x)


@needs_fashion
def test_fashion_mnist_is_read_from_files_on_disk(tmp_path):
    fashion = prepared("fashion_mnist", tmp_path)
    assert fashion.train.images.shape == (60000, 1, 28, 28) and fashion.test.images.shape == (10000, 1, 28, 28)
    assert torch.bincount(fashion.test.labels).tolist() == [1000] * 10
    few = datasets.load(tmp_path / "fashion_mnist.safetensors", CPU, n_train=4000, n_test=1000)
    assert (len(few.train), len(few.test)) == (4000, 1000) and few.sha256 != fashion.sha256


@needs_fashion
def test_a_changed_file_is_refused_by_its_checksum(tmp_path, capsys):
    folder = tmp_path / "data/fashion_mnist"
    shutil.copytree(FASHION_PLACES[0], folder)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other labels"))
    arguments = ["data", "--dataset", "fashion_mnist", "--source", str(tmp_path / "data")]
    assert main([*arguments, "--out", str(tmp_path / "out.safetensors")]) == 2
    message = capsys.readouterr().err
    assert "t10k-labels-idx1-ubyte.gz: wrong checksum" in message and "Delete it" in message
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rubbish")
    assert main([*arguments, "--out", str(tmp_path / "out.safetensors")]) == 2
    assert "is no whole gzip file" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


@needs_fashion
@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda file: file.write_bytes(gzip.compress(bytes(2**26))), "unpacks to more than 47,040,016 bytes"),
        (lambda file: os.truncate(file, 1000), "is no whole gzip file (Compressed file ended"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "must be a file, but it is a pipe"),
        (lambda file: (file.unlink(), file.symlink_to(file)), "Too many levels of symbolic links"),
        (lambda file: file.write_bytes(b"<html>gone</html>"), "It is a web page"),
        (lambda file: file.write_bytes(b""), "wrong checksum"),
    ],
)
def test_what_is_no_archive_of_fashion_mnist_is_refused_at_once(spoil, message, tmp_path, capsys):
    folder = tmp_path / "data/fashion_mnist"
    shutil.copytree(FASHION_PLACES[0], folder)
    spoil(folder / "train-images-idx3-ubyte.gz")
    arguments = ["data", "--dataset", "fashion_mnist", "--source", str(tmp_path / "data")]
    assert main([*arguments, "--out", str(tmp_path / "out.safetensors")]) == 2
    assert message in capsys.readouterr().err


def test_missing_files_that_cannot_be_downloaded_are_bad_input(tmp_path, monkeypatch, capsys):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(sources, "FASHION_PLACES", (tmp_path / "nowhere",))
    monkeypatch.setattr(FashionMNIST, "mirrors", ["file:///nowhere/"])
    arguments = ["data", "--dataset", "fashion_mnist", "--source", str(tmp_path / "data")]
    assert main([*arguments, "--out", str(tmp_path / "out.safetensors")]) == 2
    assert "Put the four .gz files into" in capsys.readouterr().err


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_refused(tmp_path, label):
    data = prepared("digits", tmp_path)
    path = tmp_path / "spoilt.safetensors"
    with safe_open(tmp_path / "digits.safetensors", framework="pt") as file:
        about, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    tensors["test_labels"][7] = label
    save_file(tensors, path, metadata=about)
    with pytest.raises(BadInput, match=f"test labels must be 0 to 9, got {label}"):
        datasets.load(path, CPU)
    assert len(data.test) == 360


def test_an_unknown_dataset_is_bad_input(tmp_path, capsys):
    assert main(["data", "--dataset", "digit", "--out", str(tmp_path / "out.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "unknown dataset 'digit': neither one of ours nor in `datasets` of the config (--configfile)." in said
    assert "Did you mean 'digits'?" in said


def test_batches_are_made_on_the_device_without_waiting_for_it():
    """On `meta` there are no values to read, and a loop over images would need some."""
    images, labels = torch.empty(10, 3, 32, 32, dtype=torch.uint8, device="meta"), torch.empty(10, device="meta")
    options = {"batch_size": 4, "drop_last": False, "pad": 4, "flip": True, "cutout": 4, "seed": 3}
    batches = list(TrainingStream(Part(images, labels, (32, 32)), **options).epoch(1))
    assert [tuple(batch.x.shape) for batch in batches] == [(4, 3, 32, 32), (4, 3, 32, 32), (2, 3, 32, 32)]
    assert all(
        batch.x.device.type == batch.index.device.type == batch.view.flip.device.type == "meta" for batch in batches
    )


def test_an_epoch_without_a_batch_and_more_shards_than_images_are_refused():
    with pytest.raises(BadInput, match="batches of 12 with drop_last, but only 10 images"):
        stream(batch_size=12, drop_last=True)
    with pytest.raises(BadInput, match="10 training images cannot be divided into 12 shards"):
        stream(batch_size=12, drop_last=True, shards=12)
