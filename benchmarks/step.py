"""What does a method's step cost beyond its irreducible passes through the network?

    python benchmarks/step.py [--method atas,pgd10] [--model preact_tiny,preact_resnet18] [--repeats N]

The irreducible passes are the ones that the method declares (PASSES): the same network, batch, layout and BatchNorm
mode, nothing else, not even the optimiser. Step and passes alternate within one process; the ratio is of medians,
so that a busy machine slows both.
"""

import argparse
import dataclasses
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import methods  # noqa: E402
from fastat import models  # noqa: E402
from fastat.attacks import eval_mode, input_gradient  # noqa: E402
from fastat.data import views  # noqa: E402
from fastat.runs import Recipe, Schedule  # noqa: E402
from fastat.training.learner import SGDLearner  # noqa: E402
from fastat.types import Batch, Task  # noqa: E402

SHAPES = {"preact_tiny": (1, 8, 8), "preact_tiny_s2": (1, 28, 28), "preact_resnet18": (3, 32, 32)}
RECIPE = Recipe(epochs=30, batch_size=128, schedule=Schedule("piecewise", 0.01), weight_decay=5e-4)


def main() -> None:
    """Print a line per model and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default=",".join(methods.names()), help="a list with commas")
    parser.add_argument("--model", default="preact_tiny,preact_resnet18", help="a list with commas")
    parser.add_argument("--repeats", type=int, help="(default: 200 for small networks, 7 for preact_resnet18)")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {RECIPE.batch_size}")
    print(f"{'model':16} {'method':10} {'step ms':>9} {'passes ms':>9} {'ratio':>6}")
    for model_name in args.model.split(","):
        repeats = args.repeats or (7 if model_name == "preact_resnet18" else 200)
        for name in args.method.split(","):
            step, passes = prepare(model_name, name)
            seconds: dict[str, list[float]] = {"step": [], "passes": []}
            for _ in range(2):
                step(), passes()
            for _ in range(repeats):
                for what, run in (("step", step), ("passes", passes)):
                    started = time.perf_counter()
                    run()
                    seconds[what].append(time.perf_counter() - started)
            one, other = (statistics.median(seconds[what]) * 1000 for what in ("step", "passes"))
            print(f"{model_name:16} {name:10} {one:9.2f} {other:9.2f} {one / other:6.3f}", flush=True)


def prepare(model_name: str, name: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """The method's step, and its passes alone, on the same network and batch."""
    shape, n, device = SHAPES[model_name], RECIPE.batch_size, torch.device("cpu")
    torch.manual_seed(0)
    model = models.build(model_name, shape[0], 10).to(memory_format=torch.channels_last).train()
    n_params = sum(p.numel() for p in model.parameters())
    task = Task(8 / 255, 10 * n, 10, shape, shape, 30, n, 10, n_params, device, torch.Generator().manual_seed(0))
    method, learner = methods.build(name, task), SGDLearner(model, RECIPE)
    method.begin_epoch(model, learner, 1)
    x = torch.rand((n, *shape)).contiguous(memory_format=torch.channels_last)
    y, index = torch.randint(10, (n,)), torch.randperm(10 * n)[:n]
    batch = Batch(x, y, index, views.centred(n, 0, device), 6, 0)
    count = dict(importlib.import_module(f"methods.{name}").PASSES)

    def passes() -> None:
        for _ in range(count["input_backward"]):
            with eval_mode(model):
                input_gradient(model, x, y)
        for _ in range(count["parameter_backward"]):
            cross_entropy(model(x), y).backward()
            model.zero_grad(set_to_none=True)
        for _ in range(count["forward"] - count["input_backward"] - count["parameter_backward"]):
            with torch.no_grad():
                model(x)

    return lambda: method.train_batch(model, dataclasses.replace(batch), learner), passes


if __name__ == "__main__":
    main()
