"""What a grid takes: FLOPs, GPU-hours, memory, disk. Computed on torch's `meta` device, before an hour is spent."""

import functools
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from tqdm import tqdm

import methods
from fastat.config import catalog
from fastat.config.grid import n_under_autoattack
from fastat.config.recipe import Recipe, n_held_out, resolve
from fastat.config.spec import RunSpec
from fastat.cost import passes
from fastat.data import views
from fastat.errors import BadInput
from fastat.machine.processes import Processes
from fastat.report.results import published
from fastat.training.learner import SGDLearner
from fastat.training.run import build_method, network, network_on_meta
from fastat.training.trainer import watched_at_once
from fastat.types import Batch, Task

# AutoAttack: forwards and backwards over one image that still stands, and how many do, from Table I (ATAS, CIFAR10).
# APGD-CE attacks what is classified rightly, APGD-T what PGD leaves, FAB-T and Square what AutoAttack leaves.
AUTOATTACK = ((2 * 100, 0.81), (2 * 900, 0.48), (2 * 900, 0.45), (5000, 0.45))
PGD = 2 * (10 + 50)
META = torch.device("meta")


@dataclass(frozen=True)
class Cost:
    """One training, and the evaluation of its weights. Of a network that cannot be counted: NaN, no activations."""

    images: int  # trained on, replays not counted
    passes: float  # over the training images: one is a forward and a backward, the FLOPs of three forwards
    flops: float
    evaluation_flops: float  # without AutoAttack
    autoattack_flops: float  # of an image
    memory: dict[str, int]  # part -> bytes on a device, of the run's share there
    disk: int  # bytes that stay
    state: int  # bytes on disk while it trains, besides


@dataclass(frozen=True)
class Line:
    """The runs of one dataset, model, method and variant that are attacked alike: they cost the same."""

    dataset: str
    model: str
    method: str
    n_runs: int
    n_autoattack: int  # images that AutoAttack attacks
    each: Cost
    hours: float | None  # of one GPU, for one training
    evaluation_hours: float | None
    basis: str  # what the hours come from


def grid_costs(specs: list[RunSpec], config: dict[str, Any], rates: dict[str, float]) -> list[Line]:
    """The cost of every group of runs.

    Hours: FLOPs over the calibrated `rates` of dataset/model; without one, over the rate at which the paper's Table I
    trained this method, or, where the paper has no time for it, ATAS, on this dataset and model.
    """

    @functools.cache
    def cost_of(dataset: str, model: str, method: str, recipe: str, images: str) -> Cost:
        spec, read = RunSpec(dataset, model, 8, method, images, 0), Recipe.from_json(recipe)
        processes = Processes(0, config["processes"].get(dataset, 1))
        return estimate(spec, read, processes)

    published, groups = published_hours(), dict[tuple[str, str, str, str, int], list[RunSpec]]()
    for spec in specs:
        n = n_under_autoattack(spec, config)
        groups.setdefault((spec.dataset, spec.model, spec.method, spec.variant, n), []).append(spec)
    lines = []
    for group, members in tqdm(groups.items(), "plan", disable=not sys.stderr.isatty()):
        dataset, model, method, variant, n = group
        images = variant if members[0].subset else "paper"
        each = cost_of(dataset, model, method, resolve(members[0], config).to_json(), images)
        rate, basis = rates.get(f"{dataset}/{model}"), "calibration"
        for known in (method, "atas"):
            if rate is None and (dataset, model, known) in published:
                paper = replace(members[0], method=known, variant="paper")
                trained = cost_of(dataset, model, known, resolve(paper, config).to_json(), "paper")
                rate = trained.flops / published[dataset, model, known] / 3600
                basis = "paper" if trained == each else f"paper's {known}"
        if math.isnan(each.flops):
            rate = None
        attacks = each.evaluation_flops + n * each.autoattack_flops
        hours, evaluation_hours = (each.flops / rate / 3600, attacks / rate / 3600) if rate else (None, None)
        name = method if variant == "paper" else f"{method}/{variant}"
        basis = basis if rate else "-"
        lines.append(Line(dataset, model, name, len(members), n, each, hours, evaluation_hours, basis))
    return lines


def describe(lines: list[Line]) -> str:
    """A table for people, and what it leaves out."""
    names = f"{'dataset':14} {'model':16} {'method':16}"
    counts = f"{'runs':>5} {'AA':>5} {'passes':>6} {'PFLOP':>9}"
    shown = [f"{names} {counts} {'hours':>8} {'eval h':>8} {'GB':>6}  hours from"]
    for line in lines:
        hours, evaluation = (f"{h:8.2f}" if h is not None else f"{'?':>8}" for h in (line.hours, line.evaluation_hours))
        memory = sum(line.each.memory.values()) / 1e9
        unknown = math.isnan(line.each.flops)
        counted = f"{'?':>6} {'?':>9}" if unknown else f"{line.each.passes:6.0f} {line.each.flops / 1e15:9.3g}"
        shown.append(
            f"{line.dataset:14} {line.model:16} {line.method:16} {line.n_runs:5} {line.n_autoattack or '-':>5} "
            f"{counted} {hours} {evaluation} {memory:6.2f}  {line.basis}"
        )
    n_runs = sum(line.n_runs for line in lines)
    n_evaluated = sum(line.n_runs for line in lines if line.each.evaluation_flops)
    n_attacked = sum(line.n_runs for line in lines if line.n_autoattack)
    known = [line for line in lines if line.hours is not None]
    training = sum(line.n_runs * line.hours for line in known if line.hours is not None)
    evaluating = sum(line.n_runs * line.evaluation_hours for line in known if line.evaluation_hours is not None)
    largest = max(lines, key=lambda line: sum(line.each.memory.values()))
    parts = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in largest.each.memory.items())
    shown += [
        "",
        f"{n_runs} trainings and {n_evaluated} evaluations, {n_attacked} of them with AutoAttack; a line is of one run",
        f"{training:,.0f} GPU-hours of training, {evaluating:,.0f} of evaluation"
        + ("" if len(known) == len(lines) else f" ({len(lines) - len(known)} lines unknown: --calibrate FILE)"),
        f"disk: {disk_bytes(lines) / 1e9:.1f} GB in results, {sum(data_bytes(lines).values()) / 1e9:.1f} of prepared "
        f"data sets; each run that is under way up to {max(line.each.state for line in lines) / 1e9:.1f} GB more",
        f"most memory: {largest.dataset}/{largest.model}/{largest.method}: {parts}",
        "Passes: over the training images; one is a forward and a backward, counted as the FLOPs of three forwards.",
        "Hours from the paper are of a V100; a method or variant without its own is scaled by FLOPs, from whose: last",
        "column. Memory, on each device: one forward pass's activations, without the allocator's waste and cuDNN's",
        "workspaces. AA: images that AutoAttack attacks, of which as many are left standing as by the paper's ATAS.",
    ]
    if unknown_to := sorted({line.model for line in lines if math.isnan(line.each.flops)}):
        shown += [f"Unknown: passes, FLOPs, hours and activations of {', '.join(unknown_to)}, whose code needs the"]
        shown += ["values of its images, which a plan does not have."]
    return "\n".join(shown)


def disk_bytes(lines: list[Line]) -> int:
    """What the finished grid leaves in results."""
    return sum(line.n_runs * line.each.disk for line in lines)


def data_bytes(lines: list[Line]) -> dict[str, int]:
    """Data set -> what its images take when prepared."""
    sizes = {}
    for facts, name in ((catalog.required(name), name) for name in {line.dataset for line in lines}):
        sizes[name] = (facts.n_train + facts.n_test) * math.prod(facts.stored or facts.shape)
    return sizes


def check_memory(lines: list[Line], has: int, device: str, at_once: int = 1) -> None:
    """Raises: BadInput if a run, `at_once` of which share a device, needs more memory than it has."""
    for line in lines:
        name, needs = f"{line.dataset}/{line.model}/{line.method}", sum(line.each.memory.values())
        if needs * at_once > has:
            times = f" (runs_per_gpu: {at_once} at once)" if at_once > 1 else ""
            raise BadInput(
                f"{name} needs {needs / 1e9:.1f} GB{times}, but {device} has {has / 1e9:.1f}. Take a larger device, "
                "more `processes`, a smaller batch_size, or `store: int8` where a method keeps perturbations."
            )


def check_disk(lines: list[Line], results: Path) -> None:
    """Raises: BadInput if the results cannot fit where they would be written."""
    place = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    missing = {n: b for n, b in data_bytes(lines).items() if not (results / f"data/{n}.safetensors").exists()}
    needs = disk_bytes(lines) + max(line.each.state for line in lines) + sum(missing.values())
    free = shutil.disk_usage(place).free
    if needs > free:
        data = f" with the data sets still to be prepared ({', '.join(sorted(missing))})" if missing else ""
        raise BadInput(
            f"the results need {needs / 1e9:.1f} GB{data}, but {place} has {free / 1e9:.1f} free. "
            "Use --results on a larger disk, or a part of the grid with --only."
        )


def estimate(spec: RunSpec, recipe: Recipe, processes: Processes) -> Cost:
    """The cost of a run, without hours; memory is of one process's share."""
    facts, batch_size = catalog.required(spec.dataset), recipe.batch_size // processes.size
    task, method = build_method(spec, recipe, META)
    _, share = build_method(spec, recipe, META, together=processes) if processes.size > 1 else (task, method)
    assert isinstance(method, nn.Module) and isinstance(share, nn.Module)
    model = network_on_meta(spec, recipe)
    memory = {
        "weights, gradients, momentum": (4 if recipe.average else 3) * weights_bytes(model),
        "state of the method": passes.state_bytes(share),
        "remembered of images": 2 * 2 * recipe.epochs * task.n_train // processes.size,
        "images": image_bytes(spec.dataset, recipe, batch_size),
    }
    try:
        with META:  # also where the network makes tensors
            at_once = max(batch_size, min(watched_at_once(task), most_watched(recipe, task.n_train)))
            forward, memory["activations"] = of_a_pass(spec, recipe, at_once)
            per_image = flops_per_image(spec, recipe, task, model, method)
    except Exception:  # code that is not ours may raise anything where images have no values
        if not recipe.network:
            raise
        per_image, forward = math.nan, math.nan
    n_images = recipe.epochs * task.n_batches * recipe.batch_size
    n_test = recipe.n_test or facts.n_test
    attacks = 0.0 if spec.subset else forward * PGD * n_test
    autoattack = forward * sum(n * standing for n, standing in AUTOATTACK)
    rows = 12 * n_test * 20  # twelve attacks and checks leave a row of some 20 bytes for every image
    remembered = 2 * 2 * recipe.epochs * task.n_train  # gradient norms and step sizes: fastat/training/instances.py
    state = 2 * weights_bytes(model) + passes.state_bytes(method) + remembered
    flops, disk = per_image * n_images, weights_bytes(model) + rows + remembered
    rounds = flops / (3 * forward * (recipe.n_train or facts.n_train))
    return Cost(n_images, rounds, flops, attacks, autoattack, memory, disk, state)


def most_watched(recipe: Recipe, n_train: int) -> int:
    """Images that are attacked after an epoch: a sample of those trained on, or all that are held out."""
    return max(min(recipe.monitor_images, n_train), n_held_out(recipe.hold_out, n_train))


def weights_bytes(model: nn.Module) -> int:
    """Bytes of the weights and BatchNorm statistics."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


def image_bytes(dataset: str, recipe: Recipe, batch_size: int) -> int:
    """Images on the device: the whole set and its frames; where they stay on disk, a few batches on their way."""
    facts = catalog.required(dataset)
    channels, height, width = facts.shape
    pixels, frame = channels * height * width, channels * (height + 2 * recipe.pad) * (width + 2 * recipe.pad)
    if facts.stored:
        return 4 * batch_size * pixels
    n_train, n_test = recipe.n_train or facts.n_train, recipe.n_test or facts.n_test
    return (n_train + n_test) * pixels + (n_train * frame if recipe.pad else 0)


def of_a_pass(spec: RunSpec, recipe: Recipe, batch_size: int) -> tuple[float, int]:
    """Of one forward pass: FLOPs of an image, and bytes that are kept for the backward of so many.

    Some methods have two such passes alive at once.
    """
    facts = catalog.required(spec.dataset)
    network = json.dumps([spec.model, recipe.network, recipe.arch], sort_keys=True)
    key = network, facts.shape, facts.n_classes, batch_size
    if key not in _passes:
        _passes[key] = forward_pass(network_on_meta(spec, recipe), batch_size, facts.shape)
    return _passes[key]


_passes: dict[tuple[Any, ...], tuple[float, int]] = {}


def forward_pass(model: nn.Module, batch_size: int, shape: tuple[int, ...]) -> tuple[float, int]:
    """FLOPs of an image in a forward pass, and bytes that the pass keeps."""
    kept: dict[int, Tensor] = {}  # the tensors themselves: a freed one's address could come again
    own = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    x = torch.empty((batch_size, *shape), device="meta")
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        flops = passes.flops(lambda: model.train()(x))
    return flops / batch_size, sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def flops_per_image(spec: RunSpec, recipe: Recipe, task: Task, model: nn.Module, method: Any) -> float:
    """Of a training step."""
    n, device = recipe.batch_size, torch.device("meta")
    learner = SGDLearner(model.train(), replace(recipe, average=0.0))  # torch's average reads its own counter
    x = torch.empty((n, *task.image_shape), device=device)
    y = torch.empty(n, dtype=torch.int64, device=device)
    view = views.centred(n, recipe.pad, device)
    method.begin_epoch(model, learner, 1)
    n_batches = getattr(methods.module(spec.method), "CYCLE", 1)
    batches = [Batch(x, y, y, view, 2, number) for number in range(n_batches)]
    return passes.mean_flops(method, batches, lambda batch: method.train_batch(model, batch, learner)) / n


def published_hours() -> dict[tuple[str, str, str], float]:
    """(dataset, model, method) -> GPU-hours of Table I; ImageNet was trained on two GPUs."""
    hours, gpus = published("train_hours").dropna(), {"imagenet": 2}
    lines = zip(hours.index.to_list(), hours.to_list(), strict=True)
    return {(dataset, model, method): n * gpus.get(dataset, 1) for (dataset, model, _, method), n in lines}


def read_calibration(path: Path) -> dict[str, float]:
    """`dataset/model` -> FLOPs per second, as `calibrate` found them and --calibrate wrote them.

    Raises: BadInput if it is another file, or one of them is not above 0.
    """
    try:
        rates = {name: float(rate) for name, rate in json.loads(path.read_text("utf-8"))["flops_per_second"].items()}
        if not all(0 < rate < math.inf for rate in rates.values()):
            raise ValueError("a rate is not above 0")
        return rates
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"{path} is no calibration ({error}). Make one: python -m fastat plan --calibrate {path}"
        ) from error


def calibrate(pairs: list[tuple[str, str]], config: dict[str, Any], device: torch.device) -> dict[str, float]:
    """`dataset/model` -> FLOPs per second of clean training on this device, from a few steps of each."""
    rates = {}
    for dataset, name in pairs:
        facts = catalog.required(dataset)
        spec = RunSpec(dataset, name, 8, "clean", "paper", 0)
        recipe = replace(resolve(spec, config), arch="shared")
        build = partial(methods.build, "clean")
        model = network(spec, recipe).to(device).to(memory_format=torch.channels_last)
        step = passes.rehearse(build, model, facts.shape, pad=recipe.pad, batch_size=recipe.batch_size).step()
        flops = passes.flops(step)

        def timed(step: Callable[[], object] = step) -> None:
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        rates[f"{dataset}/{name}"] = flops / passes.seconds({"clean": timed}, 3)["clean"]
    return rates
