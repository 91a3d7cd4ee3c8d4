"""YAML files, and the rules of single values that workflow/schemas/*.yaml say. yaml and jsonschema only.

In a schema, a `description` ends the sentence "VALUE must be ...": it is what the user is told.
"""

import functools
import itertools
import json
import math
import re
import stat
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

from fastat import ROOT
from fastat.config.catalog import CATALOG
from fastat.errors import BadInput, did_you_mean

SCHEMAS = ROOT / "workflow/schemas"
LARGEST = 10**31  # of any number in a config
MOST = 10**9  # of what is counted
LONGEST_NUMBER = 40  # characters
LARGEST_FILE, MOST_VALUES, DEEPEST = 10_000_000, 100_000, 50  # bytes, values and levels of a YAML file


class Loader(yaml.SafeLoader):
    """YAML without its traps: a repeated key, of which YAML keeps the last, and texts that it takes for numbers.

    Aliases may not stand for more than MOST_VALUES values in all, nor for what holds them.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; `<<` takes another one in, and is no key."""
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count((key.tag, key.value)) > 1:
                where = f"line {key.start_mark.line + 1}"
                raise BadInput(f"{where}: {key.value!r} stands twice in one mapping. Keep one: the other would be lost")
        return super().construct_mapping(node, deep)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """A finite number to base 10 or 16: `1:30` would be 90, and 010 be 8."""
        text, way_out = str(node.value), "Write a number, or quote it"
        if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
            way_out = f"Write it to base 10, or in quotes: '{text}'"
        elif len(text) <= LONGEST_NUMBER:
            whole = node.tag == "tag:yaml.org,2002:int"
            value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
            if abs(value) < LARGEST:
                return value
        shown = text if len(text) <= LONGEST_NUMBER else f"{text[:20]}... ({len(text)} digits)"
        raise BadInput(
            f"line {node.start_mark.line + 1}: {shown} is no number that YAML and people read alike. {way_out}"
        )

    def refused(self, node: yaml.Node) -> None:
        """What no config has a place for."""
        kind = node.tag.rpartition(":")[2]
        shown = f"{node.value} is" if isinstance(node, yaml.ScalarNode) else "here is"
        raise BadInput(
            f"line {node.start_mark.line + 1}: {shown} a {kind} for YAML. Write it in quotes, or leave it out"
        )


for _kind in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", Loader.number)
for _kind in ("timestamp", "binary", "set", "omap", "pairs"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", Loader.refused)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; one called *.json is read as JSON, which has 5e-05 and no numbers as keys.

    Raises: BadInput if it is not there, is no YAML in UTF-8, holds no mapping, or what Loader refuses.
    """
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        value = with_eps(decoded(read_text(path))) if kind == "JSON" else parsed(read_text(path))
    except BadInput as error:
        raise BadInput(f"{path}, {error}") from error
    except OSError as error:
        ours = not path.is_absolute() and (ROOT / path).is_file()
        hint = f". Ours is {ROOT / path}: python -m fastat where {path}" if ours else ""
        raise BadInput(f"cannot read {path}: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not {kind}: it is no text in UTF-8 ({error.reason}). Save it as UTF-8") from error
    except RecursionError as error:
        raise BadInput(f"{path} is not {kind} for a config: it nests too deep") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of an unknown escape, or a number with !!int
        raise BadInput(f"{path} is not {kind}: {in_one_line(error)}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} must hold `key: value` lines, got {type(value).__name__}")
    return value


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises: BadInput for a folder, a pipe, a device or too large a file; OSError; UnicodeDecodeError.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"cannot read it: it is {'a folder' if path.is_dir() else 'a pipe or device'}. Name a file")
    if found.st_size > LARGEST_FILE:
        raise BadInput(f"cannot read it: {found.st_size:,} bytes are no config. At most {LARGEST_FILE:,}")
    return path.read_text(encoding="utf-8-sig")


def parsed(text: str) -> Any:
    """What a YAML text holds.

    Raises: BadInput, yaml.YAMLError, ValueError, RecursionError.
    """
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        measure(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def measure(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, aliases written out, and how deep it nests.

    Raises: BadInput for too many, too deep, or a node that holds itself.
    """
    where = f"line {node.start_mark.line + 1}"
    if node not in known:
        known[node] = (0, 0)
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        inner = [*itertools.chain.from_iterable(pairs)] if pairs else node.value
        below = [] if isinstance(node, yaml.ScalarNode) else [measure(child, known) for child in inner]
        known[node] = (1 + sum(n for n, _ in below), 1 + max((deep for _, deep in below), default=0))
    count, deep = known[node]
    if not count:
        raise BadInput(f"{where}: it holds itself, by an alias. Write it out")
    if count > MOST_VALUES or deep > DEEPEST:
        found = f"{count:,} values" if count > MOST_VALUES else f"{deep} levels"
        raise BadInput(f"{where}: {found}, aliases written out. At most {MOST_VALUES:,} values and {DEEPEST} levels")
    return known[node]


def in_one_line(error: Exception) -> str:
    """`line 3: could not find expected ':'`: YAML's own errors take four lines."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return f"line {mark.line + 1}: {said}" if mark else " ".join(str(said).split())


def read_json(text: str, what: str) -> dict[str, Any]:
    """A JSON object, as the workflow passes it: `what` names it in errors.

    Raises: BadInput if it is none, repeats a key, or holds NaN or Infinity.
    """
    shown = f"{what} is a JSON object, got {text[:60]!r}"
    try:
        value = decoded(text)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:  # ValueError also of an integer of more than 4300 digits
        raise BadInput(f"{shown} ({error})") from error
    if not isinstance(value, dict):
        raise BadInput(shown)
    return value


def decoded(text: str) -> Any:
    """What a JSON text holds.

    Raises: BadInput for a repeated key, or a number that is none; ValueError, RecursionError.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := [key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1]:
            raise BadInput(f"{twice[0]!r} stands twice in one object. Keep one: the other would be lost")
        return dict(pairs)

    def refuse(word: str) -> None:
        raise BadInput(f"{word} is no number")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def with_eps(value: Any, level: int = 1, by_eps: bool = False) -> Any:
    """What JSON holds of a config as YAML holds it: the keys below `by_eps` are whole numbers, and JSON's are text.

    Raises: BadInput for what nests deeper, or a number that is larger, than YAML may.
    """
    if level > DEEPEST:
        raise BadInput(f"it nests deeper than {DEEPEST} levels. Write it flatter")
    if isinstance(value, dict):
        return {
            int(key) if by_eps and re.fullmatch("[1-9][0-9]{0,2}", key) else key: with_eps(
                inner, level + 1, key == "by_eps"
            )
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [with_eps(inner, level + 1) for inner in value]
    if isinstance(value, float | int) and abs(value) >= LARGEST:
        raise BadInput(f"{str(value)[:20]} is too large a number. Write a smaller one")
    return value


def typed(value: Any) -> Any:
    """A value of `snakemake --config`, which passes numbers and switches inside others as text, with them as such."""
    if isinstance(value, dict):  # a key that is a number: of {by_eps: {8: 0.2}}
        return {int(key) if re.fullmatch("[0-9]{1,3}", str(key)) else key: typed(v) for key, v in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    if not isinstance(value, str) or len(value) > LONGEST_NUMBER:
        return value
    if re.fullmatch(r"[-+]?[0-9]+", value):
        return int(value)
    if re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", value):
        return float(value)
    return {"true": True, "false": False, "null": None}.get(value.lower(), value)


def validate(value: Any, schema: str, where: str, own: Iterable[str] = ()) -> None:
    """Every rule of workflow/schemas/SCHEMA.schema.yaml; `config#/properties/evaluation` is a part of one.

    own: the data sets that there are besides ours.
    Raises: BadInput for the first value that breaks one, with the rule, the value and the way out.
    """
    errors = sorted(
        validator(schema, tuple(own)).iter_errors(value), key=lambda error: [str(key) for key in error.absolute_path]
    )
    if errors:
        raise BadInput(f"{where}: {explained(errors[0])}")


def enumerated(schema: str, name: str) -> list[str]:
    """The words that a schema's `$defs` list under this name."""
    return list(read_yaml(SCHEMAS / f"{schema}.schema.yaml")["$defs"][name]["enum"])


@functools.cache
def validator(schema: str, own: tuple[str, ...] = ()) -> jsonschema.Draft202012Validator:
    """Whole numbers are int and neither 50.0 nor true; numbers are finite."""
    contents = {path.name: read_yaml(path) for path in sorted(SCHEMAS.glob("*.yaml"))}
    contents["config.schema.yaml"]["$defs"]["dataset"] = {"enum": [*CATALOG, *own]}
    registry: Registry = Registry().with_resources(
        (name, Resource.from_contents(content)) for name, content in contents.items()
    )
    base = jsonschema.Draft202012Validator
    kinds = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int and abs(value) < LARGEST)
    kinds = kinds.redefine("number", lambda _, value: type(value) in (int, float) and abs(value) < LARGEST)
    file, _, part = schema.partition("#")
    rules = {"$ref": f"{file}.schema.yaml#{part}"} if part else contents[f"{file}.schema.yaml"]
    return jsonschema.validators.extend(base, type_checker=kinds)(rules, registry=registry)


def explained(error: jsonschema.ValidationError) -> str:
    """`grid/0: unknown key 'sed'. Did you mean 'seed'? ...`, `batch_size must be a whole number above 0, got 0`."""
    path = [str(key) for key in error.absolute_path]
    place = f"{'/'.join(path)}: " if path else ""
    rule = error.schema.get("description")
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        extra = [str(key) for key in error.instance if key not in known]
        hint = ". Parameters of a method stand below `params`" if "params" in known else ""
        return f"{place}unknown key {extra[0]!r}.{did_you_mean(extra[0], known)}{hint}"
    if error.validator == "enum" and rule is None:
        known = [str(value) for value in error.validator_value]
        return f"{place}unknown value {error.instance!r}.{did_you_mean(str(error.instance), known)}"
    if rule is None and error.context:  # of several forms that a value may have, the one that it nearly has
        return explained(jsonschema.exceptions.best_match([error]))
    if error.validator == "required":
        return f"{place}there is no {next(key for key in error.validator_value if key not in error.instance)!r}"
    if rule is None or not path:
        return f"{place}{error.message}"
    inner = f"{'/'.join(path[:-1])}: " if path[:-1] else ""
    return f"{inner}{path[-1]} must be {rule}, got {shown(error.instance)}{as_number(error.instance)}"


def shown(value: Any) -> str:
    """As Python writes it, not too long."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


def as_number(value: Any) -> str:
    """`. YAML reads it as text; write 0.0005`: the way out for what YAML takes for text, as 5e-4, and for 50.0."""
    if type(value) is float and value.is_integer():
        return f"; write {int(value)}"
    if type(value) is int and value > MOST:
        return f"; at most {MOST:,}"
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    written = f"{number:.0f}" if number.is_integer() else f"{Decimal(repr(number)):f}"  # YAML takes 5e-05 for text, too
    return f". YAML reads it as text; write {written}"
