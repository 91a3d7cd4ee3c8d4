"""What does a method's step cost beyond its irreducible passes through the network?

    python benchmarks/step.py [--method atas,pgd10] [--model preact_tiny,preact_resnet18] [--repeats N]

The irreducible passes are the ones that the method declares (PASSES): the same network, batch, layout and BatchNorm
mode, nothing else, not even the optimiser; of FGSM-SDI also its generator. Step and passes alternate within one
process; the ratio is of medians, so that a busy machine slows both.
"""

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch
from torch.nn.functional import cross_entropy

import methods
from fastat.attacks import eval_mode, input_gradient
from fastat.cost.passes import Rehearsal, rehearse, seconds
from fastat.networks import models

SHAPES = {"preact_tiny": (1, 8, 8), "preact_tiny_s2": (1, 28, 28), "preact_resnet18": (3, 32, 32)}
BATCH = 128
KINDS = ("input_backward", "parameter_backward", "joint_backward", "double_backward")


def main() -> None:
    """Print a line per model and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default=",".join(methods.names()), help="a list with commas")
    parser.add_argument("--model", default="preact_tiny,preact_resnet18", help="a list with commas")
    parser.add_argument("--repeats", type=int, help="(default: 100 for small networks, 5 for preact_resnet18)")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}")
    print(f"{'model':16} {'method':14} {'step ms':>9} {'passes ms':>9} {'ratio':>6}")
    for model_name in args.model.split(","):
        repeats = args.repeats or (5 if model_name == "preact_resnet18" else 100)
        for name in args.method.split(","):
            step, passes = prepare(model_name, name)
            taken = seconds({"step": step, "passes": passes}, repeats)
            one, other = taken["step"] * 1000, taken["passes"] * 1000
            print(f"{model_name:16} {name:14} {one:9.2f} {other:9.2f} {one / other:6.3f}", flush=True)


def prepare(model_name: str, name: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """The method's step, and its passes alone, on the same network and batch."""
    shape = SHAPES[model_name]
    torch.manual_seed(0)
    model = models.build(model_name, shape[0], 10).to(memory_format=torch.channels_last)
    one = rehearse(partial(methods.build, name), model, shape, batch_size=BATCH)
    count = Counter(importlib.import_module(f"methods.{name}").PASSES)
    x, y = one.batch.x, one.batch.y

    params = list(model.parameters())
    backward = {kind: round(count[kind]) for kind in KINDS}  # SDI's 2.1 and 3.1: the batches that train no generator
    shared = max(0, sum(backward.values()) - backward["double_backward"] - round(count["forward"]))

    def passes() -> None:
        for _ in range(backward["input_backward"] - backward["double_backward"] - shared):
            with eval_mode(model):
                input_gradient(model, x, y)
        for k in range(backward["parameter_backward"] + backward["joint_backward"]):
            both = backward["joint_backward"] > 0
            leaf = x.clone().requires_grad_(both or k < shared)
            loss = cross_entropy(model(leaf), y)
            if k < shared:  # one forward pass serves an input and a parameter backward
                torch.autograd.grad(loss, leaf, retain_graph=True)
            loss.backward(inputs=[*params, leaf] if both else params)
        for _ in range(backward["double_backward"]):
            leaf = x.clone().requires_grad_()
            (grad,) = torch.autograd.grad(cross_entropy(model(leaf), y), leaf, create_graph=True)
            grad.square().sum().backward(inputs=params)
        for _ in range(round(count["forward"]) - sum(backward.values()) + backward["double_backward"] + shared):
            with torch.no_grad():
                model(x)
        stem_passes(model.stem, x, count)
        if name in EXTRA:
            EXTRA[name](one)
        model.zero_grad(set_to_none=True)

    return one.step(), passes


def stem_passes(stem: torch.nn.Module, x: torch.Tensor, count: Counter[str]) -> None:
    """The passes through the first layer alone."""
    for kind, to_input in (("stem_input_backward", True), ("stem_parameter_backward", False)):
        for _ in range(int(count[kind])):
            leaf = x.clone().requires_grad_(to_input)
            stem(leaf).sum().backward(inputs=[leaf] if to_input else list(stem.parameters()))


def generate(one: Rehearsal) -> None:
    """FGSM-SDI's start, which is part of the method and not overhead."""
    with torch.no_grad():
        one.method.generator(torch.cat([one.batch.x, one.batch.x], 1))


EXTRA = {"fgsm_sdi": generate, "atas_sdi": generate}


if __name__ == "__main__":
    main()
