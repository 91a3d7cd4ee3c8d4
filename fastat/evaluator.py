"""The evaluator from one's own Python: any network, any images. `import fastat` shows it as fastat.evaluate."""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fastat.config.attack_names import check_attack, parse, parse_list
from fastat.config.grid import check_pgd_step, protocols_of
from fastat.config.schema import validate
from fastat.data.datasets import Part
from fastat.data.subsets import stratified
from fastat.errors import BadInput
from fastat.evaluation import autoattack, named, probes, whitebox
from fastat.evaluation.whitebox import Row
from fastat.library import as_it_was, classes, device_of, pixels, radius
from fastat.machine import devices
from fastat.networks import own
from fastat.report import sanity
from fastat.report.results import of_rows
from fastat.report.statistics import wilson
from fastat.report.tidy import MEASURED, evaluated

SHOWN = ("clean", "fgsm", "pgd10", "pgd50", "aa")
NOBODY = ("own", "own", "1/255", "own", "paper", "0")  # a run's name, which the sanity panel wants


@dataclass(frozen=True)
class Evaluation:
    """What a network withstands.

    whitebox, autoattack: a row for each attack and image, as eval/whitebox.csv and eval/autoattack.csv have them
    (docs/files.md): attack, index (of the image), label, correct (1 or 0), step.
    table: accuracy in % of clean, FGSM, PGD10, PGD50 and AutoAttack (aa), on n images, with the 95 % interval (low,
    high) that so few images leave.
    sanity: `ok`, `masking suspected` or `not measured`; failed: the checks that say so (docs/warnings.md).
    attacks: likewise rows, of the attacks that were asked for by name, as eval/attacks.csv has them.
    """

    whitebox: list[Row]
    autoattack: list[Row]
    table: pd.DataFrame
    sanity: str
    failed: list[str]
    attacks: list[Row] = field(default_factory=list)

    def __str__(self) -> str:
        """The table, and what the panel says."""
        failed = f" ({'; '.join(self.failed)})" if self.failed else ""
        return f"{self.table.round(1).to_string(index=False)}\nsanity: {self.sanity}{failed}"


def evaluate(
    model: nn.Module,
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    eps: float,
    *,
    n_autoattack: int | None = None,
    attacks: Sequence[str] = (),
    batch_size: int = 500,
    pgd_step: str = "0.2 eps",
    pgd_restarts: int = 1,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> Evaluation:
    """Attack a network by FGSM, PGD10, PGD50 and AutoAttack, and look for masked gradients, as every run here is.

    Shapes:  x (n, C, H, W), uint8, or float in [0, 1]; y (n,), whole numbers from 0.
    model:   in eval mode, pixels in [0, 1] -> logits (B, K); what it normalises it does inside. A copy is attacked.
    eps:     the L-infinity radius in pixel units, as 8 / 255.
    n_autoattack: how many images AutoAttack attacks, every class in its share; None: all, 0: none. It takes most of the
             time.
    attacks: more of them by name, as ["pgd-20 alpha=0.25eps restarts=10 best", "autoattack L2 eps=0.5"]
             (docs/attacks.md); those of AutoAttack attack n_autoattack images.
    batch_size, seed: part of the protocol: draws depend on them.
    Effects: none on the model, on torch's global generators and precision. The same arguments give the same verdicts.
    Raises:  BadInput (a ValueError) naming rule, value and way out.
    """
    images, labels, eps = pixels(x), classes(y, len(x)), radius(eps)
    if not isinstance(model, nn.Module):
        raise BadInput(f"model must be a torch.nn.Module, got {type(model).__name__}")
    n = len(images) if n_autoattack is None else n_autoattack
    if type(n) is not int or not 0 <= n <= len(images):
        raise BadInput(
            f"n_autoattack must be a number of images from 0 to {len(images)}, or None, got {n_autoattack!r}"
        )
    block = {"batch_size": batch_size, "pgd_step": pgd_step, "pgd_restarts": pgd_restarts, "seed": seed}
    block |= {"autoattack": {"n_images": n or "all", "batch_size": batch_size}}
    validate(block, "config#/properties/evaluation", "evaluate")
    check_pgd_step(block, "", [255 * eps])
    whitebox.require_eval(model)
    names = parse_list(attacks, "attacks")
    if not n and (by_parts := [name for name in names if parse(name).parts]):
        raise BadInput(f"n_autoattack is 0, and {by_parts[0]!r} attacks so many images. Leave one of them out")
    place = device_of(device)
    with as_it_was(), tempfile.TemporaryDirectory() as folder:
        devices.set_precision("float32")
        network, n_classes = tried(model, images, labels)
        for name in names:
            check_attack(parse(name), eps, tuple(images.shape[1:]), n_classes)
        network = network.to(place)
        part = Part(images.to(place), labels.to(place), (images.shape[2], images.shape[3]))
        protocol = whitebox.Protocol(eps, batch_size, pgd_step, pgd_restarts, seed)
        rows = list(whitebox.attack_all(network, part, protocol))
        steps = list(probes.single_steps(network, part, eps=eps, seed=seed))
        broken: list[Row] = []
        if n:
            index, partial = stratified(part.labels, n, seed=0), Path(folder) / "partial.csv"
            broken = autoattack.standard(
                network, part.take, index, eps=eps, batch_size=batch_size, seed=seed, partial=partial
            )
        by_name: list[Row] = []
        for number, (name, said) in enumerate(protocols_of(named.in_order(names), block).items()):
            if parse(name).is_in_suites(eps):
                by_name += named.last_words(broken, name)
                continue
            partial, fallen = Path(folder) / f"{number}.csv", named.broken_before(name, by_name)
            by_name += named.attack_all(network, part, name, eps=eps, protocol=said, partial=partial, broken=fallen)
    by_name.sort(key=lambda row: str(row["attack"]))
    return summed_up(rows, broken, steps, n_classes, by_name)


def tried(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[nn.Module, int]:
    """A copy of the model on the CPU, which gives logits of its own for every image, and how many.

    Raises: BadInput for weights that are no numbers, logits that are none, and labels beyond them.
    """
    called, network = f"{type(model).__name__} that you gave", copy.deepcopy(model).cpu()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
            raise BadInput(f"network {called}: {name} holds what is no number: no accuracy would mean anything")
    own.usual_layout(network)
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    x = own.made_up(shape)
    with torch.no_grad(), own.said(called, f"it fails on images of shape {tuple(x.shape)}"):
        logits = network(x)
    wide = isinstance(logits, Tensor) and logits.ndim == 2
    own.check_eval(called, network, x, int(logits.shape[1]) if wide else int(labels.max()) + 1)
    if int(labels.max()) >= logits.shape[1]:
        raise BadInput(f"labels must be below the network's {logits.shape[1]} classes, got {int(labels.max())}")
    return network, int(logits.shape[1])


def summed_up(rows: list[Row], broken: list[Row], steps: list[Row], n_classes: int, by_name: list[Row]) -> Evaluation:
    """The accuracies with their intervals, and the sanity panel's word."""
    every = {"whitebox": rows, "autoattack": broken, "steps": steps, "attacks": by_name}
    tables = {name: as_arrays(part) for name, part in every.items() if part}
    numbers = [(metric, value, n) for metric, _, value, n in evaluated(tables)]
    shown = [*SHOWN, *dict.fromkeys(row["attack"] for row in by_name)]
    found = {str(metric): (float(str(value)), int(str(n))) for metric, value, n in numbers if metric in shown}
    lines = [(name, *found[name], *wilson(*found[name])) for name in shown if name in found]
    every_number = [*numbers, ("n_classes", n_classes, None)]
    seen = pd.DataFrame([(*NOBODY, metric, None, value, n) for metric, value, n in every_number], columns=MEASURED)
    panel = sanity.panel(of_rows(seen).runs)
    failed = panel.loc[panel["holds"] == 0, "check"].astype(str).tolist()
    table = pd.DataFrame(lines, columns=["attack", "accuracy", "n", "low", "high"])
    return Evaluation(rows, broken, table, str(panel["verdict"].iloc[0]), failed, by_name)


def as_arrays(rows: list[Row]) -> dict[str, np.ndarray]:
    """Rows as columns, as report/verify.py reads them from a file."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
