"""One method's training with and without CUDA graphs: the same bits? How long, and how much memory?

    python benchmarks/replay.py --method atas [--model preact_resnet18] [--images 2000] [--precision tf32]

Three trainings of two epochs on noise, in one process: plain; with graphs; and with graphs, stopped by SIGTERM in the
second epoch and resumed. Prints a row as JSON. With --lock many can be started at once: the first two, which are timed,
have the device to themselves.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import torch

from fastat import library
from fastat.data.datasets import Part
from fastat.training import captured, trainer

EPOCHS = 2
PARAMS = {"subat": {"sampling_epochs": 1, "per_epoch": 2, "n_components": 2}}
RECORDING: list[float] = []  # seconds that each recording took
STOP = {"in": 0}  # how many batches from now SIGTERM comes; 0: never


def main() -> None:
    """Print the method's row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--model", default="preact_resnet18")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--precision", default="tf32", choices=("float32", "tf32", "bf16"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--lock", type=Path, help="a file; the trainings wait until no other process has it")
    args = parser.parse_args()
    captured.Steps.record = timed(captured.Steps.record)  # type: ignore[method-assign]
    trainer.Totals.add = stopping(trainer.Totals.add)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, open(args.lock or Path(folder) / "lock", "wb") as lock:
        print(json.dumps(row(args, Path(folder), lock.fileno())))


def row(args: argparse.Namespace, folder: Path, lock: int) -> dict[str, Any]:
    """What the three trainings left. lock: an open file, locked alone while they are timed."""
    fcntl.flock(lock, fcntl.LOCK_SH)
    train(args, folder / "warm", "never", images=256)
    fcntl.flock(lock, fcntl.LOCK_EX)
    plain = train(args, folder / "plain", "never")
    RECORDING.clear()
    graph = train(args, folder / "graph", "auto")
    recording = [round(1000 * seconds, 1) for seconds in RECORDING]
    fcntl.flock(lock, fcntl.LOCK_SH)
    STOP["in"] = batches(args.images) + 9
    stopped = train(args, folder / "stopped", "auto")
    resumed = train(args, folder / "stopped", "auto")
    return {
        "method": args.method,
        "precision": args.precision,
        "graphs": graph["said"],
        "weights": plain["weights"][:16],
        "same_weights": plain["weights"] == graph["weights"],
        "same_log": plain["log"] == graph["log"],
        "same_instances": plain["instances"] == graph["instances"],
        "stopped": stopped["stopped"],
        "same_resumed": all(plain[key] == resumed[key] for key in ("weights", "log", "instances")),
        "plain_s": plain["seconds"],
        "graph_s": graph["seconds"],
        "batches": batches(args.images),
        "recording_ms": "+".join(str(ms) for ms in recording),
        "plain_mb": plain["mb"],
        "graph_mb": graph["mb"],
        "plain_reserved_mb": plain["reserved_mb"],
        "graph_reserved_mb": graph["reserved_mb"],
    }


def train(args: argparse.Namespace, folder: Path, graphs: str, images: int = 0) -> dict[str, Any]:
    """One training, or its continuation: hashes of what it left, the second epoch's seconds, the most memory in MB."""
    training = replace(training_of(args, images or args.images), cuda_graphs=graphs)
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        rows, _ = trainer.train(training, folder)
    except trainer.Stopped:
        return {"stopped": True}
    times = ("seconds", "images_per_s", "peak_memory_mb")
    log = [{key: value for key, value in row.items() if key not in times} for row in rows]
    on_gpu = args.device == "cuda"
    return {
        "stopped": False,
        "said": training.about.get("cuda_graphs", ""),
        "log": log,
        **{name: sha256(folder / f"{name}.safetensors") for name in ("weights", "instances")},
        "seconds": round(rows[-1]["seconds"], 4),
        "mb": round(rows[-1]["peak_memory_mb"]) if on_gpu else "",
        "reserved_mb": round(torch.cuda.max_memory_reserved() / 1e6) if on_gpu else "",
    }


def training_of(args: argparse.Namespace, n: int) -> trainer.Training:
    """The training as `fastat.train` makes it, on n images of noise in ten classes."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 10
    pixels = torch.randint(64, (n, 3, 32, 32), generator=rng, dtype=torch.uint8) + 19 * labels[:, None, None, None]
    spec = library.spec_of(args.method, "paper", None, args.model, 8 / 255, 0)
    fields: dict[str, Any] = {"batch_size": 128, "drop_last": False, "pad": 4, "flip": True, "monitor_images": 128}
    fields |= {"precision": args.precision, "weight_decay_epochs": 1, "params": PARAMS.get(args.method, {})}
    fields |= {"schedule": {"kind": "triangular", "lr": 0.1, "cycle_momentum": True}}
    recipe = library.recipe_of(spec, EPOCHS, fields)
    model, n_classes = library.network_of(args.model, spec, recipe, pixels, labels)
    part = Part(pixels.to(torch.uint8).to(args.device), labels.to(args.device), (32, 32))
    return library.training_of(spec, recipe, 8 / 255, part, n_classes, model.to(args.device))


def batches(n: int) -> int:
    """In an epoch of n images."""
    return -(-n // 128)


def timed(record: Any) -> Any:
    """Steps.record, which notes how long it took."""

    def recorded(*args: Any) -> Any:
        started = time.perf_counter()
        found = record(*args)
        RECORDING.append(time.perf_counter() - started)
        return found

    return recorded


def stopping(add: Any) -> Any:
    """Totals.add, which sends SIGTERM as STOP says."""

    def added(*args: Any) -> None:
        STOP["in"] -= 1
        if STOP["in"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        add(*args)

    return added


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
