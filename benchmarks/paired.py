"""How often do paired comparisons err where there is no difference? Simulated: `python benchmarks/paired.py [N]`.

Verdicts of two methods of the same accuracy are drawn from a logistic model with what each image, each network, and
each image for each method and network has of its own. Printed is how often each answer finds a difference at 5 %,
which is its level and, less from 1, the coverage of its interval: ours (statistics.paired), McNemar's exact test over
all verdicts as if they were independent, and the pigeonhole bootstrap over seeds and images (Owen 2007), both of which
stood here before.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fastat.report.statistics import on_images_alone, paired

SEEDS, IMAGES = (2, 3, 5), (50, 360)
LEVEL = {"about 50 %": 0.0, "about 12 %": -3.0}
SCATTER = (0.0, 0.1, 0.3, 1.0)  # standard deviation of the networks of a method, in logits
IMAGE, OF_METHOD, OF_NETWORK = 2.0, 0.7, 0.5  # and of images: for all, for a method, for a network


def difference(rng: np.random.Generator, n_seeds: int, n_images: int, level: float, scatter: float) -> np.ndarray:
    """(seeds, images) of -1, 0, 1: two methods that are equally good."""
    image = level + rng.normal(0, IMAGE, n_images)
    right = []
    for _ in range(2):
        logit = image + rng.normal(0, OF_METHOD, n_images) + rng.normal(0, scatter, (n_seeds, 1))
        logit = logit + rng.normal(0, OF_NETWORK, (n_seeds, n_images))
        right.append(rng.random((n_seeds, n_images)) < 1 / (1 + np.exp(-logit)))
    return right[0].astype(float) - right[1]


def bootstrap_excludes_0(difference: np.ndarray, rng: np.random.Generator, draws: int = 500) -> bool:
    """Whether the percentile interval of drawn seeds and images leaves out 0; images' means drawn as normal."""
    n_seeds, n_images = difference.shape
    of_seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws) / n_seeds
    images = np.cov(difference, bias=True).reshape(n_seeds, n_seeds) / n_images
    scatter = np.sqrt(np.maximum(((of_seeds @ images) * of_seeds).sum(1), 0))
    normal = stats.norm.ppf((rng.permutation(draws) + 0.5) / draws)
    low, high = np.percentile(of_seeds @ difference.mean(1) + scatter * normal, [2.5, 97.5])
    return bool(low > 0 or high < 0)


def main(n: int) -> None:
    """Print a Markdown table."""
    rng = np.random.default_rng(0)
    print("| seeds | images | accuracy | networks' scatter (logits) | ours | McNemar, pooled | bootstrap |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seeds, images, (words, level), scatter in itertools.product(SEEDS, IMAGES, LEVEL.items(), SCATTER):
        found = np.zeros(3)
        for _ in range(n):
            one = difference(rng, seeds, images, level, scatter)
            _, _, pooled = on_images_alone(one.ravel())
            found += [paired(one).p < 0.05, pooled < 0.05, bootstrap_excludes_0(one, rng)]
        ours, mcnemar, bootstrap = (f"{100 * share:.1f} %" for share in found / n)
        print(f"| {seeds} | {images} | {words} | {scatter:g} | {ours} | {mcnemar} | {bootstrap} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
