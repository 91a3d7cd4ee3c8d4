"""Fields of dataclasses, read from their source: what a recipe and a method's Config have, without importing torch."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastat import CODE
from fastat.config.method_files import assigned, method_file, our_methods
from fastat.errors import BadInput

COMMENT = re.compile(r"""(?:[^"'#]|"[^"]*"|'[^']*')*#\s*(.*)""")  # what a line of YAML or Python ends with


@dataclass(frozen=True)
class Origin:
    """Where a value stands."""

    file: str
    line: int
    source: str = ""  # which a recipe gives with the value; else the comment on its line
    choice: str = ""  # `by_eps: 77`, where the value is one of several, or what it is in proportion to
    text: str = ""  # of a value, or of the values of a list, as it stands there

    @property
    def place(self) -> str:
        """`config/config.yaml:42`."""
        return f"{self.file}:{self.line}" if self.line else self.file


def beside(line: str) -> str:
    """The comment that a line ends with."""
    found = COMMENT.fullmatch(line)
    return found[1] if found else ""


def defaults(method: str) -> dict[str, tuple[Any, Origin]]:
    """The name of every value of a recipe -> its default and where that stands, without importing a method.

    Raises: BadInput if the method has no Config.
    """
    here, version = "fastat/config/recipe.py", assigned(method, "VERSION")
    found = fields_of_class(here, "Recipe")
    found["method_version"] = (None, Origin(method_file(method).shown, version.lineno if version else 1))
    found |= {f"schedule.{key}": default for key, default in fields_of_class(here, "Schedule").items()}
    return found | {f"params.{key}": default for key, default in params(method).items()}


def params(method: str) -> dict[str, tuple[Any, Origin]]:
    """The fields of the method's Config.

    Raises: BadInput if it has none.
    """
    return fields_of_class(method_file(method).shown, "Config")


def fields_of_class(file: str, name: str) -> dict[str, tuple[Any, Origin]]:
    """Field -> default and origin of a dataclass, and of those that it extends, as class Config(fgsm_pgi.Config)."""
    text = (CODE / file).read_text(encoding="utf-8")
    of_name = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    if (node := next(of_name, None)) is None:
        raise BadInput(f"{file} has no `class {name}:`")
    found: dict[str, tuple[Any, Origin]] = {}
    for base in node.bases:
        module, _, extended = ast.unparse(base).rpartition(".")
        other = f"methods/{module}.py" if module in our_methods() else str(Path(file).with_name(f"{module}.py"))
        found |= fields_of_class(other if module else file, extended)
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            value = literal(field.value)
            origin = Origin(file, field.lineno, beside(text.splitlines()[field.lineno - 1]), text=f"{value}")
            found[ast.unparse(field.target)] = (value, origin)
    return found


def literal(node: ast.expr | None) -> Any:
    """The value that a constant stands for; anything else as it is written."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def origins_of_recipe(method: str) -> dict[str, Any]:
    """RECIPE of another package's method, with the origin of each value in its place, as `read_origins` has it."""
    shown, recipe = method_file(method).shown, assigned(method, "RECIPE")

    def origins(node: ast.expr, source: str) -> Any:
        if isinstance(node, ast.Dict):
            return {literal(key): origins(value, source) for key, value in zip(node.keys, node.values, strict=True)}
        return Origin(shown, node.lineno, source)

    def paired(node: ast.expr, depth: int) -> Any:
        if depth and isinstance(node, ast.Dict):
            return {literal(key): paired(value, depth - 1) for key, value in zip(node.keys, node.values, strict=True)}
        assert isinstance(node, ast.List)  # checked with the recipe: [value, source]
        value, said = node.elts
        return origins(value, literal(said)), literal(said)

    return paired(recipe, 2) if recipe else {}
