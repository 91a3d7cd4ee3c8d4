"""Prepared data are what their header says, byte by byte, or refused with the command that makes them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from fastat import ROOT
from fastat.cli import main
from fastat.data import datasets, prepared
from fastat.errors import BadInput


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with digits and digits_dev."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("digits", "digits_dev"):
        assert main(["data", "--dataset", name, "--out", str(folder / f"{name}.safetensors")]) == 0
    return folder


@pytest.fixture
def digits(made, tmp_path):
    """A copy of digits that a test may spoil."""
    path = tmp_path / "digits.safetensors"
    path.write_bytes((made / "digits.safetensors").read_bytes())
    return path


def held(path):
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {key: file.get_tensor(key).copy() for key in file.keys()}


def refused(path):
    with pytest.raises(BadInput) as caught:
        datasets.load(path, torch.device("cpu"))
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(f"Prepare it again: python -m fastat data --dataset digits --out {path}")
    return message


def inverted(about, arrays):
    arrays["train_images"] = 255 - arrays["train_images"]


def one_bit(about, arrays):
    arrays["test_images"][7, 0, 3, 3] ^= 1


def rolled(about, arrays):
    arrays["test_labels"] = np.roll(arrays["test_labels"], 1)


def two_labels_swapped(about, arrays):
    arrays["train_labels"][[0, 1]] = arrays["train_labels"][[1, 0]]


def images_in_another_order(about, arrays):
    arrays["train_images"] = arrays["train_images"][::-1].copy()


def first_image_zero(about, arrays):
    arrays["train_images"][0] = 0


def images_of_the_test_part(about, arrays):
    arrays["train_images"][:360] = arrays["test_images"]


def header_of_another_content(about, arrays):
    about["sha256"] = "0" * 64


@pytest.mark.parametrize(
    "spoil",
    [
        inverted,
        one_bit,
        rolled,
        two_labels_swapped,
        images_in_another_order,
        first_image_zero,
        images_of_the_test_part,
        header_of_another_content,
    ],
)
def test_content_that_is_not_what_the_header_says_is_refused_with_both_hashes(spoil, digits):
    about, arrays = held(digits)
    spoil(about, arrays)
    save_file(arrays, digits, metadata=about)
    message = refused(digits)
    assert f"its content has sha256 {prepared.content_hash(arrays)}" in message
    assert f"but its header says {about['sha256']}" in message


def fewer(about, arrays):
    for key in ("test_images", "test_labels"):
        arrays[key] = arrays[key][:300]


@pytest.mark.parametrize(
    "spoil,message",
    [
        (fewer, "test_images must be U8 (360, 1, 8, 8), got U8 (300, 1, 8, 8)"),
        (lambda a, t: t.update(train_images=t["train_images"].astype(np.float32)), "got F32 (1437, 1, 8, 8)"),
        (lambda a, t: t.update(train_labels=t["train_labels"].astype(np.int32)), "must be I64 (1437,), got I32"),
        (lambda a, t: t.pop("train_labels"), "train_labels must be I64 (1437,), got none"),
        (lambda a, t: t.update(more=t["test_labels"]), "more must not be there, got I64 (360,)"),
        (lambda a, t: a.pop("sha256"), "its header names no known data set"),
        (lambda a, t: a.update(dataset="mnist"), "its header names no known data set"),
        (lambda a, t: a.clear(), "its header names no known data set"),
    ],
)
def test_another_layout_than_the_catalogues_is_refused(spoil, message, digits):
    about, arrays = held(digits)
    spoil(about, arrays)
    save_file(arrays, digits, metadata=about or None)
    assert message in refused(digits)


def test_a_file_named_like_a_data_set_must_hold_it(made, digits, tmp_path, capsys):
    digits.write_bytes((made / "digits_dev.safetensors").read_bytes())
    assert "must hold digits, but it holds digits_dev" in refused(digits)
    assert main(["data", "--dataset", "digits_dev", "--out", str(tmp_path / "cifar10.safetensors")]) == 2
    assert "a file named cifar10.safetensors must hold cifar10, not digits_dev" in capsys.readouterr().err
    assert not (tmp_path / "cifar10.safetensors").exists()


@pytest.mark.parametrize("out", [".", "/", "here"])
def test_a_folder_is_no_file_to_write(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert main(["data", "--dataset", "digits", "--out", out]) == 2
    assert (
        f"--out must be a file, as {Path(out) / 'digits'}.safetensors, but {out} is a folder" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is not a prepared data set"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "is not a prepared data set"),
        (lambda path: path.write_bytes(b""), "It is empty."),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "It is a Git-LFS pointer"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html></html>"), "It is a web page"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "must be a file, but it is a pipe"),
        (lambda path: (path.unlink(), path.mkdir()), "must be a file, but it is a folder"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "Too many levels of symbolic links"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_what_is_no_prepared_data_set_is_named(spoil, message, digits):
    spoil(digits)
    assert message in refused(digits)


def test_every_flipped_byte_and_every_cut_is_refused_without_a_traceback(digits):
    whole, rng = digits.read_bytes(), np.random.default_rng(0)
    for k in range(400):
        spoilt = bytearray(whole)
        at = int(rng.integers(600 if k % 2 else len(whole)))  # half of them in the header
        if k % 4 == 3:
            spoilt = spoilt[:at]
        else:
            spoilt[at] ^= int(rng.integers(1, 256))
        digits.write_bytes(spoilt)
        try:
            found = prepared.read(digits)
        except BadInput:
            continue
        about, arrays = held(digits)  # what it was read from may be renamed: the content may not
        assert found.sha256 == hashlib.sha256(b"".join(arrays[key].tobytes() for key in sorted(arrays))).hexdigest()
        assert found.sha256 == held_sha256(whole, digits)


def held_sha256(whole, path):
    path.write_bytes(whole)
    return held(path)[0]["sha256"]


def test_the_report_can_ask_for_hashes_and_labels_without_torch(made):
    code = f"""
import sys
from pathlib import Path
from fastat.data import prepared
path = Path({str(made / "digits.safetensors")!r})
assert prepared.header(path)["sha256"] == prepared.verify(path).sha256
print(prepared.data_sha256(prepared.verify(path).sha256, 1437, 100), *prepared.labels(path, "test")[:100])
sys.exit("torch" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    data = datasets.load(made / "digits.safetensors", torch.device("cpu"), n_test=100)
    assert run.stdout.split() == [data.sha256, *map(str, data.test.labels.tolist())]


def test_the_file_remembers_what_it_was_read_from(made):
    import sklearn

    about = prepared.header(made / "digits.safetensors")
    assert json.loads(about["source"]) == {"scikit-learn": sklearn.__version__}
