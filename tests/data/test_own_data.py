"""Data sets of one's own: every door, every rule of what it takes, and the way from a config to the page."""

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image

from fastat import ROOT
from fastat.cli import main
from fastat.config import catalog, grid, own_data
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.data import datasets, fit, folder, image_sets, prepared, sources
from fastat.errors import BadInput
from tests.tars import SAFELY

RNG = np.random.default_rng(0)
SHARED = Path(os.environ.get("FASTAT_SHARED_DATA") or ROOT.parent / "shared/data")


def picture(path: Path, size=(8, 8), mode="RGB", kind=None) -> Path:
    """An image of random pixels; size: width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, format=kind)
    return path


def tree(root: Path, classes=("cat", "dog"), parts=("train", "test"), n=4, ending="png", **how) -> Path:
    """parts/CLASS/0.png ..."""
    for part in parts:
        for name in classes:
            for k in range(n):
                picture(root / part / name / f"{k}.{ending}", **how)
    return root


def npz(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def made(tmp_path, options, name="mine", source=Path("data")):
    """The prepared data set, loaded, and what its header says was measured."""
    out = tmp_path / f"{name}.safetensors"
    sources.prepare(name, source, out, options)
    data = datasets.load(out, torch.device("cpu"))
    return data, json.loads(prepared.header(out)["facts"])


def refused(tmp_path, options, source=Path("data")) -> str:
    """Why it is not prepared; nothing is left behind."""
    out = tmp_path / "out/mine.safetensors"
    with pytest.raises(BadInput) as caught:
        sources.prepare("mine", source, out, options)
    assert not out.parent.exists() or not list(out.parent.iterdir())
    return str(caught.value)


# Class folders


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "webp"])
def test_class_folders_become_images_and_labels(tmp_path, ending):
    root = tree(tmp_path / "in", ("b", "a", "c"), n=3, ending=ending, size=(6, 5))
    data, facts = made(tmp_path, {"folder": str(root)})
    assert tuple(data.train.images.shape) == (9, 3, 5, 6) and data.n_classes == 3
    assert facts["classes"] == ["a", "b", "c"] and facts["per_class"] == {"train": [3] * 3, "test": [3] * 3}
    for k, name in enumerate(facts["classes"]):
        files = {
            np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in (root / "train" / name).iterdir()
        }
        assert {image.numpy().tobytes() for image in data.train.images[data.train.labels == k]} == files


def test_the_first_n_images_have_their_share_of_every_class(tmp_path):
    data, _ = made(tmp_path, {"folder": str(tree(tmp_path / "in", ("a", "b", "c"), n=10))})
    for n in (3, 6, 15, 30):
        counts = data.train.labels[:n].bincount(minlength=3)
        assert counts.max() - counts.min() <= 1


def test_preparing_twice_gives_the_same_content(tmp_path):
    options = {"folder": str(tree(tmp_path / "in", parts=[""], n=10)), "test": 0.3, "seed": 4}
    first, _ = made(tmp_path / "1", options)
    again, _ = made(tmp_path / "2", options)
    other, _ = made(tmp_path / "3", {**options, "seed": 5})
    assert first.sha256 == again.sha256 != other.sha256


@pytest.mark.parametrize("test,n", [(0.3, 6), (5, 5), (0.5, 10)])
def test_one_folder_is_split_by_a_share_or_a_number(tmp_path, test, n):
    root = tree(tmp_path / "in", parts=[""], n=10)
    data, facts = made(tmp_path, {"folder": str(root), "test": test})
    assert (facts["n_train"], facts["n_test"], facts["in_both"]) == (20 - n, n, 0)
    counts = data.test.labels.bincount(minlength=2)
    assert counts.max() - counts.min() <= 1


def test_train_alone_is_split_and_val_is_a_test_part(tmp_path):
    assert made(tmp_path, {"folder": str(tree(tmp_path / "a", parts=["train"])), "test": 2})[1]["n_test"] == 2
    assert made(tmp_path, {"folder": str(tree(tmp_path / "b", parts=["train", "val"]))})[1]["n_test"] == 8


def test_tiny_imagenet_is_read_as_it_is_unpacked(tmp_path):
    root = tmp_path / "tiny"
    for name in ("n01", "n02"):
        for k in range(3):
            picture(root / f"train/{name}/images/{name}_{k}.JPEG")
        (root / f"train/{name}/{name}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t9\t9\n")
    for k, name in enumerate(("n02", "n01")):
        picture(root / f"val/images/val_{k}.JPEG")
        with open(root / "val/val_annotations.txt", "a") as file:
            file.write(f"val_{k}.JPEG\t{name}\t0\t0\t9\t9\n")
    picture(root / "test/images/test_0.JPEG")
    data, facts = made(tmp_path, {"folder": str(root)})
    assert (facts["n_train"], facts["n_test"], facts["classes"]) == (6, 2, ["n01", "n02"])
    pixels = np.asarray(Image.open(root / "val/images/val_0.JPEG")).transpose(2, 0, 1)
    assert (data.test.images[data.test.labels == 1][0].numpy() == pixels).all()


def test_hidden_files_and_other_files_are_left_alone(tmp_path, caplog):
    root = tree(tmp_path / "in")
    (root / "train/cat/._0.png").write_bytes(b"\0\0")
    (root / "train/cat/notes.txt").write_text("hello")
    (root / "train/.cache").mkdir()
    with caplog.at_level("INFO"):
        assert made(tmp_path, {"folder": str(root)})[1]["n_train"] == 8
    assert "files that are no images were left alone: .txt 1" in caplog.text


# Sizes and channels


@pytest.mark.parametrize(
    "options,shape",
    [
        ({"size": 8, "resize": "exact"}, (8, 8)),
        ({"size": [4, 6], "resize": "exact"}, (4, 6)),
        ({"size": 8, "resize": "shortest", "crop": "centre"}, (8, 8)),
        ({"size": [4, 6], "resize": "shortest", "crop": "centre"}, (4, 6)),
        ({"size": 6, "crop": "centre"}, (6, 6)),
    ],
)
def test_mixed_sizes_become_the_one_that_is_said(tmp_path, options, shape):
    root = tree(tmp_path / "in", size=(8, 8))
    picture(root / "train/cat/wide.png", (20, 10))
    data, _ = made(tmp_path, {"folder": str(root), **options})
    assert tuple(data.train.images.shape[2:]) == shape


def test_shortest_and_centre_keep_the_middle(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 255
    for part, name in (("train", "a"), ("train", "b"), ("test", "a")):
        (tmp_path / "in" / part / name).mkdir(parents=True)
        Image.fromarray(wide).save(tmp_path / "in" / part / name / "0.png")
    data, _ = made(tmp_path, {"folder": str(tmp_path / "in"), "size": 4, "crop": "centre"})
    assert (data.train.images == 255).all()


@pytest.mark.parametrize(
    "size,options,rule",
    [
        ((9, 7), {}, "the images have 2 sizes, 8x8 (16), 9x7 (1). Say which one they get and how: `size: 32`"),
        ((9, 7), {"size": 8}, "9x7 (1) images are smaller than 8x8 pixels. Say `resize: exact`"),
        ((9, 9), {"size": 8}, "9x9 (1) images are not of 8x8 pixels. Say `resize: exact` (the aspect is not kept), or"),
        ((9, 8), {"size": 8, "resize": "shortest"}, "9x8 (1) images are after resize: shortest larger than 8x8 pixels"),
        ((9, 7), {"size": 8, "crop": "centre"}, "9x7 (1) images are smaller than 8x8 pixels"),
    ],
)
def test_mixed_sizes_are_refused_unless_it_is_said_what_they_become(tmp_path, size, options, rule):
    root = tree(tmp_path / "in")
    picture(root / "train/cat/odd.png", size)
    assert rule in refused(tmp_path, {"folder": str(root), **options})


def test_mixed_modes_are_refused_unless_channels_are_said(tmp_path):
    root = tree(tmp_path / "in")
    for mode in ("L", "RGBA", "P"):
        picture(root / f"train/cat/{mode}.png", mode=mode)
    said = refused(tmp_path, {"folder": str(root)})
    assert "the images' modes are RGB (16), " in said and "Say what they become: `channels: 1`" in said
    assert made(tmp_path / "1", {"folder": str(root), "channels": 1})[1]["shape"] == [1, 8, 8]
    assert made(tmp_path / "3", {"folder": str(root), "channels": 3})[1]["shape"] == [3, 8, 8]


def test_grey_images_need_no_saying_and_a_palette_does(tmp_path):
    assert made(tmp_path, {"folder": str(tree(tmp_path / "L", mode="L"))})[1]["shape"] == [1, 8, 8]
    assert "the images' modes are P (16)" in refused(tmp_path, {"folder": str(tree(tmp_path / "P", mode="P"))})


def test_more_than_8_bits_are_refused(tmp_path):
    root = tree(tmp_path / "in")
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(root / "train/cat/deep.png")
    assert "1 images have more than 8 bits a channel" in refused(tmp_path, {"folder": str(root), "channels": 1})


# Folders that cannot be used


@pytest.mark.parametrize(
    "spoil,options,rule",
    [
        (lambda r: shutil.rmtree(r), {}, "there is no such folder"),
        (lambda r: shutil.rmtree(r / "test"), {}, "has no train/ with test/ or val/ (it has train). It must hold"),
        (lambda r: None, {"test": 0.5}, "has train/ and test/: there is nothing to split. Leave `test` out"),
        (lambda r: picture(r / "test/fox/0.png"), {}, "test has classes that train lacks: fox. Give each the folder"),
        (lambda r: (r / "train/ant").mkdir(), {}, "train/ has classes without an image: ant. Fill or remove them"),
        (lambda r: (r / "test/ant").mkdir(), {}, "test/ has classes without an image: ant. Fill or remove them"),
        (lambda r: [shutil.rmtree(r / p / "dog") for p in ("train", "test")], {}, "there is one class, cat; two are"),
        (lambda r: picture(r / "train/cat/x.bmp"), {}, "1 images are no JPEG, PNG or WebP: "),
    ],
)
def test_a_folder_that_is_laid_out_otherwise_is_refused(tmp_path, spoil, options, rule):
    root = tree(tmp_path / "in")
    spoil(root)
    assert rule in refused(tmp_path, {"folder": str(root), **options})


def test_a_config_says_what_to_do_where_its_folder_is_absent(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"folder": "in", "absent": "Draw two hundred cats, or run the default."}
    assert refused(tmp_path, options).endswith(f"(looked for at {tmp_path / 'in'}). {options['absent']}")
    run = {"dataset": "mine", "model": "preact_tiny", "eps": "8/255", "method": "fgsm_rs", "seed": 0}
    evaluation = {"autoattack": {"n_images": 8, "batch_size": 8}}
    config = {"datasets": {"mine": options}, "grid": [run], "evaluation": evaluation}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    words = ["check", "--configfile", "config.yaml"]
    assert main(words) == 0
    assert f"mine: there is no {tmp_path / 'in'}. {options['absent']}" in capsys.readouterr().err
    tree(tmp_path / "in")
    made(tmp_path / "results/data", options)
    Path("config.yaml").write_text(yaml.safe_dump(config).replace("two hundred", "300"))
    assert main(words) == 0  # other words are not another data set
    said = capsys.readouterr()
    assert "mine: 3 x 8 x 8, 2 classes" in said.out and "WARNING" not in said.out and "there is no" not in said.err


def test_an_empty_folder_has_no_class(tmp_path):
    (tmp_path / "in").mkdir()
    assert "there is no class folder in" in refused(tmp_path, {"folder": str(tmp_path / "in"), "test": 0.5})


def test_a_split_needs_two_images_of_every_class(tmp_path):
    root = tree(tmp_path / "in", parts=[""])
    for name in ("fox", "owl"):
        picture(root / name / "0.png")
    said = refused(tmp_path, {"folder": str(root), "test": 0.5})
    assert "a split needs two images of every class, but there is one of fox, owl. Add some" in said


@pytest.mark.parametrize(
    "test,rule",
    [(8, "test: 8 is 8 of 8 images"), (0.01, "test: 0.01 is 0 of 8 images"), (7, "leaves no training image of class")],
)
def test_a_split_leaves_images_for_each_part(tmp_path, test, rule):
    root = tree(tmp_path / "in", parts=[""])
    assert rule in refused(tmp_path, {"folder": str(root), "test": test})


def damaged(root: Path) -> dict[str, str]:
    """Files that are no images, and how each is named."""
    whole = picture(root / "whole.jpg", (64, 64))
    contents = {
        "train/cat/empty.jpg": (b"", "0 bytes"),
        "train/dog/cut.jpg": (whole.read_bytes()[:900], "damaged: "),
        "test/cat/page.png": (b"<!DOCTYPE html><p>404", "a web page, "),
        "test/dog/text.webp": (b"hello", "no image"),
        "test/dog/zeros.png": (bytes(500), "zeros"),
    }
    for name, (content, _) in contents.items():
        (root / name).write_bytes(content)
    whole.unlink()
    (root / "train/cat/nowhere.png").symlink_to(root / "gone")
    return {**{name: why for name, (_, why) in contents.items()}, "train/cat/nowhere.png": "No such file"}


def test_files_that_are_no_images_are_all_named(tmp_path):
    root = tree(tmp_path / "in", size=(64, 64))
    bad = damaged(root)
    said = refused(tmp_path, {"folder": str(root)})
    assert f"{len(bad)} of 22 files are no whole images: " in said and said.endswith("nothing was written")
    for name, why in bad.items():
        assert re.search(rf"{re.escape(str(root / name))} \([^,]*{re.escape(why)}", said), (name, said)


def test_files_that_are_damaged_behind_their_headers_are_all_named(tmp_path):
    root = tree(tmp_path / "in", size=(64, 64), ending="jpg", n=15)
    for path in (root / "train").rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:900])
    said = refused(tmp_path, {"folder": str(root)})
    assert "30 of 60 files are no whole images: " in said and " and 10 more. Replace or remove them" in said
    assert said.count("(damaged: ") == 20


def test_a_data_set_beyond_the_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(fit.os, "sysconf", lambda name: 20)
    said = refused(tmp_path, {"folder": str(tree(tmp_path / "in"))})
    assert "All of it is held in memory: take smaller images (`size`) or fewer" in said


def test_an_interrupted_preparation_leaves_what_was_there(tmp_path, monkeypatch):
    options = {"folder": str(tree(tmp_path / "in"))}
    made(tmp_path / "out", options)
    before = (tmp_path / "out/mine.safetensors").read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder.fit, "fitted", stop)
    with pytest.raises(KeyboardInterrupt):
        sources.prepare("mine", Path("data"), tmp_path / "out/mine.safetensors", options)
    assert (tmp_path / "out/mine.safetensors").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.safetensors"]


def test_a_link_to_a_folder_is_named_and_one_to_a_class_or_an_image_is_followed(tmp_path):
    root = tree(tmp_path / "in")
    shutil.move(root / "train/cat", tmp_path / "cat")
    (root / "train/cat").symlink_to(tmp_path / "cat")
    (root / "train/cat/4.png").symlink_to(picture(tmp_path / "other.png"))
    assert made(tmp_path, {"folder": str(root)})[1]["n_train"] == 9
    (tmp_path / "cat/more").symlink_to(tmp_path / "cat")
    said = refused(tmp_path, {"folder": str(root)})
    assert f"{root}/train/cat/more is a link to a folder, and is not followed. Put the folder itself there" in said


# Arrays


def four(n=12, shape=(5, 6, 3), n_classes=3):
    return RNG.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % n_classes


def test_both_parts_of_an_npz_are_taken_as_they_are(tmp_path):
    (x, y), (x_test, y_test) = four(), four(6)
    path = npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    data, facts = made(tmp_path, {"npz": str(path)})
    assert facts["shape"] == [3, 5, 6] and (facts["n_train"], facts["n_test"]) == (12, 6)
    held = {
        image.numpy().tobytes(): int(label) for image, label in zip(data.train.images, data.train.labels, strict=True)
    }
    assert held == {image.transpose(2, 0, 1).tobytes(): label for image, label in zip(x, y, strict=True)}


@pytest.mark.parametrize(
    "shape,options,found",
    [
        ((5, 6, 3), {}, [3, 5, 6]),
        ((3, 5, 6), {}, [3, 5, 6]),
        ((5, 6), {}, [1, 5, 6]),
        ((1, 5, 6), {}, [1, 5, 6]),
        ((3, 5, 3), {"layout": "NCHW"}, [3, 5, 3]),
        ((3, 5, 3), {"layout": "NHWC"}, [3, 3, 5]),
    ],
)
def test_channels_are_where_the_shape_or_the_layout_says(tmp_path, shape, options, found):
    x, y = four(12, shape)
    path = npz(tmp_path / "a.npz", images=x, labels=y)
    assert made(tmp_path, {"npz": str(path), "test": 0.5, **options})[1]["shape"] == found


@pytest.mark.parametrize(
    "spoil,options,rule",
    [
        ({"labels": np.arange(12) % 3 + 1}, {}, "labels must run from 0, got 1 to 3. Write y - 1"),
        ({"labels": np.arange(12) % 3 - 1}, {}, "labels must run from 0, got -1 to 1. Number the classes from 0"),
        (
            {"labels": np.arange(12) % 3 * 2},
            {},
            "there are labels up to 4, but no training image of class 1. Number the",
        ),
        ({"labels": np.zeros(12, int)}, {}, "labels must be of two classes or more, got 0 alone"),
        (
            {"labels": np.arange(12) % 3 / 1},
            {},
            "labels must be whole numbers, one an image, of shape (n,), got float64",
        ),
        ({"labels": np.eye(12, dtype=int)}, {}, "got int64 (12, 12). Write labels.argmax(1)"),
        ({"labels": np.arange(11) % 3}, {}, "images and labels must be as many and not none, got 12 and 11"),
        ({"labels": np.array([0] * 11 + [1])}, {}, "a split needs two images of every class, but there is one of 1"),
        ({"images": four()[0] / 255}, {}, "must be uint8, 0 to 255, got float64. Write np.rint(255 * x)"),
        ({"images": four()[0].astype(int)}, {}, "must be uint8, 0 to 255, got int64. Write x.astype(np.uint8)"),
        ({"images": four(12, (3, 5, 3))[0]}, {}, "may be NHWC or NCHW. Say which: `layout: NHWC`"),
        (
            {"images": four(12, (5, 6, 4))[0]},
            {},
            "must be NHWC or NCHW with 1 or 3 channels, or NHW, got (12, 5, 6, 4)",
        ),
        ({"images": np.uint8(7)}, {}, "must be NHWC or NCHW with 1 or 3 channels, or NHW, got ()"),
        ({}, {"layout": "NCHW"}, "or NHW, got (12, 5, 6, 3) and layout: NCHW. Reshape it, or say its layout"),
        ({}, {"test": None}, "has images and labels, and no test part. Say how many: `test: 0.2`"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path, spoil, options, rule):
    x, y = four()
    path = npz(tmp_path / "a.npz", **{"images": x, "labels": y, **spoil})
    said = {key: value for key, value in {"npz": str(path), "test": 0.5, **options}.items() if value is not None}
    assert rule in refused(tmp_path, said)


def test_test_labels_that_train_lacks_and_other_shapes_are_refused(tmp_path):
    (x, y), arrays = four(), {}
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    path = npz(tmp_path / "a.npz", **{**arrays, "y_test": y + 1})
    assert "test has classes that train lacks: 3. Number both alike" in refused(tmp_path, {"npz": str(path)})
    path = npz(tmp_path / "b.npz", **{**arrays, "x_test": four(12, (6, 6, 3))[0]})
    assert "must be of one shape (C, H, W), got (3, 5, 6) and (3, 6, 6)" in refused(tmp_path, {"npz": str(path)})
    path = npz(tmp_path / "c.npz", **arrays)
    assert "there is nothing to split. Leave `test` out" in refused(tmp_path, {"npz": str(path), "test": 0.5})


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_an_npz_with_objects_is_refused_and_nothing_of_it_is_run(tmp_path):
    x, y = four()
    objects = np.array([Runs(tmp_path / "ran")] * 12, object)
    path = npz(tmp_path / "a.npz", images=objects, labels=y)
    assert "images holds Python objects, which are pickled" in refused(tmp_path, {"npz": str(path), "test": 0.5})
    np.save(tmp_path / "one.npy", objects, allow_pickle=True)
    refused(tmp_path, {"npz": str(tmp_path / "one.npy"), "test": 0.5})
    assert not (tmp_path / "ran").exists()


def test_what_is_no_npz_is_refused(tmp_path):
    x, y = four()
    options = {"npz": str(tmp_path / "a.npz"), "test": 0.5}
    assert "No such file" in refused(tmp_path, options)
    npz(tmp_path / "a.npz", pictures=x, labels=y)
    assert "has no images (it has pictures, labels). It must hold x_train" in refused(tmp_path, options)
    whole = npz(tmp_path / "a.npz", images=x, labels=y).read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-100])
    assert "is damaged (File is not a zip file). Write it again with np.savez_compressed" in refused(tmp_path, options)
    (tmp_path / "a.npz").write_bytes(b"")
    assert "is no npz file. It is empty. It must hold x_train" in refused(tmp_path, options)
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, x)
    assert "holds one array, and is no npz file" in refused(tmp_path, options)


@pytest.mark.parametrize("byte", [b"(", b'"', b"\\", b"[", b"\0"])
def test_an_npz_with_a_damaged_header_inside_is_refused(tmp_path, byte):
    x, y = four()
    whole = io.BytesIO()
    np.save(whole, x)
    spoilt = whole.getvalue().replace(b"{", byte, 1)
    with zipfile.ZipFile(npz(tmp_path / "a.npz", labels=y), "a") as archive:
        archive.writestr("images.npy", spoilt)
    assert "is damaged (" in refused(tmp_path, {"npz": str(tmp_path / "a.npz"), "test": 0.5})


def test_an_encrypted_npz_is_refused(tmp_path):
    x, y = four()
    content = bytearray(npz(tmp_path / "a.npz", images=x, labels=y).read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1  # as an archive with a password has it
            at = content.find(signature, at + 1)
    (tmp_path / "a.npz").write_bytes(content)
    assert "is encrypted, password required" in refused(tmp_path, {"npz": str(tmp_path / "a.npz"), "test": 0.5})


# torchvision's sets


class Fake(torchvision.datasets.VisionDataset):
    """As SVHN: `split`, and a file that must be there."""

    size, n, first = (8, 8), 12, 0

    def __init__(self, root, split="train", transform=None, target_transform=None, download=False):
        super().__init__(root)
        if split not in ("train", "test"):
            raise ValueError(f"Unknown value '{split}' for argument split")
        self.split = split
        if download:
            Path(root).mkdir(parents=True, exist_ok=True)
            (Path(root) / "fake.bin").touch()
        if not (Path(root) / "fake.bin").exists():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        colour = (k, 1 if self.split == "train" else 2, 3)
        return Image.new("RGB", self.size, colour), k % 3 + self.first


class FakeTrain(Fake):
    """As MNIST: `train`."""

    classes = ("a", "b", "c")

    def __init__(self, root, train=True, transform=None, target_transform=None, download=False):
        super().__init__(root, "train" if train else "test", download=download)


class FakeBoth(FakeTrain):
    """As EMNIST: a `split` has both parts, and `train` and `download` are handed on."""

    def __init__(self, root, split, **kwargs):
        self.asked = split
        super().__init__(root, **kwargs)


class FakeHidden(Fake):
    """It has both parts, and says neither how."""

    def __init__(self, root, split="train", download=False):
        super().__init__(root, download=download)
        self.train = True


@pytest.fixture
def fakes(monkeypatch):
    for cls in (Fake, FakeTrain, FakeBoth, FakeHidden):
        monkeypatch.setattr(torchvision.datasets, cls.__name__, cls, raising=False)


@pytest.mark.parametrize("name,classes", [("Fake", []), ("FakeTrain", ["a", "b", "c"])])
def test_a_set_with_split_or_train_is_read_in_both_parts(tmp_path, fakes, name, classes):
    options = {"torchvision": name, "download": True}
    data, facts = made(tmp_path, options, source=tmp_path / "data")
    assert (facts["n_train"], facts["n_test"], facts["n_classes"], facts["classes"]) == (12, 12, 3, classes)
    assert (data.train.images[:, 1] == 1).all() and (data.test.images[:, 1] == 2).all()
    assert (data.train.images[:, 0, 0, 0] % 3 == data.train.labels).all()


def test_of_a_split_that_has_both_parts_each_is_read(tmp_path, fakes):
    options = {"torchvision": "FakeBoth", "parts": ["digits", "digits"], "download": True}
    data, _ = made(tmp_path, options, source=tmp_path / "data")
    assert (data.train.images[:, 1] == 1).all() and (data.test.images[:, 1] == 2).all()
    said = refused(tmp_path, {"torchvision": "FakeHidden", "download": True}, tmp_path / "data")
    assert "its test part is of training images" in said


@pytest.mark.parametrize("name,takes", [("EMNIST", {"split", "train", "download"}), ("QMNIST", {"train", "download"}),
                                        ("SVHN", {"split", "download"}), ("MNIST", {"train", "download"})])  # fmt: skip
def test_what_a_class_hands_on_it_takes(name, takes):
    found = image_sets.parameters(getattr(torchvision.datasets, name))
    assert found & {"split", "train", "download"} == takes


@pytest.mark.parametrize("error", [AssertionError, EOFError, SyntaxError("broken PNG file"), struct.error("unpack")])
def test_whatever_a_class_says_of_damaged_files_is_a_sentence(tmp_path, fakes, monkeypatch, error):
    def fail(self, k):
        raise error

    monkeypatch.setattr(Fake, "__getitem__", fail)
    said = refused(tmp_path, {"torchvision": "Fake", "download": True}, tmp_path / "data")
    assert f"torchvision Fake, image 0: {str(error) if isinstance(error, Exception) else error.__name__}. Put" in said


def test_a_set_that_is_not_there_is_not_downloaded_unless_that_is_said(tmp_path, fakes):
    said = refused(tmp_path, {"torchvision": "Fake"}, tmp_path / "data")
    assert "Dataset not found" in said and f"unpacked, where torchvision looks for them: {tmp_path / 'data'}" in said
    assert said.endswith("or say `download: true`")


def test_svhn_and_mnist_say_what_they_lack(tmp_path):
    for name in ("SVHN", "KMNIST"):
        said = refused(tmp_path, {"torchvision": name}, tmp_path / "data")
        assert "Put its files, unpacked, where torchvision looks" in said and "download: true" in said


@pytest.mark.parametrize(
    "options,rule",
    [
        ({"torchvision": "SVNH"}, "torchvision.datasets has no such set. Did you mean 'SVHN'?"),
        ({"torchvision": "FakeData"}, "it has neither `split` nor `train`. Save its images as class folders"),
        ({"torchvision": "FakeTrain", "parts": ["a", "b"]}, "`parts` belongs to classes with `split`"),
        ({"torchvision": "Fake", "parts": ["train", "b"]}, "Unknown value 'b' for argument split"),
        ({"torchvision": "CocoDetection"}, "it has neither `split` nor `train`"),
    ],
)
def test_a_class_that_is_no_labelled_set_is_refused(tmp_path, fakes, options, rule):
    assert rule in refused(tmp_path, {**options, "download": True}, tmp_path / "data")


def test_labels_from_1_and_what_is_no_label_are_refused(tmp_path, fakes, monkeypatch):
    options = {"torchvision": "Fake", "download": True}
    monkeypatch.setattr(Fake, "first", 1)
    assert "labels must run from 0, got 1 to 3" in refused(tmp_path, options, tmp_path / "data")
    monkeypatch.setattr(Fake, "first", 0.5)
    said = refused(tmp_path, options, tmp_path / "data")
    assert "must give images with whole numbers as labels, got Image and float" in said


# What is measured


def test_what_is_measured_is_what_is_there(tmp_path, caplog):
    x, y = four(12, (4, 4, 3))
    x[5] = x[2]
    x_test = np.concatenate([x[:2], four(4, (4, 4, 3))[0]])
    path = npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x_test, y_test=y[:6])
    with caplog.at_level("INFO"):
        _, facts = made(tmp_path, {"npz": str(path)})
    assert facts["in_both"] == 2 and facts["twice"] == {"train": 1, "test": 0}
    assert np.allclose(facts["mean"], x.mean((0, 1, 2)) / 255, atol=1e-6)  # rounded to six digits
    assert np.allclose(facts["std"], x.std((0, 1, 2)) / 255, atol=1e-6)
    assert "2 test images are byte for byte training images, too" in caplog.text
    assert "train images by class: 0 4, 1 4, 2 4" in caplog.text


def test_facts_are_learnt_from_headers_and_else_from_runs(tmp_path):
    results = tmp_path / "results"
    made(results / "data", {"folder": str(tree(tmp_path / "in"))})
    catalog.learn(results)
    assert catalog.facts("mine") == catalog.DatasetFacts((3, 8, 8), 2, 8, 8)
    run = results / "runs/mine/preact_tiny/eps8/clean/paper/seed0"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"data": catalog.said("mine")}))
    shutil.rmtree(results / "data")
    catalog.learn(results)
    assert catalog.facts("mine") == catalog.DatasetFacts((3, 8, 8), 2, 8, 8)
    catalog.learn(tmp_path / "elsewhere")
    assert catalog.facts("mine") is None and catalog.facts("digits") == catalog.CATALOG["digits"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b'\x02\0\0\0\0\0\0\0{"', b"\x10" + bytes(7) + b"hello"]
)
def test_a_damaged_header_teaches_nothing(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.safetensors").write_bytes(content)
    catalog.learn(tmp_path)
    assert catalog.facts("mine") is None


def test_a_file_of_another_data_set_is_refused(tmp_path):
    made(tmp_path, {"folder": str(tree(tmp_path / "in"))})
    (tmp_path / "mine.safetensors").rename(tmp_path / "yours.safetensors")
    with pytest.raises(BadInput, match="must hold yours, but it holds mine"):
        prepared.header(tmp_path / "yours.safetensors")
    with pytest.raises(BadInput, match="must be named mine.safetensors"):
        sources.prepare("mine", Path("data"), tmp_path / "yours.safetensors", {"folder": str(tmp_path / "in")})


# The config


@pytest.mark.parametrize(
    "datasets,rule",
    [
        ({"Mine": {"folder": "a"}}, "a name is made of a-z, 0-9 and _, got 'Mine'. Write 'mine'"),
        ({"digits": {"folder": "a"}}, "datasets: digits is the name of one of ours. Choose another, as my_digits"),
        ({"mine": {}}, "must say exactly one of folder, npz, reader, torchvision, got none"),
        (
            {"mine": {"folder": "a", "npz": "b"}},
            "must say exactly one of folder, npz, reader, torchvision, got folder and npz",
        ),
        ({"mine": {"npz": "b", "size": 8}}, "size says nothing of a data set from npz."),
        ({"mine": {"folder": "a", "layout": "NHW"}}, "layout says nothing of a data set from folder."),
        ({"mine": {"folder": "a", "seed": 1}}, "seed says nothing without test. Say test, or leave seed out"),
        ({"mine": {"folder": "a", "crop": "centre"}}, "crop says nothing without size"),
        ({"mine": {"folder": "a", "size": 8, "resize": "exact", "crop": "centre"}}, "there is nothing to crop"),
        ({"mine": {"folder": "a", "siez": 8}}, "unknown key 'siez'. Did you mean 'size'?"),
        ({"mine": {"folder": "a", "size": 8, "resize": "longest"}}, "resize must be shortest or exact, got 'longest'"),
        ({"mine": {"folder": "a", "size": [8]}}, "size must be a number of pixels, or [height, width], got [8]"),
        ({"mine": {"folder": "a", "test": 1.5}}, "test must be a share between 0 and 1, or a whole number of images"),
        ({"mine": {"folder": "a", "channels": 4}}, "channels must be 1 or 3, got 4"),
        ({"mine": {"folder": 3}}, "folder must be a folder of class folders, as text, got 3"),
        ({"mine": "a"}, "mine must be a mapping as {folder: PATH}"),
    ],
)
def test_what_a_config_says_of_a_data_set_is_checked(tmp_path, datasets, rule):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"datasets": datasets}))
    with pytest.raises(BadInput) as caught:
        grid.load_config([path])
    assert rule in str(caught.value)


def own_config(tmp_path, eps="8/255", method="fgsm_rs", **more) -> dict:
    block = {"dataset": "mine", "model": "preact_tiny", "eps": eps, "method": method, "seed": 0}
    path = tmp_path / "config.yaml"
    few = {"evaluation": {"autoattack": {"n_images": 4, "batch_size": 4}}}
    path.write_text(yaml.safe_dump({"datasets": {"mine": {"folder": "in"}}, "grid": [block], **few, **more}))
    return grid.load_config([path])


def test_a_data_set_that_nobody_names_is_refused(tmp_path):
    config = own_config(tmp_path)
    with pytest.raises(BadInput, match="unknown dataset 'mnie': neither one of ours nor in `datasets`.*'mine'"):
        resolve(RunSpec("mnie", "preact_tiny", 8, "clean", "paper", 0), config)
    path = tmp_path / "other.yaml"
    path.write_text("grid: [{dataset: mine, model: preact_tiny, eps: 8/255, method: clean, seed: 0}]\n")
    with pytest.raises(BadInput, match="unknown value 'mine'"):
        grid.load_config([path])


@pytest.mark.parametrize("method", ["pgd10", "fgsm_ga", "atta", "atas", "atas/released", "nuat/released", "subat"])
@pytest.mark.parametrize("eps", [8, 12, 16])
def test_at_the_papers_eps_the_recipe_is_cifar10s(tmp_path, eps, method):
    config, (name, _, variant) = own_config(tmp_path, f"{eps}/255", method), method.partition("/")
    spec = RunSpec("mine", "preact_resnet18", eps, name, variant or "paper", 0)
    cifar = RunSpec("cifar10", "preact_resnet18", eps, name, variant or "paper", 0)
    assert resolve(spec, config) == resolve(cifar, config)


@pytest.mark.parametrize(
    "method,params",
    [
        ("atta", {"alpha": "0.5 eps"}),
        ("atta/released", {"alpha": "0.478125 eps"}),
        ("atas", {"gamma_over_c": "2 eps"}),
        ("atas/released", {"gamma_over_c": "2 eps", "clamp": ["0.5 eps", "1.75 eps"], "warmup_epochs": 5}),
        ("atas_sdi", {"gamma_over_c": "2 eps"}),
        ("fgsm_ga", {"lam": 0.2}),
        ("nuat/released", {"clip": "1 eps"}),
        ("atas/c02", {"c": 2.56}),
    ],
)
def test_at_another_eps_it_is_that_of_8_in_proportion(tmp_path, method, params):
    config, (name, _, variant) = own_config(tmp_path, "5/255", method), method.partition("/")
    recipe = resolve(RunSpec("mine", "preact_resnet18", 5, name, variant or "paper", 0), config)
    assert {key: recipe.params[key] for key in params} == params
    at_8 = resolve(RunSpec("cifar10", "preact_resnet18", 8, name, variant or "paper", 0), config)
    assert (recipe.schedule, recipe.epochs, recipe.pad, recipe.flip) == (at_8.schedule, at_8.epochs, 4, True)


def test_what_the_config_says_is_never_scaled(tmp_path):
    recipes = {"mine": {"atta": {"params": {"alpha": "4/255"}}, "every": {"pad": 1, "flip": False}}}
    recipe = resolve(RunSpec("mine", "preact_tiny", 5, "atta", "paper", 0), own_config(tmp_path, recipes=recipes))
    assert (recipe.params["alpha"], recipe.pad, recipe.flip) == ("4/255", 1, False)


def test_recipe_says_where_a_value_comes_from_and_that_it_is_in_proportion(tmp_path, capsys):
    own_config(tmp_path)
    for method, line in (
        ("atta/paper", r"params.alpha +0.5 eps +config/recipes.yaml:\d+ +4/255 at 8/255, in proportion to eps; App. B"),
        (
            "atas_sdi/paper",
            r"params.gamma_over_c +2 eps +methods/atas_sdi.py:\d+ +16/255 at 8/255, in proportion to eps",
        ),
        ("fgsm_ga/paper", r"params.lam +0.2 +config/recipes.yaml:\d+ +by_eps: 8, as at 8/255; "),
    ):
        run = f"mine/preact_tiny/eps5/{method}/seed0"
        assert main(["recipe", run, "--configfile", str(tmp_path / "config.yaml")]) == 0
        assert re.search(line, capsys.readouterr().out), line


@pytest.mark.parametrize(
    "eps,said,shown",
    [
        (["4/255", "8/255", "20/255"], {}, "8/255"),
        (["4/255", "8/255"], {}, "4/255"),
        (["4/255", "8/255"], {"mine": "8/255"}, "8/255"),
    ],
)
def test_table_one_shows_the_middle_eps_of_the_grid_unless_it_is_said(tmp_path, eps, said, shown):
    assert grid.table1_eps(own_config(tmp_path, eps, table1_eps=said))["mine"] == shown


def test_check_says_how_it_is_augmented_and_what_is_not_known_yet(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own_config(tmp_path)
    words = ["check", "--configfile", "config.yaml"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "mine: not prepared, so that what depends on its sizes is checked before it is trained on." in said
    pad, flip = notes = [
        "mine: pad 4, as CIFAR10: say `recipes: {mine: {every: {pad: 0}}}` if its images must not be shifted.",
        "mine: flip true, as CIFAR10: say `recipes: {mine: {every: {flip: false}}}` if its images have a direction.",
    ]
    assert {*notes} <= {*said.splitlines()}
    for way_out, left in (("flip: false", {pad}), ("pad: 0", {flip}), ("pad: 4, flip: true", set())):
        (tmp_path / "said.yaml").write_text(f"recipes: {{mine: {{every: {{{way_out}}}}}}}")
        assert main([*words, "said.yaml"]) == 0
        assert {*notes} & {*capsys.readouterr().out.splitlines()} == left
    tree(tmp_path / "in")
    assert main(["data", "--dataset", "mine", "--configfile", "config.yaml"]) == 0
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "mine: 3 x 8 x 8, 2 classes, 8 training and 8 test images; mean 0." in said and "WARNING" not in said


def test_check_warns_of_a_file_that_was_prepared_from_something_else(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "results/data", {"folder": str(tree(tmp_path / "other"))})
    own_config(tmp_path)
    assert main(["check", "--configfile", "config.yaml"]) == 0
    said = capsys.readouterr().out
    assert re.search(r'WARNING: it was prepared from {"folder": ".*other"}, but the config says', said)


def test_sizes_are_checked_as_soon_as_they_are_known(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipes = {"mine": {"every": {"n_train": 9, "epochs": 1, "schedule": {"kind": "triangular", "lr": 0.1}}}}
    own_config(tmp_path, recipes=recipes)  # not prepared: it may have nine
    made(tmp_path / "results/data", {"folder": str(tree(tmp_path / "in"))})
    run = "mine/preact_tiny/eps8/fgsm_rs/paper/seed0"
    text = resolve(RunSpec.parse(run), own_config(tmp_path, recipes=recipes)).to_json()
    for words in (["check", "--configfile", "config.yaml"], ["train", "--run", run, "--recipe", text]):
        assert main(words) == 2
        assert "n_train must be at most 8, as many as mine has, or left out, got 9" in capsys.readouterr().err
    own_config(tmp_path, evaluation={"autoattack": {"n_images": 8, "batch_size": 8}})
    catalog.learn(tmp_path / "results")
    with pytest.raises(BadInput, match="n_images is 9, but mine has 8 test images"):
        own_config(tmp_path, evaluation={"autoattack": {"n_images": 9, "batch_size": 8}})


def test_plan_asks_for_the_data_first(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own_config(tmp_path)
    assert main(["plan", "--configfile", "config.yaml"]) == 2
    assert "data set 'mine' is not prepared here" in capsys.readouterr().err


def test_an_unknown_home_or_no_path_is_bad_input():
    for text, rule in (("~nobody_at_all/x", "home of an unknown user"), ("", "a path must not be empty")):
        with pytest.raises(BadInput, match=rule):
            own_data.path_of(text, "folder")


def test_the_workflow_prepares_it_from_the_config(tmp_path):
    tree(tmp_path / "in")
    own_config(tmp_path)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--configfile", str(tmp_path / "config.yaml"), "--cores", "1"]
    wanted = "results/data/mine.safetensors"

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    said = run("--dry-run", "--printshellcmds")
    assert said.returncode == 0, said.stdout + said.stderr
    assert re.search(r"fastat data --dataset mine --source data --options '{\"folder\": \"in\"}'", said.stdout)
    done = run(wanted)
    assert done.returncode == 0 and (tmp_path / wanted).exists(), done.stdout + done.stderr
    assert "Nothing to be done" in run("--dry-run", wanted).stdout
    image = next((tmp_path / "in").rglob("*.png"), None) or next((tmp_path / "in").rglob("*.jpg"))
    os.utime(image, ns=(0, 0))
    assert "Params have changed" in run("--dry-run", wanted).stdout
    text = (tmp_path / "config.yaml").read_text().replace("folder: in", "folder: in\n    channels: 1")
    (tmp_path / "config.yaml").write_text(text)
    said = run("--dry-run", wanted)
    assert said.returncode == 0 and "Params have changed" in said.stdout, said.stdout + said.stderr


# From the config to the page


def test_an_own_data_set_goes_from_config_to_table_figures_and_page(tmp_path, monkeypatch, capsys, short_theory):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "in", ("ant", "bee", "cow"), n=20, mode="L")
    every = {"epochs": 1, "schedule": {"kind": "triangular", "lr": 0.1}, "pad": 0, "flip": False, "monitor_images": 16}
    config = own_config(
        tmp_path,
        "16/255",
        ["clean", "fgsm_rs"],
        recipes={"mine": {"every": every}},
        evaluation={"autoattack": {"n_images": 6, "batch_size": 6}},
        numerics="native",
    )
    words = ["--configfile", "config.yaml"]
    assert main(["data", "--dataset", "mine", *words]) == 0
    for spec in grid.expand(config):
        assert main(["train", "--run", spec.name, *words]) == 0
        assert main(["evaluate", "--run", spec.name, *words]) == 0
    about = json.loads((tmp_path / f"results/runs/{spec.name}/run.json").read_text())["data"]
    assert about["shape"] == [1, 8, 8] and about["n_classes"] == 3 and about["n_train"] == 60 == about["n_test"]
    shutil.rmtree(tmp_path / "results/data")  # results that were copied without their data are reported
    assert main(["report"]) == 0
    assert "| mine " in (tmp_path / "results/tables/table1.md").read_text()
    assert "mine, preact_tiny" in (tmp_path / "figures/curves.txt").read_text()
    page = (tmp_path / "results/report/index.html").read_text()
    assert "mine: 1 x 8 x 8, 3 classes, 60 training and 60 test images" in page
    capsys.readouterr()
    assert main(["verify", "--all"]) == 0
    assert "its data are not there" in capsys.readouterr().out


# The real thing


def test_the_jpeg_copy_of_cifar10_is_prepared_in_under_a_minute(tmp_path):
    archive = SHARED / "cifar10-jpeg.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive} is not there; FASTAT_SHARED_DATA names its folder")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "in", **SAFELY)
    _, facts = made(tmp_path, {"folder": str(tmp_path / "in")})
    assert facts["per_class"] == {"train": [5000] * 10, "test": [1000] * 10} and facts["shape"] == [3, 32, 32]
    assert np.allclose(facts["mean"], [0.491, 0.482, 0.447], atol=5e-4)  # as its README rounds them
    assert np.allclose(facts["std"], [0.245, 0.243, 0.261], atol=5e-4)


def test_files_that_changed_since_are_noticed_by_check_and_train(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    for part, n in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            (tmp_path / f"photos/{part}/{name}").mkdir(parents=True)
            for k in range(n):
                pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"photos/{part}/{name}/{k}.png")
    (tmp_path / "own.yaml").write_text(
        "datasets: {photos: {folder: photos}}\n"
        "grid: [{dataset: photos, model: preact_tiny, eps: 8/255, method: clean, seed: 0}]\n"
        "recipes: {photos: {every: {epochs: 1, schedule: {kind: triangular, lr: 0.1}}}}\n"
        "evaluation: {autoattack: {n_images: 4, batch_size: 4}}\n"
    )
    command = ["--configfile", "own.yaml"]
    assert main(["data", "--dataset", "photos", *command]) == 0
    before = own_data.state_of({"folder": "photos"})
    assert main(["check", *command]) == 0 and "WARNING" not in capsys.readouterr().out
    (tmp_path / "photos/train/cat/0.png").unlink()
    assert own_data.state_of({"folder": "photos"}) != before
    assert main(["check", *command]) == 0
    assert "photos: WARNING: its files have changed since it was prepared. Prepare it again" in capsys.readouterr().out
    assert main(["train", "--run", "photos/preact_tiny/eps8/clean/paper/seed0", *command]) == 0
    assert "photos: WARNING: its files have changed" in caplog.text
    assert own_data.state_of({"torchvision": "SVHN"}) == own_data.state_of({"folder": "nowhere"}) == ""
