"""What the official code of six methods gave on images, networks and draws made from seeds, and what ours give there.

official.json holds norms, sums and single pixels of some steps, and says how the inputs are made. Ours run in a process
of their own, this file as a script: torch's draws and sums are those of AVX2 there, as the official ones were.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

import methods
from fastat import ROOT, store
from fastat.config.recipe import Recipe, Schedule
from fastat.data.datasets import Part, TrainingStream
from fastat.machine import numerics
from fastat.networks import models
from fastat.training.learner import SGDLearner
from fastat.types import Task

OFFICIAL = json.loads((Path(__file__).parent / "official.json").read_text(encoding="utf-8"))
CASES = OFFICIAL["cases"]
FIGURES = ("steps", "loss", "cos", "generator_loss", "state_at_end_of_epoch", "generator_l2_after")
BATCH = 16
HAS_AVX2 = "avx2" in numerics.processor().get("flags", "").split()


def images(n):
    """n training images with many saturated pixels, and their labels."""
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(-20, 276, (n, 3, 32, 32), generator=rng).clamp(0, 255).to(torch.uint8)
    return Part(pixels, (torch.arange(n) % 10)[torch.randperm(n, generator=rng)], (32, 32))


def network(arch, dtype):
    """A tiny network whose BatchNorms are not as new."""
    torch.manual_seed(0)
    model = models.build("preact_tiny", 3, 10, arch)
    rng = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            shape = layer.weight.shape
            layer.weight.data = 0.5 + torch.rand(shape, generator=rng)
            layer.bias.data = 0.2 * torch.randn(shape, generator=rng)
            layer.running_mean = 0.2 * torch.randn(shape, generator=rng)
            layer.running_var = 0.5 + torch.rand(shape, generator=rng)
    model.to(dtype).train()
    mean, std = models.ARCHS[arch]["preact"].statistics_of(10)
    normalise = model.stem[0]
    normalise.mean, normalise.std = (torch.tensor(t, dtype=dtype).reshape(-1, 1, 1) for t in (mean, std))
    return model


class Watched(SGDLearner):
    """Notes the gradient of the last step."""

    def apply(self, decay=None):
        self.grad = torch.cat([p.grad.flatten() for p in self.model.parameters()])
        super().apply(decay)


def ours(name, case, dtype):
    """The figures of one case: of every step as far as it goes, and of the method's state after every epoch."""
    model, part = network(case["arch"], dtype), images(case["n"])
    schedule = Schedule(**case.get("schedule", {"kind": "piecewise"}))
    recipe = Recipe(case["epochs"], BATCH, schedule, case["weight_decay"])
    stream = TrainingStream(part, batch_size=BATCH, drop_last=case["drop_last"], pad=4, flip=True, seed=5)
    n_params = sum(p.numel() for p in model.parameters())
    task = Task(
        float(Fraction(case["eps"])), case["n"], 10, (3, 32, 32), (3, 40, 40), case["epochs"], BATCH, stream.n_batches,
        n_params, torch.device("cpu"), torch.Generator().manual_seed(11),
    )  # fmt: skip
    torch.set_default_dtype(dtype)
    torch.manual_seed(77)
    method, learner = methods.build(name, task, **case["params"]).to(dtype), Watched(model, recipe)
    found = {"steps": [], "loss": [], "cos": [], "generator_loss": [], "state_at_end_of_epoch": {}}
    if name == "fgsm_sdi":
        descend = method.adam.step
        method.adam.step = lambda loss: (found["generator_loss"].append(float(loss.detach())), descend(loss))
    for epoch in range(1, case["epochs"] + 1):
        method.begin_epoch(model, learner, epoch)
        for batch in stream.epoch(epoch):
            if (step := len(found["steps"])) > case["steps"][-1]["step"]:
                return found
            batch = replace(batch, x=batch.x.to(dtype).contiguous())
            learner.seek(epoch - 1 + batch.number / stream.n_batches)
            if "lrs" in case:
                learner.optimizer.param_groups[0]["lr"] = case["lrs"][step]
            report = method.train_batch(model, batch, learner)
            found["steps"].append(figures(step, batch, report.x_adv, model, learner))
            found["loss"].append(float(report.loss.detach()))
            found["cos"].append(float(report.stats.get("cos", 0)))
        found["state_at_end_of_epoch"][str(epoch)] = state(method)
    if name == "fgsm_sdi":
        weights = [t for t in method.generator.state_dict().values() if t.is_floating_point()]
        found["generator_l2_after"] = norm(weights)
    return found


def norm(tensors):
    """The length of all entries together, summed in float64."""
    return float(sum(t.detach().double().square().sum() for t in tensors).sqrt())


def figures(step, batch, x_adv, model, learner):
    """What official.json says of a step."""
    delta, group = x_adv - batch.x, learner.optimizer.param_groups[0]
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    return {
        "step": step,
        **{key: group[key] for key in ("lr", "momentum", "weight_decay")},
        "batch_index_first4": batch.index[:4].tolist(),
        "x_adv_sum": float(x_adv.double().sum()),
        "delta_l2": norm([delta]),
        "delta_abs_max": float(delta.abs().max()),
        "delta_abs_mean": float(delta.double().abs().mean()),
        "x_adv_at_0_0_16_16to20": x_adv[0, 0, 16, 16:20].tolist(),
        "grad_l2": norm([learner.grad]),
        "grad_abs_max": float(learner.grad.abs().max()),
        "weights_l2_after": norm(model.parameters()),
        "bn_running_l2_after": norm([t for layer in layers for t in (layer.running_mean, layer.running_var)]),
        "bn_updates_after": int(layers[0].num_batches_tracked),
    }


def state(method):
    """What official.json says of a method's state, as far as it has one."""
    found = {}
    if hasattr(method, "delta"):
        kept = method.delta.delta
        found |= {"delta_l2": norm([kept]), "delta_sum": float(kept.double().sum())}
    if hasattr(method, "step_size"):
        v = method.step_size.v / BATCH**2
        found |= {"v_official_sum": float(v.sum()), "v_official_max": float(v.max())}
        found |= {"v_official_first3": v[:3].tolist()}
    if hasattr(method, "momentum"):
        found |= {"momentum_abs_sum": float(method.momentum.delta.abs().sum())}
    return found


def official(name):
    """The figures of a case, in our units."""
    case = {key: value for key, value in CASES[name].items() if key in FIGURES}
    times = {"lr": 1 / BATCH, "weight_decay": BATCH, "grad_l2": BATCH, "grad_abs_max": BATCH}
    if name.startswith("atta"):
        case["steps"] = [{**one, **{key: one[key] * factor for key, factor in times.items()}} for one in case["steps"]]
    return case


def flat(figures, place=""):
    """{"steps": [{"lr": 0.1}]} -> {"/steps/0/lr": 0.1}."""
    if not isinstance(figures, dict | list):
        return {place: figures}
    parts = figures.items() if isinstance(figures, dict) else enumerate(figures)
    return {key: value for name, inner in parts for key, value in flat(inner, f"{place}/{name}").items()}


@pytest.fixture(scope="module")
def found():
    """The figures of ours in every case."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not HAS_AVX2, reason="the official figures are of AVX2's draws, and here is no AVX2")
@pytest.mark.parametrize("name", CASES)
def test_a_methods_steps_are_those_of_its_official_code(name, found):
    theirs, mine = official(name), found[name]
    mine["steps"] = [mine["steps"][one["step"]] for one in theirs["steps"]]
    compared = {key: value for key, value in flat(mine).items() if key in flat(theirs)}
    assert compared == pytest.approx(flat(theirs), rel=OFFICIAL["tolerance"][name.split("/")[1]], abs=0)


def in_every_case():
    """The figures of ours. In a float64 case nothing is kept in float32: for a process that does nothing else."""
    found, unpack = {}, store.DeltaStore._unpack
    for name, case in CASES.items():
        method, kind = name.split("/")
        dtype = getattr(torch, kind)
        store.DTYPES["float32"] = dtype
        store.DeltaStore._unpack = unpack if kind == "float32" else lambda _store, stored: stored
        torch.set_default_dtype(torch.float32)
        found[name] = ours("fgsm_ga" if method.startswith("fgsm_ga") else method, case, dtype)
    return found


if __name__ == "__main__":
    print(json.dumps(in_every_case()))
