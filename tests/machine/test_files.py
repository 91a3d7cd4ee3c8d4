"""Files that are whole or absent, and as open as their owner wants."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from fastat.errors import BadInput
from fastat.machine import files


@pytest.mark.parametrize("mask,mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_what_is_written_follows_the_umask_also_what_safetensors_writes(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with files.atomic(tmp_path / "weights.safetensors") as partial:
            save_file({"x": torch.zeros(1)}, partial)
        files.write_json(tmp_path / "run.json", {})
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode, path.name


def test_a_block_that_fails_leaves_the_old_file_and_no_part(tmp_path):
    files.write_json(tmp_path / "run.json", {"whole": True})
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "run.json") as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert "true" in (tmp_path / "run.json").read_text()


LONG = "a" * 250


def big(path) -> None:
    """4 MB as torch's files are written."""
    save_file({"x": torch.zeros(1 << 20)}, path)


def rows(path) -> None:
    """4 MB as tables are written."""
    pd.DataFrame({"x": range(500_000)}).to_csv(path, index=False)


def text(path) -> None:
    path.write_text("x" * (1 << 22), encoding="utf-8")


@pytest.fixture
def small_files():
    """No file may grow beyond 1 MB: a write beyond it fails in the kernel, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("write", [big, rows, text])
def test_a_write_that_the_disk_refuses_is_one_sentence_and_leaves_the_old_file(tmp_path, small_files, write):
    path = tmp_path / "run.json"
    path.write_text("whole", encoding="utf-8")
    with pytest.raises(BadInput, match=r"cannot write .*run\.json: .*ulimit -f") as found, files.atomic(path) as part:
        write(part)
    assert "\n" not in str(found.value)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("run.json", "whole")]


@pytest.mark.parametrize("write", [rows, text])
def test_a_full_disk_is_one_sentence(tmp_path, write):
    """/dev/full takes nothing: the real ENOSPC; safetensors would write beside the link."""
    (tmp_path / "run.json").write_text("whole", encoding="utf-8")
    with pytest.raises(BadInput, match="No space left on device. The disk is full"):
        with files.atomic(tmp_path / "run.json") as part:
            part.symlink_to("/dev/full")
            write(part)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("run.json", "whole")]


@pytest.mark.parametrize(
    "number,words",
    [
        (errno.EDQUOT, "Your quota is used up"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "You have no right"),
        (errno.EIO, "The disk or its connection fails"),
    ],
)
def test_what_only_other_machines_refuse_is_one_sentence_too(tmp_path, monkeypatch, number, words):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(BadInput, match=rf"cannot write .*run\.json: .*{words}"):
        files.write_json(tmp_path / "run.json", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name,words",
    [
        ("folder", "There is a folder of that name"),
        ("folder/..", "There is a folder of that name"),
        ("/", "There is a folder of that name"),
        ("file/run.json", "A part of the path is a file"),
        ("file/deeper/run.json", "A part of the path is a file"),
        (f"{LONG}.json", "The name is too long"),
        ("circle/run.json", "a file or a broken link"),
        ("nowhere/run.json", "a file or a broken link"),
    ],
)
def test_a_path_that_cannot_be_is_one_sentence(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "away")
    with pytest.raises(BadInput, match=words):
        files.write_json(tmp_path / name, {})
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_said_by_safetensors_is_one_sentence(tmp_path):
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(BadInput, match="The disk is full"), files.atomic(tmp_path / "weights.safetensors"):
        raise SafetensorError(said)


def test_an_error_about_another_file_is_not_said_of_this_one(tmp_path):
    with pytest.raises(PermissionError), files.atomic(tmp_path / "run.json") as part:
        part.touch()
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "other"))


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here, parent, yesterday = files.HOST, os.getppid(), time.time() - 25 * 3600
    dead = {f".run.json.{here}.{ended.pid}.part": 0, ".old.elsewhere.7.part": yesterday, ".run.json.7.part": yesterday}
    unnamed = {".tmpA1b2C3": yesterday}  # as safetensors calls them, and others, too
    alive = {f".run.json.{here}.{parent}.part": yesterday, ".run.json.elsewhere.7.part": 0, ".run.json.8.part": 0}
    foreign = {".mine.part": yesterday, "a.b.7.part": yesterday, ".tmpA1b2C4": 0, ".tmp": yesterday}
    for name, when in {**dead, **alive, **foreign, **unnamed}.items():
        (tmp_path / name).touch()
        if when:
            os.utime(tmp_path / name, (when, when))
    files.write_json(tmp_path / "log.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"log.json", *alive, *foreign, *unnamed}
    with files.atomic(tmp_path / "weights.safetensors") as partial:
        partial.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"log.json", "weights.safetensors", *alive, *foreign}


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_for_the_next(tmp_path):
    code = """
import os, pathlib, sys
from fastat.machine import files
with files.atomic(pathlib.Path(sys.argv[1])) as part:
    part.touch()
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "w")], check=False)
    assert len(list(tmp_path.glob(".w.*.part"))) == 1
    files.write_json(tmp_path / "run.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_warned_of_once_and_used(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    files.warn_of_no_locks.cache_clear()
    monkeypatch.setattr(files.fcntl, "flock", refuse)
    for _ in range(2):
        with files.exclusive(tmp_path / "state"):
            pass
    assert caplog.text.count("refuses locks") == 1


def test_a_folder_that_another_process_holds_is_refused(tmp_path):
    with files.exclusive(tmp_path), pytest.raises(BadInput, match="another process is working on"):
        with files.exclusive(tmp_path):
            pass
