"""What Linux has and other systems may lack; docs/platforms.md says what else differs there. Standard library only."""

import os
import resource
import sys


def n_processors() -> int:
    """How many processors this process may use; all of the machine's where the system does not say, as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reserve(file: int, n_bytes: int) -> None:
    """Take room on the disk for an open file's first bytes. Where the system cannot, a full disk shows later.

    Raises: OSError if the disk has not as many.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, n_bytes)


def read_here_and_there(file: int) -> None:
    """Tell the system not to read ahead of what is asked of an open file."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)


def peak_memory() -> int:
    """The most bytes that this process has had: getrusage counts in KiB, on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
