"""The beginning of another method: its file, test and page from the templates beside the others', and its recipe."""

import keyword
import re
from pathlib import Path

from fastat import ROOT
from fastat.config.method_files import RESERVED
from fastat.config.schema import read_yaml
from fastat.errors import BadInput

TEMPLATES = {  # what is written -> what it is made from
    "methods/{name}.py": "methods/_template.py",
    "tests/methods/test_{name}.py": "tests/methods/_template.py",
    "docs/methods/{name}.md": "docs/methods/_template.md",
}
RECIPES = "config/recipes.yaml"
RECIPE = """\
  {name}:
    paper:
      epochs:       [30, "as FGSM-RS"]
      batch_size:   [128, "as FGSM-RS"]
      schedule:     [{{kind: triangular, lr: 0.2, cycle_momentum: true}}, "as FGSM-RS"]
      weight_decay: [0.0005, "as FGSM-RS"]
"""
NEXT = """\
methods/{name}.py: citation, algorithm, cost and departures; then Config and train_batch
tests/methods/test_{name}.py: the paper's passes, and its step worked out by hand
docs/methods/{name}.md: idea and pseudocode; `python -m fastat docs` makes the rest
config/recipes.yaml: what CIFAR10 takes, each value with its source; what another data set changes, below `datasets`
Then: python -m pytest tests/methods -k {name}"""


def begin(name: str, root: Path = ROOT) -> str:
    """Write the three files and the recipe; what was written and is to be edited, a line each.

    Raises: BadInput, with nothing written, for a name that no method can have or that is taken.
    """
    texts = {root / path.format(name=name): filled(root / made_from, name) for path, made_from in TEMPLATES.items()}
    refuse_taken(name, list(texts), root)
    texts[root / RECIPES] = with_recipe((root / RECIPES).read_text(encoding="utf-8"), name)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return NEXT.format(name=name)


def refuse_taken(name: str, paths: list[Path], root: Path) -> None:
    """Raises: BadInput if the name is no name, or if one of its files or its recipe is there."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in RESERVED:
        raise BadInput(
            "a method is named in small letters, digits and _, first a letter, no word of Python, not "
            f"{' or '.join(f'`{word}`' for word in RESERVED)}; got {name!r}"
        )
    there = [str(path.relative_to(root)) for path in paths if path.exists()]
    if name in read_yaml(root / RECIPES)["methods"]:
        there.append(f"a recipe in {RECIPES}")
    if there:
        raise BadInput(f"{name!r} is taken: there is already {', '.join(there)}. Choose another name")


def filled(template: Path, name: str) -> str:
    """The template's text with the method's name, in titles written as FGSM-RS."""
    return (
        template.read_text(encoding="utf-8").replace("newone", name).replace("NEWONE", name.upper().replace("_", "-"))
    )


def with_recipe(text: str, name: str) -> str:
    """config/recipes.yaml with the method's recipe after the last one under `methods`; comments stay where they are."""
    lines = text.splitlines(keepends=True)
    first = lines.index("methods:\n") + 1
    last = max(i for i, line in enumerate(lines[: lines.index("datasets:\n")]) if line.startswith("  ") and i >= first)
    return "".join([*lines[: last + 1], RECIPE.format(name=name), *lines[last + 1 :]])
