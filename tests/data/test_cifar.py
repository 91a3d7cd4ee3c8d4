"""CIFAR's archives, made here in their real format, through the real reader."""

import functools
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import tarfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch

from fastat.cli import main
from fastat.config import catalog
from fastat.data import cifar, datasets, made_up, prepared
from tests.tars import SAFELY


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_images_and_labels_are_those_of_the_archive(name, unpacked, tmp_path, monkeypatch):
    source, out = tmp_path / "source", tmp_path / "out.safetensors"
    batches = made_up.cifar_archive(name, source, monkeypatch)
    if unpacked:
        with tarfile.open(source / cifar.SETS[name].filename) as tar:
            tar.extractall(source, **SAFELY)
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


def rewritten(archive, change):
    """The archive again, each member as `change` returns it: a TarInfo and its content, or None to leave it out."""
    with tarfile.open(archive) as tar:
        held = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for member, content in held:
            info, file = change(member, content)
            tar.addfile(info, file)


def linked(kind, target):
    def change(member, content):
        if member.name.endswith("data_batch_1"):
            member.type, member.linkname, member.size = kind, target, 0
        return member, io.BytesIO(content)

    return lambda archive: rewritten(archive, change)


def named(archive, kind, size, name="cifar-10-batches-py/readme.html"):
    """An archive that begins with a member of this kind which says that it has `size` bytes, and has them."""
    whole = archive.read_bytes()
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    with gzip.open(archive, "wb", compresslevel=1) as packed:
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(min(size, 2**25) // 2**20):
            packed.write(bytes(2**20))
        packed.write(gzip.decompress(whole))


ITSELF = "cifar-10-batches-py/data_batch_1"


@pytest.mark.parametrize(
    "spoil,message",
    [
        (linked(tarfile.SYMTYPE, "data_batch_1"), f"{ITSELF} must be a file, but it is a link or device"),
        (linked(tarfile.SYMTYPE, "/etc/passwd"), f"{ITSELF} must be a file, but it is a link or device"),
        (linked(tarfile.SYMTYPE, "../../../etc/passwd"), f"{ITSELF} must be a file, but it is a link or device"),
        (linked(tarfile.LNKTYPE, ITSELF), f"{ITSELF} must be a file, but it is a link or device"),
        (linked(tarfile.LNKTYPE, "cifar-10-batches-py/data_batch_2"), f"{ITSELF} must be a file"),
        (linked(tarfile.FIFOTYPE, ""), f"{ITSELF} must be a file, but it is a link or device"),
        (linked(tarfile.CHRTYPE, ""), f"{ITSELF} must be a file, but it is a link or device"),
        (linked(tarfile.DIRTYPE, ""), f"{ITSELF} must be a file, but it is a link or device"),
        (
            lambda a: named(a, tarfile.REGTYPE, 8 * 2**30),
            "readme.html says that it has 8,589,934,592 bytes, which nothing",
        ),
        (lambda a: named(a, tarfile.REGTYPE, -512), "says that it has -512 bytes, which nothing"),
        (lambda a: named(a, tarfile.GNUTYPE_LONGNAME, 8 * 2**30), "unpacks to more than the data set can have"),
        (lambda a: named(a, tarfile.XHDTYPE, 8 * 2**30), "unpacks to more than the data set can have"),
        (lambda a: named(a, tarfile.REGTYPE, 8 * 2**30, ITSELF), "says that it has 8,589,934,592 bytes"),
        (lambda a: a.write_bytes(gzip.compress(bytes(2**25))), "no whole file data_batch_1"),
        (lambda a: a.write_bytes(gzip.compress(b"x" * 2**25)), "is no whole file"),
        (lambda a: a.write_bytes(a.read_bytes()[:40]), "is no whole file"),
        (lambda a: a.write_bytes(b""), "is no whole file .* It is empty"),
        (lambda a: a.write_bytes(bytes(10_000)), "It begins with zeros alone"),
        (lambda a: a.write_bytes(b"<!DOCTYPE html><title>Sign in</title>"), "It is a web page"),
        (lambda a: a.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "It is a Git-LFS pointer"),
        (lambda a: (a.unlink(), os.mkfifo(a)), "must be a file, but it is a pipe"),
        (lambda a: (a.unlink(), a.mkdir()), "must be a file, but it is a folder"),
        (lambda a: (a.unlink(), a.symlink_to(a)), "Too many levels of symbolic links"),
        (lambda a: (a.unlink(), a.symlink_to("/dev/zero")), "must be a file, but it is a device"),
    ],
)
def test_an_archive_that_is_damaged_or_a_trap_is_refused_at_once(spoil, message, tmp_path, monkeypatch, capsys):
    made_up.cifar_archive("cifar10", tmp_path, monkeypatch)
    spoil(tmp_path / "cifar-10-python.tar.gz")
    assert main(["data", "--dataset", "cifar10", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda file: (file.unlink(), os.mkfifo(file)), "must be a file, but it is a pipe"),
        (lambda file: os.truncate(file, 2**33), "has 8,589,934,592 bytes, expected at most"),
        (lambda file: file.unlink(), "No such file"),
    ],
)
def test_a_trap_in_the_unpacked_folder_is_refused_at_once(spoil, message, tmp_path, monkeypatch, capsys):
    made_up.cifar_archive("cifar10", tmp_path, monkeypatch)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz") as tar:
        tar.extractall(tmp_path, **SAFELY)
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    spoil(tmp_path / "cifar-10-batches-py/data_batch_3")
    assert main(["data", "--dataset", "cifar10", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder, and its address on this machine."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_download_that_fails_leaves_no_half_archive_to_be_believed(server, tmp_path, monkeypatch, capsys):
    folder, address = server
    made_up.cifar_archive("cifar10", folder, monkeypatch)
    whole = (folder / "cifar-10-python.tar.gz").read_bytes()
    monkeypatch.setattr(cifar.SETS["cifar10"], "url", f"{address}/cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar.SETS["cifar10"], "tgz_md5", hashlib.md5(whole).hexdigest())
    call = ["data", "--dataset", "cifar10", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "out")]
    for served in (whole[:-100], b"<!DOCTYPE html><title>Sign in</title>", b""):
        (folder / "cifar-10-python.tar.gz").write_bytes(served)
        assert main(call) == 2
        assert "could not be downloaded" in capsys.readouterr().err
        assert list((tmp_path / "source").iterdir()) == []
    (folder / "cifar-10-python.tar.gz").write_bytes(whole)
    assert main(call) == 0
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["cifar-10-python.tar.gz"]


def test_the_file_remembers_the_archive_or_the_files_that_it_was_read_from(tmp_path, monkeypatch):
    made_up.cifar_archive("cifar100", tmp_path, monkeypatch)
    archive, out = tmp_path / "cifar-100-python.tar.gz", tmp_path / "cifar100.safetensors"
    call = ["data", "--dataset", "cifar100", "--source", str(tmp_path), "--out", str(out)]
    assert main(call) == 0

    def of(file):
        return {
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }

    first = prepared.header(out)
    assert json.loads(first["source"]) == {"files": [of(archive)]}
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, **SAFELY)
    archive.unlink()
    assert main(call) == 0
    second = prepared.header(out)
    folder = tmp_path / "cifar-100-python"
    assert json.loads(second["source"]) == {"files": [of(folder / "train"), of(folder / "test")]}
    assert first["sha256"] == second["sha256"]
