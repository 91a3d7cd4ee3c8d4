"""A disk that is full or read-only: one sentence, nothing half written, and the same bytes once there is room."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.harness import EVENTS_OF, STAGES, TRIED, before, content, leftovers, refused, run, small_files

WORDS = {"ENOSPC": "No space left on device", "EROFS": "Read-only file system", "EIO": "Input/output error"}
QUICK = ("tidy", "page")


def same_after(folder: Path, stage: str, whole: Path) -> None:
    done = run(folder, STAGES[stage])
    assert done.code == 0, done.said
    found, wanted = content(folder), content(whole)
    assert [path for path in {*found, *wanted} if found.get(path) != wanted.get(path)] == []


def is_said(said: str, words: str) -> None:
    """In one sentence of the command line."""
    assert "Traceback" not in said
    assert words in said.strip().splitlines()[-1], said


def written_of(content_of: dict[str, bytes], whole: Path) -> None:
    """What is there is whole: as it was before, or as it will be."""
    wanted = content(whole)
    assert [path for path in content_of if path in wanted and content_of[path] != wanted[path]] == []


def refused_at(stage: str, error: str, at: int, whole: Path, folder: Path) -> None:
    done = run(before(stage, whole, folder), STAGES[stage], refused, error, at)
    TRIED[error, stage] += done.code == 2
    if done.code == 0:  # of a file that it can do without, as .hashes.json
        assert "Traceback" not in done.said
    else:
        assert done.code == 2, done.said
        is_said(done.said, WORDS[error])
    written_of(content(folder), whole)
    assert leftovers(folder) == []
    same_after(folder, stage, whole)


@pytest.mark.parametrize("stage", QUICK)
def test_a_write_that_is_refused_is_one_sentence(stage, whole, tmp_path):
    refused_at(stage, "ENOSPC", 1, whole, tmp_path / "a")


@pytest.mark.faults
@pytest.mark.parametrize("error", WORDS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_refused_at_some_write(stage, error, whole, tmp_path):
    draw = random.Random(f"{stage} {error}")
    for k in range(2):
        refused_at(stage, error, draw.randint(1, max(1, EVENTS_OF[stage] // 3)), whole, tmp_path / str(k))


@pytest.mark.faults
@pytest.mark.parametrize("kilobytes", (0, 3, 40))
@pytest.mark.parametrize("stage", STAGES)
def test_no_file_may_grow_beyond_a_size(stage, kilobytes, whole, tmp_path):
    """The kernel refuses the write itself, in the middle of a file, as a full disk does."""
    folder = before(stage, whole, tmp_path / "a")
    done = run(folder, STAGES[stage], small_files, kilobytes * 1024)
    TRIED["no file above a size", stage] += done.code == 2
    assert done.code in (0, 2), done.said
    if done.code:
        is_said(done.said, "File too large")
    written_of(content(folder), whole)
    assert leftovers(folder) == []
    same_after(folder, stage, whole)


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk of so many kilobytes, or skips where nobody may."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no right to mount here: no real disk was filled")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("room", (0, 5, 60))
@pytest.mark.parametrize("stage", STAGES)
def test_a_real_disk_that_is_full(stage, room, whole, tmp_path, disk):
    folder = disk(40_000)
    shutil.copytree(whole, folder, symlinks=True, dirs_exist_ok=True)
    before(stage, folder, folder / "a")
    for path in folder.iterdir():
        if path.name != "a":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    filler, free = folder / "filler", os.statvfs(folder)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 1024 * room))
    done = run(folder / "a", STAGES[stage])
    TRIED["full disk", stage] += done.code == 2
    assert done.code in (0, 2), done.said
    if done.code:
        is_said(done.said, WORDS["ENOSPC"])
    written_of(content(folder / "a"), whole)
    filler.unlink()
    assert leftovers(folder) == []
    same_after(folder / "a", stage, whole)


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_mounted_read_only(stage, whole, tmp_path, disk):
    folder = disk(40_000)
    shutil.copytree(whole, folder / "whole", symlinks=True)
    before(stage, folder / "whole", folder / "a")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    done = run(folder / "a", STAGES[stage])
    TRIED["read-only", stage] += done.code == 2
    assert done.code == 2, done.said
    is_said(done.said, WORDS["EROFS"])
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    same_after(folder / "a", stage, whole)
