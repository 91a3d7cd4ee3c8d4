"""Results on a file system without locks, and on one where what others write is seen late: a shim plays both."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastat import ROOT
from fastat.machine import seals

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here to build the shim with"),
]
RUN = "digits/preact_tiny/eps102/fgsm_rs/paper/seed0"
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char *own[4096];                     /* what this process put there itself, it sees at once */
static int n_own;

static int late(const char *path) {
  const char *seconds = getenv("LATE");
  struct stat about;
  if (!seconds || !path || !strstr(path, "results/runs/") || strstr(path, ".part")) return 0;
  for (int i = 0; i < n_own; i++) if (!strcmp(own[i], path)) return 0;
  if (syscall(SYS_newfstatat, AT_FDCWD, path, &about, 0) || S_ISDIR(about.st_mode)) return 0;
  return time(0) - about.st_ctime < atoi(seconds) && (errno = ENOENT);
}
int flock(int file, int how) {
  if (!getenv("NO_LOCKS")) return syscall(SYS_flock, file, how);
  errno = ENOLCK;
  return -1;
}
int rename(const char *from, const char *to) {
  if (n_own < 4096) own[n_own++] = strdup(to);
  return syscall(SYS_rename, from, to);
}
#define OPEN(name) int name(const char *path, int flags, ...) { \
  va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
  if (!(flags & O_CREAT) && late(path)) return -1; \
  return syscall(SYS_openat, AT_FDCWD, path, flags, mode); }
OPEN(open) OPEN(open64)
#define STAT(name, kind) int name(const char *path, struct kind *about) { \
  return late(path) ? -1 : syscall(SYS_newfstatat, AT_FDCWD, path, about, 0); }
STAT(stat, stat) STAT(stat64, stat64)
#define STATAT(name, kind) int name(int at, const char *path, struct kind *about, int flags) { \
  return late(path) ? -1 : syscall(SYS_newfstatat, at, path, about, flags); }
STATAT(fstatat, stat) STATAT(fstatat64, stat64)
int statx(int at, const char *path, int flags, unsigned mask, struct statx *about) {
  return late(path) ? -1 : syscall(SYS_statx, at, path, flags, mask, about);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(command, check=True)
    return folder / "shim.so"


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastat", *words]
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, cwd=folder, env=everything, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen) -> tuple[int, str]:
    text = process.communicate(timeout=300)[1]
    return process.returncode, text


CONFIG = ["--configfile", str(ROOT / "config/smoke.yaml")]
TRAIN, EVALUATE = ["train", "--run", RUN, *CONFIG], ["evaluate", "--run", RUN, "--suite", "whitebox", *CONFIG]
TIDY = ["tidy", "--out", "results"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A folder with the data, a training and an evaluation."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = ["data", "--dataset", "digits", "--out", "results/data/digits.safetensors"]
    for words in (data, TRAIN, EVALUATE, TIDY):
        assert said(started(folder, *words))[0] == 0
    return folder


@pytest.fixture
def begun(undisturbed, tmp_path) -> Path:
    """Another with the data alone."""
    shutil.copytree(undisturbed / "results/data", tmp_path / "results/data")
    return tmp_path


def hashes(folder: Path) -> list[str]:
    """Of what the same run writes everywhere."""
    run = folder / "results/runs" / RUN
    return [seals.sha256(run / file) for file in ("weights.safetensors", "eval/whitebox.csv", "eval/surfaces.csv")]


def numbers(folder: Path) -> list[str]:
    """measured.csv but for times and memory."""
    lines = (folder / "results/measured.csv").read_text().splitlines()
    return [line for line in lines if not re.search("seconds|memory", line)]


def test_without_locks_a_run_gives_the_same_bits_and_each_step_warns(undisturbed, begun, shim):
    for words in (TRAIN, EVALUATE, TIDY):
        code, text = said(started(begun, *words, LD_PRELOAD=str(shim), NO_LOCKS="1"))
        assert code == 0, text
        assert ("this file system refuses locks" in text) == (words is not TIDY)
    assert hashes(begun) == hashes(undisturbed) and numbers(begun) == numbers(undisturbed)


def test_one_run_trained_twice_at_a_time_where_nothing_keeps_them_apart_has_the_same_weights(undisturbed, begun, shim):
    both = [started(begun, *TRAIN, LD_PRELOAD=str(shim), NO_LOCKS="1") for _ in range(2)]
    ends = [said(one) for one in both]
    for code, text in ends:
        assert code in (0, 2) and "Traceback" not in text, text
    assert 0 in [code for code, _ in ends]
    code, text = said(started(begun, "verify", RUN))
    assert code == 0 or said(started(begun, *TRAIN))[0] == 0, text
    assert said(started(begun, *EVALUATE))[0] == 0
    assert hashes(begun) == hashes(undisturbed)


def test_an_evaluation_that_does_not_see_the_training_yet_says_so_and_works_later(undisturbed, begun, shim):
    assert said(started(begun, *TRAIN))[0] == 0
    os.utime(begun / "results/runs" / RUN / "run.json")  # its ctime is now, however long the machine took
    code, text = said(started(begun, *EVALUATE, LD_PRELOAD=str(shim), LATE="600"))
    assert code == 2 and f"{RUN} holds no finished run. Train it first" in text
    assert not list((begun / "results/runs" / RUN).glob("eval/*"))
    time.sleep(2)
    code, text = said(started(begun, *EVALUATE, LD_PRELOAD=str(shim), LATE="1"))
    assert code == 0, text
    assert hashes(begun) == hashes(undisturbed)


@pytest.mark.parametrize("unseen", ["weights.safetensors", "eval/whitebox.csv", "eval/whitebox.json", "run.json"])
def test_tidy_makes_no_number_of_what_it_sees_half(undisturbed, begun, shim, unseen):
    """Each number that it writes is one that it writes when all is seen; the rest is left out, aloud."""
    for name in ("runs", "measured.csv"):
        copy = shutil.copytree if name == "runs" else shutil.copy
        copy(undisturbed / "results" / name, begun / "results" / name)
    time.sleep(4)
    os.utime(begun / "results/runs" / RUN / unseen)
    code, text = said(started(begun, *TIDY, LD_PRELOAD=str(shim), LATE="3"))
    assert "Traceback" not in text and code == (2 if unseen == "run.json" else 0), text
    kept = {line for line in numbers(begun) if "left_out" not in line and ",unverified," not in line}
    assert kept <= set(numbers(undisturbed))
    if unseen != "run.json":
        assert len(kept) < len(numbers(undisturbed))
