"""The training loop: one flat loop over epochs and batches for every method. It never asks which method it has."""

import logging
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from fastat.attacks import eval_mode, fgsm, pgd
from fastat.config.recipe import Recipe
from fastat.data.datasets import ImageSet, Part, TrainingStream
from fastat.data.subsets import stratified
from fastat.errors import BadInput, of_memory
from fastat.machine import devices, files, platforms, seals
from fastat.machine.processes import Processes
from fastat.machine.seeds import generator, seed_globals
from fastat.networks.models import Network
from fastat.training import captured, checkpoint
from fastat.training.checkpoint import Standing
from fastat.training.instances import Instances
from fastat.training.learner import SGDLearner
from fastat.types import Method, StepReport, Task

log = logging.getLogger(__name__)
LEFT = ("log.csv", "weights.safetensors", "instances.safetensors")  # by a training; run.json names their sha256

BEST = "best.safetensors"  # the weights of the best epoch, where images are held out
HELD_OUT = "held_out_pgd10_acc"  # the column of log.csv that says which it is
WATCHED_AT_ONCE = 512 * 3 * 32 * 32  # pixels that are attacked at once to watch a training, or 64 images


# What asks a training to stop: a scheduler, Ctrl-C, a closed terminal, Slurm's warning before the time limit.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Stopped(Exception):
    """One of STOPS came; the state is saved. code: the exit code, 128 and the signal's number."""

    def __init__(self, words: str, sign: int):
        super().__init__(words)
        self.code = 128 + sign


@dataclass
class Training:
    """Everything that one training needs, built by the caller."""

    name: str  # of the run
    seed: int
    data: ImageSet
    recipe: Recipe
    task: Task
    model: nn.Module
    method: Method
    learner: SGDLearner
    watched: Part  # training images that `monitor` takes its sample from
    held_out: Part | None  # training images that nothing is trained on: they choose the best epoch
    made_from: str  # fingerprint of name, recipe and data
    about: dict[str, Any]  # goes into run.json as it is
    snapshots: bool = False  # keep the weights of every epoch
    cuda_graphs: str = "auto"  # replay steps where that is the same: captured.py; or never

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that must survive a kill: the same for any number of processes, whole on process 0."""
        assert isinstance(self.method, nn.Module) and self.task.rng is not None
        method = self.method.state_dict()
        for key in self.sharded():
            method[key] = self.task.processes.gather(method[key])
        return {
            "model": self.model.state_dict(),
            "method": method,
            "learner": self.learner.state_dict(),
            "rng": {"method": self.task.rng.get_state()},
        }

    def sharded(self) -> list[str]:
        """The keys of the method's state that have a row per image or position in the batch."""
        assert isinstance(self.method, nn.Module)
        modules = self.method.named_modules(prefix="method")
        names = (f"{at}.{name}" for at, module in modules for name in getattr(module, "SHARDED", ()))
        return [name.removeprefix("method.") for name in names]

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of `state`."""
        assert isinstance(self.method, nn.Module) and self.task.rng is not None
        self.model.load_state_dict(state["model"])
        method = state.get("method", {})
        for key in self.sharded():
            method[key] = self.task.processes.mine(method[key])
        self.method.load_state_dict(method)
        self.learner.load_state_dict(state.get("learner", {}))
        self.task.rng.set_state(state["rng"]["method"].cpu())


def train(run: Training, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Train to the last epoch, or resume; write run.json, log.csv and weights.safetensors into `folder`.

    The state lies in `folder`/state, is replaced after every epoch and on one of STOPS, and is removed at the end.
    One that takes long to write (a gigabyte, beside epochs of seconds) is replaced more rarely: see `Saves`.
    Processes that share a run step together, and process 0 alone writes. Their state is not saved on a signal, which
    they may hear in different batches: they go on from the last epoch.
    Returns the rows of log.csv, and why training diverged, or ''.
    Raises: Stopped on one of STOPS; BadInput if another run holds the folder or the state is not this run's.
    """
    processes = run.task.processes
    with files.exclusive(folder / "state") if processes.rank == 0 else nullcontext(), stop_on_signal() as stop:
        processes.wait()
        path = folder / "state" / "state.safetensors"
        now, totals, instances, best = Standing(), Totals(run.task.device), Instances(run.task), Best()
        if path.exists():
            state, now = checkpoint.load(path, run.made_from)
            check_standing(now, run.recipe.epochs, path)
            totals.sums = {name: total.to(run.task.device) for name, total in state.pop("totals", {}).items()}
            instances.load_state_dict(state.pop("instances", {}))
            best.weights = state.pop("best", {})
            try:
                run.restore(state)
            except (RuntimeError, KeyError) as error:
                if of_memory(error):
                    raise
                cause = " ".join(str(error).split())[:300]
                raise BadInput(f"{path} is damaged: {cause}. {checkpoint.way_out(path)}") from error
            del state  # a store may be as large as what is left of the memory
            log.info("%s: resumed at epoch %d, batch %d", run.name, now.epoch, now.batch)
        elif processes.rank == 0:
            shutil.rmtree(folder / "snapshots", ignore_errors=True)  # of a training that this one replaces
        cause = run_epochs(run, now, totals, instances, best, path, stop)
        seen = instances.state_dict()
        if processes.rank == 0:
            write_results(run, now, cause, seen, best, folder)
            path.unlink(missing_ok=True)
        processes.wait()
    return now.log, cause


def train_in_memory(run: Training) -> tuple[list[dict[str, Any]], str]:
    """`train`, but nothing is written, and signals do what they always do."""
    now = Standing()
    cause = run_epochs(run, now, Totals(run.task.device), Instances(run.task), Best(), None, [])
    return now.log, cause


def check_standing(now: Standing, epochs: int, path: Path) -> None:
    """Raises: BadInput for an epoch that the training does not have, or another number of log rows than went before."""
    if not (1 <= now.epoch <= epochs + 1 and now.batch >= 0 and len(now.log) == now.epoch - 1):
        raise BadInput(
            f"{path} is damaged: it stands at epoch {now.epoch} of {epochs} with {len(now.log)} epochs in its log. "
            f"{checkpoint.way_out(path)}"
        )


def run_epochs(
    run: Training,
    now: Standing,
    totals: "Totals",
    instances: Instances,
    best: "Best",
    path: Path | None,
    stop: list[int],
) -> str:
    """The epochs from `now` on. Returns why training diverged, or ''. path: of the state; None: none is kept."""
    recipe, model, device, processes = run.recipe, run.model, run.task.device, run.task.processes
    stream = TrainingStream(
        run.data.train, batch_size=recipe.batch_size, drop_last=recipe.drop_last, pad=recipe.pad, crop=recipe.crop,
        flip=recipe.flip, cutout=recipe.cutout, seed=run.seed, shards=recipe.shards, processes=processes,
    )  # fmt: skip
    draws = any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in model.modules())
    draws |= not isinstance(model, Network)  # nobody knows what others' code draws
    bar = progress_bar(run.name, recipe.epochs * stream.n_batches, processes.rank == 0)
    bar.update((now.epoch - 1) * stream.n_batches + now.batch)
    saves = Saves()
    step = captured.steps(run.cuda_graphs, recipe, run.task, model, run.method, run.learner)
    while now.epoch <= recipe.epochs:
        model.train()
        before, started = now.seconds, time.perf_counter()
        if now.batch == 0:
            run.method.begin_epoch(model, run.learner, now.epoch)
        run.learner.seek(now.epoch - 1 + max(now.batch - 1, 0) / stream.n_batches)  # for the log, if no batch is left
        for batch in stream.epoch(now.epoch, now.batch):
            if draws:  # dropout, and whatever is in a network that is not ours, draws from the global generators
                seed_globals(run.seed, "dropout", now.epoch, now.batch, processes.rank)
            run.learner.seek(now.epoch - 1 + now.batch / stream.n_batches)
            with devices.autocast(device, recipe.precision):
                report = step(batch)
            totals.add(report, len(batch.y))
            instances.add(batch, report)
            now.batch += 1
            bar.update()
            if stop:
                break
        wait_for(device)
        step.forget()
        run.about |= step.about()
        now.seconds = before + time.perf_counter() - started
        if stop:
            assert path is not None
            if processes.size > 1:
                raise Stopped(f"{run.name}: stopped in epoch {now.epoch}. Run again to go on from its start.", stop[0])
            state = {**run.state(), "totals": totals.sums, "instances": instances.state_dict(), "best": best.weights}
            checkpoint.save(path, state, now, run.made_from)
            where = f"saved at epoch {now.epoch}, batch {now.batch}"
            raise Stopped(f"{run.name}: stopped; {where}. Run again to go on.", stop[0])

        row = row_of(run, now, totals)
        now.log.append(row)
        log.info("%s", describe(row, recipe.epochs))
        if cause := divergence(row, model, run.learner.reported):
            return cause
        best.look(now.log, run.learner.reported)
        now.epoch, now.batch, now.seconds = now.epoch + 1, 0, 0.0
        totals.clear()
        if path is None:
            continue
        keep_snapshot(run, path, now.epoch - 1)
        if processes.size == 1 and not saves.due():
            continue
        with saves:
            state = {**run.state(), "instances": instances.state_dict(), "best": best.weights}
            if processes.rank == 0:
                checkpoint.save(path, state, now, run.made_from)
    bar.close()
    return ""


def row_of(run: Training, now: Standing, totals: "Totals") -> dict[str, Any]:
    """The row in log.csv of the epoch that has just ended, of all processes."""
    totals.add_up(run.task.processes)
    row = {"epoch": now.epoch, "lr": run.learner.lr, **totals.means(), **monitor(run, now.epoch)}
    row |= on_held_out(run, now.epoch)
    row |= {"seconds": now.seconds, "images_per_s": totals.n_images() / now.seconds}
    return row | {"peak_memory_mb": peak_memory_mb(run.task.device)}


class Saves:
    """When the state is written: after every epoch, unless that took over a second and a tenth of the time between.

    What kill -9 costs is then at most ten times what a save takes; a signal that is heard saves at once.
    """

    SHARE, FREE = 0.1, 1.0  # of the time since the last one; seconds

    def __init__(self) -> None:
        self.took, self.ended = 0.0, time.monotonic()

    def due(self) -> bool:
        """Whether enough time has passed for another."""
        return self.took <= max(self.FREE, self.SHARE * (time.monotonic() - self.ended))

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        self.ended = time.monotonic()
        self.took = self.ended - self.began


class Totals:
    """Sums over the batches of an epoch, kept on the device and read once, at its end."""

    def __init__(self, device: torch.device):
        self.device = device
        self.sums: dict[str, Tensor] = {}

    def add(self, report: StepReport, n: int) -> None:
        """Count a batch of n images."""
        one = torch.ones((), dtype=torch.float64, device=self.device)
        for key, mean in {"images": one, "loss": report.loss, **report.stats}.items():
            self.sums[key] = self.sums.get(key, 0) + n * mean.detach().double()

    def add_up(self, processes: Processes) -> None:
        """Make them sums over all processes."""
        self.sums = {key: processes.total(total) for key, total in self.sums.items()}

    def means(self) -> dict[str, float]:
        """The mean over all images counted."""
        sums = {key: float(total) for key, total in self.sums.items()}
        n = sums.pop("images")
        return {key: total / n for key, total in sums.items()}

    def n_images(self) -> int:
        """How many images were counted."""
        return int(self.sums["images"])

    def clear(self) -> None:
        """Begin a new epoch."""
        self.sums = {}


def monitor(run: Training, epoch: int) -> dict[str, float]:
    """Clean, FGSM and PGD10 accuracy, and the loss under PGD10, on a fixed sample of training images, as they are.

    PGD10: uniform start, step eps/5. Its generator depends on seed and epoch alone: watching changes nothing.
    """
    part, eps = run.watched, run.task.eps
    x, y = part.take(stratified(part.labels, min(run.recipe.monitor_images, len(part)), seed=0))
    rng = generator(run.task.device, run.seed, "monitor", epoch)
    model, n = run.learner.reported, watched_at_once(run.task)
    seen: dict[str, list[Tensor]] = {"clean_acc": [], "fgsm_acc": [], "pgd10_acc": [], "pgd10_loss": []}
    for some, labels in zip(x.split(n), y.split(n), strict=True):
        with eval_mode(model):
            single = fgsm(model, some, labels, eps)
            many = pgd(model, some, labels, eps=eps, alpha=eps / 5, n_steps=10, rng=rng)
        found = (single.step != 0, single.correct, many.correct, many.loss)
        for values, more in zip(seen.values(), found, strict=True):
            values.append(more)
    return {key: float(torch.cat(values).double().mean()) for key, values in seen.items()}


def watched_at_once(task: Task) -> int:
    """How many images are attacked at once while a training is watched, whoever shares it: draws depend on it."""
    return max(64, WATCHED_AT_ONCE // math.prod(task.image_shape))


def on_held_out(run: Training, epoch: int) -> dict[str, float]:
    """PGD10 accuracy, as `monitor` has it, on all held-out images; nothing where there are none."""
    if run.held_out is None:
        return {}
    rng, model, right = generator(run.task.device, run.seed, "held_out", epoch), run.learner.reported, 0
    for index in torch.arange(len(run.held_out), device=run.task.device).split(watched_at_once(run.task)):
        x, y = run.held_out.take(index)
        with eval_mode(model):
            right += int(pgd(model, x, y, eps=run.task.eps, alpha=run.task.eps / 5, n_steps=10, rng=rng).correct.sum())
    return {HELD_OUT: right / len(run.held_out)}


class Best:
    """The weights of the epoch that was best on the held-out images, the first of equals; none without such images."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def look(self, rows: list[dict[str, Any]], model: nn.Module) -> None:
        """Keep the weights if the last row of the log is the best so far."""
        if best_epoch(rows) == len(rows):
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def best_epoch(rows: list[dict[str, Any]]) -> int | None:
    """The first epoch with the highest accuracy on held-out images; None without such images."""
    found = [row[HELD_OUT] for row in rows if HELD_OUT in row]
    return found.index(max(found)) + 1 if found else None


def divergence(row: dict[str, Any], *networks: nn.Module) -> str:
    """Why training cannot go on, or '': a loss, a weight or a BatchNorm statistic that is no number."""
    for key, words in (("loss", "the training loss"), ("pgd10_loss", "the loss under PGD10")):
        if not math.isfinite(row[key]):
            return f"{words} became {row[key]} in epoch {row['epoch']}"
    held = [(name, t) for network in networks for name, t in network.state_dict().items() if t.is_floating_point()]
    finite = torch.stack([t.isfinite().all() for _, t in held]).tolist()  # waits for the device once
    for (name, tensor), good in zip(held, finite, strict=True):
        if not good:
            return f"{name} became {float(tensor[~tensor.isfinite()][0])} in epoch {row['epoch']}"
    return ""


def write_results(
    run: Training, now: Standing, cause: str, instances: dict[str, Tensor], best: Best, folder: Path
) -> None:
    """log.csv, weights (of the best epoch, too) and instances, and last run.json, which says that these are whole."""
    (folder / "run.json").unlink(missing_ok=True)  # of an earlier training, whose files these replace
    columns = list(dict.fromkeys(key for row in now.log for key in row))
    files.write_rows(folder / "log.csv", columns, now.log)
    write_weights(run.learner.reported.state_dict(), folder / "weights.safetensors")
    (folder / BEST).unlink(missing_ok=True)
    if best.weights:
        write_weights(best.weights, folder / BEST)
    with files.atomic(folder / "instances.safetensors") as partial:
        save_file({name: rows[: len(run.data.train)].contiguous() for name, rows in instances.items()}, partial)
    outcome = {
        "status": "diverged" if cause else "finished",
        "cause": cause,
        "epochs_done": len(now.log),
        "train_seconds": sum(row["seconds"] for row in now.log),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in now.log),
        "files": {name: seals.sha256(folder / name) for name in [*LEFT, *snapshots(run, folder)]},
    }
    if best.weights:
        outcome |= {"best_epoch": best_epoch(now.log)}
        outcome["files"][BEST] = seals.sha256(folder / BEST)
    seals.write(folder / "run.json", {**run.about, **outcome})
    log.info("%s: %s%s", run.name, outcome["status"], f" ({cause})" if cause else "")


def snapshots(run: Training, folder: Path) -> list[str]:
    """The names of the weights that were kept by epoch."""
    return sorted(f"snapshots/{path.name}" for path in (folder / "snapshots").glob("*")) if run.snapshots else []


def keep_snapshot(run: Training, path: Path, epoch: int) -> None:
    """The weights of an epoch, if they are to be kept. path: of the state."""
    if run.snapshots and run.task.processes.rank == 0:
        write_weights(run.learner.reported.state_dict(), path.parent.parent / f"snapshots/epoch{epoch:03d}.safetensors")


def write_weights(weights: dict[str, Tensor], path: Path) -> None:
    """A network's state_dict."""
    with files.atomic(path) as partial:
        save_file(checkpoint.apart(weights), partial)


def describe(row: dict[str, Any], epochs: int) -> str:
    """One line for people: the same values as the row in log.csv."""
    numbers = " ".join(f"{key}={value:.4g}" for key, value in row.items() if key != "epoch")
    return f"epoch={row['epoch']}/{epochs} {numbers}"


def progress_bar(name: str, total: int, wanted: bool) -> tqdm:
    """A bar on a terminal, nothing elsewhere (the log has its line per epoch)."""
    wanted = wanted and sys.stderr.isatty()
    return tqdm(total=total, desc=name, unit="batch", disable=not wanted, dynamic_ncols=True)


def wait_for(device: torch.device) -> None:
    """Wait for the device, so that a clock read next is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory so far in MB: of the device where it counts its own, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return platforms.peak_memory() / 1e6


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """A list that each of STOPS joins inside the block, but those that are ignored, as `nohup` has it.

    A second Ctrl-C interrupts at once. Outside the main thread, which alone hears signals, nothing joins it.
    """
    asked: list[int] = []

    def hear(sign: int, _frame: object) -> None:
        asked.append(sign)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    heard = STOPS if threading.current_thread() is threading.main_thread() else ()
    before = {sign: signal.signal(sign, hear) for sign in heard if signal.getsignal(sign) is not signal.SIG_IGN}
    try:
        yield asked
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
