"""What does a method's step cost beyond its irreducible passes through the network?

    python benchmarks/step.py [--method atas,pgd10] [--model preact_tiny,preact_resnet18] [--repeats N]
    python benchmarks/step.py --operations

The irreducible passes are those of fastat/cost/yardstick.py. Step and passes alternate within one process; the ratio is
of medians, so that a busy machine slows both.

--operations counts what torch is told to compute, views and empty tensors left out: on a GPU a kernel each, or a few.
Own is what a step has beyond its passes; around it are the trainer's: the batch, its copy for a CUDA graph, log,
instances. GFLOP, and MB that are read and written by convolutions alone (all else fused into them) and by every
operation, are of a step of 128 images in float32.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import methods
from fastat.cost.passes import Rehearsal, flops, seconds
from fastat.cost.yardstick import rehearsal, step_and_passes
from fastat.data.datasets import Part, TrainingStream
from fastat.training.captured import in_its_place
from fastat.training.instances import Instances
from fastat.training.trainer import Totals

VIEWS = "view detach alias expand slice select squeeze unsqueeze transpose permute t as_strided split unbind lift_fresh"
FREE = {*VIEWS.split(), "_unsafe_view", "is_same_size", "_record_function_enter_new", "_record_function_exit"}
EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


def main() -> None:
    """Print a line per model and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default=",".join(methods.names()), help="a list with commas")
    parser.add_argument("--model", default="preact_tiny,preact_resnet18", help="a list with commas")
    parser.add_argument("--repeats", type=int, help="(default: 100 for small networks, 5 for preact_resnet18)")
    parser.add_argument("--operations", action="store_true", help="count operations, of preact_resnet18")
    args = parser.parse_args()
    if args.operations:
        return print_operations(args.method.split(","))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch 128")
    print(f"{'model':16} {'method':14} {'step ms':>9} {'passes ms':>9} {'ratio':>6}")
    for model_name in args.model.split(","):
        repeats = args.repeats or (5 if model_name == "preact_resnet18" else 100)
        for name in args.method.split(","):
            step, passes = step_and_passes(model_name, name)
            taken = seconds({"step": step, "passes": passes}, repeats)
            one, other = taken["step"] * 1000, taken["passes"] * 1000
            print(f"{model_name:16} {name:14} {one:9.2f} {other:9.2f} {one / other:6.3f}", flush=True)


def print_operations(names: list[str]) -> None:
    """A row of CSV per method."""
    print("method,step,passes,own,around,gflop,convolutions_mb,all_mb,own_by_kind")
    for name in names:
        one = rehearsal("preact_resnet18", name, batch_size=4)
        one.step()()  # the first makes the momentum
        _, passes = step_and_passes("preact_resnet18", name, batch_size=4)
        whole, least, around = (counted(call) for call in (one.step(2), passes, around_of(one)))
        own = (whole.seen - least.seen).most_common()
        large = rehearsal("preact_resnet18", name, device="meta")
        moved, gflop = counted(large.step(2)).bytes, flops(large.step(2)) / 1e9
        convolutions = sum(n for kind, n in moved.items() if "convolution" in kind)
        mb = f"{convolutions / 1e6:.0f},{moved.total() / 1e6:.0f}"
        counts = f"{whole.seen.total()},{least.seen.total()},{sum(n for _, n in own)},{around.seen.total()}"
        print(f"{name},{counts},{gflop:.1f},{mb},{' '.join(f'{kind}:{n}' for kind, n in own)}", flush=True)


def around_of(one: Rehearsal) -> Callable[[], object]:
    """What the trainer computes for a batch besides the step."""
    task = one.method.task
    images, labels = torch.zeros((8, *task.image_shape), dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
    part = Part(images, labels, task.image_shape[1:])
    stream = TrainingStream(part, batch_size=4, drop_last=False, pad=4, flip=True, seed=0).epoch(1)
    next(stream)  # what an epoch's first batch costs more is its order
    report: Any = one.step()()
    totals, instances = Totals(task.device), Instances(task)

    def around() -> None:
        batch = next(stream)
        in_its_place(batch)
        totals.add(report, len(batch.y))
        instances.add(batch, report)

    return around


def counted(call: Callable[[], object]) -> "_Count":
    """What a call computes."""
    with _Count() as counter:
        call()
    return counter


class _Count(TorchDispatchMode):
    """Operations, and bytes that they read and write, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = func(*args, **(kwargs or {})), func._overloadpacket.__name__
        if name not in FREE | EMPTY:
            self.seen[name] += 1
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.bytes[name] += sum(t.numel() * t.element_size() for t in tensors)
        return out


if __name__ == "__main__":
    main()
