"""What a grid takes: FLOPs, GPU-hours, memory, disk. Computed on torch's `meta` device, before an hour is spent."""

import copy
import functools
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from tqdm import tqdm

import methods
from fastat.attacks import eval_mode, input_gradient
from fastat.config import catalog
from fastat.config.estimates import cell_of
from fastat.config.grid import is_attacked_by_name, n_under_autoattack, protocol_for
from fastat.config.recipe import Recipe, n_held_out, resolve
from fastat.config.spec import RunSpec
from fastat.cost import passes
from fastat.data import views
from fastat.errors import BadInput
from fastat.machine import devices
from fastat.machine.processes import Processes
from fastat.report import status, timings
from fastat.report.results import published
from fastat.report.timings import Timings
from fastat.training.learner import SGDLearner
from fastat.training.run import build_method, network, network_on_meta
from fastat.training.trainer import watched_at_once
from fastat.types import Batch, Task
from fastat.units import parse_eps

# AutoAttack: forwards and backwards over one image that still stands, and how many do, from Table I (ATAS, CIFAR10).
# APGD-CE attacks what is classified rightly, APGD-T what PGD leaves, FAB-T and Square what AutoAttack leaves.
AUTOATTACK = ((2 * 100, 0.81), (2 * 900, 0.48), (2 * 900, 0.45), (5000, 0.45))
PGD = 2 * (10 + 50)
STANDING = 0.46  # of a batch: the share over the many passes of AutoAttack's last three parts
HOST, CUDA = 800_000_000, 2_000_000_000  # bytes of a process: see `host_bytes`
META = torch.device("meta")


@dataclass(frozen=True)
class Cost:
    """One training, and the evaluation of its weights. Of a network that cannot be counted: NaN, no activations."""

    passes: float  # over the training images: one is a forward and a backward, the FLOPs of three forwards
    flops: float
    evaluation_flops: float  # without AutoAttack, each PGD once
    autoattack_flops: float  # of an image
    memory: dict[str, int]  # part -> bytes on a device, of the run's share there
    disk: int  # bytes that stay
    state: int  # bytes on disk while it trains, besides


@dataclass(frozen=True)
class Calibration:
    """What `--calibrate` measured on a device, by `dataset/model`."""

    device: str = ""
    rates: dict[str, float] = field(default_factory=dict)  # FLOPs per second of clean training
    passes: dict[str, "PassSeconds"] = field(default_factory=dict)


@dataclass(frozen=True)
class PassSeconds:
    """Seconds of a forward and a backward, and of a forward, over as many images as AutoAttack has left of a batch."""

    images: float
    both: float
    forward: float


@dataclass(frozen=True)
class Line:
    """The runs of one dataset, model, method and variant that are attacked alike and cost the same."""

    dataset: str
    model: str
    method: str
    n_runs: int
    n_autoattack: int  # images that AutoAttack attacks
    each: Cost
    hours: float | None  # of one GPU, for one training
    evaluation_hours: float | None  # of the standard suites, of the best epoch's weights too where there are some
    basis: str  # what the hours come from
    cells: tuple[str, ...] = ()  # the names of the runs without their seeds
    n_by_name: int = 0  # runs that attacks by name attack, which are in no hours


def grid_costs(
    specs: list[RunSpec],
    config: dict[str, Any],
    calibration: Calibration | None = None,
    took: Timings | None = None,
) -> list[Line]:
    """The cost of every group of runs.

    Hours of a training are, as far as there are some, those of finished ones of the same variant; else FLOPs over the
    rate of finished ones of the same method, dataset and model; over the calibrated rate of dataset and model; over
    that of finished ones of another method; over that at which the paper's Table I trained this method, or, where the
    paper has no time for it, ATAS, on this dataset and model.
    """
    calibration, took = calibration or Calibration(), took or Timings()

    @functools.cache
    def cost_of(spec: RunSpec, recipe: str) -> Cost:
        processes = Processes(0, config["processes"].get(spec.dataset, 1))
        return estimate(spec, Recipe.from_json(recipe), processes)

    def cost(spec: RunSpec, config: dict[str, Any] = config) -> Cost:
        one = replace(spec, variant=spec.variant if spec.subset else "paper", seed=0)
        return cost_of(one, resolve(spec, config).to_json())

    @functools.cache
    def finished_rate(*who: str) -> float | None:
        """FLOPs per second of finished trainings of this data set, network and, if it is named, method."""
        alike = [one for known, one in took.trainings.items() if len(known) == 4 and known[: len(who)] == who]
        rates = [cost(RunSpec.parse(one.run)).flops / one.seconds for one in alike if one.seconds > 0]
        return median(rates) if rates else None

    published, papers = published_hours(), {**config, "recipes": {}, "sweep": {}}

    def rate_of(spec: RunSpec, each: Cost) -> tuple[float | None, str]:
        """FLOPs per second, and where they come from."""
        dataset, model, method = spec.dataset, spec.model, spec.method
        if rate := finished_rate(dataset, model, method):
            return rate, f"finished {method}"
        if rate := calibration.rates.get(f"{dataset}/{model}"):
            return rate, "calibration"
        if rate := finished_rate(dataset, model):
            return rate, "finished others"
        for known in (method, "atas"):
            if (dataset, model, known) in published:
                hours, eps_255 = published[dataset, model, known]
                trained = cost(RunSpec(dataset, model, eps_255, known, "paper", 0), papers)
                basis = "paper" if (known, trained.flops) == (method, each.flops) else f"paper's {known}"
                return trained.flops / hours / 3600, basis
        return None, "-"

    groups: dict[tuple[str, str, str, str, int, str], list[RunSpec]] = {}
    for spec in tqdm(specs, "plan", disable=not sys.stderr.isatty(), leave=False):
        n, alike = n_under_autoattack(spec, config), repr(cost(spec))  # at another eps it may be another
        groups.setdefault((spec.dataset, spec.model, spec.method, spec.variant, n, alike), []).append(spec)
    lines = []
    for group, members in groups.items():
        (dataset, model, method, variant, n, _), spec = group, members[0]
        each, known = cost(spec), took.trainings.get(timings.whose(spec.name)[0])
        rate, basis = (None, "-") if math.isnan(each.flops) else rate_of(spec, each)
        seconds = known.seconds if known else each.flops / rate if rate else None
        basis = f"{known.n} finished" if known else basis
        attacks = evaluation(spec, n, each, rate, config, calibration, took)
        name = method if variant == "paper" else f"{method}/{variant}"
        hours, evaluation_hours = (taken if taken is None else taken / 3600 for taken in (seconds, attacks[0]))
        bases = basis if attacks[1] in ("", basis) else f"{basis}; eval: {attacks[1]}"
        cells = tuple(dict.fromkeys(cell_of(member.name) for member in members))
        by_name = sum(is_attacked_by_name(member, config) for member in members)
        lines.append(Line(dataset, model, name, len(members), n, each, hours, evaluation_hours, bases, cells, by_name))
    return lines


def evaluation(
    spec: RunSpec,
    n: int,
    each: Cost,
    rate: float | None,
    config: dict[str, Any],
    calibration: Calibration,
    took: Timings,
) -> tuple[float | None, str]:
    """Seconds of a run's evaluation with n images under AutoAttack, and where they come from if not from `rate`.

    Those of finished ones of its method, else of its data set and network; the calibrated seconds of as many passes;
    FLOPs over the training's rate. With images held out the best epoch's weights are attacked, too.
    """
    if spec.subset:
        return 0.0, ""
    if known := took.evaluation(spec.name, n > 0):
        return known.seconds, f"{known.n} finished"
    protocol, recipe = protocol_for(config, spec.dataset), resolve(spec, config)
    networks, restarts = 2 if recipe.hold_out else 1, protocol["pgd_restarts"]
    if passes_of := calibration.passes.get(f"{spec.dataset}/{spec.model}"):
        n_test = recipe.n_test or catalog.required(spec.dataset).n_test
        batches = -(-n // protocol["autoattack"]["batch_size"])
        autoattack = (100 / STANDING * 0.81 + 1800) * passes_of.both + 5000 * passes_of.forward
        whitebox = restarts * PGD / 2 * n_test / passes_of.images * passes_of.both
        return networks * (whitebox + batches * autoattack), "calibration"
    attacks = networks * (restarts * each.evaluation_flops + n * each.autoattack_flops)
    return (attacks / rate if rate else None), ""


def describe(lines: list[Line], device: str = "", long: bool = False) -> str:
    """For people: a line per method, `long`: per variant, then totals. device: whose hours are not the paper's."""
    known = [line for line in lines if line.hours is not None and line.evaluation_hours is not None]
    n_runs = sum(line.n_runs for line in lines)
    n_evaluated = sum(line.n_runs for line in lines if line.each.evaluation_flops)
    n_attacked = sum(line.n_runs for line in lines if line.n_autoattack)
    training, evaluating = hours_of(known)
    largest = max(lines, key=lambda line: sum(line.each.memory.values()))
    shown = [
        *table(lines, long),
        "",
        f"{n_runs} trainings and {n_evaluated} evaluations, {n_attacked} of them with AutoAttack",
        f"{training:,.0f} GPU-hours of training, {evaluating:,.0f} of evaluation"
        if training + evaluating >= 10
        else f"{training:.1f} hours of training, {evaluating:.1f} of evaluation",
    ]
    shown[-1] += "" if len(known) == len(lines) else f" ({len(lines) - len(known)} lines unknown: --calibrate FILE)"
    names = sorted({line.dataset for line in known})
    if len(names) > 1:
        totals = ((name, sum(hours_of([line for line in known if line.dataset == name]))) for name in names)
        shown += ["of which " + ", ".join(f"{name} {hours:,.1f}" for name, hours in totals)]
    shown += [
        *wrapped(
            f"disk: {disk_bytes(lines) / 1e9:.1f} GB in results, {sum(data_bytes(lines).values()) / 1e9:.1f} of "
            f"prepared data sets; each run under way up to {max(line.each.state for line in lines) / 1e9:.1f} more"
        ),
        *wrapped(
            f"most memory, in GB: {largest.dataset}/{largest.model}/{largest.method}: "
            + ", ".join(f"{name} {size / 1e9:.2f}" for name, size in largest.each.memory.items())
        ),
        "",
        *wrapped(
            "train, evaluate: of one run, on the average; all: of all of them. AA: images that AutoAttack attacks. GB: "
            "on each device; one forward pass's activations, without the allocator's waste and cuDNN's workspaces."
            + long
            * " Passes: over the training images; a forward and a backward, counted as the FLOPs of three forwards."
        ),
        *wrapped(
            f"Hours by finished runs or a calibration are of {device or 'this device'}, the paper's of a V100. What "
            "has none of its own is scaled by FLOPs, from whose: last column, of the training. Where no evaluation is "
            "finished, AutoAttack leaves as many images standing as of the paper's ATAS."
        ),
    ]
    if n_by_name := sum(line.n_by_name for line in lines):
        shown += wrapped(f"Not in these hours: the attacks by name, on {n_by_name} runs. Nobody has reckoned them.")
    if unknown_to := sorted({line.model for line in lines if math.isnan(line.each.flops)}):
        shown += wrapped(
            f"Unknown: passes, FLOPs, hours and activations of {', '.join(unknown_to)}, whose code needs the values of "
            "its images, which a plan does not have."
        )
    return "\n".join(shown)


def wrapped(text: str) -> list[str]:
    """Lines that a terminal of 100 columns has room for."""
    return textwrap.wrap(text, 98)


def hours_of(lines: list[Line]) -> tuple[float, float]:
    """Of all trainings and of all evaluations, as far as they are known."""
    return (
        sum(line.n_runs * (line.hours or 0.0) for line in lines),
        sum(line.n_runs * (line.evaluation_hours or 0.0) for line in lines),
    )


def table(lines: list[Line], long: bool) -> list[str]:
    """A line per method of a data set and network; `long`: per variant and number of images, with passes and FLOPs."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for number, line in enumerate(lines):
        name = (line.method, str(number)) if long else (line.method.partition("/")[0],)
        groups.setdefault((line.dataset, line.model, *name), []).append(line)
    head = ("data set", "network", "method", "runs", "AA", "train", "evaluate", "all", "GB")
    rows = [(*head, *(("passes", "PFLOP") if long else ()), "hours from")]
    for (dataset, model, method, *_), members in groups.items():
        n = sum(line.n_runs for line in members)
        told = all(line.hours is not None and line.evaluation_hours is not None for line in members)
        training, evaluating = hours_of(members)
        hours = (training / n, evaluating / n, training + evaluating)
        times = (status.duration(3600 * h) if h else "-" for h in hours) if told else "???"
        memory = max(sum(line.each.memory.values()) for line in members) / 1e9
        each, many = members[0].each, len({line.method for line in members})
        counted = ("?", "?") if math.isnan(each.flops) else (f"{each.passes:.0f}", f"{each.flops / 1e15:.3g}")
        rows.append(
            (
                *(dataset, model, f"{method} ({many} variants)" if many > 1 else members[0].method, str(n)),
                *(str(max(line.n_autoattack for line in members) or "-"), *times, f"{memory:.2f}"),
                *(counted if long else ()),
                members[0].basis if long else whence(members),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    left = (0, 1, 2, len(rows[0]) - 1)
    return [
        "  ".join(
            cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def whence(lines: list[Line]) -> str:
    """Of a method's training hours: `27 finished`, `paper`; `scaled`: from its own by FLOPs."""
    bases = [line.basis.partition(";")[0] for line in lines]
    numbers = {line.method: int(b.split()[0]) for line, b in zip(lines, bases, strict=True) if b.endswith(" finished")}
    own = {f"{whose} {lines[0].method.partition('/')[0]}" for whose in ("finished", "paper's")}
    others = ["scaled" if basis in own else basis for basis in bases if not basis.endswith(" finished")]
    return ", ".join([*([f"{sum(numbers.values())} finished"] if numbers else []), *dict.fromkeys(others)])


def as_json(lines: list[Line], device: str, where: str) -> dict[str, Any]:
    """For a scheduler and for `status`: what each cell, a run's name without its seed, takes. where: config's `device`.

    Seconds are null where nothing tells. gpu_bytes: as `check_memory` has them, of one process's share.
    """
    cells: dict[str, Any] = {}
    for line in lines:
        train, evaluate = (None if h is None else h * 3600 for h in (line.hours, line.evaluation_hours))
        for name in line.cells:
            before = cells.get(name, {}).get("evaluate_seconds")  # of the cell's runs that AutoAttack does not attack
            cells[name] = {
                "train_seconds": train,
                "evaluate_seconds": max((s for s in (before, evaluate) if s is not None), default=None),
                "gpu_bytes": sum(line.each.memory.values()),
                "host_bytes": host_bytes(line, where),
            }
    return {"device": device, "cells": cells}


def host_bytes(line: Line, where: str) -> int:
    """Resident memory of a process, its imports and data set too; for `auto` as much as a CPU or a GPU makes it need.

    HOST is what 311 trainings of digits on one CPU had at most, less what the plan counts of them. What CUDA adds to
    it, and a batch's way to the device, is an allowance that was not measured.
    """
    memory, images = sum(line.each.memory.values()), line.each.memory["images"]
    on_cpu, on_cuda = HOST + memory, HOST + CUDA + images
    return {"cpu": on_cpu, "cuda": on_cuda}.get(where, max(on_cpu, on_cuda))


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
    model = network_of(spec, recipe)
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
    return Cost(rounds, flops, attacks, autoattack, memory, disk, state)


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
    key = *what_network(spec, recipe), batch_size
    if key not in _passes:
        _passes[key] = forward_pass(network_of(spec, recipe), batch_size, catalog.required(spec.dataset).shape)
    return _passes[key]


def network_of(spec: RunSpec, recipe: Recipe) -> nn.Module:
    """The network on `meta`; each of ours is made once, and has no gradients when it is given again."""
    if recipe.network:
        return network_on_meta(spec, recipe)
    key = what_network(spec, recipe)
    if key not in _networks:
        _networks[key] = network_on_meta(spec, recipe)
    _networks[key].zero_grad(set_to_none=True)
    return _networks[key]


def what_network(spec: RunSpec, recipe: Recipe) -> tuple[Any, ...]:
    """All that the layout of a network depends on."""
    facts = catalog.required(spec.dataset)
    return json.dumps([spec.model, recipe.network, recipe.arch], sort_keys=True), facts.shape, facts.n_classes


_networks: dict[tuple[Any, ...], nn.Module] = {}
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


def published_hours() -> dict[tuple[str, str, str], tuple[float, int]]:
    """(dataset, model, method) -> GPU-hours of Table I, at which eps; ImageNet was trained on two GPUs."""
    hours, gpus = published("train_hours").dropna(), {"imagenet": 2}
    lines = zip(hours.index.to_list(), hours.to_list(), strict=True)
    return {(data, model, method): (n * gpus.get(data, 1), parse_eps(eps)) for (data, model, eps, method), n in lines}


def read_calibration(path: Path) -> Calibration:
    """What `calibrate` found and --calibrate wrote.

    Raises: BadInput if it is another file, or one of its numbers is not above 0.
    """
    try:
        said = json.loads(path.read_text("utf-8"))
        rates = {name: positive(rate) for name, rate in said["flops_per_second"].items()}
        seconds = said.get("seconds_of_passes", {})  # files that were made before have none
        passes_of = {name: PassSeconds(*map(positive, map(one.__getitem__, PASS))) for name, one in seconds.items()}
        return Calibration(str(said.get("device", "")), rates, passes_of)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"{path} is no calibration ({error}). Make one: python -m fastat plan --calibrate {path}"
        ) from error


PASS = tuple(one.name for one in fields(PassSeconds))


def positive(value: Any) -> float:
    """Raises: ValueError if it is not a finite number above 0."""
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{value} is not above 0")
    return float(value)


def calibrate(pairs: list[tuple[str, str]], config: dict[str, Any], device: torch.device) -> Calibration:
    """The rate of clean training, and the seconds of an evaluation's passes, on this device, from a few of each.

    In the precision and the layout of each: attacks are in float32, whatever the recipe says.
    """
    rates, passes_of = {}, {}
    for dataset, name in pairs:
        facts, protocol = catalog.required(dataset), protocol_for(config, dataset)
        spec = RunSpec(dataset, name, 8, "clean", "paper", 0)
        recipe = replace(resolve(spec, config), arch="shared")
        build = partial(methods.build, "clean")
        model = network(spec, recipe).to(device).to(memory_format=torch.channels_last)
        one = passes.rehearse(build, model, facts.shape, pad=recipe.pad, batch_size=recipe.batch_size)
        left = max(1, round(STANDING * min(protocol["autoattack"]["batch_size"], recipe.n_test or facts.n_test)))

        def timed(step: Callable[[], object], precision: str) -> Callable[[], None]:
            def call() -> None:
                devices.set_precision(precision)
                with devices.autocast(device, precision):
                    step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

            return call

        attacked = copy.deepcopy(model).to(memory_format=devices.layout(device))
        x = torch.rand((left, *facts.shape), device=device).contiguous(memory_format=devices.layout(device))
        steps: dict[str, Callable[[], object]] = {
            "clean": timed(one.step(), recipe.precision),
            "both": timed(partial(attack_pass, attacked, x), "float32"),
            "forward": timed(partial(forward_alone, attacked, x), "float32"),
        }
        flops, taken = passes.flops(one.step()), passes.seconds(steps, 3)
        rates[f"{dataset}/{name}"] = flops / taken.pop("clean")
        passes_of[f"{dataset}/{name}"] = PassSeconds(left, **taken)
    return Calibration("", rates, passes_of)


def calibration_as_json(found: Calibration, device: str) -> dict[str, Any]:
    """What `read_calibration` reads."""
    seconds = {name: asdict(one) for name, one in found.passes.items()}
    return {"device": device, "flops_per_second": found.rates, "seconds_of_passes": seconds}


def attack_pass(model: nn.Module, x: Tensor) -> None:
    """A forward and a backward to the input, as the white-box attacks make them."""
    with eval_mode(model):
        input_gradient(model, x, torch.zeros(len(x), dtype=torch.int64, device=x.device))


def forward_alone(model: nn.Module, x: Tensor) -> None:
    """As Square makes it."""
    with eval_mode(model), torch.no_grad():
        model(x)
