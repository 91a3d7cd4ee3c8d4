"""Files that come from elsewhere: what lies there in place of a plain file is said, and never waited for."""

import os
import socket

import pytest

from fastat.errors import BadInput
from fastat.machine.foreign import head, instead


def pipe(path):
    os.mkfifo(path)


def listener(path):
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))


@pytest.mark.parametrize(
    "make,message",
    [
        (pipe, "must be a file, but it is a pipe. Fetch it."),
        (lambda path: path.mkdir(), "must be a file, but it is a folder. Fetch it."),
        (lambda path: path.symlink_to("/dev/zero"), "must be a file, but it is a device. Fetch it."),
        (listener, "must be a file, but it is a socket. Fetch it."),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links. Fetch it."),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory. Fetch it."),
        (lambda path: None, "No such file or directory. Fetch it."),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_file_is_refused_at_once(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "it")
    with pytest.raises(BadInput) as caught:
        head(tmp_path / "it", "Fetch it.")
    assert str(caught.value).endswith(message)


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path):
    path, root = tmp_path / "it", os.geteuid() == 0
    path.write_text("x")
    path.chmod(0)
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(BadInput, match="cannot read .*it: Permission denied. Ask its owner"):
            head(path, "Fetch it.")
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    "content,said",
    [
        (b"", " It is empty."),
        (b"\0" * 5000, " It begins with zeros alone: a download or a copy that was cut off."),
        (b"\n  <!DOCTYPE HTML><title>Sign in</title>", " It is a web page,"),
        (b"\xef\xbb\xbf<html>", " It is a web page,"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", " It is a Git-LFS pointer,"),
        (b"/annex/objects/SHA256E-s3--0.pt\n", " It is a git-annex pointer,"),
        (b"PK\x03\x04...", " It is a zip archive."),
        (b"\x80\x02}q", ""),
    ],
)
def test_what_lies_there_is_told_by_its_first_bytes(content, said, tmp_path):
    (tmp_path / "it").write_bytes(content)
    assert instead(head(tmp_path / "it", "")).startswith(said) and bool(said) == bool(instead(content))
