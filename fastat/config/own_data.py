"""Data sets of the user's own: the rules of `datasets` in a config that tie two options together. No torch.

Rules of single options are in workflow/schemas/config.schema.yaml.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastat.config import catalog
from fastat.config.catalog import CATALOG, OFFERED
from fastat.config.plugins import entries
from fastat.config.recipe import LIKE, named_recipes, resolve
from fastat.config.spec import RunSpec
from fastat.errors import BadInput, did_you_mean

OF_IMAGES = ("size", "resize", "crop", "channels")
DOORS = {  # where a data set comes from -> what may be said of it besides
    "folder": ("test", "seed", "absent", *OF_IMAGES),
    "npz": ("test", "seed", "layout"),
    "reader": ("test", "seed", "layout"),
    "torchvision": ("parts", "download", *OF_IMAGES),
}
NEEDS = {"seed": "test", "resize": "size", "crop": "size"}  # an option, and the one without which it says nothing


def check(datasets: dict[str, dict[str, Any]]) -> None:
    """Raises: BadInput for the first data set whose name or options break a rule."""
    for name, options in datasets.items():
        where = f"config: datasets: {name}"
        if not catalog.NAME.fullmatch(str(name)):
            raise BadInput(f"{where}: a name is made of a-z, 0-9 and _, got {name!r}. Write {plain(str(name))!r}")
        if name in CATALOG:
            raise BadInput(f"{where} is the name of one of ours. Choose another, as my_{name}")
        if entries(OFFERED).get(name, options.get("reader")) != options.get("reader"):
            raise BadInput(f"{where} is the name of an installed package's. Choose another, as my_{name}")
        check_options(options, where)


def check_options(options: dict[str, Any], where: str) -> None:
    """Raises: BadInput for no door or two, an option of another door, or one that would say nothing."""
    kind = door(options, where)
    for key in options:
        if key != kind and key not in DOORS[kind]:
            raise BadInput(f"{where}: {key} says nothing of a data set from {kind}.{did_you_mean(key, DOORS[kind])}")
        if (needed := NEEDS.get(key)) and needed not in options:
            raise BadInput(f"{where}: {key} says nothing without {needed}. Say {needed}, or leave {key} out")
    if options.get("resize") == "exact" and "crop" in options:
        raise BadInput(f"{where}: after resize: exact there is nothing to crop. Write resize: shortest, or no crop")


def door(options: dict[str, Any], where: str) -> str:
    """`folder`, `npz`, `reader` or `torchvision`.

    Raises: BadInput unless exactly one is said.
    """
    said = [kind for kind in DOORS if kind in options]
    if len(said) != 1:
        rule = f"{where} must say exactly one of {', '.join(DOORS)}, got {' and '.join(said) or 'none'}"
        raise BadInput(
            f"{rule}. As {{folder: PATH}}, {{npz: FILE}}, {{reader: module:function}} or {{torchvision: SVHN}}"
        )
    return said[0]


def of_content(options: dict[str, Any]) -> dict[str, Any]:
    """The options that decide what a data set holds: all but the words for where it is not there."""
    return {key: value for key, value in options.items() if key != "absent"}


def path_of(text: str, where: str) -> Path:
    """A path of the config; `~` is the home folder, and others begin where the command is started.

    Raises: BadInput for the home of somebody unknown, or no text.
    """
    try:
        if text:
            return Path(text).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{where}: {text!r} begins with the home of an unknown user. Write ./{text}") from error
    raise BadInput(f"{where}: a path must not be empty. The folder where you are is .")


def state_of(options: dict[str, Any]) -> str:
    """A hash of names, sizes and times of the files that a data set is read from; '' where there are none."""
    place = options.get("folder") or options.get("npz")
    if not place:
        return ""
    root = path_of(place, "datasets")
    found = sorted(listed(root)) if root.is_dir() else [stamp(root.stat, "")] if root.is_file() else []
    return hashlib.sha256("\n".join(found).encode(errors="surrogateescape")).hexdigest() if found else ""


def listed(root: Path, below: str = "") -> Iterator[str]:
    """Name, size and time of every file below a folder; what cannot be read is not there."""
    try:
        with os.scandir(root / below) as entries_there:
            for entry in entries_there:
                if entry.is_dir():
                    yield from listed(root, f"{below}{entry.name}/")
                else:
                    yield stamp(entry.stat, f"{below}{entry.name}")
    except OSError:
        return


def stamp(stat: Callable[[], os.stat_result], name: str) -> str:
    """Of one file, which may be a link to nowhere."""
    try:
        found = stat()
    except OSError:
        return name
    return f"{name} {found.st_size} {found.st_mtime_ns}"


def lines(specs: list[RunSpec], config: dict[str, Any]) -> list[str]:
    """What is to be said of the own data sets of a grid before anything runs, in sentences."""
    first = {spec.dataset: spec for spec in reversed(specs) if spec.dataset not in CATALOG}
    return [line for name in sorted(first) for line in (*state(name, config), *augmentation(first[name], config))]


def state(name: str, config: dict[str, Any]) -> list[str]:
    """What is known of a data set, and whether it was prepared from what the config says."""
    learnt, options = catalog.learnt(name), catalog.own(config).get(name)
    again = f"python -m fastat data --dataset {name} --configfile FILE"
    if learnt is None:
        return [f"{name}: not prepared, so that what depends on its sizes is checked before it is trained on. {again}"]
    said = [catalog.in_words(name, learnt.said)]
    if options is not None and learnt.options is not None and of_content(options) != learnt.options:
        said.append(
            f"{name}: WARNING: it was prepared from {json.dumps(learnt.options)}, but the config says "
            f"{json.dumps(of_content(options))}. Prepare it again: {again}"
        )
    elif options is not None and learnt.state and learnt.state != state_of(options):
        said.append(f"{name}: WARNING: its files have changed since it was prepared. Prepare it again: {again}")
    return said


def warnings(name: str, config: dict[str, Any]) -> list[str]:
    """Why a training on the prepared data may not be what the config means."""
    if name in CATALOG or catalog.learnt(name) is None:
        return []
    unsaid = [f"{name}: no config says how it is trained: as {LIKE.upper()}. Name yours with --configfile"]
    changed = [line for line in state(name, config) if "WARNING" in line]
    return changed if name in catalog.own(config) or name in config["recipes"] else unsaid


def augmentation(spec: RunSpec, config: dict[str, Any]) -> list[str]:
    """How a data set without a recipe is augmented, unless the config says it."""
    own = (config["recipes"].get(spec.dataset) or {}).get("every") or {}
    if spec.dataset in named_recipes()["datasets"]:
        return []
    recipe = resolve(spec, config)
    ways_out = {  # key -> how it is, what to say, and when
        "pad": (f"pad {recipe.pad}", "pad: 0", "must not be shifted"),
        "flip": (f"flip {str(recipe.flip).lower()}", "flip: false", "have a direction"),
    }
    return [
        f"{spec.dataset}: {now}, as {LIKE.upper()}: "
        f"say `recipes: {{{spec.dataset}: {{every: {{{way_out}}}}}}}` if its images {case}."
        for key, (now, way_out, case) in ways_out.items()
        if key not in own
    ]


def plain(name: str) -> str:
    """A name of a-z, 0-9 and _ like this one."""
    return "".join(sign if catalog.NAME.fullmatch(sign) else "_" for sign in name.lower()) or "mine"
