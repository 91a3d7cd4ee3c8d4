"""A little ImageNet of JPEGs, made here in the real layout, through the real preparation and loader."""

import errno
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import load_config
from fastat.config.recipe import Schedule, resolve
from fastat.config.spec import RunSpec
from fastat.data import datasets, imagenet, made_up, views
from fastat.data import prepared as prepared_data
from fastat.data.datasets import TrainingStream
from fastat.data.made_up import CLASSES
from fastat.errors import BadInput
from fastat.machine.processes import Processes
from fastat.machine.seeds import generator
from fastat.training import trainer


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
            options = {"batch_size": 4, "pad": 0, "flip": True, "cutout": 9, "seed": 1, **settings}
            options["processes"] = processes
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


def test_resized_crops_are_what_pillow_makes_of_the_boxes_and_the_same_for_two_processes(prepared):
    from torchvision.transforms.functional import hflip, pil_to_tensor, resized_crop, to_pil_image

    data = datasets.load(prepared[1] / "imagenet.safetensors", torch.device("cpu"))
    options = {"batch_size": 4, "drop_last": True, "pad": 0, "flip": True, "seed": 1, "shards": 2, "crop": "resized"}
    stream = TrainingStream(data.train, **options)
    batches = list(stream.epoch(3))
    rng = generator(torch.device("cpu"), 1, "stream", 3)
    order = stream.order(rng)
    (top, left, flip), height, width = views.draw_boxes(len(order), (256, 256), True, rng)
    assert len(batches) == 4 and height.min() < 150 and height.max() > 224
    for k, i in enumerate(order.tolist()):
        box = (int(t[k]) for t in (top, left, height, width))
        image = resized_crop(to_pil_image(data.train.images[i]), *box, size=[224, 224])
        theirs = pil_to_tensor(hflip(image) if flip[k] else image)
        ours = (255 * batches[k // 4].x[k % 4]).round()
        assert (ours - theirs).abs().max() <= 1 and (ours != theirs).float().mean() < 0.02
    for rank in (0, 1):
        shared = TrainingStream(data.train, **options, processes=Processes(rank, 2)).epoch(3)
        for mine, whole in zip(shared, batches, strict=True):
            assert torch.equal(mine.x, whole.x[rank::2]) and torch.equal(mine.y, whole.y[rank::2])
    assert torch.equal(next(stream.epoch(3, first=2)).x, batches[2].x)


@pytest.mark.parametrize("method", ["fgsm_rs", "freeat"])
def test_the_released_recipe_trains_and_goes_on_where_it_was_stopped(method, prepared, monkeypatch):
    """To the bit: boxes follow from seed and epoch, and what decays from the recipe."""
    results, weights, add = prepared[1].parent / "results", [], trainer.Instances.add
    results.mkdir()
    (results / "data").symlink_to(prepared[1])
    name = f"imagenet/resnet18/eps2/{method}/released/seed0"
    recipe = resolve(RunSpec.parse(name), load_config([ROOT / "config/released.yaml"]))
    assert (recipe.crop, recipe.decay_batchnorm) == ("resized", method == "freeat")
    small = {"epochs": 2, "batch_size": 4, "shards": 2, "n_train": 8, "monitor_images": 1, "n_test": 1}
    call = ["train", "--run", name, "--results", str(results), "--recipe"]
    params = {**recipe.params, **({"m": 1} if method == "freeat" else {})}
    call += [replace(recipe, **small, schedule=Schedule("piecewise", 0.01), params=params).to_json()]

    def stopping(self, batch, report):
        if stops and (batch.epoch, batch.number) == (2, 0):
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, batch, report)

    monkeypatch.setattr(trainer.Instances, "add", stopping)
    for stops in (False, True):
        assert [main(call) for _ in range(1 + stops)] == ([143, 0] if stops else [0])
        weights.append((results / f"runs/{name}/weights.safetensors").read_bytes())
        (results / f"runs/{name}/run.json").unlink()
    assert weights[0] == weights[1]


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


def test_a_disk_that_has_room_for_one_part_alone_is_left_as_it_was(tmp_path, monkeypatch):
    source, fallocate = made_up.imagenet_tree(tmp_path / "source"), os.posix_fallocate
    made_up.expect_imagenet(monkeypatch)

    def full(file, start, n_bytes):
        if n_bytes < 18 * 3 * 256 * 256:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fallocate(file, start, n_bytes)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadInput, match=r"test.npy needs 0.0 GB: No space left on device. Make room"):
        imagenet.prepare("imagenet", source, tmp_path / "data/imagenet.safetensors")
    assert [path.name for path in (tmp_path / "data/imagenet").iterdir()] == ["lock"]


def zeros(path):
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 3 * 256 * 256)
        file.write(bytes(3 * 256 * 256))


def flipped_bit(path):
    with open(path, "rb+") as file:
        file.seek(100_000)
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 4]))


def swapped_images(path):
    pixels = np.lib.format.open_memmap(path, mode="r+")
    pixels[[0, 1]] = pixels[[1, 0]]
    pixels.flush()


def spoilt_header(path):
    with open(path, "rb+") as file:
        content = file.read(200)
        file.seek(content.index(b"{"))
        file.write(b"(")


@pytest.mark.parametrize(
    "spoil,message",
    [
        (zeros, "images 4 to 5 are not what was prepared (1 of 2 chunks that were looked at)"),
        (lambda path: np.save(path, np.zeros((6, 3, 256, 256), np.uint8)), "images 0 to 3 are not what was prepared"),
        (lambda path: np.save(path, np.zeros((6, 3, 256, 256), np.uint8)), ": they are zeros (2 of 2 chunks"),
        (flipped_bit, "images 0 to 3 are not what was prepared"),
        (swapped_images, "images 0 to 3 are not what was prepared"),
        (lambda path: np.save(path, np.zeros((6, 3, 256, 256), np.int8)), "holds no plain bytes, expected uint8"),
        (lambda path: np.save(path, np.asfortranarray(np.load(path))), "holds no plain bytes, expected uint8"),
        (lambda path: os.truncate(path, 500_000), "is damaged"),
        (spoilt_header, "is damaged"),
        (lambda path: os.truncate(path, 0), "is damaged: it is no numpy file. It is empty."),
        (lambda path: (path.unlink(), os.mkfifo(path)), "must be a file, but it is a pipe. It is missing or damaged"),
    ],
)
def test_damaged_pixels_are_refused_and_prepared_again(spoil, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(imagenet, "CHUNK", 4)
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    assert main(call(source, out)) == 0
    path, labels = out / "imagenet.safetensors", prepared_data.labels(out / "imagenet.safetensors", "test")
    whole = (out / "imagenet/test.npy").read_bytes()
    spoil(out / "imagenet/test.npy")
    with pytest.raises(BadInput) as caught:
        datasets.load(path, torch.device("cpu"))
    assert message in str(caught.value) and f"--dataset imagenet --out {path}" in str(caught.value)
    assert main(call(source, out)) == 0
    assert (out / "imagenet/test.npy").read_bytes() == whole
    assert prepared_data.verify(path).arrays["test_labels"].tolist() == labels.tolist()


def test_of_a_large_part_a_sample_is_looked_at_and_whatever_is_black_and_verify_looks_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "CHUNK", 2)
    monkeypatch.setattr(prepared_data, "SAMPLE_BYTES", 3 * 2 * 3 * 256 * 256)  # three chunks of the nine
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    assert main(call(source, out)) == 0
    path, pixels = out / "imagenet.safetensors", np.lib.format.open_memmap(out / "imagenet/train.npy", mode="r+")
    kept = pixels[4:6].copy()
    pixels[4, 0, 0, 0] ^= 1  # in chunk 2: the sample is 0, 4 and 8
    pixels.flush()
    prepared_data.read(path)
    with pytest.raises(BadInput, match=r"images 4 to 5 are not what was prepared \(1 of 9 chunks"):
        prepared_data.verify(path)
    pixels[4:6] = 0
    pixels.flush()
    with pytest.raises(BadInput, match=r"images 4 to 5 are not what was prepared: they are zeros \(1 of 4 chunks"):
        prepared_data.read(path)
    pixels[4:6], pixels[16, 0, 0, 0] = kept, ~pixels[16, 0, 0, 0]
    pixels.flush()
    with pytest.raises(BadInput, match=r"images 16 to 17 are not what was prepared \(1 of 3 chunks"):
        prepared_data.read(path)


def test_a_list_of_checksums_that_was_changed_with_its_pixels_is_refused(prepared):
    """The sha256 of the data set is made of the list: both can be changed, but then it is another data set."""
    path = prepared[1] / "imagenet.safetensors"
    with safe_open(path, framework="numpy") as file:
        about, arrays = file.metadata(), {key: file.get_tensor(key).copy() for key in file.keys()}
    pixels = np.lib.format.open_memmap(prepared[1] / "imagenet/test.npy", mode="r+")
    pixels[:] = 255 - pixels
    pixels.flush()
    arrays["test_chunks"][0] = np.frombuffer(hashlib.sha256(pixels.tobytes()).digest(), np.uint8)
    save_file(arrays, path, metadata=about)
    with pytest.raises(BadInput, match="its content has sha256"):
        datasets.load(path, torch.device("cpu"))


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("train", "../elsewhere.npy", "must have its pixels in imagenet/"),
        ("test", "imagenet/train.npy", "must have its pixels in imagenet/"),
        ("test", "a\0b", "must have its pixels in imagenet/"),
        ("chunk", "9" * 5000, "chunk must be a number of images, got '9999"),
        ("chunk", "-64", "chunk must be a number of images"),
        ("chunk", "0", "test_chunks must not be there"),
        ("chunk", "5", r"test_chunks must be U8 \(2, 32\), got U8 \(1, 32\)"),
        ("dataset", "cifar10", "must hold imagenet, but it holds cifar10"),
    ],
)
def test_a_header_that_was_changed_is_refused(key, value, message, prepared):
    path = prepared[1] / "imagenet.safetensors"
    with safe_open(path, framework="numpy") as file:
        about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    save_file(arrays, path, metadata=about | {key: value})
    with pytest.raises(BadInput, match=message):
        datasets.load(path, torch.device("cpu"))


def test_pixels_prepared_before_checksums_are_taken_and_called_unverified(prepared, caplog):
    path = prepared[1] / "imagenet.safetensors"
    sha256 = datasets.load(path, torch.device("cpu")).sha256
    with safe_open(path, framework="numpy") as file:
        about, labels = file.metadata(), {key: file.get_tensor(key) for key in ("train_labels", "test_labels")}
    before = {key: about[key] for key in ("dataset", "sha256", "train", "test")}
    save_file(labels, path, metadata=before)
    assert datasets.load(path, torch.device("cpu")).sha256 == sha256
    assert "unverified, it was prepared before its pixels had checksums. Prepare it again" in caplog.text


def test_an_image_that_was_replaced_is_decoded_again_and_the_others_are_not(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(imagenet, "CHUNK", 2)
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    assert main(call(source, out)) == 0
    first = datasets.load(out / "imagenet.safetensors", torch.device("cpu"))
    listing = json.loads(prepared_data.header(out / "imagenet.safetensors")["source"])["train"]
    images, decode, decoded = first.train.images.clone(), imagenet.decode, []
    replaced = source / f"imagenet/train/{CLASSES[1]}/{CLASSES[1]}_2.JPEG"
    before = replaced.stat()
    shutil.copy(source / f"imagenet/train/{CLASSES[2]}/{CLASSES[2]}_5.JPEG", replaced)
    os.utime(replaced, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp -p` or rsync leave it
    monkeypatch.setattr(imagenet, "decode", lambda path, size: (decoded.append(path), decode(path, size))[1])
    assert main(call(source, out)) == 0
    second = datasets.load(out / "imagenet.safetensors", torch.device("cpu"))
    assert [path.name for path in decoded] == [f"{CLASSES[1]}_2.JPEG", f"{CLASSES[1]}_3.JPEG"]
    assert torch.equal(second.train.images[8], images[17]) and torch.equal(second.train.images[9:], images[9:])
    assert first.sha256 != second.sha256
    now = json.loads(prepared_data.header(out / "imagenet.safetensors")["source"])["train"]
    assert now["images"] == listing["images"] == 18 and now["listing"] != listing["listing"]


def test_what_macos_leaves_is_no_image_and_no_class(tmp_path, monkeypatch):
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    for image in list((source / "imagenet").rglob("*.JPEG")):
        image.with_name(f"._{image.name}").write_bytes(b"\0\5\x16\7")
    (source / "imagenet/train/.DS_Store").write_bytes(b"x")
    (source / f"imagenet/val/{CLASSES[0]}/.DS_Store").write_bytes(b"x")
    for hidden in ("._n01440764", ".Trash", "__MACOSX"):
        (source / "imagenet/train" / hidden).mkdir()
        (source / "imagenet/train" / hidden / "._a.JPEG").write_bytes(b"x")
    assert main(call(source, out)) == 0
    assert len(datasets.load(out / "imagenet.safetensors", torch.device("cpu")).train) == 18


def test_too_many_images_are_said_to_be_too_many(tmp_path, monkeypatch, capsys):
    source = made_up.imagenet_tree(tmp_path / "source")
    made_up.expect_imagenet(monkeypatch)
    folder = source / f"imagenet/train/{CLASSES[1]}"
    for k in range(3):
        shutil.copy(folder / f"{CLASSES[1]}_0.JPEG", folder / f"copy{k}.JPEG")
    assert main(call(source, tmp_path / "data")) == 2
    message = capsys.readouterr().err
    assert "21 images, expected 18. That is 3 too many: take away what is not of the data set." in message
    assert f"The class with the most is {CLASSES[1]}, with 9" in message and "Unpack" not in message


def loop(path):
    path.symlink_to(path)


def bomb(path):
    """A PNG of 40,000 x 40,000 pixels, some hundred bytes of it."""

    def block(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", b"") + block(b"IEND", b""))


@pytest.mark.parametrize(
    "make,message",
    [
        (os.mkfifo, "must be a file, but it is a folder, pipe or device"),
        (Path.mkdir, "must be a file, but it is a folder, pipe or device"),
        (loop, "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/nowhere"), "No such file"),
        (bomb, "decompression bomb"),
        (lambda path: path.write_bytes(b"<html>sign in</html>"), "is no whole image .* It is a web page"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"), "It is a Git-LFS pointer"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is no whole image"),
        (lambda path: path.write_bytes(b""), "is no whole image .* It is empty"),
    ],
)
def test_what_is_no_image_is_named_at_once(make, message, tmp_path, monkeypatch):
    source = made_up.imagenet_tree(tmp_path / "source")
    made_up.expect_imagenet(monkeypatch)
    image = source / f"imagenet/val/{CLASSES[2]}/{CLASSES[2]}_1.JPEG"
    image.unlink()
    make(image)
    with pytest.raises(BadInput, match=message) as caught:
        imagenet.prepare("imagenet", source, tmp_path / "data/imagenet.safetensors")
    assert str(image) in str(caught.value)
    assert not (tmp_path / "data/imagenet.safetensors").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_refuses_while_images_are_written_is_said_and_nothing_counts_as_whole(
    number, tmp_path, monkeypatch
):
    source, out = made_up.imagenet_tree(tmp_path / "source"), tmp_path / "data"
    made_up.expect_imagenet(monkeypatch)
    assert main(call(source, out)) == 0
    (out / "imagenet/train.progress").unlink()

    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(imagenet.Pixels, "write_chunk", refuse)
    with pytest.raises(BadInput, match=f"cannot write into .*: {os.strerror(number)}. Make room"):
        imagenet.prepare("imagenet", source, out / "imagenet.safetensors")
    assert not (out / "imagenet.safetensors").exists()
    monkeypatch.undo()
    made_up.expect_imagenet(monkeypatch)
    assert main(call(source, out)) == 0
    assert not [path for path in out.rglob("*") if path.suffix == ".part"]


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
