"""The same attacks by another hand: how many verdicts differ between fastat's evaluator and torchattacks?

    pip install --no-deps --target FOLDER torchattacks==3.5.1     # its own requirements would undo the locked ones
    PYTHONPATH=FOLDER python benchmarks/cross_check.py --results results [--images 100]

On three digits networks of the default workflow: robust (ATAS), collapsed (FGSM-RS), trained without attacks. FGSM and
PGD without a random start have nothing to draw: every difference is an error. AutoAttack's parts draw, and torchattacks
draws in another order: some images near the edge may differ, in both directions.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch
import torchattacks
from safetensors.torch import load_file
from torch import Tensor, nn

from fastat.attacks import L2, LINF, Ball, ascend, fgsm
from fastat.data import datasets, subsets
from fastat.data.datasets import Part
from fastat.evaluation import autoattack
from fastat.networks import models

NETWORKS = {"robust": "eps77/atas", "collapsed": "eps102/fgsm_rs", "without attacks": "eps77/clean"}
EPS, EPS_L2, STEPS = 51 / 255, 1.0, 20


def main() -> None:
    """Print a line per network and attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--images", type=int, default=100, help="test images")
    args = parser.parse_args()
    test = datasets.load(args.results / "data/digits.safetensors", torch.device("cpu")).test
    index = subsets.stratified(test.labels, args.images, seed=0)
    x, y = test.take(index)
    print(f"torchattacks {torchattacks.__version__}, torch {torch.__version__}, {args.images} digits")
    print(f"{'network':16} {'attack':20} {'ours %':>7} {'theirs %':>8} {'only ours breaks':>17} {'only theirs':>12}")
    for kind, name in NETWORKS.items():
        model = models.build("preact_tiny", 1, 10)
        model.load_state_dict(
            load_file(args.results / f"runs/digits/preact_tiny/{name}/paper/seed0/weights.safetensors")
        )
        model.eval()
        for attack, (ours, theirs) in pairs(model, test, index, x, y).items():
            one, other = ours(), right(model, theirs(), y)
            shares = f"{100 * float(one.float().mean()):7.1f} {100 * float(other.float().mean()):8.1f}"
            print(
                f"{kind:16} {attack:20} {shares} {int((~one & other).sum()):17} {int((one & ~other).sum()):12}",
                flush=True,
            )


def pairs(
    model: nn.Module, test: Part, index: Tensor, x: Tensor, y: Tensor
) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Attack -> what says which images stand by ours, and what gives torchattacks' images."""

    def ascended(eps: float, ball: Ball) -> Tensor:
        return ascend(model, x, y, eps=eps, alpha=eps / 5, n_steps=STEPS, x_start=x, ball=ball).correct

    def auto(norm: str, eps: float) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        theirs = torchattacks.AutoAttack(model, norm=norm, eps=eps, n_classes=10, seed=0)
        return partial(standing, model, test, index, norm, eps), partial(theirs, x, y)

    options = {"steps": STEPS, "random_start": False}
    linf = torchattacks.PGD(model, eps=EPS, alpha=EPS / 5, **options)
    l2 = torchattacks.PGDL2(model, eps=EPS_L2, alpha=EPS_L2 / 5, **options)
    return {
        "fgsm": (lambda: fgsm(model, x, y, EPS).correct, partial(torchattacks.FGSM(model, eps=EPS), x, y)),
        f"pgd{STEPS}": (partial(ascended, EPS, LINF), partial(linf, x, y)),
        f"pgd{STEPS} L2": (partial(ascended, EPS_L2, L2), partial(l2, x, y)),
        "autoattack Linf": auto("Linf", EPS),
        "autoattack L2": auto("L2", EPS_L2),
    }


def standing(model: nn.Module, test: Part, index: Tensor, norm: str, eps: float) -> Tensor:
    """(n,) bool: what no part of our AutoAttack broke."""
    with tempfile.TemporaryDirectory() as folder:
        path, n = Path(folder) / "partial.csv", len(index)
        rows = autoattack.standard(model, test.take, index, eps=eps, norm=norm, batch_size=n, seed=0, partial=path)
    broken = {row["index"] for row in rows if not row["correct"]}
    return torch.tensor([i not in broken for i in index.tolist()])


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(n,) bool: is the model right at x."""
    with torch.no_grad():
        return model(x).argmax(1) == y


if __name__ == "__main__":
    main()
