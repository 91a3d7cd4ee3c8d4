"""How far one run is, from its files alone: nothing is written, no lock is taken, no tensor is read. No torch."""

import csv
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from safetensors import SafetensorError, safe_open

from fastat.config import external
from fastat.config.grid import (
    files_of,
    is_under_autoattack,
    n_under_autoattack,
    protocol_of,
    protocol_of_run,
    result_files,
    shard_files,
)
from fastat.config.recipe import difference, resolve
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.errors import BadInput
from fastat.machine import locks, seals

STATUSES = ("done", "running", "failed", "stopped", "waiting")
SILENCE = 600.0  # seconds without a sign of life after which a run without a lock here counts as stopped
LOGS = {"training": "train/{}.log", "attacks": "evaluate/{}-attacks.log", "probe": "evaluate/{}-probe.log"}
LOG = "evaluate/{}{}.log"  # of a job of the evaluation, which may have several
SHARD = re.compile(r"(?:best_)?shard\d+of\d+")  # a folder in state/, which holds the lock of one
LOCK = re.compile(rf"state/({SHARD.pattern}/)?lock")
SUITES = re.compile(r"eval/(best_)?(whitebox|autoattack|surfaces|steps)\.(csv|json)")
STATE, PARTIAL = "state/state.safetensors", ("state/autoattack-", "state/attack-")
TAIL = 64_000  # bytes of a log that are read
ENDED = re.compile(r"fastat [\w-]+: (.+)")  # how the command line says BadInput
AT_WORK = re.compile(r"epoch=\d+/|[\w=./+ -]+: broke \d+ of |(?:fastat )?\S+: (finished|diverged|stopped|resumed)\b")
Files = dict[str, os.stat_result]


@dataclass
class Progress:
    """How one run stands.

    done, of: epochs of the training, or images that AutoAttack is done with; 0 of 0 if there is no saying.
    seconds: what an epoch takes. held: its lock, or a shard's, is held on this machine. silent: seconds since it wrote.
    trained, evaluated: the seconds that each took, None: not there, or not as the config asks. device: what it was
    trained on. left: seconds of work to come, as far as known; unknown: the stages to come of which nothing tells how
    long they take. autoattack: whether it is evaluated by it.
    """

    run: str
    status: str = "waiting"
    stage: str = ""  # of LOGS, or evaluation; '': all is there
    diverged: bool = False
    done: int = 0
    of: int = 0
    seconds: float | None = None
    held: bool = False
    silent: float | None = None
    trained: float | None = None
    evaluated: float | None = None
    device: str = ""
    left: float = 0.0
    unknown: list[str] = field(default_factory=list)
    cause: str = ""
    log: str = ""
    autoattack: bool = True


@dataclass(frozen=True)
class Place:
    """Where and when is looked; `notes` takes what cannot be read, in sentences."""

    results: Path
    config: dict[str, Any]
    held: set[tuple[int, int]] = field(default_factory=locks.seen)
    now: float = field(default_factory=time.time)
    notes: list[str] = field(default_factory=list)


def look(spec: RunSpec, place: Place) -> Progress:
    """What the files of one run say."""
    run = Progress(spec.name, autoattack=is_under_autoattack(spec, place.config))
    folder = place.results / "runs" / spec.name
    files, wanted = there(folder, place.notes), result_files(spec, place.config)
    held = [name for name in files if LOCK.fullmatch(name) and locks.is_held(files[name], place.held)]
    missing = [name for name in wanted if name not in files]
    run.held = bool(held)
    run.stage = stage_of(missing, "state/lock" in held and STATE in files)
    if spec.method == EXTERNAL and run.stage:  # it was trained elsewhere
        run.stage = "evaluation"
    run.cause = damage(run, folder, files, wanted)
    if spec.method == EXTERNAL and not run.cause:
        run.cause = of_checkpoint(spec, folder, files, missing, place)
    durations(run, folder, files, wanted)
    if run.trained is not None and is_of_another_recipe(spec, folder, place.config):
        run.trained, run.evaluated = None, None
    if run.evaluated is not None and is_of_another_protocol(spec, folder, place.config):
        run.evaluated = None
    if run.held or run.stage:
        advance(run, spec, files, place)
    if run.held:
        run.status, run.cause = "running", ""
    elif run.cause:
        run.status, run.log = "failed", str(folder)
    elif not run.stage:
        run.status = "done"
    else:
        run.status, run.cause, run.log = standing(run, logs_of(run.stage, spec, missing, files, place), files, place)
    return run


def logs_of(stage: str, spec: RunSpec, missing: list[str], files: Files, place: Place) -> list[Path]:
    """The logs of the jobs that the stage still waits for: each makes some of the missing files."""
    if stage != "evaluation":
        return [place.results / "logs" / LOGS[stage].format(spec.name)]
    apart = "eval/autoattack" if spec.method == EXTERNAL else "eval/best_"  # what another job makes than the first
    endings = [""] if any(not name.startswith((apart, "eval/attacks")) for name in missing) else []
    for prefix in ("", "best_"):
        if any(name.startswith(f"eval/{prefix}autoattack") for name in missing):
            shards = [Path(name).stem for name in shard_files(spec, place.config, prefix)]
            endings += [f"-{shard}" for shard in shards if not is_done(shard, spec, place)]
    if any(name.startswith(apart) for name in missing):
        endings.append("-autoattack" if spec.method == EXTERNAL else "-best")
    return [place.results / "logs" / LOG.format(spec.name, ending) for ending in endings]


def is_done(shard: str, spec: RunSpec, place: Place) -> bool:
    """Whether a shard's file is there, and of the weights that run.json names."""
    folder, weights = place.results / "runs" / spec.name, "best" if shard.startswith("best_") else "weights"
    try:
        about, said = (seals.read(folder / file) for file in ("run.json", f"state/{shard}.json"))
        return bool(said["weights"] == about["files"][f"{weights}.safetensors"])
    except (BadInput, KeyError, TypeError):
        return False


def there(folder: Path, notes: list[str]) -> Files:
    """`run.json`, `eval/steps.csv`, ... -> what is known of every file in a run's folder, locks of shards too."""
    files: Files = {}
    parts = ["", "eval/", "state/"]
    for part in parts:
        try:
            with os.scandir(folder / part) as entries:
                for entry in entries:
                    if entry.is_file():
                        files[part + entry.name] = entry.stat()
                    elif part == "state/" and SHARD.fullmatch(entry.name):
                        parts.append(f"state/{entry.name}/")
        except FileNotFoundError:
            continue
        except OSError as error:
            notes.append(f"{folder / part} cannot be read: {error.strerror}.")
    return files


def stage_of(missing: list[str], trains: bool) -> str:
    """What a run without these files has to do next."""
    if trains or any("/" not in name for name in missing):
        return "training"
    if not missing:
        return ""
    if all(name.startswith("eval/surfaces_by_epoch") for name in missing):
        return "probe"
    later = ("eval/attacks", "eval/surfaces_by_epoch")
    return "attacks" if all(name.startswith(later) for name in missing) else "evaluation"


def damage(run: Progress, folder: Path, files: Files, wanted: list[str]) -> str:
    """What of the finished files cannot be, or ''; sets `diverged`."""
    for name in wanted:
        if name in files and not files[name].st_size:
            return f"{folder / name} is empty. Delete it, and it is made again"
    if "run.json" not in files:
        return ""
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        name, status = about["run"], about["status"]
        run.trained = float(about["train_seconds"]) if status != EXTERNAL else None
        run.device = str(about.get("device", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path} is damaged ({type(error).__name__}: {error}). Delete it to train again"
    if name != run.run:
        return f"{path} is of another run, {name}. Delete this folder to train again"
    run.diverged = status == "diverged"
    return ""


def of_checkpoint(spec: RunSpec, folder: Path, files: Files, missing: list[str], place: Place) -> str:
    """What there is against the file of a checkpoint: needed and gone, or another than was evaluated; ''.

    It is read only where it is younger than run.json or of another size: `verify` reads it always.
    """
    path, later = Path(external.of_spec(spec, place.config).path), ("eval/autoattack", "eval/attacks")
    if not path.is_file():
        if any(not name.startswith(later) for name in missing):
            return f"{path} is not here. Bring it, or name another one under `external` of the config"
        place.notes.append(f"{path} is not here: whether {spec.name} is of it is not known.")
        return ""
    if "run.json" not in files:
        return ""
    said, at = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("source"), path.stat()
    source = said if isinstance(said, dict) else {}
    unchanged = at.st_mtime <= files["run.json"].st_mtime and source.get("bytes", at.st_size) == at.st_size
    if unchanged or seals.sha256(path) == source.get("sha256"):
        return ""
    return (
        f"{path} is another file than was evaluated. The workflow evaluates it; by hand remove the old: rm -r {folder}"
    )


def durations(run: Progress, folder: Path, files: Files, wanted: list[str]) -> None:
    """Seconds that training and evaluation took, with the start of their processes where files show it.

    A training makes state/lock first and run.json last. An evaluation first makes eval/, the last change of the run's
    own folder; where another followed it, or files were copied, the evaluations say themselves how long they took.
    """
    if run.trained is not None and "state/lock" in files:
        run.trained = max(run.trained, files["run.json"].st_mtime - files["state/lock"].st_mtime)
    rows = [name for name in wanted if SUITES.fullmatch(name) and name.endswith(".csv")]
    if rows and not run.diverged and all(name in files for name in rows):
        took = max(files[name].st_mtime for name in rows) - folder.stat().st_mtime
        run.evaluated = took if took > 1 else said_of_evaluations(folder, files)


def is_of_another_recipe(spec: RunSpec, folder: Path, config: dict[str, Any]) -> bool:
    """Whether run.json says another recipe than the config."""
    recipe = content(folder / "run.json").get("recipe")
    return isinstance(recipe, dict) and bool(difference(recipe, json.loads(resolve(spec, config).to_json())))


def is_of_another_protocol(spec: RunSpec, folder: Path, config: dict[str, Any]) -> bool:
    """Whether an evaluation says another protocol than the config."""
    protocol = protocol_of_run(spec, config)
    for name in files_of("all" if is_under_autoattack(spec, config) else "whitebox"):
        about = content(folder / f"eval/{name}.json")
        wanted = {**protocol_of(name, protocol), "numerics": protocol["numerics"]}
        told = about.get("protocol")  # where none is said nobody can tell
        if isinstance(told, dict) and difference({**told, "numerics": about.get("numerics")}, wanted):
            return True
    return False


def content(path: Path) -> dict[str, Any]:
    """What a file of JSON says; {} where it is none."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def said_of_evaluations(folder: Path, files: Files) -> float | None:
    """The seconds that the files of the standard suites say, all together; None where one does not.

    Of several shards, or of images that were kept, a file does not know how long they took.
    """
    total = 0.0
    for name in (name for name in files if SUITES.fullmatch(name) and name.endswith(".json")):
        try:
            about = json.loads((folder / name).read_text(encoding="utf-8"))
            if about["protocol"].get("autoattack", {}).get("shards", 1) > 1:
                return None
            total += float(about["seconds"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
    return total or None


def advance(run: Progress, spec: RunSpec, files: Files, place: Place) -> None:
    """Set how far the stage is, and when it last wrote."""
    folder = place.results / "runs" / spec.name
    partials = [name for name in files if name.startswith(PARTIAL) and name.endswith(".csv")]
    signs = [STATE] if run.stage == "training" else partials
    written = [files[name].st_mtime for name in signs if name in files]
    run.silent = max(place.now - max(written), 0.0) if written else None
    try:
        if run.stage == "training" and STATE in files:
            run.of = resolve(spec, place.config).epochs
            run.done, run.seconds = epochs_done(folder / STATE)
        elif run.stage == "evaluation" and (standard := [name for name in partials if name.startswith(PARTIAL[0])]):
            run.of = n_under_autoattack(spec, place.config)
            run.done = len(set().union(*(images_done(folder / name) for name in current(standard, spec, files, place))))
    except BadInput as error:
        place.notes.append(f"{error}.")


def current(partials: list[str], spec: RunSpec, files: Files, place: Place) -> list[str]:
    """Those of AutoAttack's partial files that the evaluation at hand has: the newest, or one of each shard.

    Once the last epoch's weights are done with, those that were written since are of the best epoch's.
    """
    n = max(len(shard_files(spec, place.config)), 1)
    since = files["eval/autoattack.csv"].st_mtime if "eval/autoattack.csv" in files else 0
    written = {name: files[name].st_mtime for name in partials if files[name].st_mtime >= since}
    return sorted(written, key=lambda name: written[name])[-n:]


def epochs_done(path: Path) -> tuple[int, float | None]:
    """How many epochs a state has behind it, and what one took; from its header (fastat/training/checkpoint.py).

    Raises: BadInput, a sentence without its full stop, if it is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            standing = json.loads((file.metadata() or {})["fastat"])["standing"]
        seconds = [float(row["seconds"]) for row in standing["log"]]
        return int(standing["epoch"]) - 1, mean(seconds) if seconds else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged or no state file ({error})") from error


def images_done(path: Path) -> set[str]:
    """Which images AutoAttack is done with: they fell, or withstood `square`, its last attack.

    Raises: BadInput, a sentence without its full stop, if the file is damaged.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["attack"] != "checksum"]
        return {row["index"] for row in rows if row["correct"] == "0" or row["attack"] == "square"}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise BadInput(f"{path} is damaged ({type(error).__name__}: {error})") from error


def standing(run: Progress, logs: list[Path], files: Files, place: Place) -> tuple[str, str, str]:
    """Status, cause and its log, of a run that is not done and that nobody holds here: by the ends and ages of logs.

    It may run elsewhere: what was written within SILENCE, or within three epochs, counts as running.
    """
    ends: list[tuple[float, str]] = []  # age and last word of each log
    for log in logs:
        word, cause, age = last_word(log, place)
        if age is None:
            continue
        by_others = SHARD.search(log.name) is not None  # what was written since may be of another shard
        if word == "failed" and (by_others or run.silent is None or run.silent >= age):
            return "failed", cause, str(log)
        ends.append((age, word))
    silent = [age for age, _ in ends] + ([] if run.silent is None else [run.silent])
    run.silent = min(silent) if silent else None
    over = bool(ends) and bool(min(ends)[1])  # the newest of them says that its process ended
    if not over and run.silent is not None and run.silent < max(SILENCE, 3 * (run.seconds or 0)):
        return "running", "", ""
    begun = STATE in files if run.stage == "training" else any(name.startswith(PARTIAL) for name in files)
    return ("stopped" if begun else "waiting"), "", ""


def last_word(log: Path, place: Place) -> tuple[str, str, float | None]:
    """How a log ends: (`failed`, `stopped`, `finished`, `diverged` or ''; the cause of a failure; its age in seconds).

    Attempts follow one another in a log: only what stands below the last sign of work is looked at.
    """
    try:
        if not log.is_file():  # a pipe would keep the reader waiting
            return "", "", None
        with open(log, "rb") as file:
            about = os.fstat(file.fileno())
            file.seek(max(about.st_size - TAIL, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        place.notes.append(f"{log} cannot be read: {error.strerror}.")
        return "", "", None
    age = max(place.now - about.st_mtime, 0.0)
    at = max((number for number, line in enumerate(lines) if AT_WORK.match(line)), default=-1)
    if cause := failure(lines[at + 1 :]):
        return "failed", cause, age
    match = AT_WORK.match(lines[at]) if at >= 0 else None
    word = (match[1] or "") if match else ""
    return ("" if word == "resumed" else word), "", age


def failure(lines: list[str]) -> str:
    """Why a process ended, from its last lines: its own words, or the error below a traceback; '' if it did not."""
    own = [match[1] for line in lines if (match := ENDED.fullmatch(line))]
    if own:
        return own[-1]
    traced = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not traced:
        return ""
    errors = [line for line in lines[traced[-1] + 1 :] if line.strip() and not line.startswith(" ")]
    return errors[0] if errors and errors[0] != "KeyboardInterrupt" else ""


def strangers(place: Place, names: set[str]) -> list[str]:
    """Runs that lie there beside those called `names`. Folders that no run is named after are noted."""
    root, level = place.results / "runs", [""]
    for _ in range(6):
        level = [f"{above}/{name}".lstrip("/") for above in level for name in folders(root / above, place.notes)]
    known = []
    for name in level:
        try:
            if RunSpec.parse(name).name != name:
                raise BadInput("")
            known.append(name)
        except BadInput:
            place.notes.append(f"{root / name} is no run's folder: it is looked at by nobody.")
    return sorted(set(known) - names)


def folders(path: Path, notes: list[str]) -> list[str]:
    """The names of the folders in a folder."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"{path} cannot be read: {error.strerror}.")
        return []
