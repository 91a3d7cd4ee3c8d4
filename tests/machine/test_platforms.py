"""Systems that lack what Linux has: they were not run, their lack was."""

import os
import resource
import sys
from pathlib import Path

import pytest

from fastat import ROOT
from fastat.machine import numerics, platforms


@pytest.fixture
def other_system(monkeypatch):
    """What macOS has not, taken away."""
    for name in ("sched_getaffinity", "posix_fallocate", "posix_fadvise", "POSIX_FADV_RANDOM"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(numerics, "processor", dict)  # no /proc/cpuinfo


def test_without_affinity_all_processors_count(other_system, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert platforms.n_processors() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert platforms.n_processors() == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_with_it_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3, 5})
    assert platforms.n_processors() == 3


def test_nothing_is_reserved_where_the_system_cannot(other_system, tmp_path):
    with open(tmp_path / "pixels", "wb+") as file:
        platforms.reserve(file.fileno(), 10**6)
        platforms.read_here_and_there(file.fileno())
        assert os.fstat(file.fileno()).st_size == 0


def test_peak_memory_is_in_bytes_everywhere(monkeypatch):
    class Usage:
        ru_maxrss = 2048

    monkeypatch.setattr(resource, "getrusage", lambda _who: Usage)
    monkeypatch.setattr(sys, "platform", "linux")
    assert platforms.peak_memory() == 2 * 2**20
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platforms.peak_memory() == 2048


def test_portable_numerics_are_refused_where_nobody_says_what_the_processor_has(other_system, monkeypatch):
    monkeypatch.setattr(numerics, "_pinned", True)  # so that the reason is not that torch is loaded
    assert "not Linux on x86-64" in numerics.obstacle("cpu", 1)
    assert numerics.processor_name()


def test_what_linux_alone_has_is_used_in_one_place():
    words = ("sched_getaffinity", "posix_fallocate", "posix_fadvise", "ru_maxrss", "/proc/")
    allowed = {"fastat/machine/platforms.py", "fastat/machine/locks.py", "fastat/machine/numerics.py"}
    users = {
        str(path.relative_to(ROOT))
        for folder in ("fastat", "methods", "benchmarks")
        for path in Path(ROOT / folder).rglob("*.py")
        if any(word in path.read_text() for word in words)
    }
    assert users <= allowed
