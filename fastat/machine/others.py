"""Code of others, run because a config or the command line names it: found, called, and its errors in one sentence."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastat.errors import BadInput, did_you_mean, of_memory


def imported(target: str) -> Any:
    """What `package.module:name` names. It is looked for as `python -m` does: in the current folder first.

    Raises: BadInput if there is no such module, or nothing of that name in it that can be called.
    """
    name, _, attribute = target.partition(":")
    if not {"", os.getcwd()} & {*sys.path}:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # of what the module itself imports
        way_out = (
            f"Put it into the folder where you start ({os.getcwd()}), install it, or name its folder in PYTHONPATH"
        )
        raise BadInput(f"there is no module {error.name}. {way_out}") from error
    for step in attribute.split("."):
        if not hasattr(found, step):
            known = [key for key in vars(found) if not key.startswith("_")] if hasattr(found, "__dict__") else []
            raise BadInput(f"{name} has no {step!r}.{did_you_mean(step, known)}"[:300])
        found = getattr(found, step)
    if not callable(found):
        raise BadInput(f"{attribute} must be a function or class, got {type(found).__name__}")
    return found


@contextmanager
def in_a_sentence(whose: str, problem: str, way_out: str = "") -> Iterator[None]:
    """Whatever the code of others raises inside, as one sentence with the place in that code.

    Raises: BadInput, which begins with `whose`.
    """
    try:
        yield
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # anything may come out of code that is not ours
        if of_memory(error):
            raise
        text = " ".join(str(error).split())[:300]
        said = f"{whose}: {problem}: {type(error).__name__}: {text}{place(error)}"
        raise BadInput(f"{said}. {way_out}" if way_out else said) from error


def place(error: BaseException) -> str:
    """` (mynets.py:12)`: the deepest line that is neither torch's, the suite's nor of what imports; ''."""
    torch = find_spec("torch")
    importing = (str(Path(importlib.__file__).parent), "<frozen importlib")
    ours = (str(Path(__file__).parent.parent), *importing, *(torch.submodule_search_locations or () if torch else ()))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
