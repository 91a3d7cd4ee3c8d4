"""Files that are either whole or absent, and folders that one process at a time may work in."""

import csv
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastat.errors import BadInput


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Raises: BadInput if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write into {path.parent}: {error.strerror}. Choose another folder.") from error
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~umask())  # safetensors writes for its owner alone
        os.replace(partial, path)
    except PermissionError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}. Choose another folder.") from error
    finally:
        partial.unlink(missing_ok=True)


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


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; the lock goes with the process, however it ends.

    Raises: BadInput if another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a", encoding="utf-8")  # noqa: SIM115 (closed below, after the block)
    except OSError as error:
        raise BadInput(f"cannot write into {folder}: {error.strerror}. Choose another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                f"another process is working on {folder}. Wait for it, or stop it, and run again."
            ) from error
        yield
