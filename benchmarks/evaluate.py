"""What does an evaluation cost beyond its passes through the network?

    python benchmarks/evaluate.py [--model preact_resnet18] [--images 24] [--repeats 3]

The white-box suite (fastat/evaluation/whitebox.py) beside the forwards and input gradients that it cannot do without,
in turn, within one process; the ratio is of medians, so that a busy machine slows both.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch

from fastat.attacks import input_gradient
from fastat.cost.passes import seconds
from fastat.data.datasets import Part
from fastat.data.subsets import stratified
from fastat.evaluation import whitebox
from fastat.networks import models

GRADIENTS, FORWARDS = (
    1 + 10 + 50 + 1,
    1 + 1 + 1 + 1 + 1 + 1,
)  # fgsm, pgd10, pgd50, gradient; and clean, noise, each's last
FAR = 50, 1  # at eps 128/255, of FAR_IMAGES at most


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="preact_resnet18")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    shape = (1, 8, 8) if args.model in ("preact_tiny", "postact_tiny") else (3, 32, 32)
    model = models.build(args.model, shape[0], 10).to(memory_format=torch.channels_last).eval()
    images = torch.randint(256, (args.images, *shape), dtype=torch.uint8)
    part = Part(images, torch.arange(args.images) % 10, shape[1:])
    far = len(stratified(part.labels, min(whitebox.FAR_IMAGES, len(part)), seed=0))

    def suite() -> None:
        list(whitebox.attack_all(model, part, whitebox.Protocol(8 / 255)))

    def passes() -> None:
        for n, (gradients, forwards) in ((args.images, (GRADIENTS, FORWARDS)), (far, FAR)):
            x, y = part.take(torch.arange(n))
            x = x.contiguous(memory_format=torch.channels_last)
            for _ in range(gradients):
                input_gradient(model, x, y)
            for _ in range(forwards):
                with torch.no_grad():
                    model(x)

    took = seconds({"suite": suite, "passes": passes}, args.repeats)
    ratio = took["suite"] / took["passes"]
    print(f"{args.model}: suite {took['suite']:.2f} s, passes {took['passes']:.2f} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
