"""YAML files, and the rules of single values that workflow/schemas/*.yaml say. yaml and jsonschema only.

In a schema, a `description` ends the sentence "VALUE must be ...": it is what the user is told.
"""

import functools
import math
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

from fastat import ROOT
from fastat.config.catalog import CATALOG
from fastat.errors import BadInput, did_you_mean

SCHEMAS = ROOT / "workflow/schemas"


class Loader(yaml.SafeLoader):
    """A key that a mapping repeats is an error: YAML's own loader keeps the last one and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; `<<` takes another one in, and is no key."""
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count((key.tag, key.value)) > 1:
                where = f"line {key.start_mark.line + 1}"
                raise BadInput(f"{where}: {key.value!r} stands twice in one mapping. Keep one: the other would be lost")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises: BadInput if it is not there, is no YAML, holds no mapping, or repeats a key.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader)  # a SafeLoader
    except BadInput as error:
        raise BadInput(f"{path}, {error}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} must hold `key: value` lines, got {type(value).__name__}")
    return value


def validate(value: Any, schema: str, where: str) -> None:
    """Every rule of workflow/schemas/SCHEMA.schema.yaml.

    Raises: BadInput for the first value that breaks one, with the rule, the value and the way out.
    """
    errors = sorted(validator(schema).iter_errors(value), key=lambda error: [str(key) for key in error.absolute_path])
    if errors:
        raise BadInput(f"{where}: {explained(errors[0])}")


@functools.cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    """Whole numbers are int and neither 50.0 nor true; numbers are finite."""
    contents = {path.name: read_yaml(path) for path in sorted(SCHEMAS.glob("*.yaml"))}
    contents["config.schema.yaml"]["$defs"]["dataset"] = {"enum": list(CATALOG)}
    registry: Registry = Registry().with_resources(
        (name, Resource.from_contents(content)) for name, content in contents.items()
    )
    base = jsonschema.Draft202012Validator
    kinds = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    kinds = kinds.redefine("number", lambda _, value: type(value) in (int, float) and abs(value) < math.inf)
    return jsonschema.validators.extend(base, type_checker=kinds)(contents[f"{schema}.schema.yaml"], registry=registry)


def explained(error: jsonschema.ValidationError) -> str:
    """`grid/0: unknown key 'sed'. Did you mean 'seed'? ...`, `batch_size must be a whole number above 0, got 0`."""
    path = [str(key) for key in error.absolute_path]
    place = f"{'/'.join(path)}: " if path else ""
    rule = error.schema.get("description")
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        extra = [str(key) for key in error.instance if key not in known]
        return f"{place}unknown key {extra[0]!r}.{did_you_mean(extra[0], known)}"
    if error.validator == "enum" and rule is None:
        known = [str(value) for value in error.validator_value]
        return f"{place}unknown value {error.instance!r}.{did_you_mean(str(error.instance), known)}"
    if rule is None and error.context:  # of several forms that a value may have, the one that it nearly has
        return explained(jsonschema.exceptions.best_match([error]))
    if rule is None or not path:
        return f"{place}{error.message}"
    inner = f"{'/'.join(path[:-1])}: " if path[:-1] else ""
    return f"{inner}{path[-1]} must be {rule}, got {error.instance!r}{as_number(error.instance)}"


def as_number(value: Any) -> str:
    """`. YAML reads it as text; write 0.0005`: the way out for what YAML takes for text, as 5e-4."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    return f". YAML reads it as text; write {int(number) if number.is_integer() else number}"
