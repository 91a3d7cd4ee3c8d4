"""What lies in a results folder, by kind and with sizes; and its removal, where a kind is asked for by its name.

Nothing outside the folder is touched: links are neither followed nor removed.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fastat.config import catalog
from fastat.config.spec import RunSpec
from fastat.errors import BadInput, did_you_mean
from fastat.machine import files
from fastat.report.progress import SHARD

KINDS = {  # name -> what it is, and what its removal costs
    "states": "what unfinished trainings and evaluations would go on from; without it they start afresh",
    "attacks": "partial files of finished attacks; an evaluation made again attacks afresh",
    "snapshots": "weights of every epoch; `probe` needs them until it has run",
    "parts": "half-written files that killed processes left",
    "logs": "what jobs said; `status` reads from them why one failed",
    "weights": "networks of the grid's runs; without them nothing can be evaluated or verified again",
    "data": "prepared data sets; preparing them needs the archives again",
    "others": "whole runs that the config's grid does not name",
}
KEPT = "kept"  # everything else: results, and what is no run's
PART = re.compile(r"\..+\.\d+\.part")
LOG = re.compile(rf"(-probe|-best|-attacks|-autoattack|-{SHARD.pattern})?\.log$")
PART_IS_LEFT = 600.0  # seconds after which nobody is still writing one
RUN_DEPTH = 6  # folders of a run's name


@dataclass(frozen=True)
class Found:
    """A file. owner: the run, or the data set, whose jobs write it; '': nobody's."""

    path: Path
    size: int
    kind: str
    owner: str


def look(results: Path, grid: set[str], notes: list[str]) -> list[Found]:
    """Every file below `results`. What cannot be read, and links, are noted.

    grid: the names of the config's runs. Raises: BadInput if there is no such folder.
    """
    if not results.is_dir():
        raise BadInput(f"there is no folder {results}. --results names the one to look into.")
    found, strays = [], set()
    for folder, inner, names in os.walk(results, onerror=lambda error: notes.append(unreadable(error))):
        for name in [*names, *inner]:
            path = Path(folder, name)
            if path.is_symlink():
                notes.append(f"{path} is a link: neither followed nor removed.")
            elif name in names and (about := lstat(path, notes)):
                parts = path.relative_to(results).parts
                owner = owner_of(parts)
                kind = kind_of(path, parts, owner, grid, time.time() - about.st_mtime)
                found.append(Found(path, about.st_size, kind, owner))
                if parts[0] == "runs" and not owner:
                    strays.add("/".join(parts[: min(RUN_DEPTH + 1, len(parts) - 1)]))
    notes += [f"{results / stray} is no run's folder, and is kept. Remove it by hand." for stray in sorted(strays)]
    return found


def unreadable(error: OSError) -> str:
    """The note about a file or folder that cannot be read."""
    return f"{error.filename} cannot be read: {error.strerror}."


def lstat(path: Path, notes: list[str]) -> os.stat_result | None:
    """What is known of a file; noted, if nothing can be."""
    try:
        return path.lstat()
    except OSError as error:
        notes.append(unreadable(error))
        return None


def owner_of(parts: tuple[str, ...]) -> str:
    """The run or the data set that a path below `results` belongs to, or ''."""
    top, *rest = parts
    if top == "data" and rest:
        name = rest[0].removesuffix(".safetensors")
        return name if catalog.facts(name) else ""
    if top == "logs" and rest[:1] in (["train"], ["evaluate"]):
        rest = [*rest[1:-1], LOG.sub("", rest[-1])]
    elif top != "runs" or len(rest) <= RUN_DEPTH:
        return ""
    name = "/".join(rest[:RUN_DEPTH])
    try:
        return name if RunSpec.parse(name).name == name else ""
    except BadInput:
        return ""


def kind_of(path: Path, parts: tuple[str, ...], owner: str, grid: set[str], age: float) -> str:
    """One of KINDS, or KEPT."""
    if parts[0] == "runs" and owner and owner not in grid:
        return "others"
    if PART.fullmatch(path.name):
        return "parts" if age > PART_IS_LEFT else KEPT
    if parts[0] == "logs" and path.suffix == ".log":
        return "logs"
    if parts[0] == "data" and owner and path.name != "lock":
        return "data"
    match parts[1 + RUN_DEPTH :] if parts[0] == "runs" and owner else ():
        case ("weights.safetensors" | "best.safetensors",):
            return "weights"
        case ("snapshots", _):
            return "snapshots"
        case ("state", "state.safetensors"):
            return "states"
        case ("state", name) if name.startswith(("autoattack-", "attack-")) and name.endswith(".csv"):
            whole = "autoattack" if name.startswith("auto") else "attacks"
            return "attacks" if (path.parent.parent / f"eval/{whole}.csv").exists() else "states"
        case ("state", name, *lock) if lock in ([], ["lock"]) and SHARD.fullmatch(name.removesuffix(".json")):
            whole = f"{'best_' * name.startswith('best_')}autoattack"
            return "attacks" if (path.parents[1 + len(lock)] / f"eval/{whole}.csv").exists() else "states"
    return KEPT


def describe(found: list[Found], notes: list[str]) -> str:
    """A line per kind: its name, how many files, their size, and what their removal costs."""
    lines = [f"{'what':10} {'files':>8} {'size':>9}  "]
    for kind, text in {**KINDS, KEPT: "results, tables, figures and all else; never removed here"}.items():
        sizes = [one.size for one in found if one.kind == kind]
        lines.append(f"{kind:10} {len(sizes):8} {size(sum(sizes)):>9}  {text}")
    there = [kind for kind in KINDS if any(one.kind == kind for one in found)]
    lines += ["", f"To remove, say which: python -m fastat clean {there[0]}" if there else "Nothing to remove."]
    return "\n".join([*lines, *notes])


def remove(found: list[Found], kinds: list[str], results: Path) -> tuple[str, bool]:
    """Remove all of these kinds, but what belongs to a run that is at work. Returns what was done, and whether all was.

    Raises: BadInput for a kind that does not exist.
    """
    kinds = list(dict.fromkeys(kinds))
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"nothing here is called {kind!r}.{did_you_mean(kind, KINDS)}")
    gone: list[Found] = []
    kept: list[str] = []
    owned: dict[str, list[Found]] = {}
    for one in found:
        if one.kind in kinds:
            owned.setdefault(one.owner, []).append(one)
    for owner, theirs in owned.items():
        try:
            gone += unlinked(theirs, locks_of(owner, results), kept)
        except BadInput as error:
            kept.append(f"{len(theirs)} files of {owner} stay: {error}")
    for folder in {one.path.parent for one in gone}:
        prune(folder, results)
    lines = []
    for kind in kinds:
        sizes = [one.size for one in gone if one.kind == kind]
        lines.append(f"{kind}: {len(sizes)} files removed, {size(sum(sizes))}")
    return "\n".join([*lines, *kept]), not kept


def locks_of(owner: str, results: Path) -> Iterator[Path]:
    """The folders whose locks say that a job of this run, or on this data set, is at work."""
    if catalog.facts(owner):
        yield results / "data" / owner
        yield from (path.parent for path in results.glob(f"runs/{owner}/*/*/*/*/*/state/lock"))
        yield from (path.parent for path in results.glob(f"runs/{owner}/*/*/*/*/*/state/*shard*/lock"))
    else:
        yield results / "runs" / owner / "state"
        yield from (path.parent for path in results.glob(f"runs/{owner}/state/*shard*/lock"))


def unlinked(theirs: list[Found], locks: Iterator[Path], kept: list[str]) -> Iterator[Found]:
    """Remove the files of one owner, and yield those that are gone. The lock, which a whole run has too, goes last.

    Raises: BadInput if somebody holds one of the locks.
    """
    there = [folder for folder in locks if (folder / "lock").is_file()]
    for folder in there[1:]:
        with files.exclusive(folder):
            pass
    own = [one for one in theirs if one.path.name == "lock"]
    with files.exclusive(there[0]) if there else nullcontext():
        yield from (one for one in theirs if one not in own and is_gone(one.path, kept))
    yield from (one for one in own if is_gone(one.path, kept))


def is_gone(path: Path, kept: list[str]) -> bool:
    """Remove a file; if that cannot be, say why."""
    try:
        path.unlink(missing_ok=True)
        return True
    except OSError as error:
        kept.append(f"{path} stays: {error.strerror}")
        return False


def prune(folder: Path, results: Path) -> None:
    """Remove a folder that is empty now, and those above it that are then."""
    while folder.parent != results and folder != results:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def size(n: float) -> str:
    """`0 B`, `316 kB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if n >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
