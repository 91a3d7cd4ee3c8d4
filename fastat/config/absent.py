"""What a grid needs and is not here, Python or data, and how to get it. Said before anything is run; no torch."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastat.config import catalog, own_data
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

PLACES = {  # where one of ours is looked for: below data_dir, or from the root
    "fashion_mnist": ("fashion_mnist/train-images-idx3-ubyte.gz", "/usr/share/datasets/fashion-mnist"),
    "cifar10": ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python"),
    "imagenet": ("imagenet/train",),
}
WAYS = {
    "fashion_mnist": "31 MB are downloaded into {0}/fashion_mnist. Without a network put the four .gz files there, or "
    "install Debian's dataset-fashion-mnist",
    "cifar10": "170 MB are downloaded into {0}. Without a network put cifar-10-python.tar.gz there",
    "cifar100": "169 MB are downloaded into {0}. Without a network put cifar-100-python.tar.gz there",
    "imagenet": "nobody may download it for you: put imagenet/train/CLASS/*.JPEG and imagenet/val/CLASS/*.JPEG into "
    "{0} (see docs/scale.md)",
}
OWN = "Put its images there, or name their place in the config (docs/own-data.md)"
INSTEAD = "What runs without: `snakemake --cores all`, on digits, which come with scikit-learn"
NEEDED = ("numpy", "safetensors", "yaml")  # of what every job imports; tables and figures are made without torch


def check_python() -> None:
    """Rules call `python`, which is not Snakemake's own where a .venv is not active.

    Raises: BadInput if it lacks what the suite needs.
    """
    found = shutil.which("python")
    look = "import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))"
    if not found or subprocess.run([found, "-c", look, *NEEDED], capture_output=True).returncode:
        raise BadInput(
            f"the jobs' `python` is {found or 'not there'}: it lacks {', '.join(NEEDED)}, or one of them. First "
            "`. .venv/bin/activate`, or the environment that has the suite; or let Snakemake make it: --use-conda"
        )


def lines(specs: Iterable[RunSpec], config: dict[str, Any], results: Path) -> list[str]:
    """A sentence for each data set of the runs that is neither prepared in `results` nor where it is looked for."""
    names = {spec.dataset for spec in specs}
    told = missing((name for name in names if not (results / f"data/{name}.safetensors").exists()), config)
    return [*told, *([INSTEAD] if told else [])]


def own(names: Iterable[str], config: dict[str, Any]) -> list[str]:
    """Those sentences for the user's own among data sets that are to be prepared: no job can get them."""
    return missing((name for name in names if name not in PLACES), config)


def missing(names: Iterable[str], config: dict[str, Any]) -> list[str]:
    """A sentence for each of these data sets whose files are not here."""
    return [f"{name}: {why}" for name in sorted(names) if (why := way_out(name, config))]


def way_out(name: str, config: dict[str, Any]) -> str:
    """How to get a data set whose files are not here; '' where they are, or nobody can tell.

    Raises: BadInput for a path that is none.
    """
    if name in PLACES:
        source = own_data.path_of(config["data_dir"], "data_dir")
        here = any((source / place).exists() for place in PLACES[name])
        return "" if here else f"its files are not here; {WAYS[name].format(source)}"
    options = catalog.own(config).get(name, {})
    place = options.get("folder") or options.get("npz")
    if not place or (path := own_data.path_of(place, f"datasets: {name}")).exists():
        return ""
    return f"there is no {path.absolute()}. {options.get('absent', OWN)}"
