"""Locks that processes of this machine hold, seen without taking them: who only looks must disturb nobody."""

import os
import re
from pathlib import Path

LISTED = re.compile(r"\s([0-9a-f]+):[0-9a-f]+:(\d+)\s")  # of /proc/locks: major:minor:inode of the locked file


def seen(listing: Path = Path("/proc/locks")) -> set[tuple[int, int]]:
    """Major device number and inode of every locked file; none where the system keeps no such list, as macOS.

    Locks of other machines, and of processes that a container hides, are not in it.
    """
    try:
        text = listing.read_text(encoding="utf-8")
    except OSError:
        return set()
    return {(int(major, 16), int(inode)) for major, inode in LISTED.findall(text)}


def is_held(file: os.stat_result, locks: set[tuple[int, int]]) -> bool:
    """Whether one of the `seen` locks is on this file. The minor number is btrfs's own, and is not compared."""
    return (os.major(file.st_dev), file.st_ino) in locks
