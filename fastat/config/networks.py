"""The networks that a run may name: ours, those under `models` of a config, those of installed packages.

A *door* says how a network of one's own is built: {factory: mynets:small}, {timm: NAME} or {torchvision: NAME}, with
`args` and `normalise` where they are said. Doors are read here and opened in fastat/networks/own.py. No torch, and no
code of others is imported.
"""

import ast
import functools
import json
import shlex
from typing import Any

from fastat import CODE
from fastat.config.plugins import entries
from fastat.config.schema import read_json, validate
from fastat.errors import BadInput, did_you_mean

GROUP = "fastat.networks"  # of entry points
OURS = "fastat/networks/models.py"
SET_BY_US = {  # kind of door -> the arguments that the data set decides, or that would load weights
    "factory": ("n_channels", "n_classes"),
    "timm": ("model_name", "pretrained", "num_classes", "in_chans"),
    "torchvision": ("name", "weights", "num_classes"),
}

Door = dict[str, Any]


@functools.cache
def built_in() -> list[str]:
    """The names in MODELS, read without importing them: the workflow has no torch."""
    for node in ast.parse((CODE / OURS).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODELS":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key]
    raise BadInput(f"{OURS} has no line `MODELS = {{`")


def door_of(name: str, config: dict[str, Any]) -> Door:
    """How the network of this name is built: {} of ours, and of one that nobody names.

    Raises: BadInput if two places have the name.
    """
    own, theirs = config.get("models") or {}, entries(GROUP)
    has = {OURS: name in built_in(), "`models` of the config": name in own, "an installed package": name in theirs}
    if len(places := [place for place, found in has.items() if found]) > 1:
        raise BadInput(f"two networks are called {name!r}: of {' and of '.join(places)}. Rename one")
    return canonical(own[name]) if name in own else {"factory": theirs[name]} if name in theirs else {}


def check_name(name: str, config: dict[str, Any]) -> None:
    """Raises: BadInput for a network that nobody names."""
    if name not in (known := [*built_in(), *(config.get("models") or {}), *entries(GROUP)]):
        raise BadInput(f"unknown model {name!r}.{did_you_mean(name, known)}. Your own stand under `models` of a config")


def check_models(models: dict[str, Door]) -> None:
    """What the schema cannot say of `models`.

    Raises: BadInput with the rule, the value and the way out.
    """
    for name, door in models.items():
        if name in built_in():
            raise BadInput(f"config: models: {name!r} is one of our own networks ({OURS}). Give yours another name")
        check_args(door, f"config: models/{name}")
        door_of(name, {"models": models})


def door_from(text: str) -> Door:
    """A door from JSON as it is said, `normalise: inside` too, which of a checkpoint says something.

    Raises: BadInput with the rule, the value and the way out.
    """
    door = read_json(text, "--network")
    validate(door, "network", "--network")
    check_args(door, "--network")
    return door


def network_option(name: str, config: dict[str, Any]) -> str:
    """What a rule of the workflow adds to a command that builds the network: `--network DOOR`, or '' of ours."""
    door = door_of(name, config)
    return f"--network {shlex.quote(json.dumps(door))}" if door else ""


def check_args(door: Door, where: str) -> None:
    """Raises: BadInput if `args` says what is not its to say, or what JSON cannot hold: it is part of a run's name."""
    args, kind = door.get("args") or {}, kind_of(door)
    for name in args:
        if name in SET_BY_US[kind]:
            raise BadInput(f"{where}: args: {name} must be left out: the data set decides it, or it would load weights")
        if not str(name).isidentifier():
            raise BadInput(f"{where}: args: {name!r} must be the name of a keyword argument")
    if json.loads(json.dumps(args)) != args:
        raise BadInput(f"{where}: args must have text as keys at every depth, got {args!r}"[:300])


def canonical(door: Door) -> Door:
    """The same without what says nothing: equal doors give equal recipes."""
    says_nothing = {"args": {}, "normalise": "inside"}
    return {key: value for key, value in door.items() if value != says_nothing.get(key)}


def kind_of(door: Door) -> str:
    """`factory`, `timm` or `torchvision`."""
    return next(kind for kind in SET_BY_US if kind in door)


def shown(door: Any) -> str:
    """`mynets:small(width=16)`, `timm's resnet18`; whatever else a file may hold in its place, shortened."""
    if not isinstance(door, dict) or not any(isinstance(door.get(kind), str) for kind in SET_BY_US):
        return json.dumps(door)[:120]
    kind = kind_of(door)
    args = door.get("args")
    said = ", ".join(f"{key}={value!r}" for key, value in args.items()) if isinstance(args, dict) else ""
    name = door[kind] if kind == "factory" else f"{kind}'s {door[kind]}"
    return f"{name}({said})"[:200] if said else f"{name}"[:200]
