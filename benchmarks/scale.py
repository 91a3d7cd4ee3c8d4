"""A few real steps of everything in config/paper.yaml, on this machine: every data set, network and method.

Archives in the real formats are made of random pixels (CIFAR's pickles in a tar, ImageNet's JPEGs in folders), prepared
by `fastat data` and trained on by `fastat train` with the paper's recipes, which only the sizes are cut of. Checksums
and numbers of images are those of the made archives.

    python benchmarks/scale.py [--only imagenet/resnet50]
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import pytest

from fastat import ROOT
from fastat.cli import main as fastat
from fastat.config.grid import expand, load_config
from fastat.config.only import only
from fastat.config.recipe import Recipe, Schedule, resolve
from fastat.data import made_up

SIZES = {"epochs": 2, "batch_size": 2, "n_train": 8, "monitor_images": 2, "n_test": 2}
PARAMS = {"subat": {"sampling_epochs": 1, "per_epoch": 2, "n_components": 1}}


def cut(recipe: Recipe, method: str) -> Recipe:
    """The same recipe for two epochs of a few images; its schedule ends before it begins to fall."""
    schedule = Schedule("piecewise", 0.01)
    small: dict[str, Any] = {**SIZES, "shards": min(recipe.shards, 2)}
    return replace(
        recipe, **small, schedule=schedule, weight_decay_epochs=None, params=recipe.params | PARAMS.get(method, {})
    )


def main() -> None:
    """Print a line a run; the exit code says whether all finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="runs with these parts in their name")
    args = parser.parse_args()
    config = load_config([ROOT / "config/paper.yaml"])
    every = [s for s in expand(config) if s.seed == 0 and s.variant == "paper" and s.eps_255 in (2, 8)]
    specs = only(every, args.only)
    failed = 0
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        for dataset in ("cifar10", "cifar100"):
            made_up.cifar_archive(dataset, folder / "source", patch)
        made_up.imagenet_tree(folder / "source")
        made_up.expect_imagenet(patch)
        for dataset in ("cifar10", "cifar100", "imagenet"):
            out = folder / f"results/data/{dataset}.safetensors"
            assert fastat(["data", "--dataset", dataset, "--source", str(folder / "source"), "--out", str(out)]) == 0
        for spec in specs:
            recipe, started = cut(resolve(spec, config), spec.method).to_json(), time.perf_counter()
            call = ["train", "--run", spec.name, "--results", str(folder / "results"), "--recipe", recipe]
            code = fastat(call)
            about = json.loads((folder / f"results/runs/{spec.name}/run.json").read_text()) if code == 0 else {}
            status = about.get("status", f"exit code {code}")
            failed += status != "finished"
            print(f"{spec.name:55} {status:10} {time.perf_counter() - started:6.1f} s", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
