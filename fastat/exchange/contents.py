"""What travels of a run, where it lies in its folder, and the lists of hashes that prove it. Never torch."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastat import __version__
from fastat.config.spec import RunSpec
from fastat.data import prepared
from fastat.errors import BadInput
from fastat.machine import files, seals
from fastat.report import clean, verify
from fastat.report.verify import Checked

SUMS = "SHA256SUMS"  # of a folder, as sha256sum writes them
WEIGHTS = ("weights.safetensors", "best.safetensors")
SMALL = re.compile(r"[a-z0-9_]+\.(csv|json|safetensors)")  # a file in a run's folder, not below it
EVALUATION = re.compile(r"eval/[a-z0-9_]+\.(csv|json)")
SUM = re.compile(r"([0-9a-f]{64}) [ *]([^\0\\\r\n]+)")  # a line of SUMS


def believed(name: str, checker: verify.Checker) -> Checked:
    """The run, if `verify` has nothing to say against it.

    Raises: BadInput if it is unfinished, damaged or unverified.
    """
    run = checker.check(name)
    if run.problems:
        raise BadInput(f"only what `verify` finds whole is given to others: {run.problems[0]}")
    if run.unverified:
        whys = "; ".join(dict.fromkeys(run.unverified))
        raise BadInput(
            f"only what `verify` finds whole is given to others, and {name} is unverified: {whys}.{cure(run)}"
        )
    return run


def cure(run: Checked) -> str:
    """` Prepare it again: ...`, where only the data are missing."""
    path = Path(f"results/data/{run.name.partition('/')[0]}.safetensors")
    return f" {prepared.way_out(path)}" if "its data are not there" in run.unverified else ""


def evidence(results: Path, run: Checked, with_weights: bool) -> list[str]:
    """The files of a run that prove its numbers: run.json, what that names and what was believed of eval/.

    Snapshots stay, weights too unless asked for.
    Raises: BadInput for a file that is not what run.json names.
    """
    assert run.about is not None
    folder, said = results / "runs" / run.name, run.about.get("files") or {}
    named = [file for file in said if SMALL.fullmatch(file) and (file not in WEIGHTS or with_weights)]
    named = [file for file in named if (folder / file).is_file()]
    for file in named:
        if seals.sha256(folder / file) != said[file]:
            raise BadInput(f"{folder / file} is not what this run wrote: run.json has another sha256. Train it again.")
    pairs = (f"eval/{name}.{ending}" for name in run.evaluations for ending in ("csv", "json"))
    return ["run.json", *named, *(file for file in pairs if (folder / file).is_file())]


def packed(spec: RunSpec, results: Path, run: Checked, along: list[str]) -> dict[str, Any]:
    """packed.json: what was whole when the run was packed and is not among the files that come along."""
    assert run.about is not None
    path = results / f"data/{spec.dataset}.safetensors"
    data = prepared.header(path)["sha256"] if path.exists() else run.packed.get("data")
    left = {file: found for file, found in run.about.get("files", {}).items() if file not in along}
    about = {"run": spec.name, "data": data, "files": left, "packed_by": f"fastat {__version__}"}
    return {**about, seals.SEAL: seals.seal(about)}


def is_of_a_run(file: str) -> bool:
    """Whether a run's folder may have a file of this name, that may travel."""
    return bool(SMALL.fullmatch(file) or EVALUATION.fullmatch(file))


# Lists of hashes


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of every file below the folder."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{seals.sha256(folder / path)}  {path}\n" for path in paths if path != SUMS]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """The files of an exported folder by their path below it, each of them whole: -> sha256.

    Raises: BadInput if the list is missing or damaged, or a file is missing, not what was written, a link, or outside.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is no exported run: it has no {SUMS}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    found: dict[str, str] = {}
    for line in lines:
        match = SUM.fullmatch(line)
        if not match or match[2] in found:
            raise BadInput(f"{path} is damaged: {line[:100]!r} is no line of it, or stands there twice. {AGAIN}")
        found[match[2]] = match[1]
    for name, wanted in found.items():
        check_path(name, str(path))
        check_file(folder, name, wanted)
    return found


AGAIN = "Ask for the folder again, or copy it again"


def check_path(name: str, where: str) -> None:
    """Raises: BadInput if a path of a list leads out of the folder of the list."""
    if name.startswith("/") or {"", ".", ".."} & {*name.split("/")} or not name.isprintable() or "\\" in name:
        raise BadInput(
            f"{where} names {name[:100]!r}, which leads out of its folder or is no plain path: nothing is read"
        )


def check_file(folder: Path, name: str, wanted: str) -> None:
    """Raises: BadInput if a file is missing, behind a link, no plain file, or has another sha256."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise BadInput(f"{path} is a link: an exported run has none. {AGAIN}")
    if not path.is_file():
        raise BadInput(f"{path} is not there, or no file; {SUMS} names it. {AGAIN}")
    if (found := seals.sha256(path)) != wanted:
        raise BadInput(f"{path} is damaged: its sha256 is {found[:16]}..., {SUMS} says {wanted[:16]}.... {AGAIN}")


# Folders


def copy(one: Path, other: Path) -> None:
    """The content of a file, into a folder that is made. An error in writing names no file, as shutil's does."""
    other.parent.mkdir(parents=True, exist_ok=True)
    with open(one, "rb") as source, open(other, "wb") as out:
        shutil.copyfileobj(source, out)


def beside(out: Path) -> Path:
    """Where a folder is made before it takes the place of `out`; what killed processes left of such goes first."""
    return out.with_name(f".{out.name}.{files.HOST}.{os.getpid()}.part")


def abandoned(folder: Path) -> Iterator[Path]:
    """Folders of `beside` in a folder whose processes have ended."""
    for path in folder.glob(".*.part") if folder.is_dir() else ():
        named = files.PART.fullmatch(path.name)
        if named and named[1] == files.HOST and path.is_dir() and not files.lives(int(named[2])):
            yield path


def totals(folder: Path) -> tuple[int, str]:
    """How many files, and how large they are together."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return len(paths), clean.size(sum(path.stat().st_size for path in paths))
