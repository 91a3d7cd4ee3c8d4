"""The suite from one's own Python: train one method on one's own tensors. `import fastat` shows it as fastat.train."""

import copy
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastat import ROOT
from fastat.config.catalog import CATALOG, DatasetFacts
from fastat.config.grid import overlay
from fastat.config.recipe import Recipe, check_names, checked, fingerprint, n_held_out, of_length, resolve
from fastat.config.schema import read_yaml, validate
from fastat.config.spec import RunSpec
from fastat.data import prepared, subsets
from fastat.data.datasets import ImageSet, Part
from fastat.errors import BadInput, did_you_mean
from fastat.features import n_features
from fastat.machine import devices, numerics
from fastat.machine.processes import ALONE
from fastat.machine.seeds import generator
from fastat.networks import models, own
from fastat.training import run, trainer
from fastat.training.learner import SGDLearner

CPU = torch.device("cpu")
OWN = "own"  # what the images' data set is called, where its recipe is none of ours
ON_GRID = 1e-3  # 255ths: floats as near as that to whole ones were read from bytes, and are kept as such


class Diverged(ArithmeticError):
    """A loss, weight or statistic became no number. `log`: the rows of the epochs until then."""

    def __init__(self, cause: str, rows: list[dict[str, Any]]):
        super().__init__(f"training diverged: {cause}. A lower learning rate may help: schedule={{'lr': ...}}")
        self.log = rows


def train(
    method: str,
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    network: nn.Module | str,
    *,
    eps: float,
    epochs: int | None = None,
    variant: str = "paper",
    dataset: str | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    folder: str | Path | None = None,
    **recipe: Any,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train a network on your own images by one method; the trained network in eval mode, and a row of log an epoch.

    Shapes:  x (n, C, H, W), uint8, or float in [0, 1]; y (n,), whole numbers from 0.
    network: a module, pixels in [0, 1] -> logits (B, K), of which a copy is trained; or the name of one of ours.
    eps:     the L-infinity radius in pixel units, as 8 / 255.
    recipe:  the method's `variant` as it is trained on `dataset`, one of ours, or on a set of one's own: as CIFAR10,
             in proportion to eps. Over it what you give by name: batch_size, weight_decay, pad, flip,
             schedule={"lr": 0.05}, params={"beta": 0.5} ... `epochs` stretches the recipe's schedule. Where a recipe
             chooses by eps, the nearest whole 255th counts.
    folder:  where run.json, log.csv, weights.safetensors and, until it is done, the state are written: run again to go
             on. None: nothing is written.
    Effects: none on global generators (torch's, Python's, numpy's) and precision, nor on `network`. The same seed gives
             the same weights.
    Raises:  BadInput (a ValueError) naming rule, value and way out; Diverged; with a folder, trainer.Stopped on Ctrl-C.
    """
    images, labels = pixels(x), classes(y, len(x))
    spec = spec_of(method, variant, dataset, network, eps, seed)
    settled, place = recipe_of(spec, epochs, recipe), device_of(device)
    with as_it_was():
        model, n_classes = network_of(network, spec, settled, images, labels)
        part = Part(images.to(place), labels.to(place), (images.shape[2], images.shape[3]))
        with usual_layout(model) if isinstance(network, nn.Module) else nullcontext():
            training = training_of(spec, settled, eps, part, n_classes, model.to(place))
            if folder is None:
                rows, cause = trainer.train_in_memory(training)
            else:
                rows, cause = trainer.train(training, Path(folder).expanduser())
    if cause:
        raise Diverged(cause, rows)
    return training.learner.reported.eval(), rows


def pixels(x: Tensor | np.ndarray) -> Tensor:
    """Images as the suite keeps them: uint8, or as many 255ths where they are none.

    Raises: BadInput if they are no images.
    """
    images = torch.as_tensor(x).detach()
    if images.ndim != 4 or not images.numel():
        raise BadInput(f"x must be images (n, C, H, W), got the shape {tuple(images.shape)}. One image is x[None]")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise BadInput(f"x must be uint8, or float in [0, 1], got {images.dtype}. Write x.to(torch.uint8), or x / 255")
    low, high = float(images.min()), float(images.max())
    if not (0 <= low and high <= 1):  # neither is of NaN
        way_out = "Divide by 255 if they are bytes; normalise inside the network, not before"
        raise BadInput(f"pixels must lie in [0, 1], got {low:g} to {high:g}. {way_out}")
    scaled = images.to(torch.float32) * 255
    whole = scaled.round()
    return whole.to(torch.uint8) if float((scaled - whole).abs().max()) < ON_GRID else scaled


def classes(y: Tensor | np.ndarray, n: int) -> Tensor:
    """Labels as int64.

    Raises: BadInput if they are no labels of n images.
    """
    labels = torch.as_tensor(y).detach()
    if labels.shape != (n,):
        raise BadInput(f"y must have a label for each of {n} images, got the shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.is_complex():
        raise BadInput(f"labels must be whole numbers, got {labels.dtype}. Write y.long() if they are")
    if int(labels.min()) < 0:
        raise BadInput(f"labels must be 0 or more, got {int(labels.min())}")
    return labels.long()


def radius(eps: float) -> float:
    """The radius as it is.

    Raises: BadInput if it is none in the unit of pixels.
    """
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 0.5:
        hint = f" Did you mean {eps:g} / 255?" if isinstance(eps, int | float) and 0.5 <= eps < 128 else ""
        raise BadInput(f"eps must be above 0 and below 0.5, in the unit of pixels, got {eps!r}.{hint}")
    return float(eps)


def spec_of(method: str, variant: str, dataset: str | None, network: nn.Module | str, eps: float, seed: int) -> RunSpec:
    """The names of what is trained.

    Raises: BadInput for one that there is not, and for a radius or seed that is none.
    """
    if dataset is not None and dataset not in CATALOG:
        raise BadInput(f"unknown dataset {dataset!r}, whose recipe is taken.{did_you_mean(dataset, CATALOG)}")
    if isinstance(network, str) and network not in models.MODELS:
        raise BadInput(f"unknown model {network!r}.{did_you_mean(network, models.MODELS)}. Or give a torch.nn.Module")
    if not isinstance(network, str | nn.Module):
        raise BadInput(f"network must be a torch.nn.Module or the name of one of ours, got {type(network).__name__}")
    radius(eps)
    if type(seed) is not int or seed < 0:
        raise BadInput(f"seed must be a whole number, 0 or more, got {seed!r}")
    name = network if isinstance(network, str) else "own"
    spec = RunSpec(dataset or OWN, name, max(1, round(eps * 255)), method, variant, seed)
    check_names(spec, {})
    if spec.subset:
        raise BadInput(f"variant {variant!r} trains on a part of a data set that was ranked: give these images as x")
    return spec


def recipe_of(spec: RunSpec, epochs: int | None, fields: dict[str, Any]) -> Recipe:
    """The recipe of the variant on the data set, with the fields that were given laid over it.

    Raises: BadInput as config/recipe.py does.
    """
    for name in ("n_train", "n_test", "network", "method_version"):
        if name in fields:
            raise BadInput(
                f"{name} is not said here: images and network are those that you give, methods have versions"
            )
    where = f"recipe of {spec.dataset}/{spec.method}/{spec.variant}"
    if epochs is not None:
        validate({"epochs": epochs}, "recipe", where)
    schedule = fields.get("schedule")
    placed = isinstance(schedule, dict) and schedule.keys() & {"kind", "milestones", "points", "momentum_points"}
    stretch = epochs is not None and not placed and "weight_decay_epochs" not in fields
    own = fields if epochs is None or stretch else {**fields, "epochs": epochs}
    config = read_yaml(ROOT / "config/config.yaml")
    config = overlay(config, {"recipes": {spec.dataset: {f"{spec.method}/{spec.named}": own}}, "datasets": {OWN: {}}})
    recipe = replace(resolve(spec, config), n_train=None, n_test=None)
    if not (stretch and epochs):
        return recipe
    longer = of_length(recipe, epochs)
    return checked(replace(longer, params={**longer.params, **fields.get("params", {})}), where)


def device_of(wanted: str | torch.device) -> torch.device:
    """A CPU or GPU.

    Raises: BadInput if it is neither, or not here.
    """
    present = torch.cuda.is_available()
    if wanted == "auto":
        return torch.device("cuda" if present else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"device must be auto, cpu, cuda or cuda:N, got {wanted!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise BadInput(f"device must be auto, cpu, cuda or cuda:N, got {wanted!r}")
    if device.type == "cuda" and not (present and (device.index or 0) < torch.cuda.device_count()):
        raise BadInput(
            f"device is {wanted}, and torch sees {torch.cuda.device_count()} GPUs here. Write `cpu` or `auto`"
        )
    return device


@contextmanager
def as_it_was() -> Iterator[None]:
    """What a training sets for the whole process is set back: global generators, and how products are computed."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, conv.fp32_precision
    deterministic = torch.backends.cudnn.deterministic
    drawn = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        matmul.fp32_precision, conv.fp32_precision = before
        torch.backends.cudnn.deterministic = deterministic


@contextmanager
def usual_layout(model: nn.Module) -> Iterator[None]:
    """own.usual_layout, inside."""
    hooks = own.usual_layout(model)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def network_of(
    network: nn.Module | str, spec: RunSpec, recipe: Recipe, images: Tensor, labels: Tensor
) -> tuple[nn.Module, int]:
    """The network and its number of classes: ours with its first weights, or a copy of another that can be trained.

    Raises: BadInput if its parameters or logits are not as they must be, or the method needs parts that it has not.
    """
    n_labels = int(labels.max()) + 1
    if isinstance(network, str):
        torch.manual_seed(generator(CPU, spec.seed, "init").initial_seed())
        ours = models.build(network, images.shape[1], max(n_labels, 2), recipe.arch)
        return ours.to(memory_format=torch.channels_last), max(n_labels, 2)
    called, model, shape = f"{type(network).__name__} that you gave", copy.deepcopy(network).cpu(), images.shape[1:]
    own.check_state(called, model)
    with torch.no_grad(), own.said(called, f"it fails on images of shape {tuple(shape)}"):
        logits = copy.deepcopy(model).eval()(images[:2].float() / 255)
    n_classes = int(logits.shape[1]) if isinstance(logits, Tensor) and logits.ndim == 2 else n_labels
    copies = copy.deepcopy(model), copy.deepcopy(model)
    for one in copies:
        own.usual_layout(one)
    demands = run.demands_of(spec, recipe, len(images) - n_held_out(recipe.hold_out, len(images)))
    own.tried(called, *copies, (int(shape[0]), int(shape[1]), int(shape[2])), n_classes, demands)
    if n_labels > n_classes:
        raise BadInput(f"labels must be below the network's {n_classes} classes, got {n_labels - 1}")
    return model, n_classes


def training_of(
    spec: RunSpec, recipe: Recipe, eps: float, part: Part, n_classes: int, model: nn.Module
) -> trainer.Training:
    """The training, of images and a network that are on their device."""
    device = part.labels.device
    recipe = replace(recipe, numerics=numerics.settled(recipe.numerics, device))
    devices.set_precision(recipe.precision)
    sha256 = prepared.content_hash({"x": part.images.cpu().numpy(), "y": part.labels.cpu().numpy()})
    nothing = Part(part.images[:0], part.labels[:0], part.size)
    data, held_out = subsets.held_out(ImageSet("own", sha256, part, nothing, n_classes), recipe.hold_out)
    shape = (int(part.images.shape[1]), *part.size)
    sizes, rng = (sum(p.numel() for p in model.parameters()), n_features(model)), generator(device, spec.seed, "method")
    task = run.task_of(eps, DatasetFacts(shape, n_classes, len(part), 0), recipe, len(data.train), sizes, device, rng)
    method = run.method_of(spec, recipe, task)
    name = f"{spec.method}/{spec.variant}/seed{spec.seed}"
    first = prepared.content_hash({key: tensor.cpu().numpy() for key, tensor in model.state_dict().items()})
    made_from = fingerprint(name, eps, recipe.to_json(), sha256, first)
    about = {
        "run": name,
        "eps": eps,
        "recipe": json.loads(recipe.to_json()),
        "config": asdict(method.config),
        "made_from": made_from,
        "data_sha256": sha256,
        "n_parameters": task.n_params,
        "numerics": recipe.numerics,
        **run.where_it_runs(device, ALONE),
    }
    example = torch.zeros((task.batch_size, *shape), device=device)
    about["compiled"] = run.compiled(model, recipe, example, spec.method)
    learner, everyone = SGDLearner(model, recipe), data.train
    return trainer.Training(
        name, spec.seed, data, recipe, task, model, method, learner, everyone, held_out, made_from, about
    )
