"""One file, one method. To add one, add a file: `names()` lists this folder, there is no registry to edit.

Installed packages may have more (fastat/config/method_files.py); their code is imported when one of them is asked for.
"""

import hashlib
import importlib
import json
from dataclasses import asdict, fields
from typing import Any

from fastat.config.method_files import method_file
from fastat.config.method_files import method_names as names
from fastat.config.method_files import our_methods as ours
from fastat.config.recipe import named_recipe, variants
from fastat.errors import BadInput, did_you_mean
from fastat.types import Method, Task

__all__ = ["build", "config_class", "describe", "module", "names", "ours"]

KINDS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,)}  # what a field of Config takes


def build(name: str, task: Task, **params: Any) -> Method:
    """The method `name` with `params` over its Config's defaults.

    Raises: BadInput for an unknown method or parameter, or a value that the method refuses.
    """
    cls = config_class(name)
    known = {field.name: field.type for field in fields(cls)}
    for key, value in params.items():
        if key not in known:
            raise BadInput(f"method {name} has no parameter {key!r}.{did_you_mean(key, known)}")
        if known[key] in KINDS and type(value) not in KINDS[known[key]]:
            raise BadInput(f"method {name}: {key} must be of type {KINDS[known[key]][-1].__name__}, got {value!r}")
    try:
        return module(name).Method(cls(**params), task)
    except (TypeError, ValueError) as error:
        raise BadInput(f"method {name}: {error}") from error


def config_class(name: str) -> Any:
    """The method's Config dataclass."""
    return module(name).Config


def module(name: str) -> Any:
    """The method's file, imported.

    Raises: BadInput if there is no such method, another package's cannot be imported, or it is no method.
    """
    file = method_file(name)
    try:
        found = importlib.import_module(file.module)
    except Exception as error:  # anything may come out of code that is not ours
        if name in ours():  # who writes it wants to see where
            raise
        raise BadInput(f"method {name}: {file.module} cannot be imported: {type(error).__name__}: {error}") from error
    if absent := [part for part in ("PASSES", "Config", "Method") if not hasattr(found, part)]:
        raise BadInput(f"method {name}: {file.shown} has no {absent[0]}. See docs/own-method.md")
    if not isinstance(found.PASSES, dict):
        raise BadInput(f"method {name}: PASSES must be as {{'forward': 2, 'input_backward': 1}}, got {found.PASSES!r}")
    return found


def made_by(name: str) -> dict[str, Any]:
    """What run.json says of the code of another package's method: {`method`: {module: sha256}}; of ours nothing."""
    file = method_file(name)
    return {} if name in ours() else {"method": {file.module: hashlib.sha256(file.path.read_bytes()).hexdigest()}}


def describe(name: str, only_differences: bool = False) -> str:
    """Every value of a method's named recipes on CIFAR10, side by side, each with its source."""
    default = f"default of {method_file(name).shown}"
    defaults = {f"params.{key}": (value, default) for key, value in asdict(config_class(name)()).items()}
    recipes = {variant: defaults | named_recipe(name, variant) for variant in variants()[name]}
    width = max(10, *map(len, recipes))
    lines = (
        []
        if only_differences
        else [str(module(name).__doc__).strip(), "", "Recipes on CIFAR10; a value holds for all:"]
    )
    for key in dict.fromkeys(key for recipe in reversed(recipes.values()) for key in recipe):
        said = {variant: recipe[key] for variant, recipe in recipes.items() if key in recipe}
        heading = key.removeprefix("params.")
        if len(said) == len(recipes) and all(entry == said["paper"] for entry in said.values()):
            if not only_differences:
                lines += [f"  {heading:20} {'':{width}} {show_value(said['paper'][0]):40} {said['paper'][1]}"]
            continue
        for variant, (value, source) in said.items():
            if variant == "paper" or value != said.get("paper", (None,))[0]:
                lines += [f"  {heading:20} {variant:{width}} {show_value(value):40} {source}"]
                heading = ""
    return "\n".join(lines)


def show_value(value: Any) -> str:
    """A recipe value in one line."""
    if isinstance(value, dict):
        return ", ".join(str(item) if key == "kind" else f"{key} {json.dumps(item)}" for key, item in value.items())
    return json.dumps(value) if isinstance(value, list | bool) or value is None else str(value)
