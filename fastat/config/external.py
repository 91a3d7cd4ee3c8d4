"""Networks trained elsewhere: what is said of a checkpoint, on the command line or under `external`. No torch.

Rules of single values are in workflow/schemas/config.schema.yaml; those that tie two together are here. What is in the
file decides the rest, where it is opened: fastat/networks/external.py.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastat.config import catalog, networks
from fastat.config.networks import Door
from fastat.config.own_data import path_of, plain
from fastat.config.schema import enumerated, validate
from fastat.config.spec import EXTERNAL, RunSpec, split_subset
from fastat.errors import BadInput, did_you_mean
from fastat.units import parse_eps

ENDINGS = (".safetensors", ".tar", ".pth", ".pt", ".ckpt", ".bin")
RELEASED = {"pgd_step": "0.2 eps", "pgd_restarts": 1}  # attack.py:23-42,130-131 of the ATAS code


@dataclass(frozen=True)
class External:
    """A checkpoint that is evaluated at one eps.

    spec: whose rows it has; the variant is its name, with `_train` or `_released` behind it where `part` or `protocol`
    are not the usual ones. door: how the network is built, {} of ours. recipe: what else its numbers depend on besides
    the weights and the protocol of the attacks. suite, images: what attacks it, and how many images AutoAttack does
    (None: as the config says).
    """

    spec: RunSpec
    weights: str
    door: Door
    recipe: dict[str, Any]
    suite: str = "all"
    images: int | str | None = None

    def protocol(self, usual: dict[str, Any]) -> dict[str, Any]:
        """How it is attacked, where others are attacked as `usual`."""
        images = {} if self.images is None else {"n_images": self.images}
        return as_released(self.recipe, {**usual, "autoattack": {**usual["autoattack"], **images}})

    @property
    def path(self) -> str:
        """The file, with the home folder in place of `~`."""
        return str(path_of(self.weights, "weights"))

    @property
    def network_option(self) -> str:
        """What names its network beside --run: `--network DOOR`, or '' of ours."""
        return f"--network {shlex.quote(json.dumps(self.door))}" if self.door else ""

    @property
    def options(self) -> str:
        """What follows `python -m fastat evaluate` for it, but for the suite."""
        said = {"weights": self.weights, "model": self.spec.model, "dataset": self.spec.dataset}
        said |= {"eps": f"{self.spec.eps_255}/255", "name": name_in(self.spec.variant, self.recipe)}
        said |= {key: self.recipe[key] for key in ("arch", "entry") if self.recipe[key]}
        said |= {"network": json.dumps(self.door)} if self.door else {}
        said |= {"part": self.recipe["part"]} | ({} if self.images is None else {"images": str(self.images)})
        words = [word for key, value in said.items() for word in (f"--{key}", value)]
        if stated := self.recipe["normalise"]:
            words += ["--normalise", stated if isinstance(stated, str) else json.dumps(stated)]
        words += ["--protocol", "released"] if self.recipe["protocol"] == "released" else []
        return shlex.join(words)


def as_released(recipe: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol, with the steps of the released one where the recipe of a checkpoint says so."""
    return {**protocol, **(RELEASED if recipe.get("protocol") == "released" else {})}


def of_config(config: dict[str, Any]) -> list[External]:
    """All that the config names, sorted by run.

    Raises: BadInput for the first that breaks a rule, and for two of one name.
    """
    found: dict[RunSpec, External] = {}
    for k, block in enumerate(config.get("external") or []):
        if isinstance(block, dict) and block.get("suite") in ("autoattack", "attacks"):
            raise BadInput(f"config: external/{k}: suite must be whitebox or all, got {block['suite']}. Write all")
        for one in of_block(block, config, f"config: external/{k}"):
            if one.spec in found:
                raise BadInput(
                    f"config: external/{k}: another checkpoint is {one.spec.name}, too. Give one of them a `name`"
                )
            found[one.spec] = one
    return [found[spec] for spec in sorted(found)]


def of_spec(spec: RunSpec, config: dict[str, Any]) -> External:
    """What the config says of the run of a checkpoint.

    Raises: BadInput if it names no such checkpoint.
    """
    known = {one.spec: one for one in of_config(config)}
    if spec not in known:
        raise BadInput(f"no checkpoint {spec.name} under `external` of the config.{did_you_mean(spec, known)}"[:500])
    return known[spec]


def of_wildcards(wildcards: Any, config: dict[str, Any]) -> External:
    """Likewise, of the run that a rule of the workflow makes: its wildcards name neither method nor seed."""
    w = wildcards
    return of_spec(RunSpec(w.dataset, w.model, int(w.eps), EXTERNAL, w.variant, 0), config)


def of_block(block: dict[str, Any], config: dict[str, Any], where: str, door: Door | None = None) -> Iterator[External]:
    """What is said of one checkpoint, for each eps. door: how its network is built, where the model does not say it.

    Raises: BadInput with the rule, the value and the way out.
    """
    every = block.get("eps")
    radii = [radius(eps) for eps in (every if isinstance(every, list) else [every])] if "eps" in block else []
    prepared = [name for name in [str(block.get("dataset"))] if catalog.facts(name)]
    known = [*catalog.own(config), *prepared]
    validate(block, "config#/$defs/checkpoint", where, known)
    path_of(block["weights"], f"{where}: weights")
    model, door, stated = network(block["model"], config, door, where)
    stated = block.get("normalise", stated)
    if block.get("arch") and door:
        raise BadInput(f"{where}: arch says whose rules build one of our networks; leave it out of {block['model']}")
    if block.get("protocol") == "released" and (facts := catalog.facts(block["dataset"])) and facts.stored:
        raise BadInput(
            f"{where}: protocol: released pads images that are in memory, by 4 pixels; {block['dataset']} is not, and "
            "the released evaluation does not pad it. Leave it out"
        )
    recipe = {
        "arch": block.get("arch", ""),
        "entry": block.get("entry", ""),
        "network": door,
        "normalise": canonical(stated, ours=not door),
        "part": block.get("part", "test"),
        "protocol": block.get("protocol", "paper"),
        "n_train": None,
        "n_test": None,
    }
    variant = variant_of(block.get("name") or named(block["weights"], where), recipe, where)
    for eps_255 in radii:
        spec = RunSpec(block["dataset"], model, eps_255, EXTERNAL, variant, 0)
        yield External(spec, block["weights"], door, recipe, block.get("suite", "all"), block.get("images"))


def radius(eps: Any) -> int:
    """In 255ths, as a run's name has it.

    Raises: BadInput for another, which an attack by name may have.
    """
    try:
        return parse_eps(eps)
    except BadInput as error:
        if not re.fullmatch(r"0?\.[0-9]+", str(eps)) or not 0 < float(eps) < 0.5 or "Did you mean" in str(error):
            raise
        raise BadInput(f'{error} Any other radius is an attack by name: --attacks "autoattack eps={eps}"') from error


def network(model: str, config: dict[str, Any], door: Door | None, where: str) -> tuple[str, Door, Any]:
    """The network's name, how it is built ({} of ours), and how its door says that it normalises (None: not said).

    Raises: BadInput for one that nobody names.
    """
    if door is None:
        library, colon, name = model.partition(":")
        if not colon:
            networks.check_name(model, config)
            raw = (config.get("models") or {}).get(model, {})
            return model, without(networks.door_of(model, config)), raw.get("normalise")
        door = {library: name} if library in ("timm", "torchvision") else {"factory": model}
        validate(door, "network", f"{where}: model")
    if model in networks.built_in():
        raise BadInput(f"{where}: {model!r} is one of our own networks. Give yours another name")
    return plain(model), without(networks.canonical(door)), door.get("normalise")


def without(door: Door) -> Door:
    """The door less the normalisation, which is said apart."""
    return {key: value for key, value in door.items() if key != "normalise"}


def canonical(stated: Any, ours: bool) -> Any:
    """How a network is said to normalise, in one way: '' for ours that do so as their rules say, and where unsaid."""
    if isinstance(stated, dict):
        return {key: [float(value) for value in stated[key]] for key in ("mean", "std")}
    if ours:
        return "" if stated in (None, "inside") else stated
    return {None: "", "none": "inside"}.get(stated, stated)


def normalise_from(words: list[str]) -> Any:
    """`--normalise cifar10`, or MEAN STD as 0.49,0.48,0.45 0.25,0.24,0.26, also in 255ths, as 125.3/255.

    Raises: BadInput if it is neither.
    """
    if len(words) == 1 and words[0].startswith("{"):
        try:
            return json.loads(words[0])
        except ValueError as error:
            raise BadInput(f"--normalise is a word, MEAN STD or a JSON object, got {words[0][:80]!r}") from error
    if len(words) == 1 and re.fullmatch(r"[0-9.,/e-]*[0-9][0-9.,/e-]*", words[0]):
        raise BadInput(
            f"--normalise takes MEAN and STD, got one of them: write --normalise {words[0]} STD, as 0.5 0.25"
        )
    if len(words) == 1:
        if words[0] not in (known := enumerated("config", "normalised")):
            raise BadInput(
                f"--normalise must be {', '.join(known)}, or MEAN STD, as 0.4914,0.4822,0.4465 0.2470,0.2435,0.2616, "
                f"got {words[0][:80]!r}.{did_you_mean(words[0], known)}"
            )
        return words[0]
    if len(words) != 2:
        raise BadInput(f"--normalise takes one word or two lists, MEAN STD, got {' '.join(words)[:80]!r}")
    return {key: [number(text) for text in word.split(",")] for key, word in zip(("mean", "std"), words, strict=True)}


def number(text: str) -> float:
    """0.4914, or 125.3/255.

    Raises: BadInput if it is neither, or above 1: in units of bytes.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)(/255)?", text.strip())
    if not match:
        raise BadInput(f"--normalise: a mean or standard deviation is a number, as 0.4914 or 125.3/255, got {text!r}")
    value = float(match[1]) / (255 if match[2] else 1)
    if value > 1:
        raise BadInput(
            f"--normalise: pixels lie in [0, 1], and so must mean and standard deviation, got {text}. In units of "
            f"bytes write {text}/255"
        )
    return value


def named(weights: str, where: str) -> str:
    """What a checkpoint is called after its file: `model_test.pth.tar` -> model_test.

    Raises: BadInput if no letter or digit of it would be left, as of a name in another alphabet.
    """
    stem = Path(weights).name
    while (ending := Path(stem).suffix.lower()) in ENDINGS:
        stem = stem[: -len(ending)]
    if not (name := plain(stem)).strip("_"):
        raise BadInput(f"{where}: {stem!r} has no letter a-z and no digit to be called by. Give it a name (--name)")
    return name


def variant_of(name: str, recipe: dict[str, Any], where: str) -> str:
    """The name, with what is not usual.

    Raises: BadInput for a name that says what is said otherwise.
    """
    if name == "paper" or split_subset(name)[1] or name.endswith(("_train", "_released")):
        raise BadInput(f"{where}: name: {name!r} is as the names of other things are. Give it another (--name)")
    part, protocol = recipe["part"], recipe["protocol"]
    return f"{name}{'_train' if part == 'train' else ''}{'_released' if protocol == 'released' else ''}"


def name_in(variant: str, recipe: dict[str, Any]) -> str:
    """The inverse of `variant_of`."""
    name = variant.removesuffix("_released") if recipe["protocol"] == "released" else variant
    return name.removesuffix("_train") if recipe["part"] == "train" else name
