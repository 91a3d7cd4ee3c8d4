"""Stages of the suite, run in processes of their own that a fault befalls, and what they leave.

A process is forked from one that has everything imported, so that a stage takes as long as its work. It works in a
folder (`results` and `figures` are below it), and its file events there are counted: what opens, renames, removes or
makes something. A fault comes at one of them, or after a time.
"""

import csv
import errno
import functools
import gc
import importlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter as Counted
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import load_config, overlay
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec

NAME = "digits/preact_tiny/eps51/atas/paper/seed0"
OTHER = "digits/preact_tiny/eps51/fgsm_rs/paper/seed0"
EVERY = {
    "epochs": 3,
    "n_train": 300,
    "n_test": 20,
    "batch_size": 32,
    "monitor_images": 20,
    "pad": 1,
    "numerics": "native",
}
EVERY |= {"hold_out": 0.1}  # so that there is a best epoch
SUBAT = {"params": {"sampling_epochs": 1, "n_components": 2}}  # else its first phase alone is longer than three epochs
CONFIG = {
    "grid": [{"dataset": "digits", "model": "preact_tiny", "eps": "51/255", "method": ["fgsm_rs", "atas"], "seed": 0}],
    "extra_grid": [], "numerics": "native", "table1_eps": {"digits": "51/255"},
    "recipes": {"digits": {"every": EVERY}},
    "evaluation": {"batch_size": 20, "pgd_restarts": 1, "autoattack": {"n_images": 6, "batch_size": 2}},
}  # fmt: skip
EVERYTHING = (
    "fastat.training.run", "fastat.evaluation.run", "fastat.data.sources", "fastat.report.tidy", "fastat.report.claims",
    "fastat.report.figure_data", "fastat.report.tables", "fastat.report.verdicts", "fastat.report.figures",
    "fastat.report.page", "fastat.report.status", "fastat.exchange.archive", "sklearn.datasets", "scipy.stats",
    "tabulate", "torch._dynamo", "sklearn.metrics",
)  # fmt: skip
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
TRIED: Counted[tuple[str, str]] = Counted()  # (fault, stage) -> how often
EVENTS_OF: dict[str, int] = {}
LIMIT = 300  # seconds after which a process is thought to hang


def train(name: str = NAME) -> list[str]:
    spec = RunSpec.parse(name)
    if spec.method in CONFIG["grid"][0]["method"]:
        recipe = resolve(spec, overlay(load_config(), {"recipes": CONFIG["recipes"]})).to_json()
    else:  # whose schedules may be of more epochs
        said = json.loads(resolve(spec, load_config()).to_json()) | EVERY | {"schedule": {"kind": "triangular"}}
        said["params"] |= SUBAT["params"] if spec.method == "subat" else {}
        recipe = json.dumps({key: value for key, value in said.items() if key != "weight_decay_epochs"})
    return ["train", "--run", name, "--recipe", recipe, "--threads", "1"]


def evaluate(suite: str, name: str = NAME) -> list[str]:
    protocol = {**load_config()["evaluation"], **CONFIG["evaluation"], "numerics": "native"}
    return ["evaluate", "--run", name, "--suite", suite, "--protocol", json.dumps(protocol), "--threads", "1"]


CONFIGURED = ["--configfile", "config.json"]
STAGES = {  # in order; what each writes, which is removed before it is tried, is in WRITES
    "data": ["data", "--dataset", "digits"],
    "train": train(),
    "whitebox": evaluate("whitebox"),
    "autoattack": evaluate("autoattack"),
    "tidy": ["tidy", "--out", "results", *CONFIGURED],
    "figure-data": ["figure-data", *CONFIGURED],
    "judge": ["judge", *CONFIGURED],
    "draw": ["draw", "--only", "curves", "fig07"],
    "page": ["page"],
    "export": ["export", "--all", "--out", "archive.tar"],
}
RUN = f"results/runs/{NAME}"
FILES = ("weights.safetensors", "best.safetensors", "instances.safetensors")
WRITES = {
    "data": ["results/data/digits.safetensors"],
    "train": [f"{RUN}/{name}" for name in ("run.json", "log.csv", *FILES)],
    "whitebox": [f"{RUN}/eval/{name}" for name in ("whitebox.csv", "whitebox.json", "surfaces.csv", "steps.csv")],
    "autoattack": [f"{RUN}/eval/autoattack.csv", f"{RUN}/eval/autoattack.json", f"{RUN}/state"],
    "tidy": [f"results/{name}" for name in ("measured.csv", "correct.csv", "evidence.jsonl", "problems.csv")],
    "figure-data": ["results/figures"],
    "judge": [
        "results/tables",
        "results/verdicts.csv",
        "results/claims.csv",
        "results/pairs.csv",
        "results/sanity.csv",
    ],
    "draw": ["figures"],
    "page": ["results/report"],
    "export": ["archive.tar"],
}


@dataclass
class Ended:
    """How a process ended: its exit code (-n: by signal n), what it said, and how many file events it had."""

    code: int
    said: str
    events: int


class Process:
    """A stage that has begun in `folder`, in a process that `fault(counter, *args)` prepared."""

    def __init__(self, folder: Path, argv: list[str], fault: Callable[..., None] | None = None, *args: object):
        self.said = Path(tempfile.mkdtemp(dir=words())) / "said"
        self.said.touch()
        request = {"folder": str(folder), "argv": argv, "said": str(self.said), "args": args}
        self.pid = int(ask({**request, "fault": fault and fault.__name__}))

    def send(self, sign: int) -> None:
        os.kill(self.pid, sign)

    def wait(self) -> Ended:
        """Its end; one that hangs is killed."""
        alarm = threading.Timer(LIMIT, self.send, [signal.SIGKILL])
        alarm.daemon = True
        alarm.start()
        code = os.waitstatus_to_exitcode(int(ask({"wait": self.pid})))
        alarm.cancel()
        events, said = self.said.with_name("events"), self.said.read_text(errors="replace")
        return Ended(code, said, int(events.read_text()) if events.exists() else 0)


def run(folder: Path, argv: list[str], fault: Callable[..., None] | None = None, *args: object) -> Ended:
    """Run a stage in `folder` to its end."""
    return Process(folder, argv, fault, *args).wait()


@functools.cache
def server() -> subprocess.Popen:
    """The process that the others are forked from: it has imported everything, and differentiated nothing."""
    command = [sys.executable, "-m", "tests.faults.harness"]
    found = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return found


@functools.cache
def words() -> Path:
    """A folder for what processes say: no fault befalls it."""
    return Path(tempfile.mkdtemp(prefix="fastat-faults-"))


def close() -> None:
    """End it, and forget what was said."""
    shutil.rmtree(words())
    words.cache_clear()
    if server.cache_info().currsize:
        server().communicate()
        server.cache_clear()


def ask(request: dict[str, object]) -> str:
    """What the server answers."""
    pipes = server()
    assert pipes.stdin and pipes.stdout
    pipes.stdin.write(json.dumps(request) + "\n")
    pipes.stdin.flush()
    return pipes.stdout.readline()


def serve() -> None:
    """Fork a process for each line of input that has a stage, and wait for that of a line that says so."""
    for module in EVERYTHING:
        importlib.import_module(module)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitpid(request["wait"], 0)[1]
        elif not (answer := os.fork()):
            fault = globals()[request["fault"]] if request["fault"] else None
            inside(Path(request["folder"]), Path(request["said"]), request["argv"], fault, request["args"])
        print(answer, flush=True)


def inside(
    folder: Path, said: Path, argv: list[str], fault: Callable[..., None] | None, args: list[object]
) -> NoReturn:
    """The process itself."""
    os.chdir(folder)
    for descriptor in (1, 2):
        os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), descriptor)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started under
    counter, code = Counter(), 1
    try:
        if fault:
            fault(counter, *args)
        sys.addaudithook(counter)
        code = main(argv)
    except SystemExit as error:
        code = int(str(error.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        counter.done = True
        if counter.heard is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            said.write_bytes(os.read(counter.heard, 1 << 16))
        said.with_name("events").write_text(str(counter.events))
        os._exit(code)


class Counter:
    """Counts file events in the current folder, and does `act` at the one that is asked for."""

    def __init__(self) -> None:
        self.events, self.at, self.done, self.writes = 0, 0, False, False
        self.heard: int | None = None  # a pipe that holds what the process says, where it may not write
        self.act: Callable[[], None] = lambda: None
        self.here = os.getcwd()

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event not in EVENTS or self.done or not isinstance(args[0], str | os.PathLike):
            return
        path = os.path.join(self.here, os.fspath(args[0]))  # type: ignore[type-var]
        if not str(path).startswith(self.here) or (self.writes and not changes(event, args)):
            return
        self.events += 1
        if self.events == self.at:
            self.act()


def changes(event: str, args: tuple[object, ...]) -> bool:
    """Whether it may change a file: all but a file that is opened to be read, or removed."""
    return event != "os.remove" and (event != "open" or bool(int(str(args[2])) & (os.O_WRONLY | os.O_RDWR)))


def signalled(counter: Counter, sign: int, at: int) -> None:
    """The process is sent a signal at an event."""
    counter.at, counter.act = at, lambda: os.kill(os.getpid(), sign)


def ignored(counter: Counter, sign: int, at: int) -> None:
    """Likewise, and it was started so that it does not hear it."""
    signal.signal(sign, signal.SIG_IGN)
    signalled(counter, sign, at)


def refused(counter: Counter, error: str, at: int) -> None:
    """From the at-th file on that it opens to write, makes or renames, all are refused."""
    number = getattr(errno, error)

    def refuse() -> None:
        counter.at += 1  # and the next
        raise OSError(number, os.strerror(number))

    counter.writes, counter.at, counter.act = True, at, refuse


def small_files(counter: Counter, size: int) -> None:
    """No file may grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    counter.heard, mouth = os.pipe()
    for descriptor in (1, 2):
        os.dup2(mouth, descriptor)
    os.write(mouth, b" ")  # so that there is something to read


def little_memory(counter: Counter, megabytes: int) -> None:
    """No more address space than it has, and so much."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def clock_set_back(counter: Counter, seconds: float, at: int) -> None:
    """The wall clock shows another time from an event on."""
    real = time.time
    counter.at, counter.act = at, lambda: setattr(time, "time", lambda: real() - seconds)


def world(folder: Path) -> Path:
    """All stages, undisturbed, of two runs; EVENTS_OF learns how many file events each has."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(overlay(load_config(), CONFIG)))
    for stage, argv in STAGES.items():
        done = run(folder, argv)
        assert done.code == 0, f"{stage}: {done.said}"
        EVENTS_OF[stage] = done.events
        if stage == "train":
            assert run(folder, train(OTHER)).code == 0
        if stage == "autoattack":
            assert run(folder, evaluate("all", OTHER)).code == 0
    return folder


def before(stage: str, whole: Path, folder: Path) -> Path:
    """A copy of the folder in which all is done, as it was before a stage; what follows stays."""
    shutil.copytree(whole, folder, symlinks=True)
    for name in WRITES[stage]:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def stopped_at(stage: str, share: float, whole: Path, folder: Path) -> Path:
    """A copy in which the stage was killed at a share of its file events."""
    at = round(share * EVENTS_OF[stage])
    assert run(before(stage, whole, folder), STAGES[stage], signalled, signal.SIGKILL, at).code == -signal.SIGKILL
    return folder


CLOCK = ("seconds", "images_per_s", "peak_memory_mb")  # columns that no two runs share
TIMED = ("train_seconds", "peak_memory_mb", "seconds", "seal", "files", "machine", "git_commit")
PASSING = ("state", ".hashes.json")  # parts of a path that say nothing of results


def content(folder: Path, below: str = "") -> dict[str, bytes]:
    """Path -> the bytes of every result below a folder; of log.csv, run.json and eval/*.json what no clock decides."""
    found = {}
    for path in sorted((folder / below).rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not {*parts} & {*PASSING}:
            found["/".join(parts)] = timeless(path, parts)
    return found


def timeless(path: Path, parts: tuple[str, ...]) -> bytes:
    if path.name == "log.csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return json.dumps([{key: row[key] for key in row if key not in CLOCK} for row in rows]).encode()
    if path.name == "run.json" or (parts[-2:-1] == ("eval",) and path.suffix == ".json"):
        about = json.loads(path.read_text())
        return json.dumps({key: about[key] for key in about if key not in TIMED}, sort_keys=True).encode()
    return path.read_bytes()


def leftovers(folder: Path) -> list[str]:
    """Unfinished files that nobody removed."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*.part")]


if __name__ == "__main__":
    serve()
