"""Which device, how precisely, compiled or not; without a GPU, what can be said without one."""

import multiprocessing
import os
import tempfile

import pytest
import torch

from fastat.attacks import input_gradient
from fastat.machine import devices
from fastat.networks import models


def take(n_gpus: int, per_gpu: int, seen, go_on) -> None:
    seen.put(devices.free_gpu(n_gpus, per_gpu))
    go_on.wait(60)


def test_runs_fill_all_gpus_before_they_share_one_and_free_them_when_they_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    context = multiprocessing.get_context("spawn")
    seen, go_on = context.Queue(), context.Event()
    runs = [context.Process(target=take, args=(2, 2, seen, go_on)) for _ in range(4)]
    for run in runs:
        run.start()
    assert sorted(seen.get(timeout=60) for _ in runs) == [0, 0, 1, 1]
    fifth = context.Process(target=take, args=(2, 2, seen, go_on))
    fifth.start()
    assert seen.get(timeout=60) == 0  # no slot is free: it says so and shares the first
    go_on.set()
    for run in [*runs, fifth]:
        run.join(60)
    assert sorted(path.name for path in (tmp_path / f"fastat-{os.getuid()}").iterdir()) == [
        "gpu3-slot0.lock", "gpu3-slot1.lock", "gpu5-slot0.lock", "gpu5-slot1.lock",
    ]  # fmt: skip
    last = context.Process(target=take, args=(2, 2, seen, go_on))
    last.start()
    assert seen.get(timeout=60) == 0
    last.join(60)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
@pytest.mark.parametrize("given,wanted,told", [
    ("0", "auto", True), ("MIG-GPU-7/1/0", "auto", True),
    ("0", "cpu", False), ("-1", "auto", False), ("", "auto", False),
])  # fmt: skip
def test_a_gpu_that_was_given_and_is_not_seen_is_said(given, wanted, told, monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert devices.pick(wanted) == torch.device("cpu")
    assert (f"GPU {given} was given to this process, and torch sees none" in caplog.text) == told


def test_slots_that_cannot_be_locked_are_passed_over(tmp_path, monkeypatch, caplog):
    """A link must not be followed, a folder or pipe not waited for."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,MIG-GPU-7/1/0")
    monkeypatch.setattr(devices, "_slots", [])
    planted = [devices.private_folder() / f"gpu{gpu}-slot0.lock" for gpu in range(3)]
    planted[0].symlink_to(tmp_path / "victim")
    planted[1].mkdir()
    os.mkfifo(planted[2])
    assert devices.free_gpu(4, 1) == 3
    assert caplog.text.count("passed over") == 3 and not (tmp_path / "victim").exists()
    assert devices.free_gpu(4, 1) == 0  # none is left: it shares the first
    for number in devices._slots:
        os.close(number)


def linked(path, monkeypatch):
    (path.parent / "theirs").mkdir(mode=0o700)
    path.symlink_to(path.parent / "theirs")


def a_file(path, monkeypatch):
    path.touch(mode=0o700)


def open_to_others(path, monkeypatch):
    path.mkdir()
    path.chmod(0o770)


def anothers(path, monkeypatch):
    path.mkdir(mode=0o700)
    lstat = type(path).lstat
    theirs = os.stat_result((0o40700, *path.stat()[1:4], os.getuid() + 1, *path.stat()[5:]))
    monkeypatch.setattr(type(path), "lstat", lambda self: theirs if self == path else lstat(self))


PLANTED = {
    linked: "it is a link or no folder", a_file: "File exists", open_to_others: "its mode is 770, not 700",
    anothers: "it is of another user",
}  # fmt: skip


@pytest.mark.parametrize("plant,said", PLANTED.items())
def test_a_folder_for_slots_that_another_put_there_first_is_not_used(tmp_path, monkeypatch, caplog, plant, said):
    """/tmp is everybody's, and the name can be known."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(devices, "_slots", [])
    (tmp_path / "tmp").mkdir()
    path = tmp_path / f"tmp/fastat-{os.getuid()}"
    plant(path, monkeypatch)
    assert [devices.free_gpu(2, 1) for _ in range(2)] == [0, 1]
    assert caplog.text.count(said) == 2
    folder = devices.private_folder()
    assert folder.parent == tmp_path / "home/.cache/fastat" and folder.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in folder.iterdir()} == {"gpu0-slot0.lock", "gpu1-slot0.lock"}
    assert not [file for file in (tmp_path / "tmp").rglob("*.lock")]
    for number in devices._slots:
        os.close(number)


def test_a_slot_of_another_user_is_no_slot(tmp_path, monkeypatch):
    path = tmp_path / "slot.lock"
    path.touch()
    monkeypatch.setattr(devices.os, "getuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(OSError, match="no file of yours"):
        devices.take_slot(path)


def test_float32_is_float32_on_cuda_unless_tf32_is_asked_for():
    for precision, kind in (("tf32", "tf32"), ("float32", "ieee"), ("bf16", "ieee")):
        devices.set_precision(precision)
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == kind


def test_bf16_rounds_the_network_but_not_gradients_and_weights(tiny_model, tiny_batch):
    exact = input_gradient(tiny_model, tiny_batch.x, tiny_batch.y)
    with devices.autocast(torch.device("cpu"), "bf16"):
        rounded = input_gradient(tiny_model, tiny_batch.x, tiny_batch.y)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert (rounded - exact).norm() < 0.2 * exact.norm()
    with devices.autocast(torch.device("cpu"), "float32"):
        assert torch.equal(input_gradient(tiny_model, tiny_batch.x, tiny_batch.y), exact)


def test_a_compiled_network_computes_the_same(tiny_batch):
    torch.manual_seed(0)
    model = models.build("preact_tiny", 1, 10).eval()
    before, names = model(tiny_batch.x), list(model.state_dict())
    done = devices.compile_model(model, "default", tiny_batch.x.clone())
    assert done == "default"
    torch.testing.assert_close(model(tiny_batch.x), before, rtol=1e-4, atol=1e-5)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("asked,reason", [("of the method", "of the method"), ("", "no compiler here")])
def test_what_cannot_be_compiled_runs_uncompiled_and_says_why(tiny_batch, monkeypatch, caplog, asked, reason):
    def refuse(*_args, **_options):
        raise RuntimeError("no compiler here\nand a long trace")

    monkeypatch.setattr(torch.nn.Module, "compile", refuse)
    model = models.build("preact_tiny", 1, 10)
    done = devices.compile_model(model, "default", tiny_batch.x.clone(), asked)
    assert done.startswith("off: ") and reason in done and "trace" not in done
    assert reason in caplog.text and model(tiny_batch.x).shape == (4, 10)
