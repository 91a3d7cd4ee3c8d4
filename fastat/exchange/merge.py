"""Results of several machines in one folder: content decides; where two folders differ, it is listed. Never torch.

Nothing is written before everything is read, and nothing is written over. A merge that is killed is finished by the
same command: files that are there already stay.
"""

import csv
import json
import os
import re
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fastat.config import catalog, grid
from fastat.config.spec import RunSpec
from fastat.data import prepared
from fastat.errors import BadInput
from fastat.exchange import contents
from fastat.exchange.arrival import same
from fastat.machine import files, locks, seals
from fastat.report import clean, verify
from fastat.report.verify import PACKED
from fastat.report.versus import counted

NOTHING = "Nothing was written."
DATA, TRAINING, STATE, ROWS, EVALUATION = range(5)  # in the order in which they are written
CHECKSUM = "checksum"  # the attack of the row that seals an unfinished attack's file
STATE_FILE = "state/state.safetensors"
SNAPSHOT = re.compile(r"snapshots/epoch\d+\.safetensors")


@dataclass(frozen=True)
class Unit:
    """Files of one results folder that stand or fall together.

    key: data/NAME, or below runs/ a training's name, its eval/NAME, or a file of its state/. identity: what its content
    is known by. files: below the folder, in the order in which they are written. training: identity of the one that it
    belongs to. images: of how many training and test images it is, and their data_sha256.
    """

    kind: int
    key: str
    home: Path
    identity: str
    files: tuple[str, ...]
    said: str = ""
    training: str = ""
    images: tuple[int | None, int | None, str | None] = (None, None, None)

    @property
    def run(self) -> str:
        """The run's name; '' of data."""
        return "" if self.kind == DATA else "/".join(self.key.split("/")[:6])

    @property
    def size(self) -> int:
        """In bytes."""
        return sum((self.home / file).stat().st_size for file in self.files)


def merge(folders: list[Path], out: Path, keep: Path | None = None, dry_run: bool = False) -> tuple[list[str], bool]:
    """Put what the folders have into `out`, which may have some already; lines that say what came of it.

    keep: the folder whose content counts where two differ. Also returns whether some do: then nothing is written.
    Raises: BadInput if a folder cannot be read, has a link or a run at work, or `out` cannot take the files.
    """
    here = [out] * any((out / name).is_dir() for name in ("runs", "data"))
    sources = here + [folder for folder in distinct(folders) if not (here and folder.samefile(out))]
    if keep is not None and not any(keep.exists() and keep.samefile(one) for one in sources):
        raise BadInput(f"--keep {keep} is none of the folders that are merged: {', '.join(map(str, sources))}.")
    left: list[str] = []
    units = [unit for folder in sources for unit in survey(folder, left)]
    if not units:
        raise BadInput(f"{', '.join(map(str, folders))}: nothing in there can be merged. {NOTHING}")
    chosen, conflicts = choose(units, here, keep, left)
    left = [f"left behind: {line}" for line in left]
    if conflicts:
        way_out = "Say whose count where two differ, as --keep FOLDER, or move what is wrong away"
        return [*left, *conflicts, f"{NOTHING} {counted(len(conflicts), 'conflict')}. {way_out}."], True
    new = [unit for unit in chosen if not lies_in(unit, out)]
    check_vacant(new, out)
    check_room(new, out)
    if not dry_run:
        place(new, out)
    return [*left, *described(chosen, new, sources, out, dry_run)], False


def distinct(folders: list[Path]) -> list[Path]:
    """The folders, each once.

    Raises: BadInput for what is no results folder.
    """
    for folder in folders:
        if not any((folder / name).is_dir() for name in ("runs", "data")):
            raise BadInput(f"{folder} is no results folder: it has neither runs nor data in it. Name one that has.")
    return [one for k, one in enumerate(folders) if not any(one.samefile(other) for other in folders[:k])]


# What a folder has


def survey(folder: Path, left: list[str]) -> Iterator[Unit]:
    """What of a folder can be believed; in `left` what cannot."""
    refuse_links(folder)
    catalog.learn(folder)
    checker = verify.Checker(folder, full=True)
    for path in sorted((folder / "data").glob("*.safetensors")):
        try:
            checker.prepared(path.stem)
            yield of_data(folder, path.stem)
        except (verify.Wrong, BadInput) as error:
            left.append(f"{path}: {error}")
    names, strays = verify.runs_below(folder / "runs")
    left += [f"{folder}/runs/{stray}" for stray in strays]
    held = locks.seen()
    for name in sorted({*names, *unfinished(folder)}):
        for lock in (folder / "runs" / name).glob("state/**/lock"):
            if locks.is_held(lock.stat(), held):
                raise BadInput(f"a process is at work on {lock.parent}. Wait for it, or stop it, and merge again.")
        yield from of_run(folder, name, checker, left) if name in names else of_state(folder, name, left)


def refuse_links(folder: Path) -> None:
    """Raises: BadInput for the first link below runs and data: what it leads to is nobody's to copy."""
    for top in ("runs", "data"):
        for where, inner, names in os.walk(folder / top):
            for name in (*inner, *names):
                if (path := Path(where, name)).is_symlink():
                    raise BadInput(f"{path} is a link, and is not followed. {NOTHING} Put the file itself there.")


def unfinished(folder: Path) -> Iterator[str]:
    """Names of runs that have a state and no run.json."""
    for path in (folder / "runs").rglob(STATE_FILE):
        run = path.parent.parent
        if not (run / "run.json").exists():
            yield run.relative_to(folder / "runs").as_posix()


def of_data(folder: Path, name: str) -> Unit:
    """A prepared data set, its pixels before the file that names their hashes."""
    about = prepared.header(folder / f"data/{name}.safetensors")
    beside = [path for path in sorted((folder / "data" / name).glob("*.*")) if path.is_file()]
    pixels = [f"data/{name}/{path.name}" for path in beside if not files.PART.fullmatch(path.name)]
    said = f"sha256 {about['sha256'][:16]}"
    return Unit(DATA, f"data/{name}", folder, about["sha256"], (*pixels, f"data/{name}.safetensors"), said)


def of_run(folder: Path, name: str, checker: verify.Checker, left: list[str]) -> Iterator[Unit]:
    """A finished run's training, its evaluations, and the rows that unfinished evaluations would go on from."""
    run, below = checker.check(name), folder / "runs" / name
    left += [f"{folder}/runs/{p.run}/{p.file} {p.rule} ({p.found})" for p in run.problems if is_there(below / p.file)]
    if run.about is None:
        return
    weights = weights_of(run.about, below, checker)
    training = f"{run.about.get('made_from')}/{weights}"
    named = sorted(run.about.get("files") or ["log.csv", "weights.safetensors", "instances.safetensors"])
    parts = [file for file in named if contents.SMALL.fullmatch(file) or SNAPSHOT.fullmatch(file)]
    parts = [file for file in (*parts, PACKED, "run.json") if (below / file).is_file()]
    images = (*verify.sizes(RunSpec.parse(name), run.about), run.about.get("data_sha256"))
    said = f"weights {weights[:16]}, {of_whom(run.about)}"
    yield Unit(TRAINING, name, folder, training, under(name, parts), said, training, images)
    for suite in run.evaluations:
        if parts := [file for file in (f"eval/{suite}.csv", f"eval/{suite}.json") if (below / file).is_file()]:
            found = seals.sha256(below / parts[0])
            said = f"rows {found[:16]}"
            yield Unit(EVALUATION, f"{name}/eval/{suite}", folder, found, under(name, parts), said, training)
    for path in sorted((below / "state").glob("*")):
        if path.suffix in (".csv", ".json") and path.is_file() and contents.SMALL.fullmatch(path.name.replace("-", "")):
            if not is_whole(path):
                left.append(f"{path} is damaged, of another evaluation, or made before it had a checksum")
                continue
            file = f"state/{path.name}"
            yield Unit(ROWS, f"{name}/{file}", folder, seals.sha256(path), under(name, [file]), "", training)


def is_whole(path: Path) -> bool:
    """Whether an unfinished attack's file is what was written: the last row of one is its checksum, as `seal` makes it.

    That one is in fastat/evaluation/autoattack.py, with torch.
    """
    try:
        if path.suffix == ".json":
            return seals.SEAL in seals.read(path)
        with open(path, encoding="utf-8", newline="") as file:
            columns, *rows, last = csv.reader(file)
    except (BadInput, OSError, ValueError, csv.Error):
        return False
    seal = [CHECKSUM, str(len(rows)), str(zlib.crc32("\n".join(map(",".join, rows)).encode())), "0"]
    return columns == grid.ROWS and last in ([*seal, path.stem], [*seal, ""])  # '': a version before this one made it


def is_there(path: Path) -> bool:
    """Whether a file with a problem is one: an evaluation that was not made yet is no news."""
    return path.exists() or path.with_suffix(".json").exists()


def weights_of(about: dict[str, Any], below: Path, checker: verify.Checker) -> str:
    """Their sha256, as run.json has it. Of a run made before it had: of those that lie there."""
    said = (about.get("files") or {}).get("weights.safetensors")
    path = below / "weights.safetensors"
    return str(said or (checker.hashes.of(path) if path.is_file() else about.get(seals.SEAL)))


def of_whom(about: dict[str, Any]) -> str:
    """`fingerprint 0123abcd, on an AMD EPYC, commit 0123abcd`."""
    commit = f", commit {about['git_commit'][:12]}" if about.get("git_commit") else ""
    return f"fingerprint {about.get('made_from', 'unknown')}, on {about.get('device') or 'an unknown machine'}{commit}"


def of_state(folder: Path, name: str, left: list[str]) -> Iterator[Unit]:
    """An unfinished training's state."""
    path = folder / "runs" / name / STATE_FILE
    try:
        RunSpec.parse(name)
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["fastat"])
        said = f"epoch {about['standing']['epoch']}, fingerprint {about['made_from']}"
    except (BadInput, OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        left.append(f"{path}: it is no state that can be gone on from ({error})")
        return
    snapshots = sorted((folder / "runs" / name / "snapshots").glob("*.safetensors"))
    parts = [*(f"snapshots/{one.name}" for one in snapshots), STATE_FILE]
    yield Unit(STATE, f"{name}/state", folder, seals.sha256(path), under(name, parts), said)


def under(name: str, parts: Iterable[str]) -> tuple[str, ...]:
    """Paths below results."""
    return tuple(f"runs/{name}/{file}" for file in parts)


# Which of them


def choose(units: list[Unit], here: list[Path], keep: Path | None, left: list[str]) -> tuple[list[Unit], list[str]]:
    """One unit of each key, and a line for each key of which there are two contents.

    here: the folder that is merged into, which comes first. In `left`: what `keep` and finished trainings leave.
    """
    chosen: dict[str, Unit] = {}
    conflicts = []
    for key, group in groupby(sorted(units, key=lambda unit: (unit.kind, unit.key)), lambda unit: unit.key):
        those = list(group)
        kind, trained = those[0].kind, chosen.get(those[0].run)
        if kind == TRAINING:
            strange = [unit for unit in those if is_of_other_data(unit, chosen)]
            left += [f"{unit.home}/runs/{unit.key} is of other data than are taken" for unit in strange]
            those = [unit for unit in those if unit not in strange]
        elif kind == STATE and trained is not None:
            left += [f"{unit.home}/runs/{unit.key}: the training is finished in {trained.home}" for unit in those]
            those = []
        elif kind in (ROWS, EVALUATION):  # of the training that is taken
            those = [unit for unit in those if trained is not None and unit.training == trained.identity]
        if those and kind == ROWS:  # of the same attack: whichever is further
            those = [max(those, key=lambda unit: unit.size)]
        if len({unit.identity for unit in those}) > 1:
            kept = [unit for unit in those if keep is not None and unit.home.samefile(keep)]
            if not kept or (those[0].home in here and kept[0] is not those[0]):
                conflicts.append(f"conflict: {key}: {'; '.join(f'{one.home} has {one.said}' for one in those)}")
                continue
            left += [f"{key} of {one.home} ({one.said})" for one in those if one.identity != kept[0].identity]
            those = [unit for unit in those if unit.identity == kept[0].identity]
        if those:
            chosen[key] = most_whole(those, here)
    return list(chosen.values()), conflicts


def is_of_other_data(unit: Unit, chosen: dict[str, Unit]) -> bool:
    """Whether a training is of other images than those that are taken of its data set."""
    taken, (n_train, n_test, data) = chosen.get(f"data/{unit.run.partition('/')[0]}"), unit.images
    if taken is None or n_train is None or n_test is None or data is None:
        return False
    return prepared.data_sha256(taken.identity, n_train, n_test) != data


def most_whole(those: list[Unit], here: list[Path]) -> Unit:
    """Of the same content, what has most files: one may have come without its weights. What is there already stays."""
    best = max(those, key=lambda unit: len(unit.files))  # the first of equals
    named = best.files[-1], those[0].files[-1]
    stays = those[0].home in here and named[0] == named[1] and not same(best.home / named[0], those[0].home / named[1])
    return those[0] if stays else best


# Into its place


def lies_in(unit: Unit, out: Path) -> bool:
    """Whether all of its files are there."""
    return all(same(unit.home / file, out / file) for file in unit.files)


def check_vacant(new: list[Unit], out: Path) -> None:
    """Raises: BadInput if a file is there with another content, which can only be a damaged one, or nobody's."""
    for unit in new:
        for file in unit.files:
            if os.path.lexists(out / file) and not same(unit.home / file, out / file) and unit.kind != ROWS:
                raise BadInput(
                    f"{out / file} is there, damaged or half of something, and {unit.home} has another. {NOTHING} "
                    "Nothing is written over: move it away, or name another --out."
                )


def check_room(new: list[Unit], out: Path) -> None:
    """Raises: BadInput if the files are more than there is room for."""
    total, there = sum(unit.size for unit in new), next(one for one in (out, *out.absolute().parents) if one.exists())
    if total > (free := shutil.disk_usage(there).free):
        raise BadInput(f"{out} needs {clean.size(total)} where {clean.size(free)} are free. Name another --out.")


def place(new: list[Unit], out: Path) -> None:
    """Copy the units, a run at a time, whole runs before those on a part of the images, which start from them.

    All files get one time, data that of their origin or of the oldest run: for Snakemake no output is older than its
    input.
    """
    oldest = min((path.stat().st_mtime for path in (out / "runs").rglob("run.json")), default=float("inf"))
    newest = max((path.stat().st_mtime for path in (out / "data").glob("*.safetensors")), default=0.0)
    for unit in (unit for unit in new if unit.kind == DATA):
        written = min(oldest, (unit.home / unit.files[-1]).stat().st_mtime)
        newest = max(newest, written)
        with files.exclusive(out / unit.key):
            copy(unit, out, written)
    stamp = max(time.time(), newest)
    of_runs = sorted(
        (unit for unit in new if unit.run), key=lambda unit: (bool(RunSpec.parse(unit.run).subset), unit.run)
    )
    for run, units in groupby(of_runs, lambda unit: unit.run):
        with files.exclusive(out / "runs" / run / "state"):
            for unit in sorted(
                units, key=lambda unit: (unit.kind, unit.key.endswith("/attacks"), "/best_" in unit.key)
            ):
                copy(unit, out, stamp)


def copy(unit: Unit, out: Path, stamp: float) -> None:
    """Copy what is not there yet.

    Raises: BadInput if a file cannot be written, or changes meanwhile.
    """
    for file in unit.files:
        if same(unit.home / file, out / file):
            continue
        with files.atomic(out / file) as partial:
            contents.copy(unit.home / file, partial)
            if not same(unit.home / file, partial):
                raise BadInput(f"{unit.home / file} changed while it was copied. Merge again.")
            os.utime(partial, (stamp, stamp))


# In words


def described(chosen: list[Unit], new: list[Unit], sources: list[Path], out: Path, dry_run: bool) -> list[str]:
    """What each folder gave, and what is there now."""
    lines = []
    for folder in sources:
        mine = [unit for unit in (chosen if folder == out else new) if unit.home == folder]
        lines.append(f"{folder}: {in_words(mine) or 'nothing that is not there already'}")
    total = clean.size(sum(unit.size for unit in new))
    would = "would be copied" if dry_run else "copied"
    lines.append(f"{out}: {in_words(chosen)}; {counted(sum(len(one.files) for one in new), 'file')}, {total} {would}")
    return lines


def in_words(units: list[Unit]) -> str:
    """`2 trainings, 8 evaluations, 1 data set`."""
    names = {TRAINING: "training", EVALUATION: "evaluation", STATE: "unfinished training", DATA: "data set"}
    found = Counter(unit.kind for unit in units)
    return ", ".join(counted(found[kind], name) for kind, name in names.items() if found[kind])
