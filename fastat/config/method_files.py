"""Where each method's code is: ours in methods/, others' in installed packages. Read, never imported. No torch.

A package says in its pyproject.toml: [project.entry-points."fastat.methods"], newone = "mypackage.newone". The module
is as one in methods/, and has its recipe besides: RECIPE = {"paper": {"epochs": [30, "its source"], ...}}, a literal.
"""

import ast
import functools
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from fastat import CODE
from fastat.config.plugins import entries
from fastat.config.spec import EXTERNAL
from fastat.errors import BadInput, did_you_mean

GROUP = "fastat.methods"  # of entry points
RESERVED = ("every", EXTERNAL)  # what stands for all methods, and the method of checkpoints


class MethodFile(NamedTuple):
    """A method's module and the file that it is in."""

    module: str  # methods.atas, mypackage.newone
    path: Path
    shown: str  # methods/atas.py; of others the whole path


def our_methods() -> list[str]:
    """Those that come with the suite: every file in methods/ is one."""
    return sorted(path.stem for path in (CODE / "methods").glob("[a-z]*.py"))


def method_names() -> list[str]:
    """All methods that there are.

    Raises: BadInput if an installed package gives one of our names to its own.
    """
    ours, theirs = our_methods(), entries(GROUP)
    if taken := sorted({*ours, *RESERVED} & {*theirs}):
        raise BadInput(
            f"an installed package calls its method {taken[0]!r}, which is taken: {theirs[taken[0]]}. Rename it"
        )
    return sorted([*ours, *theirs])


@functools.cache
def method_file(name: str) -> MethodFile:
    """Where a method is.

    Raises: BadInput if there is no such method, or its package has no such file.
    """
    if name in our_methods():
        return MethodFile(f"methods.{name}", CODE / f"methods/{name}.py", f"methods/{name}.py")
    if name not in (theirs := entries(GROUP)):
        raise BadInput(f"unknown method {name!r}.{did_you_mean(name, method_names())}")
    module = theirs[name]
    if (path := found(module)) is None:
        raise BadInput(
            f"method {name}: its package names {module!r}, and there is no such Python file. An entry point of {GROUP} "
            f'names a module, as {name} = "mypackage.{name}"'
        )
    return MethodFile(module, path, str(path))


def found(module: str) -> Path | None:
    """The file of a module. No package that it is in is imported, as importlib.util.find_spec would."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
        for k in range(len(rest)):
            where = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(".".join([first, *rest[: k + 1]]), where or [])
    except (ImportError, ValueError):  # of an empty part, as in `mypackage..newone`
        return None
    path = Path(spec.origin) if spec and spec.origin else None
    return path if path and path.suffix == ".py" and path.is_file() else None


@functools.cache
def tree_of(name: str) -> ast.Module:
    """A method's code as a tree.

    Raises: BadInput if it cannot be read.
    """
    file = method_file(name)
    try:
        return ast.parse(file.path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"method {name}: {file.shown} is no Python file that can be read ({error})") from error


def assigned(name: str, variable: str) -> ast.expr | None:
    """What a method's file assigns to a name of its own."""
    for node in tree_of(name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            return node.value
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == variable:
            return node.value
    return None


@functools.cache
def method_version(name: str) -> int:
    """`VERSION` of a method's file: the workflow has no torch to import it with.

    Raises: BadInput if there is none.
    """
    node = assigned(name, "VERSION")
    if not isinstance(node, ast.Constant) or type(node.value) is not int:
        raise BadInput(f"{method_file(name).shown} has no line `VERSION = 1`")
    return node.value


def cited(name: str) -> str:
    """What follows the first line of a method's docstring, on one line; it begins with the paper, if there is one."""
    return " ".join((ast.get_docstring(tree_of(name)) or "").partition("\n")[2].split())


def title(name: str) -> str:
    """The first line of a method's docstring."""
    return (ast.get_docstring(tree_of(name)) or "").partition("\n")[0]


@functools.cache
def their_recipes() -> dict[str, Any]:
    """Method of another package -> its named recipes, as config/recipes.yaml writes those of ours.

    Raises: BadInput for one that brings none.
    """
    return {name: recipe_of(name) for name in entries(GROUP)}


def recipe_of(name: str) -> dict[str, Any]:
    """RECIPE of another package's method.

    Raises: BadInput if it is not there, no literal, or has no `paper`.
    """
    file, node = method_file(name), assigned(name, "RECIPE")
    rule = f'{file.shown}: a method of a package brings RECIPE = {{"paper": {{"epochs": [30, "its source"], ...}}}}'
    try:
        recipe = ast.literal_eval(node) if node is not None else None
    except (ValueError, TypeError) as error:
        raise BadInput(f"{rule}, which must be written out, without names or calls ({error})") from error
    if not isinstance(recipe, dict) or not isinstance(recipe.get("paper"), dict):
        raise BadInput(f"{rule}, and there is {'none' if recipe is None else 'no `paper` in it'}")
    return recipe
