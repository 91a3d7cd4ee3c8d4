"""What names content: sha256 of files, and JSON files that carry the seal of their own. Standard library only."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastat.errors import BadInput
from fastat.machine import files

log = logging.getLogger(__name__)
SEAL = "seal"


def sha256(path: Path) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_file(path: Path) -> dict[str, Any]:
    """Name, size and sha256 of a file, as evidence keeps them of what was read."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def seal(about: dict[str, Any]) -> str:
    """sha256 of what a JSON object says, less the seal that it may carry."""
    said = json.loads(json.dumps({key: value for key, value in about.items() if key != SEAL}))
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write(path: Path, about: dict[str, Any]) -> None:
    """Write `about` as JSON with its seal, atomically."""
    files.write_json(path, {**about, SEAL: seal(about)})


def read(path: Path) -> dict[str, Any]:
    """The JSON object of a file. One without a seal was made before there were any, and is taken as it is.

    Raises: BadInput, with path and rule but without a way out, if it is missing, damaged or was changed.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(about, dict):
        raise BadInput(f"{path} holds no JSON object")
    if SEAL in about and about[SEAL] != seal(about):
        raise BadInput(f"{path} is not what was written: its seal is of other content")
    return about


VERBS = ("tidy", "figure-data", "judge")  # whose tables others read


@contextmanager
def written(folder: Path, by: str, names: Iterable[str]) -> Iterator[None]:
    """Around what writes the files `names` of a folder: FOLDER/.VERB.json keeps their sha256 for `check`."""
    kept = folder / f".{by}.json"
    files.remove(kept)
    yield
    write(kept, {"files": {name: sha256(folder / name) for name in names if (folder / name).exists()}})


def check(path: Path) -> None:
    """Nothing where nobody kept what a table was.

    Raises: BadInput, a sentence without its full stop, if it is not what was written.
    """
    for by in VERBS:
        if not (kept := path.with_name(f".{by}.json")).exists():
            continue
        said = read(kept).get("files")
        if isinstance(said, dict) and path.name in said and path.exists() and said[path.name] != sha256(path):
            raise BadInput(f"{path.name} is not what `{by}` wrote: make it again by `python -m fastat {by}`")


class Hashes:
    """sha256 of large files below a folder, each content read once: it is known again by size, mtime and inode."""

    def __init__(self, folder: Path, full: bool = False):
        """full: read every file, whatever is remembered."""
        self.path = folder / ".hashes.json"
        self.known: dict[str, Any] = {}
        self.new: dict[str, list[Any]] = {}
        if not full and self.path.exists():
            try:
                self.known = read(self.path)
            except BadInput as error:
                log.warning("%s: every file is read again", error)

    def of(self, path: Path) -> str:
        """The file's sha256.

        Raises: OSError.
        """
        at, key = path.stat(), str(path.relative_to(self.path.parent))
        here = [at.st_size, at.st_mtime_ns, at.st_ino]
        found = self.known.get(key)
        if not (isinstance(found, list) and found[:3] == here and len(found) == 4):
            found = [*here, sha256(path)]
        self.new[key] = found
        return str(found[3])

    def keep(self) -> None:
        """Remember them, where the folder can be written."""
        changed = {key: found for key, found in self.new.items() if self.known.get(key) != found}
        if changed:
            try:
                write(self.path, {**{k: v for k, v in self.known.items() if k != SEAL}, **changed})
            except BadInput as error:
                log.info("%s: what was hashed is not remembered", error)
