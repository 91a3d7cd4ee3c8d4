"""Files that are either whole or absent, and folders that one process at a time may work in."""

import csv
import errno
import fcntl
import functools
import json
import logging
import os
import re
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fastat.errors import BadInput

log = logging.getLogger(__name__)
WAYS_OUT = {  # why a file cannot be written, and what to do about it
    errno.ENOSPC: "The disk is full: make room, or write to another one",
    errno.EDQUOT: "Your quota is used up: make room, or write to another disk",
    errno.EFBIG: "A file may not be that large here: see `ulimit -f`, or write to another disk",
    errno.EROFS: "It is mounted read-only: write into another folder",
    errno.EACCES: "You have no right to write there: see `ls -ld`, or write into another folder",
    errno.EPERM: "You have no right to write there: see `ls -ld` and `lsattr`, or write into another folder",
    errno.EISDIR: "There is a folder of that name: move it away, or choose another name",
    errno.ENOTDIR: "A part of the path is a file: move it away, or choose another folder",
    errno.EEXIST: "A part of the path is a file or a broken link: remove it, or choose another folder",
    errno.ENAMETOOLONG: "The name is too long for this disk: choose a shorter one",
    errno.ELOOP: "The path is a link to itself: remove it, or choose another folder",
    errno.EIO: "The disk or its connection fails: write to another one",
    errno.ESTALE: "The network file system lost the folder: mount it again",
}
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32]
PART = re.compile(r"\..+\.([A-Za-z0-9-]+)\.(\d{1,7})\.part")  # .NAME.HOST.PID.part
UNNAMED = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # what safetensors writes into before it renames
DAY = 24 * 3600.0


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well; else `path` stays as it was.

    What killed processes left of such paths in the same folder is removed first.
    Raises: BadInput if it cannot be written: a full disk, no permission, a folder of that name, and the like.
    """
    if path.name in ("", ".."):
        raise unwritable(str(path), errno.EISDIR)
    partial = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, unnamed=path.suffix == ".safetensors")
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~umask())  # safetensors writes for its owner alone
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        number = reason(error)
        if number not in WAYS_OUT or elsewhere(error, partial):
            raise
        raise unwritable(str(path), number) from error
    finally:
        remove(partial)


def reason(error: Exception) -> int | None:
    """The errno of an error in writing: safetensors says it in words, `I/O error: ... (os error 28)`."""
    if isinstance(error, OSError):
        return error.errno
    said = re.search(r"os error (\d+)", str(error))
    return int(said[1]) if said else None


def elsewhere(error: Exception, partial: Path) -> bool:
    """Whether it is about another file than `partial`, as one that the block reads."""
    named = getattr(error, "filename", None)
    return isinstance(named, str | Path) and Path(named) not in (partial, *partial.parents)


def unwritable(what: str, number: int | None) -> BadInput:
    """`cannot write results/run.json: No space left on device. The disk is full: ...`, to be raised."""
    cause = os.strerror(number) if number else "it is refused"
    return BadInput(f"cannot write {what}: {cause}. {WAYS_OUT.get(number or 0, 'Choose another folder')}.")


def remove(partial: Path) -> None:
    """Away with it; where that is refused, it is left for `sweep`."""
    try:
        partial.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s stays: %s", partial, error)


def sweep(folder: Path, unnamed: bool) -> None:
    """Remove the unfinished files in `folder` that nobody writes any more.

    Of this host: those whose process has ended. Of other hosts, whose processes cannot be asked: those older than a
    day. unnamed: likewise what safetensors was writing, whose names other programs' files have, too.
    """
    for path in folder.glob(".*"):
        named = PART.fullmatch(path.name)
        if named and named[1] == HOST:
            dead = not lives(int(named[2]))
        else:
            dead = bool(named or (unnamed and UNNAMED.fullmatch(path.name))) and age(path) > DAY
        if dead:
            remove(path)


def lives(pid: int) -> bool:
    """Whether this host has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def age(path: Path) -> float:
    """Seconds since it was last written; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def umask() -> int:
    """What this process's files are not open for."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_rows(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, atomically. A column that a row lacks stays empty."""
    with atomic(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def option(results: Path) -> str:
    """` --results FOLDER` for a command that is shown; '' for the folder that it takes by itself."""
    return "" if results == Path("results") else f" --results {shlex.quote(str(results))}"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; the lock goes with the process, however it ends.

    On a file system without locks it goes on with a warning: then nobody keeps two processes apart.
    Raises: BadInput if another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a", encoding="utf-8")  # noqa: SIM115 (closed below, after the block)
    except OSError as error:
        raise unwritable(f"into {folder}", error.errno) from error
    with file:
        if not locked(file.fileno(), folder):
            raise BadInput(f"another process is working on {folder}. Wait for it, or stop it, and run again.")
        yield


def locked(file: int, folder: Path) -> bool:
    """Lock an open file; False if another process has. Where there are no locks: True, and a warning.

    Raises: BadInput if the lock is refused for another reason.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise BadInput(f"cannot lock {folder}: {error.strerror}. Choose a folder on another disk.") from error
        warn_of_no_locks(str(error.strerror))
    return True


@functools.cache
def warn_of_no_locks(cause: str) -> None:
    """Once a process."""
    log.warning("this file system refuses locks (%s): see to it that no run is started twice at a time", cause)
