"""What does a method's step cost beyond its irreducible passes through the network?

    python benchmarks/step.py [--method atas,pgd10] [--model preact_tiny,preact_resnet18] [--repeats N]

The irreducible passes are those of fastat/cost/yardstick.py. Step and passes alternate within one process; the ratio is
of medians, so that a busy machine slows both.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch

import methods
from fastat.cost.passes import seconds
from fastat.cost.yardstick import step_and_passes


def main() -> None:
    """Print a line per model and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default=",".join(methods.names()), help="a list with commas")
    parser.add_argument("--model", default="preact_tiny,preact_resnet18", help="a list with commas")
    parser.add_argument("--repeats", type=int, help="(default: 100 for small networks, 5 for preact_resnet18)")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch 128")
    print(f"{'model':16} {'method':14} {'step ms':>9} {'passes ms':>9} {'ratio':>6}")
    for model_name in args.model.split(","):
        repeats = args.repeats or (5 if model_name == "preact_resnet18" else 100)
        for name in args.method.split(","):
            step, passes = step_and_passes(model_name, name)
            taken = seconds({"step": step, "passes": passes}, repeats)
            one, other = taken["step"] * 1000, taken["passes"] * 1000
            print(f"{model_name:16} {name:14} {one:9.2f} {other:9.2f} {one / other:6.3f}", flush=True)


if __name__ == "__main__":
    main()
