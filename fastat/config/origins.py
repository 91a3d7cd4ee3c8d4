"""Where every value of a run's recipe comes from: file, line, and the source that stands beside it. No torch.

The places of the values are laid over each other by the same code as the values (recipe.py), so that both agree.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from fastat import ROOT
from fastat.config import sweep
from fastat.config.fields import Origin, beside, defaults, origins_of_recipe
from fastat.config.grid import load_config, overlay
from fastat.config.method_files import their_recipes
from fastat.config.networks import GROUP, check_name
from fastat.config.recipe import AT, LIKE, Recipe, choice, is_choice, laid, layers, named_recipes, resolve
from fastat.config.recipe import like as recipe_of
from fastat.config.schema import Loader, with_eps
from fastat.config.spec import RunSpec
from fastat.units import eps_text, is_absolute

RECIPES, DEFAULT = "config/recipes.yaml", "config/config.yaml"


def describe(spec: RunSpec, paths: Iterable[Path]) -> str:
    """Name, value, file:line, and what the value is made from, of all values of the run's recipe: a line each.

    paths: the config files that are laid over config/config.yaml.
    Raises: BadInput as `resolve` does.
    """
    paths = list(paths)
    rows = [
        (name, f"{value}", origin.place, "; ".join(filter(None, (how, origin.choice, origin.source))))
        for name, value, origin, how in values(spec, paths)
    ]
    name, value, place = (max(len(row[k]) for row in rows) for k in range(3))
    value = min(value, 40)  # a schedule's points may be long
    lines = (f"{row[0]:{name}}  {row[1]:{value}}  {row[2]:{place}}  {row[3]}".rstrip() for row in rows)
    theirs = f"  (as {LIKE}: no recipe of its own)" if recipe_of(spec, named_recipes()) != spec.dataset else ""
    return "\n".join([f"{spec.name}{theirs}", *lines])


def values(spec: RunSpec, paths: list[Path]) -> Iterator[tuple[str, Any, Origin, str]]:
    """(name, value, its origin, how a training on D_i^j has stretched it) of every value of the run's recipe."""
    config = load_config(paths)
    check_name(spec.model, config)
    recipe, whole = resolve(spec, config), flat(resolve(replace(spec, variant=spec.named), config))
    own: dict[str, Any] = {}
    for path, shown in ((ROOT / DEFAULT, DEFAULT), *((path, str(path)) for path in paths)):
        own = overlay(own, read_origins(path, shown))
    swept = sweep.of(spec, config["sweep"], own.get("sweep"))
    named = read_origins(ROOT / RECIPES, RECIPES)
    if spec.method in their_recipes():
        named["methods"][spec.method] = origins_of_recipe(spec.method)
    laid_over = laid(layers(spec, named, own.get("recipes") or {}, swept, at_any_eps))
    known = defaults(spec.method)
    found = {name: origin for name, (_, origin) in known.items()} | {"numerics": own["numerics"]}
    scaled = (name for name in flat(recipe) if name in found and is_absolute(known.get(name, ("",))[0]))
    found |= {name: in_proportion(found[name]) for name in scaled if flat(recipe)[name] != known[name][0]}
    found |= dict(placed(laid_over, spec))
    package = Origin(f"entry point {spec.model} of {GROUP}, an installed package", 0)
    found |= {"network.factory": package} | dict(below((own.get("models") or {}).get(spec.model) or {}, "network"))
    of_method = {name: value for name, (value, _) in known.items() if name.startswith("params.")}
    for name, value in (flat(recipe) | of_method | flat(recipe)).items():
        before, times = whole.get(name), recipe.epochs / whole["epochs"]
        how = f"{before} stretched x {times:g} for D_{'^'.join(map(str, spec.subset or ()))}"
        yield name, value, found[name], how if name in whole and value != before else ""


def at_any_eps(part: Any) -> Any:
    """What `recipe.at_any_eps` does to the values, on their origins."""
    if isinstance(part, Origin):
        return in_proportion(part) if any(map(is_absolute, part.text.split(", "))) else part
    if part.keys() == {"by_eps"} and AT in part["by_eps"]:
        return chosen_at(at_any_eps(part["by_eps"][AT]))
    return {key: at_any_eps(value) for key, value in part.items()}


def in_proportion(origin: Origin) -> Origin:
    """Of a length that is N/255 where it stands."""
    return replace(origin, choice=f"{origin.text} at {eps_text(AT)}, in proportion to eps")


def chosen_at(tree: Any) -> Any:
    """Origins below {by_eps: {8: ...}}, of which every other eps takes the same."""
    if isinstance(tree, Origin):
        return replace(tree, choice=", ".join(filter(None, (f"by_eps: {AT}, as at {eps_text(AT)}", tree.choice))))
    return {key: chosen_at(value) for key, value in tree.items()}


def flat(recipe: Recipe) -> dict[str, Any]:
    """`epochs`, `schedule.kind` ... -> value; `params.alpha` and the method's others last."""
    fields = asdict(recipe)
    params = fields.pop("params")
    parts = (dict(below(value, key)) if key in ("schedule", "network") else {key: value}
             for key, value in fields.items())  # fmt: skip
    return {name: value for part in parts for name, value in part.items()} | {f"params.{k}": params[k] for k in params}


def below(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(`network.args.width`, its value) of whatever a mapping holds at any depth; of what is none, itself."""
    if not isinstance(tree, dict):
        yield name, tree
    else:
        for key, inner in tree.items():
            yield from below(inner, f"{name}.{key}")


def placed(tree: Any, spec: RunSpec, name: str = "", chosen: str = "") -> Iterator[tuple[str, Origin]]:
    """(`schedule.lr`, its origin) of the recipe fields; of a value by eps or model that of the run's own."""
    if isinstance(tree, Origin):
        yield name, replace(tree, choice=", ".join(filter(None, (chosen, tree.choice))))
    elif is_choice(tree):
        ((axis, table),) = tree.items()
        key = choice(axis, table, spec, name)
        yield from placed(table[key], spec, name, f"{chosen}, {axis}: {key}".removeprefix(", "))
    else:
        for key, inner in tree.items():
            yield from placed(inner, spec, f"{name}.{key}".removeprefix("."), chosen)


def read_origins(path: Path, shown: str) -> dict[str, Any]:
    """A YAML file's mappings, with the origin of each value in its place.

    Below `methods` that of [value, source]; below `sweep` lists too have one of each value in its place.
    """
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":  # which may be indented by tabs, as no YAML may
        text = text.replace("\t", " ")
    loader, lines = Loader(text), text.splitlines()

    def origins(node: Any, top: str, source: str = "") -> Any:
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            return {loader.construct_object(key): origins(value, top, source) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode) and top == "sweep":
            return [origins(value, top, source) for value in node.value]
        if top == "methods":
            value, said = node.value
            return origins(value, "", said.value), said.value
        line = node.start_mark.line + 1
        return Origin(shown, line, source or beside(lines[line - 1]), text=text_of(node))

    top = loader.get_single_node()  # None: an empty file
    tree = {key.value: origins(value, key.value) for key, value in (top.value if top else ())}
    return with_eps(tree) if path.suffix == ".json" else tree


def text_of(node: yaml.Node) -> str:
    """A value as it stands there, or the values of a list."""
    values = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return ", ".join(str(value.value) for value in values if isinstance(value, yaml.ScalarNode))
