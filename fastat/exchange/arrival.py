"""What others exported, put into a results folder: everything is checked before anything is moved. Never torch.

An import that is killed while it moves is finished by the next: files that are there already stay.
"""

import errno
import filecmp
import os
import resource
import shutil
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

from fastat.config import catalog, external
from fastat.config.grid import every_run, load_config
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.exchange import archive, card, contents
from fastat.machine import files, seals
from fastat.report import verify
from fastat.report.verify import PACKED, Checked

FEW = 20  # runs, each of which has a line
BESIDES = 256  # files that are open beside the locks of runs
NOTHING = "Nothing was imported."


def take_in(source: Path, results: Path) -> list[str]:
    """Put the run of a folder, or the runs of an archive, below `results`; lines that say what came of it.

    Raises: BadInput if a file is damaged, belongs nowhere, or is there already with another content.
    """
    if not source.exists():
        raise BadInput(f"there is no {source}. Name a folder or an archive that `export` wrote.")
    for left in contents.abandoned(results):
        shutil.rmtree(left, ignore_errors=True)
    staging, is_new = contents.beside(results / "import"), not results.exists()
    try:
        staging.mkdir(parents=True)
        if source.is_dir():
            copy_folder(source, staging)
        else:
            archive.unpack(source, staging)
        return settle(source, staging, results)
    except OSError as error:
        if error.errno not in files.WAYS_OUT or files.elsewhere(error, staging):
            raise
        raise files.unwritable(f"into {results}", error.errno) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # something is in it, as there should be
                results.rmdir()


def copy_folder(folder: Path, staging: Path) -> None:
    """Copy what a run's folder, or an archive that was unpacked, has for results, after all its hashes were checked.

    Raises: BadInput.
    """
    listed = contents.read_sums(folder)
    single = "evidence/run.json" in listed
    run = str(seals.read(folder / "evidence/run.json").get("run")) if single else ""
    for name in listed:
        below = of_a_run(name, RunSpec.parse(run).name, str(folder)) if single else archive.target(name, str(folder))
        if below:
            contents.copy(folder / name, staging / below)


def of_a_run(name: str, run: str, where: str) -> str:
    """Where a file of an exported run belongs below results; '' of load.py and the like.

    Raises: BadInput for evidence that no run has.
    """
    file = name.removeprefix("evidence/")
    if name == file and name not in contents.WEIGHTS:
        return ""
    if not contents.is_of_a_run(file):
        raise BadInput(f"{where} holds {name[:100]!r}, which no exported run has. {NOTHING}")
    return f"runs/{run}/{file}"


def settle(source: Path, staging: Path, results: Path) -> list[str]:
    """Move what is staged into its place, if every run is whole and nothing else is there."""
    runs = believed(source, staging, results)
    code = code_of_config(source, staging, runs)
    paths = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
    known = {run.name for run in runs if (results / "runs" / run.name / "run.json").exists()}
    paths = [path for path in paths if not (path.name == PACKED and run_of(path) in known)]
    check_vacant(source, staging, results, paths)
    new: dict[str, list[Path]] = {}  # run, or '' -> its files, run.json last
    for path in sorted(paths, key=lambda path: path.name == "run.json"):
        if not (results / path).exists():
            new.setdefault(run_of(path), []).append(path)
    of_grid = new.pop("", [])
    states = {run: results / "runs" / run / "state" for run in new}
    at_work = {run for run, state in states.items() if state.exists()}  # somebody may be, and then nothing is moved
    allow_open(len(at_work) + BESIDES)
    with ExitStack() as held:
        for run in at_work:
            held.enter_context(files.exclusive(states[run]))
        move(staging, results, of_grid)
        for run, mine in new.items():
            with nullcontext() if run in at_work else files.exclusive(states[run]):
                move(staging, results, mine)
    return [*described(runs, known, new, results), *foreign_code(code, results), *missing_data(runs, results)]


def allow_open(n: int) -> None:
    """Let this process have n files open at once: many systems begin with 1,024.

    Raises: BadInput if the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or n <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))
    except (ValueError, OSError) as error:
        raise BadInput(
            f"{n} files have to be open at once, and `ulimit -Hn` is {hard}. {NOTHING} Raise it, or import fewer runs."
        ) from error


def believed(source: Path, staging: Path, results: Path) -> list[Checked]:
    """The staged runs, none of which `verify` has something to say against, beside the data of `results`.

    Raises: BadInput.
    """
    catalog.learn(staging)
    names = sorted(verify.runs_below(staging / "runs")[0])
    if not names:
        raise BadInput(f"{source} holds no run. {NOTHING}")
    checker = verify.Checker(staging, full=True, prepared_in=results / "data")
    for dataset in {name.partition("/")[0] for name in names}:  # not in full: nothing is put among them
        checker.data[dataset] = verify.read_prepared(results / f"data/{dataset}.safetensors", full=False)
    runs = [checker.check(name) for name in names]
    for run, wrong in [*verify.among_neighbours(runs)]:
        run.wrong("run.json", wrong, "train")
    for problem in (problem for run in runs for problem in run.problems):
        other = "other data" in problem.rule
        way_out = "Name another --results, whose data they are" if other else contents.AGAIN
        found = "".join(sign if sign.isprintable() else "?" for sign in problem.found[:200])
        raise BadInput(f"{source}: {problem.run}/{problem.file} {problem.rule} ({found}). {NOTHING} {way_out}.")
    for run in runs:
        if run.unverified:
            raise BadInput(f"{source}: {run.name} is unverified: {'; '.join(run.unverified)}. {NOTHING}")
    check_nothing_else(source, staging, runs)
    return runs


def code_of_config(source: Path, staging: Path, runs: list[Checked]) -> list[str]:
    """The modules that the staged config would import to build networks or read data sets, as it names them.

    Raises: BadInput if it is no config, or does not name all of the runs: later verbs would take it at its word.
    """
    path = staging / "config.json"
    if not path.exists():
        return []
    try:
        config = load_config([path])
    except BadInput as error:
        what = str(error).removeprefix(f"{path}, ").replace(str(path), path.name)
        raise BadInput(f"{source}: results/config.json is no config that can be taken: {what}. {NOTHING}") from error
    named = {spec.name for spec in every_run(config)}
    if others := [run.name for run in runs if run.name not in named]:
        raise BadInput(f"{source}: results/config.json is of another grid: it does not name {others[0]}. {NOTHING}")
    doors = [*config["models"].values(), *(one.door for one in external.of_config(config))]
    said = [door.get("factory") for door in doors] + [
        one.get("reader") for one in (config.get("datasets") or {}).values()
    ]
    return sorted({code.partition(":")[0] for code in said if code})


def check_nothing_else(source: Path, staging: Path, runs: list[Checked]) -> None:
    """Raises: BadInput for a file that belongs to no run that was checked, or that nothing of its run names."""
    proven = {run.name: {PACKED, *contents.evidence(staging, run, with_weights=True)} for run in runs}
    for path in (path.relative_to(staging) for path in staging.glob("runs/**/*") if path.is_file()):
        if "/".join(path.parts[7:]) not in proven.get(run_of(path), ()):
            raise BadInput(f"{source}: nothing in it proves {path}. {NOTHING} {contents.AGAIN}.")


def run_of(path: Path) -> str:
    """The run that a path below results belongs to, or ''."""
    return "/".join(path.parts[1:7]) if path.parts[0] == "runs" else ""


def check_vacant(source: Path, staging: Path, results: Path, paths: list[Path]) -> None:
    """Raises: BadInput if a file is there with another content, or a training of that name is not finished."""
    for path in sorted(paths, key=lambda path: path.name != "run.json"):
        there, run = results / path, run_of(path)
        rows = path.with_suffix(".csv") if path.parent.name == "eval" else path  # the same verdicts, at another time
        if os.path.lexists(there) and not same(staging / path, there) and not same(staging / rows, results / rows):
            what = "another run has that name" if path.name == "run.json" else "it was made otherwise, or is damaged"
            raise BadInput(
                f"{there} is there, with another content than in {source}: {what if run else 'it is of another grid'}. "
                f"{NOTHING} Name another --results, or move what is there away."
            )
        begun = results / "runs" / run / "state/state.safetensors"
        if run and begun.exists() and not (results / "runs" / run / "run.json").exists():
            raise BadInput(f"{results / 'runs' / run} has a training that is not finished. {NOTHING} Move it away.")


def same(one: Path, other: Path) -> bool:
    """Whether both are files, with the same content."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def move(staging: Path, results: Path, paths: list[Path]) -> None:
    """Into their places, in this order; copied where a link leads to another disk.

    Raises: BadInput if one cannot be written.
    """
    for path in paths:
        try:
            (results / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                (staging / path).replace(results / path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with files.atomic(results / path) as partial:
                    contents.copy(staging / path, partial)
        except OSError as error:
            raise files.unwritable(str(results / path), error.errno) from error


def described(runs: list[Checked], known: set[str], new: dict[str, list[Path]], results: Path) -> list[str]:
    """A line for each of few runs, or for all. known: those that were there; new: the files that runs got."""
    if len(runs) > FEW:
        n, more = len(new.keys() - known), len(new.keys() & known)
        got = f", of which {more} got files that they lacked" if more else ""
        return [f"{n} runs are now in {results}; {len(known)} were there already{got}"]
    lines = []
    for run in runs:
        added = ", ".join(path.name for path in new.get(run.name, []))
        there = f"is there already, and got {added}" if added else "is there already"
        lines.append(f"{run.name}: {there if run.name in known else f'is now in {results}'}")
    return lines


def foreign_code(modules: list[str], results: Path) -> list[str]:
    """What is to be known before a verb takes the config that came along."""
    if not modules:
        return []
    return [f"{results / 'config.json'} names code that `check`, `evaluate` and others import: {', '.join(modules)}"]


def missing_data(runs: list[Checked], results: Path) -> list[str]:
    """A sentence for each data set that is not prepared there."""
    datasets = sorted({run.name.partition("/")[0] for run in runs})
    absent = [name for name in datasets if not (results / f"data/{name}.safetensors").exists()]
    return [card.how_to_get(name, results) for name in absent]
