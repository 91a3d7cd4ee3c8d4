"""One training: its task, method and network built from name and recipe, then run into its folder."""

import functools
import json
import logging
import platform
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import methods
from fastat import IN_CLONE, ROOT, __version__
from fastat.config import catalog
from fastat.config.catalog import DatasetFacts
from fastat.config.networks import shown
from fastat.config.recipe import Recipe, check_sizes, difference, fingerprint, n_held_out, resolve
from fastat.config.spec import RunSpec
from fastat.data import datasets, prepared, subsets
from fastat.data.datasets import ImageSet
from fastat.errors import BadInput
from fastat.features import FEATURES, n_features
from fastat.machine import devices, numerics, processes, seals
from fastat.machine.processes import ALONE, Processes, SharedGenerator
from fastat.machine.seeds import generator, seed_globals
from fastat.networks import models, own
from fastat.store import DeltaStore
from fastat.training.learner import SGDLearner
from fastat.training.trainer import Training, train
from fastat.types import Method, Task

log = logging.getLogger(__name__)
CPU = torch.device("cpu")


def run(
    spec: RunSpec,
    recipe: Recipe,
    results: Path,
    device: torch.device,
    snapshots: bool = False,
    cuda_graphs: str = "auto",
) -> None:
    """Train `spec` into `results`/runs/NAME, or go on where its state stands; one that is finished stays as it is.

    Raises: trainer.Stopped on one of its STOPS; BadInput if data, ranks or state do not fit, or the folder holds the
    training of another recipe or other data.
    """
    wanted, recipe = recipe, replace(recipe, numerics=numerics.settled(recipe.numerics, device))
    together, device = processes.join(device, recipe.shards)
    devices.set_precision(recipe.precision)
    data, held_out = subsets.held_out(of_run(spec, recipe, results, device), recipe.hold_out)
    everyone, images = data.train, data.sha256
    if spec.subset:
        chosen = subsets.of_tenths(subsets.ranks(spec, results, len(everyone), data.sha256), spec.subset)
        data = replace(data, train=data.train.only(chosen.to(device)))
        images = fingerprint(images, chosen.tolist())
    if recipe.network:
        numerics.without_onednn()
    folder, made_from = results / "runs" / spec.name, fingerprint(spec.name, recipe.to_json(), images)
    if is_finished(spec.name, folder, wanted, images, data.sha256, snapshots):
        log.info("%s: finished before, nothing to do. To train it again: rm -r %s", spec.name, folder)
        return
    task, method = build_method(spec, recipe, device, len(data.train), together)
    if together.size > 1 and hasattr(method, "ONE_PROCESS"):
        raise BadInput(f"{spec.method} cannot be shared by {together.size} processes: {method.ONE_PROCESS}. Start one.")
    model = build_network(spec, recipe).to(device).to(memory_format=torch.channels_last)
    numerics.without_onednn(model)
    if isinstance(method, nn.Module):
        numerics.without_onednn(method, numerics.BROKEN)
    processes.synchronise_batchnorm(model, together, differentiates_twice(spec.method))
    example = torch.zeros((task.batch_size, *task.image_shape), device=device)
    about = {
        **what_is_trained(spec, recipe, method),
        "made_from": made_from,
        "data_sha256": data.sha256,
        "n_parameters": task.n_params,
        **({"network": own.source(recipe.network)} if recipe.network else {}),
        "numerics": recipe.numerics,
        **where_it_runs(device, together),
        "compiled": compiled(model, recipe, example, spec.method),
    }
    learner = SGDLearner(model, recipe, together)
    training = Training(
        spec.name,
        spec.seed,
        data,
        recipe,
        task,
        model,
        method,
        learner,
        everyone,
        held_out,
        made_from,
        about,
        snapshots,
        cuda_graphs,
    )
    train(training, folder)


def is_finished(name: str, folder: Path, wanted: Recipe, images: str, data_sha256: str, snapshots: bool) -> bool:
    """Whether the folder holds this very training, whole, and no state of one that goes on.

    wanted: `numerics: auto` is any. images: what is trained on, of the data or a part of them.
    Raises: BadInput if it holds another training, which would be lost. What is damaged is trained again.
    """
    if (folder / "state/state.safetensors").exists() or not (folder / "run.json").exists():
        return False
    try:
        about = seals.read(folder / "run.json")
        there, found, files = about["made_from"], dict(about["recipe"]), dict(about.get("files") or {})
    except (BadInput, KeyError, TypeError, ValueError):
        return False
    if wanted.numerics == "auto":
        wanted = replace(wanted, numerics=found.get("numerics", "native"))
    if there != fingerprint(name, wanted.to_json(), images):
        other = difference(found, json.loads(wanted.to_json())).replace("the config says", "asked for is")
        if about.get("run") != name:
            other = f"its run is {about.get('run')}"
        elif not other:
            same_data = about.get("data_sha256") == data_sha256
            other = "its images were chosen by other gradient norms" if same_data else "its data are others"
        raise BadInput(
            f"{folder} holds another training: {other}. Train into another folder (--results), or remove "
            f"it: rm -r {folder}"
        )
    kept = [name for name in files if name.startswith("snapshots/")]
    needed = [name for name in files if snapshots or name not in kept]
    damaged = [n for n in needed if not (folder / n).is_file() or seals.sha256(folder / n) != files[n]]
    if damaged:
        log.warning("%s: not as it was written, or not there: %s. It is trained again", folder, ", ".join(damaged))
    return bool(needed) and not damaged and (bool(kept) or not snapshots)


def of_run(spec: RunSpec, recipe: Recipe, results: Path, device: torch.device) -> ImageSet:
    """The run's data set, once it is known to be as large as the recipe asks for.

    Raises: BadInput if it is not, or not that of the run.
    """
    path = results / f"data/{spec.dataset}.safetensors"
    about = prepared.header(path)
    if about["dataset"] != spec.dataset:
        raise BadInput(f"{path} holds {about['dataset']}, not {spec.dataset}. {prepared.way_out(path)}")
    catalog.learn(results)
    check_sizes(recipe, spec.dataset, f"recipe of {spec.dataset}/{spec.method}/{spec.variant}")
    return datasets.load(path, device, recipe.n_train, recipe.n_test)


def compiled(model: nn.Module, recipe: Recipe, example: torch.Tensor, method: str) -> str:
    """Compile the model as the recipe says, and say what was done. Compiled kernels are the processor's own."""
    if recipe.numerics == "portable" and recipe.compile != "off":
        return "off: numerics are portable"
    return devices.compile_model(model, recipe.compile, example, why_not_compiled(method))


def why_not_compiled(method: str) -> str:
    """Why a network that is trained by the method must not be compiled; '' if it may."""
    if differentiates_twice(method):
        return "a double backward cannot be compiled"
    needs = getattr(methods.module(method), "NEEDS", ())
    if FEATURES in needs:
        return "the method reads features inside the network"
    return f"the method calls the network's {' and '.join(needs)}, each by itself" if needs else ""


def differentiates_twice(method: str) -> bool:
    """Whether its steps differentiate a gradient."""
    return "double_backward" in methods.module(method).PASSES


def build_method(
    spec: RunSpec, recipe: Recipe, device: torch.device, n_train: int | None = None, together: Processes = ALONE
) -> tuple[Task, Method]:
    """The run's task and method: of one process's share, where several train together. On `meta`, without memory.

    n_train: how many images there are; None: as many as the data set has.
    Raises: BadInput if the method or a network of one's own cannot be trained, or the data are not prepared.
    """
    facts = catalog.required(spec.dataset)
    if n_train is None:
        whole_set = recipe.n_train or facts.n_train
        n_train = subsets.size(whole_set - n_held_out(recipe.hold_out, whole_set), spec.subset)
    rng = None if device.type == "meta" else method_generator(spec, device, together)
    sizes = sizes_of_network(spec, recipe, n_train)
    task = task_of(spec.eps, facts, recipe, n_train, sizes, device, rng, together)
    return task, method_of(spec, recipe, task)


def task_of(
    eps: float,
    facts: DatasetFacts,
    recipe: Recipe,
    n_train: int,
    sizes: tuple[int, int],
    device: torch.device,
    rng: torch.Generator | None,
    together: Processes = ALONE,
) -> Task:
    """What a method is told of a training on n_train images: one process's share, where several train together.

    sizes: numbers of the network's parameters and features.
    """
    channels, height, width = facts.stored or facts.shape
    whole, rest = divmod(n_train // recipe.shards, recipe.batch_size // recipe.shards)
    return Task(
        eps=eps,
        n_train=-(-n_train // recipe.shards) * recipe.shards // together.size,  # as many in every process
        n_classes=facts.n_classes,
        image_shape=facts.shape,
        frame_shape=(channels, height + 2 * recipe.pad, width + 2 * recipe.pad),
        n_epochs=recipe.epochs,
        batch_size=recipe.batch_size // together.size,
        n_batches=whole if recipe.drop_last or not rest else whole + 1,
        n_params=sizes[0],
        n_features=sizes[1],
        device=device,
        rng=rng,
        processes=together,
    )


def method_of(spec: RunSpec, recipe: Recipe, task: Task) -> Method:
    """The run's method with its first state.

    Raises: BadInput if it cannot be built, or keeps perturbations that cannot follow a resized crop.
    """
    torch.manual_seed(generator(CPU, spec.seed, "method-init").initial_seed())
    method = methods.build(spec.method, task, **recipe.params)
    parts = method.modules() if isinstance(method, nn.Module) else ()
    if recipe.crop == "resized" and any(isinstance(part, DeltaStore) and part.framed for part in parts):
        raise BadInput(
            f"{spec.method}: crop must be window, or left out: it keeps a perturbation of every image, read and "
            "written through the crop, and a resized crop cannot be undone"
        )
    return method


def method_generator(spec: RunSpec, device: torch.device, together: Processes) -> torch.Generator:
    """What serves every draw of the run's method."""
    rng = generator(device, spec.seed, "method")
    if together.size == 1:
        return rng
    shared = SharedGenerator(device, together)
    shared.set_state(rng.get_state())
    return shared


def build_network(spec: RunSpec, recipe: Recipe) -> nn.Module:
    """The run's network with its first weights, on the CPU."""
    seed_globals(spec.seed, "init")
    return network(spec, recipe)


def network(spec: RunSpec, recipe: Recipe) -> nn.Module:
    """The network that the run's name and recipe call for."""
    facts = catalog.required(spec.dataset)
    if recipe.network:
        if spec.model in models.MODELS:
            raise BadInput(f"{spec.name}: network must be left out of its recipe: {spec.model} is one of our own")
        return own.build(recipe.network, facts.shape[0], facts.n_classes)
    return models.build(spec.model, facts.shape[0], facts.n_classes, recipe.arch)


def network_on_meta(spec: RunSpec, recipe: Recipe) -> nn.Module:
    """The network without memory; one of others' code, which may not know `meta`, is built and then emptied."""
    if recipe.network:
        return network(spec, recipe).to("meta")
    with torch.device("meta"):
        return network(spec, recipe)


def sizes_of_network(spec: RunSpec, recipe: Recipe, n_train: int) -> tuple[int, int]:
    """How many parameters and features the network has. One that is not ours is tried first: own.check."""
    facts = catalog.required(spec.dataset)
    if not recipe.network:
        return sizes_of_ours(spec.model, facts.shape[0], facts.n_classes, recipe.arch)
    demands = demands_of(spec, recipe, n_train)
    return checked(json.dumps(recipe.network, sort_keys=True), facts.shape, facts.n_classes, demands)


@functools.cache
def sizes_of_ours(model: str, n_channels: int, n_classes: int, arch: str) -> tuple[int, int]:
    """How many parameters and features one of our networks has."""
    with torch.device("meta"):
        network = models.build(model, n_channels, n_classes, arch)
    return sum(p.numel() for p in network.parameters()), n_features(network)


def demands_of(spec: RunSpec, recipe: Recipe, n_train: int) -> own.Demands:
    """What the training asks of a network."""
    method, one_left = methods.module(spec.method), n_train % recipe.batch_size == 1 and not recipe.drop_last
    parts, twice = getattr(method, "NEEDS", ()), "double_backward" in method.PASSES
    return own.Demands(spec.method if parts or twice else "", parts, twice, recipe.average > 0, one_left)


@functools.cache
def checked(door: str, shape: tuple[int, int, int], n_classes: int, demands: own.Demands) -> tuple[int, int]:
    """own.check, once for all runs that demand the same. door: as JSON."""
    return own.check(json.loads(door), shape, n_classes, demands)


def build_all(specs: list[RunSpec], config: dict[str, Any]) -> list[str]:
    """Build every method and network of a grid, ours without memory. A line for each network that is not ours.

    Left out are those on data that are not prepared.

    Raises: BadInput for the first that cannot be built, or not shared by as many processes as the config says.
    """
    networks: dict[str, None] = {}
    for spec in {replace(spec, seed=0): spec for spec in specs}.values():  # a seed changes no recipe
        if catalog.facts(spec.dataset) is None:
            continue
        recipe = resolve(spec, config)
        task, method = build_method(spec, recipe, torch.device("meta"))
        n_processes = config["processes"].get(spec.dataset, 1)
        if recipe.network:
            what = f"{spec.model} is {shown(recipe.network)}"
            networks[f"{what}: {task.n_params:,} parameters, tried on images as {spec.dataset}'s"] = None
            if n_processes > 1:
                processes.check_batchnorm(network_on_meta(spec, recipe), "cuda", differentiates_twice(spec.method))
        if n_processes > 1 and hasattr(method, "ONE_PROCESS"):
            raise BadInput(
                f"config: processes: {spec.dataset} has {n_processes}, but {spec.method} cannot be shared: "
                f"{method.ONE_PROCESS}. Put its runs into a config of their own."
            )
    return list(networks)


def what_is_trained(spec: RunSpec, recipe: Recipe, method: Method) -> dict[str, Any]:
    """The part of run.json that another machine would write, too."""
    redraws = getattr(method, "redraws", lambda epoch: False)
    return {
        "run": spec.name,
        "recipe": json.loads(recipe.to_json()),
        "data": catalog.said(spec.dataset),
        "config": asdict(method.config),
        "redrawn": [epoch for epoch in range(1, recipe.epochs + 1) if redraws(epoch)],
        **methods.made_by(spec.method),
        "images": f"D_{spec.subset[0]}^{spec.subset[1]} by {spec.ranked_by.name}" if spec.subset else "all",
    }


def where_it_runs(device: torch.device, together: Processes) -> dict[str, Any]:
    """The part of run.json that depends on the machine."""
    return {
        "versions": {"fastat": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "git_commit": git_commit(),
        "device": devices.name(device),
        "machine": numerics.machine(),
        "processes": together.size,
    }


def git_commit() -> str:
    """The commit of this code, `-dirty` if it was changed since; '' outside a clone."""
    if not IN_CLONE:  # the folder that it is installed in may lie in another repository
        return ""
    # `describe --dirty` writes the index: killed then, it leaves a lock that stops every commit
    command = ["git", "--no-optional-locks", "-C", str(ROOT), "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        commit = said[0].removeprefix("# branch.oid ")
        return commit + "-dirty" * any(not line.startswith("#") for line in said)
    except (OSError, subprocess.CalledProcessError):
        return ""
