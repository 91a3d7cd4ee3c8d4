"""One file, one method. To add one, add a file: `names()` lists this folder, there is no registry to edit."""

import importlib
from dataclasses import fields
from typing import Any

from fastat.config.recipe import method_names as names
from fastat.errors import BadInput
from fastat.types import Method, Task

__all__ = ["build", "config_class", "names"]

KINDS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,)}  # what a field of Config takes


def build(name: str, task: Task, **params: Any) -> Method:
    """The method `name` with `params` over its Config's defaults.

    Raises: BadInput for an unknown method or parameter, or a value that the method refuses.
    """
    cls = config_class(name)
    known = {field.name: field.type for field in fields(cls)}
    for key, value in params.items():
        if key not in known:
            raise BadInput(f"method {name} has no parameter {key!r}. Known: {', '.join(known) or 'none'}")
        if known[key] in KINDS and type(value) not in KINDS[known[key]]:
            raise BadInput(f"method {name}: {key} must be of type {KINDS[known[key]][-1].__name__}, got {value!r}")
    try:
        return _module(name).Method(cls(**params), task)
    except (TypeError, ValueError) as error:
        raise BadInput(f"method {name}: {error}") from error


def config_class(name: str) -> Any:
    """The method's Config dataclass."""
    return _module(name).Config


def _module(name: str) -> Any:
    if name not in names():
        raise BadInput(f"unknown method {name!r}. Known: {', '.join(names())}")
    return importlib.import_module(f"methods.{name}")
