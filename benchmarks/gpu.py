"""What does a GPU say? Every method's contract, the cost of its step, and robust networks of CIFAR10's images.

    python benchmarks/gpu.py --out FOLDER --images cifar10-jpeg.tar.gz [--stage contract,resume,step,replay,graph]
    python benchmarks/gpu.py --out FOLDER --images cifar10-jpeg.tar.gz --stage train --precision bf16

Stages, each with its own time limit and its own table in FOLDER; what is in a table already is not measured again:

contract  tests/methods/test_contract.py on the device; no step may wait for it
resume    one training undisturbed, twice, and one that is stopped and goes on: are the weights' bits the same?
step      milliseconds of every method's step and of its irreducible passes (fastat/cost/yardstick.py), by precision,
          and how far the precision turns the input gradient
replay    a small training by every method, with CUDA graphs and without, stopped and resumed: are the bits the same?
graph     the whole step as one CUDA graph, optimiser and all
compile   the network by torch.compile
train     ATAS alone; then the others, some at a time: trained, attacked by PGD10 and PGD50, some by AutoAttack

--tiny rehearses all of it on a CPU. It needs neither network nor Snakemake. The tar holds train/CLASS/*.jpg and
test/CLASS/*.jpg.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import torch
import yaml

import methods
from fastat.attacks import input_gradient
from fastat.cost.yardstick import rehearsal, step_and_passes
from fastat.machine import devices
from fastat.networks import models

STAGES = ("contract", "resume", "step", "replay", "graph", "compile", "train")
SECONDS = {"contract": 150, "resume": 120, "step": 150, "replay": 180, "graph": 90, "compile": 180, "train": 480}
PRECISIONS = ("float32", "tf32", "bf16")
KERNELS = ("repeatable", "any", "tried", "nchw")
DATASET = "cifar10_jpeg"
# eps, method, attacked by AutoAttack: in the order of what is wanted most. The first is trained alone, for its time.
WANTED = (
    (8, "atas", True), (16, "fgsm_rs", False), (16, "atas", False), (8, "fgsm_rs", True),
    (8, "n_fgsm", False), (8, "atas/bf16", False), (8, "atta", False), (8, "fgsm_pgi", False),
)  # fmt: skip

REPLAYED = (
    "method", "precision", "graphs", "weights", "same_weights", "same_log", "same_instances", "stopped",
    "same_resumed", "plain_s", "graph_s", "batches", "recording_ms", "plain_mb", "graph_mb", "plain_reserved_mb",
    "graph_reserved_mb", "why",
)  # fmt: skip
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from Python 3.11.4 on
OWN = {"atas/bf16": {"precision": "bf16"}}


@dataclass
class Bench:
    """What was asked for."""

    out: Path
    images: Path
    device: str
    tiny: bool
    precision: str
    methods: list[str]
    precisions: list[str]
    at_once: int
    n_autoattack: int
    ends: float = field(default=0.0)  # of the stage, by time.monotonic()

    @property
    def left(self) -> float:
        """Seconds of the stage's time."""
        return self.ends - time.monotonic()

    @property
    def model(self) -> str:
        """The network of the trainings."""
        return "preact_tiny_s2" if self.tiny else "preact_resnet18"


def main() -> None:
    """Run the stages, one after the other, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for tables, logs and runs")
    parser.add_argument("--images", type=Path, required=True, help="CIFAR10's images as JPEG files in one tar")
    parser.add_argument(
        "--stage",
        default=",".join(STAGES),
        help="a list with commas (default: all); A+B: at once",
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, help="for each stage (default: of its own)")
    parser.add_argument("--precision", default="", help="of the trainings (default: the fastest that step found equal)")
    parser.add_argument(
        "--methods", default=",".join(methods.names()), help="for step, replay and graph; a list with commas"
    )
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="for step, graph and compile")
    parser.add_argument("--at-once", type=int, default=1, help="trainings and attacks on the device at a time")
    parser.add_argument("--n-autoattack", type=int, default=1000, help="test images for AutoAttack")
    parser.add_argument("--tiny", action="store_true", help="a small network, few images and epochs: a rehearsal")
    args = parser.parse_args()
    bench = Bench(
        args.out.resolve(), args.images.resolve(), args.device, args.tiny, args.precision, args.methods.split(","),
        args.precisions.split(","), args.at_once, args.n_autoattack,
    )  # fmt: skip
    bench.out.mkdir(parents=True, exist_ok=True)
    (bench.out / "about.json").write_text(json.dumps(about(args.device), indent=1) + "\n")
    for group in args.stage.split(","):
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(stage, bench, args.seconds), group.split("+")))
    summary = summed_up(bench)
    (bench.out / "summary.md").write_text(summary)
    print(summary)


def stage(bench: Bench, seconds: float | None, name: str) -> None:
    """One stage, whose failure is no other's."""
    started = time.monotonic()
    print(f"== {name}", flush=True)
    try:
        RUN[name](replace(bench, ends=started + (seconds or SECONDS[name])))
    except Exception as error:  # whatever it is: no minute of a device is lost to one stage
        print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
        write_rows(bench.out / "failed.csv", [{"stage": name, "error": first_line(error)}])
    write_rows(bench.out / "stages.csv", [{"stage": name, "seconds": round(time.monotonic() - started, 1)}])


def about(device: str) -> dict[str, object]:
    """What the numbers hang on."""
    on_gpu = device == "cuda"
    driver = said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if on_gpu else ""
    return {
        "device": devices.name(torch.device(device, 0) if on_gpu else torch.device(device)),
        "driver": driver,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "commit": said("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
    }


def said(*command: str) -> str:
    """What a command prints, or ''."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


# ---- contract and resume


def contract(bench: Bench) -> None:
    """The contract suite as a process of its own: a row for each test of each method."""
    found = bench.out / "contract.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",
        "tests/methods/test_contract.py",
    ]
    command += ["-n", str(min(8, os.cpu_count() or 1)), f"--junitxml={found}"]
    if bench.tiny:
        command += ["-k", "clean"]
    run(command, bench, "contract", {"FASTAT_TEST_DEVICE": bench.device})
    rows = []
    for case in ET.parse(found).iter("testcase"):
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        outcome = "failed" if bad is not None else "skipped" if case.find("skipped") is not None else "passed"
        why = "" if bad is None else first_line(bad.get("message") or "")
        rows.append({"test": case.get("name"), "outcome": outcome, "seconds": case.get("time"), "why": why})
    (bench.out / "contract.csv").unlink(missing_ok=True)
    write_rows(bench.out / "contract.csv", rows, shown=False)


def resume(bench: Bench) -> None:
    """Two undisturbed trainings and one that SIGTERM stops in its second epoch and that goes on."""
    unpacked = unpack(bench)
    every: dict[str, Any] = {
        "precision": bench.precision or "tf32",
        "n_train": 400 if bench.tiny else 20_000,
        "epochs": 3,
    }
    every |= {"schedule": {"kind": "triangular", "lr": 0.1}, "monitor_images": 32, "n_test": 50 if bench.tiny else 1000}
    name = f"{DATASET}/{bench.model}/eps8/atas/paper/seed0"

    def training(label: str, stops: bool) -> str:
        results = bench.out / "resume" / label
        config = written(bench.out / f"resume-{label}.yaml", bench, unpacked, every, ["atas"], 8)
        prepared(bench, results, config)
        state, weights = (results / "runs" / name / part for part in ("state/state.safetensors", "weights.safetensors"))
        command = fastat("train", config, "--run", name, "--results", str(results), "--device", bench.device)
        if stops:
            with open(bench.out / "resume-stopped.log", "w", encoding="utf-8") as log:
                process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
                while process.poll() is None and not state.exists() and bench.left > 0:
                    time.sleep(0.05)
                time.sleep(0.3)
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)
        run(command, bench, f"resume-{label}")
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    prepared(bench, bench.out / "results", written(bench.out / "data.yaml", bench, unpacked, every, ["atas"], 8))
    with ThreadPoolExecutor(3) as pool:
        labels = {"once": False, "again": False, "stopped": True}
        found = dict(zip(labels, pool.map(training, labels, labels.values()), strict=True))
    stopped = "saved at epoch" in (bench.out / "resume-stopped.log").read_text()
    rows = [{"training": key, "precision": every["precision"], "weights": value[:16]} for key, value in found.items()]
    rows.append({"training": "stopped in the middle", "precision": every["precision"], "weights": str(stopped)})
    write_rows(bench.out / "resume.csv", rows)


# ---- steps


def step(bench: Bench) -> None:
    """Every method's step and passes, and how far from float32 the input gradient is."""
    for precision in bench.precisions:
        if not done(bench.out / "gradient.csv", {"precision": precision}):
            write_rows(bench.out / "gradient.csv", [gradient_error(bench, precision)])
    wanted = [*itertools.product(("atas",), bench.precisions, KERNELS)]
    wanted += [*itertools.product(bench.methods, bench.precisions, KERNELS[:1])]
    timed(bench, *wanted[0])  # a card that was idle is slow at first
    for key in (dict(zip(("method", "precision", "kernels"), one, strict=True)) for one in wanted):
        if bench.left > 0 and not done(bench.out / "step.csv", key):
            write_rows(bench.out / "step.csv", [key | timed(bench, **key)])


def timed(bench: Bench, method: str, precision: str, kernels: str) -> dict[str, object]:
    """Milliseconds, and the most memory.

    kernels: cuDNN's repeatable ones, as fastat takes them; any; the fastest of a trial; the repeatable ones for NCHW.
    """
    devices.set_precision(precision)
    cudnn = torch.backends.cudnn
    cudnn.deterministic, cudnn.benchmark = kernels in ("repeatable", "nchw"), kernels == "tried"
    layout = torch.contiguous_format if kernels == "nchw" else torch.channels_last
    one, passes = step_and_passes(bench.model, method, 128, bench.device, layout)
    reset_memory(bench)
    took = alternately(bench, precision, {"step": one, "passes": passes})
    cudnn.benchmark = False
    times = {f"{name}_ms": round(1000 * seconds, 3) for name, seconds in took.items()}
    return {
        **times,
        "ratio": round(took["step"] / took["passes"], 3),
        "images_per_s": round(128 / took["step"]),
        "memory_mb": most_memory(bench),
    }


def alternately(bench: Bench, precision: str, steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of a call, the device never waited for inside a burst of calls; medians of bursts that take turns."""
    calls, bursts = (2, 2) if bench.tiny else (6, 3)
    took: dict[str, list[float]] = {name: [] for name in steps}
    for burst, (name, call) in itertools.product(range(bursts + 1), steps.items()):
        wait(bench)
        started = time.perf_counter()
        for _ in range(calls):
            with devices.autocast(torch.device(bench.device), precision):
                call()
        wait(bench)
        if burst:  # the first warms up
            took[name].append((time.perf_counter() - started) / calls)
    return {name: statistics.median(values) for name, values in took.items()}


def gradient_error(bench: Bench, precision: str) -> dict[str, object]:
    """Against float64: the relative error of the input gradient and the share of its signs that turn."""
    torch.manual_seed(0)
    model = models.build(bench.model, 3, 10).to(bench.device).eval()
    x = torch.rand((128, 3, 32, 32), device=bench.device)
    y = torch.arange(128, device=bench.device) % 10
    devices.set_precision(precision)
    with devices.autocast(torch.device(bench.device), precision):
        found = input_gradient(model, x, y).double()
    exact = input_gradient(model.double(), x.double(), y)
    error, turned = (found - exact).norm() / exact.norm(), (found.sign() != exact.sign()).double().mean()
    return {"precision": precision, "relative_error": float(f"{error:.3g}"), "signs_turned": float(f"{turned:.3g}")}


def replay(bench: Bench) -> None:
    """benchmarks/replay.py for all methods at once: what is timed has the device to itself."""
    keys = [{"method": name, "precision": bench.precision or "tf32"} for name in bench.methods]

    def one(key: dict[str, str]) -> dict[str, object]:
        command = [sys.executable, "benchmarks/replay.py", "--lock", str(bench.out / "replay.lock")]
        command += ["--device", bench.device, "--method", key["method"], "--precision", key["precision"]]
        command += ["--model", bench.model, "--images", str(1300 if bench.tiny else 2000)]
        try:
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(bench.left, 1))
        except subprocess.TimeoutExpired:
            return {**key, "why": "no time was left"}
        (bench.out / f"replay-{key['method']}-{key['precision']}.log").write_text(ran.stderr, encoding="utf-8")
        if ran.returncode:
            return {**key, "why": first_line((ran.stderr.strip().splitlines() or [""])[-1])}
        return {**json.loads(ran.stdout), "why": ""}

    with ThreadPoolExecutor(2 if bench.tiny else 17) as pool:
        wanted = [key for key in keys if not done(bench.out / "replay.csv", key | {"why": ""})]
        for job in [pool.submit(one, key) for key in wanted]:
            row = job.result()
            write_rows(bench.out / "replay.csv", [{column: row.get(column, "") for column in REPLAYED}])


def graph(bench: Bench) -> None:
    """The whole step captured once and replayed: what no Python, and no launch, could be faster than."""
    for precision, name in itertools.product(reversed(bench.precisions), bench.methods):
        key = {"method": name, "precision": precision}
        if bench.left > 0 and not done(bench.out / "graph.csv", key):
            try:
                row: dict[str, object] = captured(bench, name, precision)
            except Exception as error:  # whatever a capture may refuse
                row = {"graph_ms": "", "images_per_s": "", "why": first_line(error)}
            write_rows(bench.out / "graph.csv", [key | row])


def captured(bench: Bench, name: str, precision: str) -> dict[str, object]:
    """Milliseconds of a replay."""
    if bench.device != "cuda":
        return {"graph_ms": "", "images_per_s": "", "why": "a CPU has no CUDA graphs"}
    devices.set_precision(precision)
    one = rehearsal(bench.model, name, 128, bench.device)
    step = one.step()

    def once() -> None:
        with devices.autocast(torch.device("cuda"), precision):
            step()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(4):
            once()
    torch.cuda.synchronize()
    replayed = torch.cuda.CUDAGraph()
    replayed.register_generator_state(one.method.task.rng)
    with torch.cuda.graph(replayed):
        once()
    took = alternately(bench, "float32", {"graph": replayed.replay})["graph"]
    return {"graph_ms": round(1000 * took, 3), "images_per_s": round(128 / took), "why": ""}


def compile_network(bench: Bench) -> None:
    """ATAS's step with its network compiled, as the recipe's `compile` does it, and the seconds that compiling took."""
    for precision, how in itertools.product(reversed(bench.precisions), devices.COMPILERS):
        key = {"method": "atas", "precision": precision, "compile": how}
        if bench.left <= 0 or done(bench.out / "compile.csv", key) or (precision == "float32" and not bench.tiny):
            continue
        torch.compiler.reset()
        devices.set_precision(precision)
        one = rehearsal(bench.model, "atas", 128, bench.device)
        started = time.perf_counter()
        with devices.autocast(torch.device(bench.device), precision):
            outcome = devices.compile_model(one.model, how, torch.zeros_like(one.batch.x))
            one.step()()
        wait(bench)
        seconds = time.perf_counter() - started
        took = alternately(bench, precision, {"step": one.step()})["step"]
        row = {"outcome": outcome, "compile_s": round(seconds, 1), "step_ms": round(1000 * took, 3)}
        write_rows(bench.out / "compile.csv", [key | row])


# ---- trainings


def train(bench: Bench) -> None:
    """ATAS at 8/255 alone on the device; then the rest of WANTED, `at_once` at a time, in that order."""
    unpacked, results = unpack(bench), bench.out / "results"
    every: dict[str, object] = {"precision": bench.precision or fastest_equal(bench)}
    if bench.tiny:
        every |= {"n_train": 320, "n_test": 40, "epochs": 1, "schedule": {"kind": "triangular", "lr": 0.1}}
        every |= {"monitor_images": 32}
    methods_by_eps = {eps: sorted({method for radius, method, _ in WANTED if radius == eps}) for eps in (16, 8)}
    config = written(bench.out / "gpu.yaml", bench, unpacked, every, *itertools.chain(*methods_by_eps.items()))
    prepared(bench, results, config)

    def trained(eps: int, method: str) -> None:
        work("train", eps, method)

    def attacked(eps: int, method: str, autoattack: bool) -> None:
        for suite in ("whitebox", "autoattack")[: 1 + autoattack]:
            work("evaluate", eps, method, "--suite", suite)

    def work(verb: str, eps: int, method: str, *options: str) -> None:
        where = ("--run", run_name(bench, eps, method), "--results", str(results), "--device", bench.device)
        run(fastat(verb, config, *where, *options), bench, "-".join((verb, f"eps{eps}", method.replace("/", "-"))))

    def both(eps: int, method: str, autoattack: bool) -> None:
        trained(eps, method)
        attacked(eps, method, autoattack)

    (eps, method, autoattack), *others = WANTED[:2] if bench.tiny else WANTED
    trained(eps, method)
    with ThreadPoolExecutor(bench.at_once) as pool:
        jobs = [pool.submit(attacked, eps, method, autoattack), *(pool.submit(both, *other) for other in others)]
    problems = [first_line(problem) for job in jobs if (problem := job.exception())]
    write_rows(bench.out / "train.csv", [{"problem": problem} for problem in problems])


def run_name(bench: Bench, eps: int, method: str) -> str:
    """Of a training on the JPEG copy."""
    variant = "" if "/" in method else "/paper"
    return f"{DATASET}/{bench.model}/eps{eps}/{method}{variant}/seed0"


def fastest_equal(bench: Bench) -> str:
    """The precision of the fastest step of ATAS among those that turn fewer than 1 % of the gradient's signs."""
    equal = {row["precision"] for row in read_rows(bench.out / "gradient.csv") if float(row["signs_turned"]) < 0.01}
    steps = [row for row in read_rows(bench.out / "step.csv") if row["method"] == "atas" and row["precision"] in equal]
    return min(steps, key=lambda row: float(row["step_ms"]))["precision"] if steps else "tf32"


def unpack(bench: Bench) -> Path:
    """The folder of train/CLASS/*.jpg and test/CLASS/*.jpg."""
    folder = bench.out / "images"
    if not (folder / "whole").exists():
        with tarfile.open(bench.images) as tar:
            tar.extractall(folder, **SAFELY)
        (folder / "whole").touch()
    return next(path.parent for path in sorted(folder.rglob("train")) if path.is_dir())


def prepared(bench: Bench, results: Path, config: Path) -> None:
    """The images as one file, made once and linked."""
    first, here = (folder / f"data/{DATASET}.safetensors" for folder in (bench.out / "results", results))
    if not first.exists():
        run(fastat("data", config, "--dataset", DATASET, "--out", str(first)), bench, "data")
    if not here.exists():
        here.parent.mkdir(parents=True)
        os.link(first, here)


def written(path: Path, bench: Bench, folder: Path, every: Mapping[str, Any], *blocks: Any) -> Path:
    """A config for the JPEG copy. blocks: methods and their eps, or eps and its methods, in turn."""
    grid = []
    for one, other in zip(blocks[::2], blocks[1::2], strict=True):
        eps, names = (one, other) if isinstance(one, int) else (other, one)
        grid.append({"dataset": DATASET, "model": bench.model, "eps": f"{eps}/255", "method": names, "seed": 0})
    n_images = 10 if bench.tiny else bench.n_autoattack
    config = {
        "datasets": {DATASET: {"folder": str(folder)}},
        "grid": grid,
        "recipes": {
            DATASET: {"every": every, **({"atas/bf16": {"precision": "bf16"}} if "atas/bf16" in names else {})}
        },
        "evaluation": {"autoattack": {"n_images": n_images, "batch_size": min(500, n_images)}},
        "device": bench.device,
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def fastat(verb: str, config: Path, *options: str) -> list[str]:
    """One command of the suite."""
    return [sys.executable, "-m", "fastat", verb, *options, "--configfile", str(config)]


def run(command: list[str], bench: Bench, label: str, environment: dict[str, str] | None = None) -> None:
    """A process whose words go into FOLDER/LABEL.log; at the end of the stage's time it is stopped as a job is.

    Raises: RuntimeError if it fails or was stopped.
    """
    path = bench.out / f"{label}.log"
    with open(path, "a", encoding="utf-8") as log:
        options = {"cwd": ROOT, "stdout": log, "stderr": log, "env": {**os.environ, **(environment or {})}}
        process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
        try:
            code = process.wait(timeout=max(bench.left, 0.1))
        except subprocess.TimeoutExpired:
            process.terminate()
            code = process.wait(timeout=60)
    if code and "pytest" not in command:  # a failed test is a row, not the end
        tail = path.read_text(errors="replace").strip().splitlines()[-1:] or [""]
        raise RuntimeError(f"{label}: exit {code}: {tail[0]}")


# ---- tables


def done(path: Path, key: dict[str, str]) -> bool:
    """Whether the table has such a row."""
    return any(all(row[name] == value for name, value in key.items()) for row in read_rows(path))


def read_rows(path: Path) -> list[dict[str, str]]:
    """A table's rows; none where there is no table."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], shown: bool = True) -> None:
    """Add rows to a table, and show them."""
    new = not path.exists()
    if not rows:
        return
    with open(path, "a", newline="", encoding="utf-8") as file:
        for row in rows:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
            new = False
            if shown:
                print("  ".join(f"{value}" for value in row.values()), flush=True)


def first_line(error: object) -> str:
    """Of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def wait(bench: Bench) -> None:
    """For the device."""
    if bench.device == "cuda":
        torch.cuda.synchronize()


def reset_memory(bench: Bench) -> None:
    """Count the most memory from here on."""
    if bench.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def most_memory(bench: Bench) -> float | str:
    """MB on the device since `reset_memory`; '' on a CPU."""
    return round(torch.cuda.max_memory_allocated() / 1e6) if bench.device == "cuda" else ""


def summed_up(bench: Bench) -> str:
    """All tables, short, as Markdown."""
    lines = [f"# {json.loads((bench.out / 'about.json').read_text())['device']}", ""]
    tests = read_rows(bench.out / "contract.csv")
    counts = {kind: sum(row["outcome"] == kind for row in tests) for kind in ("passed", "failed", "skipped")}
    lines += [f"contract: {counts}", *(f"- {row['test']}: {row['why']}" for row in tests if row["outcome"] == "failed")]
    for name in ("resume", "gradient", "step", "replay", "graph", "compile", "failed", "train", "stages"):
        if rows := read_rows(bench.out / f"{name}.csv"):
            lines += ["", f"## {name}", "", " | ".join(rows[0]), *(" | ".join(row.values()) for row in rows)]
    lines += ["", "## trainings", ""]
    for path in sorted((bench.out / "results").rglob("run.json")):
        ran = json.loads(path.read_text())
        counted = accuracies(path.parent / "eval")
        spent, memory = round(ran["train_seconds"], 1), round(ran["peak_memory_mb"])
        lines.append(f"{ran['run']}: {ran['status']}, {spent} s, {memory} MB, {counted}")
    return "\n".join(lines) + "\n"


def accuracies(folder: Path) -> dict[str, float]:
    """Percent of the attacked images that each attack left right."""
    found: dict[str, list[int]] = {}
    for row in read_rows(folder / "whitebox.csv"):
        found.setdefault(row["attack"], []).append(int(row["correct"]))
    shares = {attack: round(100 * statistics.mean(right), 2) for attack, right in found.items()}
    if (sealed := folder / "autoattack.json").exists():  # each of its attacks takes what the one before left
        n = json.loads(sealed.read_text())["protocol"]["autoattack"]["n_images"]
        left = [int(row["correct"]) for row in read_rows(folder / "autoattack.csv") if row["attack"] == "square"]
        shares["aa"] = round(100 * sum(left) / n, 2)
    return shares


RUN: dict[str, Callable[[Bench], None]] = {
    "contract": contract, "resume": resume, "step": step, "replay": replay, "graph": graph,
    "compile": compile_network, "train": train,
}  # fmt: skip

if __name__ == "__main__":
    main()
