"""One evaluation or probe of a finished run: its weights are attacked, and looked at, into results/runs/NAME/eval."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fastat.config.catalog import CATALOG
from fastat.config.recipe import fingerprint
from fastat.config.spec import RunSpec
from fastat.data import datasets, subsets
from fastat.data.datasets import ImageSet
from fastat.errors import BadInput
from fastat.evaluation import autoattack, probes, whitebox
from fastat.machine import devices, files
from fastat.networks import models

COLUMNS = {"whitebox": whitebox.COLUMNS, "surfaces": probes.SURFACE_COLUMNS, "steps": probes.STEP_COLUMNS}
COLUMNS |= {"autoattack": whitebox.COLUMNS}


class Finished:
    """A finished run: its run.json, its data, and its networks in eval mode.

    Raises: BadInput if the run is not finished, or a file of it damaged.
    """

    def __init__(self, spec: RunSpec, results: Path, device: torch.device):
        self.spec, self.results, self.device = spec, results, device
        self.folder = results / "runs" / spec.name
        if not (self.folder / "run.json").exists():
            way_out = f"Train it first: python -m fastat train --run {spec.name}"
            raise BadInput(f"{self.folder} holds no finished run. {way_out}")
        self.about: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))

    def data(self) -> ImageSet:
        """What it was trained on, and the test images."""
        sizes = {key: self.about["recipe"][key] for key in ("n_train", "n_test")}
        return datasets.load(self.results / f"data/{self.spec.dataset}.safetensors", self.device, **sizes)

    def network(self, file: str = "weights.safetensors") -> nn.Module:
        """The network with the weights of one of its files."""
        facts, path = CATALOG[self.spec.dataset], self.folder / file
        arch = self.about["recipe"].get("arch", "shared")
        model = models.build(self.spec.model, facts.shape[0], facts.n_classes, arch)
        try:
            held = load_file(path)
            model.load_state_dict(held)
        except (RuntimeError, OSError, SafetensorError) as error:
            cause = " ".join(str(error).split())[:300]
            raise BadInput(f"{path} is damaged or of another network: {cause}. Train it again.") from error
        for name, tensor in held.items():
            if not tensor.isfinite().all():
                raise BadInput(f"{path}: {name} holds what is no number: no accuracy would mean anything. Train again.")
        return model.to(self.device).to(memory_format=torch.channels_last).eval()

    def write(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write eval/NAME.csv."""
        files.write_rows(self.folder / f"eval/{name}.csv", COLUMNS[name], list(rows))


def evaluate(spec: RunSpec, protocol: dict[str, Any], results: Path, device: torch.device, suite: str = "all") -> None:
    """Attack the weights and look at their loss: whitebox, surfaces, steps and autoattack. A diverged run has no rows.

    protocol: `evaluation` of the config. suite: `whitebox`, `autoattack` or `all`.
    """
    devices.set_precision("float32")
    run = Finished(spec, results, device)
    if run.about["status"] == "diverged":
        for name in COLUMNS:
            run.write(name, [])
        return
    data, model = run.data(), run.network()
    if suite in ("whitebox", "all"):
        attack_and_probe(run, model, data, protocol)
    if suite in ("autoattack", "all"):
        run.write("autoattack", autoattacked(run, model, data, protocol))


def attack_and_probe(run: Finished, model: nn.Module, data: ImageSet, protocol: dict[str, Any]) -> None:
    """All but AutoAttack."""
    eps, seed = run.spec.eps, protocol["seed"]
    keys = ("batch_size", "pgd_step", "pgd_restarts", "seed")
    settings = whitebox.Protocol(eps, **{key: protocol[key] for key in keys})
    run.write("whitebox", whitebox.attack_all(model, data.test, settings))
    run.write("surfaces", probes.rounded(probes.last_surfaces(model, data.test, eps=eps, seed=seed)))
    run.write("steps", probes.rounded(probes.single_steps(model, data.train, eps=eps, seed=seed)))


def autoattacked(run: Finished, model: nn.Module, data: ImageSet, protocol: dict[str, Any]) -> list[dict[str, Any]]:
    """AutoAttack's rows. Its finished images stay in state/, so that they are not attacked again."""
    aa, seed, n_test = protocol["autoattack"], protocol["seed"], len(data.test)
    index = subsets.stratified(data.test.labels, n_test if aa["n_images"] == "all" else aa["n_images"], seed=0)
    weights = hashlib.sha256((run.folder / "weights.safetensors").read_bytes()).hexdigest()
    partial = run.folder / f"state/autoattack-{fingerprint(aa, seed, index.tolist(), weights)}.csv"
    options = {"eps": run.spec.eps, "batch_size": aa["batch_size"], "seed": seed}
    with files.exclusive(run.folder / "state"):
        return autoattack.standard(model, data.test.take, index, **options, partial=partial)


def probe(spec: RunSpec, results: Path, device: torch.device) -> None:
    """Loss surfaces of D_1 and D_10 around the collapse, from kept snapshots (Fig. 2). A diverged run has no rows."""
    devices.set_precision("float32")
    run, path = Finished(spec, results, device), results / "runs" / spec.name / "eval/surfaces_by_epoch.csv"
    if run.about["status"] == "diverged":
        files.write_rows(path, probes.SURFACE_COLUMNS, [])
        return
    data, tenth = run.data(), subsets.ranks(spec, results).to(device)
    groups = {f"D{k}": torch.nonzero(tenth == k).flatten()[:128] for k in (1, 10)}
    rows: list[dict[str, Any]] = []
    for epoch in probes.around(run.about["collapse"]["first"], run.about["epochs_done"]):
        model = run.network(f"snapshots/epoch{epoch:03d}.safetensors")
        rows += probes.surfaces(model, data.train, groups, eps=spec.eps, seed=0, epoch=epoch)
    files.write_rows(path, probes.SURFACE_COLUMNS, probes.rounded(rows))
