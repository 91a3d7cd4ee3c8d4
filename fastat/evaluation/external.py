"""A checkpoint of others becomes a run like any other: its weights, its run.json, and the rows of its evaluation.

Before anything expensive its network is tried, and the accuracy on a few images looked at, by what its input is
normalised: names and shapes show neither a wrong normalisation nor the rules of a shortcut.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from fastat.config import catalog
from fastat.config.external import External
from fastat.config.networks import shown
from fastat.config.recipe import made_from
from fastat.data import datasets
from fastat.data.datasets import ImageSet, Part
from fastat.data.subsets import stratified
from fastat.errors import BadInput
from fastat.evaluation import run, whitebox
from fastat.machine import devices, files, numerics, seals
from fastat.machine.foreign import head
from fastat.networks import checkpoints, own
from fastat.networks.external import NAMED_STATISTICS, Opened, opened
from fastat.training.run import git_commit

log = logging.getLogger(__name__)
LOOKED_AT = 200  # images, for the accuracy by normalisation
BETTER = 10.0  # points of accuracy by which another normalisation is better than what was said, for a warning
SAME = ("recipe", "data_sha256", "source", "found", "network", "files")  # of two run.json of one evaluation


def evaluate(
    one: External, protocol: dict[str, Any], results: Path, device: torch.device, attacks: tuple[str, ...] = ()
) -> None:
    """Write the run's folder, and attack it as one.suite says.

    protocol: `evaluation` of the config, and `numerics`. attacks: more of them, by name.
    Raises: BadInput if the checkpoint cannot be used, before anything is written.
    """
    numerics.settled(protocol["numerics"], device)
    devices.set_precision("float32")
    source = of_file(one)
    every = opened(one, catalog.required(one.spec.dataset))
    if of_file(one) != source:
        raise BadInput(f"{one.weights} changed while it was read. Evaluate it again when nothing writes it any more.")
    data = load(one, results, device)
    chosen, looked = choose(one, every, data.test)
    keep(one, chosen, source, looked, data, results)
    run.evaluate(one.spec, one.protocol(protocol), results, device, one.suite, None, one.door, attacks)


def of_file(one: External) -> dict[str, Any]:
    """Name, size and sha256 of the checkpoint's file.

    Raises: BadInput if it cannot be read.
    """
    path = Path(one.weights).expanduser()
    head(path, checkpoints.WAY_OUT)
    return seals.of_file(path)


def load(one: External, results: Path, device: torch.device) -> ImageSet:
    """The data, with what is attacked as their test part."""
    facts, path = catalog.required(one.spec.dataset), results / f"data/{one.spec.dataset}.safetensors"
    if one.images not in (None, "all"):
        n = facts.n_train if one.recipe["part"] == "train" else facts.n_test
        if int(str(one.images)) > n:
            raise BadInput(f"images must be at most {n}, as many as {one.spec.dataset} has there, got {one.images}")
    return run.attacked(datasets.load(path, device), one.recipe)


def choose(one: External, every: list[Opened], part: Part) -> tuple[Opened, dict[str, float]]:
    """The network, tried, and its accuracy in % on a few images by what its input is normalised.

    Raises: BadInput if it cannot be attacked, if names and shapes fit several, or nobody says how it normalises.
    """
    for found in every:
        check(one, found.network, part)
    index = stratified(part.labels, min(LOOKED_AT, len(part)), seed=0)
    if len(every) > 1:
        accuracies = {f"--arch {found.arch}": right(found.network, part, index) for found in every}
        raise BadInput(
            f"{one.weights} fits {one.spec.model} by the rules of several archs, which names and shapes cannot tell: "
            f"say --arch. {told(accuracies, index)}"
        )
    chosen = every[0]
    looked = {"as said": right(chosen.network, part, index)}
    for name, statistics in NAMED_STATISTICS.items():
        network = chosen.behind(statistics, part.images.shape[1])
        looked[name] = right(network, part, index)
    chosen.network.eval()
    if chosen.unsaid:
        del looked["none"]
        looked = {"inside (it does it itself, or needs none)": looked.pop("as said"), **looked}
        raise BadInput(
            f"{one.weights}: say how the input of {one.spec.model} is normalised, by --normalise inside, cifar10, "
            f"imagenet, or MEAN STD. {told(looked, index)}"
        )
    warn(one, looked, index)
    return chosen, looked


def check(one: External, network: nn.Module, part: Part) -> None:
    """Raises: BadInput if the network cannot be attacked: see docs/own-network.md, What is refused."""
    called = shown(one.door) if one.door else one.spec.model
    whitebox.require_eval(network)
    x = own.made_up((part.images.shape[1], *part.size))
    own.check_eval(called, network, x, catalog.required(one.spec.dataset).n_classes)
    leaf = x.clone().requires_grad_()
    with own.said(called, "its logits have no gradient to the pixels", "Leave out detach(), no_grad() and rounding"):
        torch.autograd.grad(network(leaf).sum(), leaf)


def right(network: nn.Module, part: Part, index: torch.Tensor) -> float:
    """Accuracy in % on the images at `index`."""
    n_right, network = 0, network.to(index.device).eval()
    with torch.no_grad():
        for at in index.split(50):
            x, y = part.take(at)
            n_right += int((network(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum())
    return 100 * n_right / len(index)


def told(accuracies: dict[str, float], index: torch.Tensor) -> str:
    """`On 200 images it is right on: --arch nuat 12.0 %, --arch sdi_pgi 86.5 %`."""
    return f"On {len(index)} images it is right on: {', '.join(f'{name} {a:.1f} %' for name, a in accuracies.items())}"


def warn(one: External, looked: dict[str, float], index: torch.Tensor) -> None:
    """Say it if another normalisation gives more, or none gives more than guessing would."""
    said, best = looked["as said"], max(looked, key=lambda name: looked[name])
    guessing = 100 / catalog.required(one.spec.dataset).n_classes
    if looked[best] > said + BETTER:
        log.warning(
            "%s: WARNING: right on %.1f %% of %d images normalised as said, on %.1f %% by %s. If it was trained so, "
            "say it by --normalise", one.weights, said, len(index), looked[best], best,
        )  # fmt: skip
    elif said <= guessing + 200 * (guessing / 100 * (1 - guessing / 100) / len(index)) ** 0.5:
        log.warning(
            "%s: WARNING: right on %.1f %% of %d images, no more than guessing. Is it of these classes, in this order, "
            "and of this arch?", one.weights, said, len(index),
        )  # fmt: skip


def keep(
    one: External, chosen: Opened, source: dict[str, Any], looked: dict[str, float], data: ImageSet, results: Path
) -> None:
    """Write weights.safetensors and run.json; those of an earlier evaluation of the same stay. source: `of_file`.

    Raises: BadInput if another checkpoint has the name.
    """
    folder = results / "runs" / one.spec.name
    weights = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in chosen.network.state_dict().items()}
    )
    about = described(one, chosen, source, looked, data, hashlib.sha256(weights).hexdigest())
    path, to_weights = folder / "run.json", folder / "weights.safetensors"
    with files.exclusive(folder / "state"):
        if path.exists():
            held, wanted = seals.read(path), json.loads(json.dumps(about))
            others = [key for key in (*SAME, "made_from") if held.get(key) != wanted[key]]
            if other := [key for key in others if key in SAME] or others:  # made_from is of the rest, or of an old form
                raise BadInput(
                    f"{folder} has the evaluation of another checkpoint, or of this one otherwise ({', '.join(other)} "
                    f"of its run.json). Give this one another --name, or remove that: rm -r {folder}"
                )
        if not to_weights.exists() or seals.sha256(to_weights) != about["files"]["weights.safetensors"]:
            with files.atomic(to_weights) as partial:
                partial.write_bytes(weights)
        if not path.exists():
            seals.write(path, about)


def described(
    one: External, chosen: Opened, source: dict[str, Any], looked: dict[str, float], data: ImageSet, weights: str
) -> dict[str, Any]:
    """What run.json says. source: `of_file`. weights: the sha256 of weights.safetensors."""
    found = chosen.found
    about = {
        "run": one.spec.name,
        "status": "external",
        "cause": "",
        "epochs_done": 0,
        "recipe": one.recipe,
        "data": catalog.said(one.spec.dataset),
        "data_sha256": data.sha256,
        "n_parameters": sum(p.numel() for p in chosen.network.parameters()),
        "source": {
            **source,
            "entry": found.entry,
            "others": list(found.others),
            "prefix": found.prefix,
            "stored": list(found.kinds),
        },
        "found": {"arch": chosen.arch, "normalise": chosen.normalise},
        "clean_by_normalisation": looked,
        "network": own.source(one.door) if one.door else {},
        "versions": run.versions(),
        "git_commit": git_commit(),
        "files": {"weights.safetensors": weights},
    }
    return {**about, "made_from": made_from(about)}
