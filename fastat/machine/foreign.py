"""Files that come from elsewhere: whether a plain readable file lies there, and what lies there in its place."""

import stat
from pathlib import Path

from fastat.errors import BadInput

LOOK = 4096  # bytes at a file's beginning that tell what it is
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
LOGIN = "as servers send for an address that is gone or needs a login: download it again, and look at what comes"
BEGINNINGS = (  # how a file begins, in lower case -> what it is
    (b"version https://git-lfs", "a Git-LFS pointer, not the file itself: fetch that with `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer, not the file itself: fetch that with `git annex get`"),
    (b"<!doctype html", f"a web page, {LOGIN}"),
    (b"<html", f"a web page, {LOGIN}"),
    (b"<?xml", f"an XML page, {LOGIN}"),
    (b"\x1f\x8b", "a gzip file"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\x89hdf", "an HDF5 file"),
    (b"\x93numpy", "a numpy file"),
)


def head(path: Path, way_out: str) -> bytes:
    """The first bytes of a regular file; a pipe is not waited for, a device not opened.

    way_out: what to do where it is missing or something else, a sentence.
    Raises: BadInput if it is missing, no regular file, a link to itself, or may not be read.
    """
    try:
        mode = path.stat().st_mode
        for is_kind, kind in KINDS:
            if is_kind(mode):
                raise BadInput(f"{path} must be a file, but it is {kind}. {way_out}")
        with open(path, "rb") as file:
            return file.read(LOOK)
    except PermissionError as error:
        way_out = "Ask its owner for the right to read it (`ls -l` says who that is)."
        raise BadInput(f"cannot read {path}: {error.strerror}. {way_out}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}. {way_out}") from error


def instead(beginning: bytes) -> str:
    """` It is a web page, ...`: what a file is, by its first bytes, that is not what was expected; '' if unknown."""
    if not beginning.strip(b"\0"):
        return " It begins with zeros alone: a download or a copy that was cut off." if beginning else " It is empty."
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((f" It is {what}." for start, what in BEGINNINGS if text.startswith(start)), "")
