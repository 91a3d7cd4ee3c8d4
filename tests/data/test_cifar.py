"""CIFAR's archives, made here in their real format, through the real reader."""

import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastat.cli import main
from fastat.config import catalog
from fastat.data import cifar, datasets, made_up


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_images_and_labels_are_those_of_the_archive(name, unpacked, tmp_path, monkeypatch):
    source, out = tmp_path / "source", tmp_path / "out.safetensors"
    batches = made_up.cifar_archive(name, source, monkeypatch)
    if unpacked:
        with tarfile.open(source / cifar.SETS[name].filename) as tar:
            tar.extractall(source, filter="data")
        (source / cifar.SETS[name].filename).unlink()
    assert main(["data", "--dataset", name, "--source", str(source), "--out", str(out)]) == 0
    data = datasets.load(out, torch.device("cpu"))
    train = [batch for member, batch in batches.items() if not member.startswith("test")]
    assert torch.equal(data.train.images.flatten(1), torch.from_numpy(np.concatenate([b[b"data"] for b in train])))
    key = b"labels" if name == "cifar10" else b"fine_labels"
    assert data.train.labels.tolist() == [y for batch in train for y in batch[key]]
    red_of_second_row = data.test.images[1, 0, 1]  # the file holds red, green, blue planes, row by row
    last = next(batch for member, batch in batches.items() if member.startswith("test"))
    assert red_of_second_row.tolist() == last[b"data"][1, 32:64].tolist()
    assert data.n_classes == (10 if name == "cifar10" else 100)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda archive: archive.write_bytes(archive.read_bytes()[:-200]), "no whole file"),
        (lambda archive: archive.write_bytes(b"<html>not found</html>"), "no whole file"),
        (lambda archive: archive.unlink(), "could not be downloaded"),
    ],
)
def test_what_is_not_the_archive_is_refused_with_the_way_out(spoil, message, tmp_path, monkeypatch, capsys):
    made_up.cifar_archive("cifar10", tmp_path, monkeypatch)
    spoil(tmp_path / "cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar.SETS["cifar10"], "url", "http://127.0.0.1:9/none")
    assert main(["data", "--dataset", "cifar10", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checksum_that_differs_and_another_set_are_refused(tmp_path, monkeypatch, capsys):
    call = ["data", "--dataset", "cifar10", "--source", str(tmp_path), "--out", str(tmp_path / "out")]
    made_up.cifar_archive("cifar10", tmp_path, monkeypatch)
    first = cifar.SETS["cifar10"].train_list[0]
    monkeypatch.setattr(cifar.SETS["cifar10"], "train_list", [[first[0], "0" * 32]])
    assert main(call) == 2
    assert "wrong checksum: data_batch_1" in capsys.readouterr().err
    made_up.cifar_archive("cifar100", tmp_path, monkeypatch)
    (tmp_path / "cifar-100-python.tar.gz").rename(tmp_path / "cifar-10-python.tar.gz")
    assert main(call) == 2
    assert "no whole file data_batch_1" in capsys.readouterr().err


def test_a_pickle_that_runs_something_is_refused_even_with_the_right_checksum(tmp_path, monkeypatch, capsys):
    members = dict.fromkeys([*made_up.FIVE, "test_batch"], pickle.dumps({b"data": Malicious()}, protocol=2))
    made_up.cifar_archive("cifar10", tmp_path, monkeypatch, members)
    assert main(["data", "--dataset", "cifar10", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "wants to run posix.system" in capsys.readouterr().err


def test_too_few_images_are_refused(tmp_path, monkeypatch, capsys):
    made_up.cifar_archive("cifar10", tmp_path, monkeypatch)
    monkeypatch.setitem(catalog.CATALOG, "cifar10", replace(catalog.CATALOG["cifar10"], n_train=50_000))
    assert main(["data", "--dataset", "cifar10", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected (50000, 3, 32, 32)" in capsys.readouterr().err
