"""A recipe: everything but its name that may change a run's numbers. Standard library, yaml and jsonschema only.

It is resolved from config/recipes.yaml and the config, from the general to the particular. Rules of single fields are
in workflow/schemas/recipe.schema.yaml; those that tie two fields together are here.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fastat import ROOT
from fastat.config import catalog, sweep
from fastat.config.catalog import CATALOG
from fastat.config.fields import defaults
from fastat.config.method_files import method_file, method_names, method_version, their_recipes
from fastat.config.networks import check_args, door_of
from fastat.config.schema import read_json, read_yaml, validate
from fastat.config.spec import EXTERNAL, RunSpec, split_subset
from fastat.errors import BadInput, did_you_mean
from fastat.units import eps_text, in_proportion, is_absolute

LATER = {  # fields not always there, and what they were without
    "numerics": "native",
    "hold_out": 0,
    "network": {},
    "crop": "window",
    "decay_batchnorm": True,
    "cutout": 0,
}
LIKE, AT = "cifar10", 8  # whose recipe trains a data set that has none, and the eps that it is in proportion to
AS_IT_IS = (8, 12, 16)  # the eps at which that recipe is taken as it is
CHOICES = {"by_eps": "{8: 0.2, 12: 0.6}", "by_model": "{wrn28_10: 0.08, other: 0.04}"}  # a value by run, and how


@dataclass(frozen=True)
class Schedule:
    """Learning rate and momentum as functions of progress in epochs; see training/learner.py."""

    kind: str  # "piecewise", "triangular", "linear" or "one_cycle"
    lr: float = 0.1  # the first (piecewise) or highest (triangular, one_cycle) learning rate
    milestones: tuple[float, ...] = ()  # piecewise: x `factor` once this many epochs are done
    factor: float = 0.1
    cycle_momentum: bool = False  # triangular, one_cycle: momentum falls by 0.1 as the learning rate peaks
    points: tuple[tuple[float, float], ...] = ()  # linear: (epochs done, learning rate), joined by straight lines
    momentum_points: tuple[tuple[float, float], ...] = ()  # linear: (epochs done, momentum), likewise


@dataclass(frozen=True)
class Recipe:
    """Everything but the run's name that may change its numbers."""

    epochs: int
    batch_size: int
    schedule: Schedule
    weight_decay: float
    weight_decay_epochs: float | None = None  # none after so many; None: to the end
    decay_batchnorm: bool = True  # weight decay on BatchNorm's weights and biases, too
    momentum: float = 0.9
    average: float = 0.0  # decay of the weights' moving average that is reported; 0: none is kept
    drop_last: bool = False
    pad: int = 0  # zero pixels around an image before it is cropped back
    crop: str = "window"  # of the frame, as large as the image; or resized: of any size, where images are on disk
    flip: bool = False
    cutout: int = 0  # pixels a side of a black square anywhere in every training image; 0: none
    n_train: int | None = None  # only the first so many images; None: all
    n_test: int | None = None
    hold_out: float = 0  # training images that nothing is trained on, for the best epoch: a share below 1, or how many
    monitor_images: int = 128  # training images attacked after every epoch, for log.csv
    arch: str = "shared"  # whose network of the model's name: fastat/networks/models.py
    precision: str = "float32"  # or tf32, bf16; on the CPU float32 and tf32 are one
    compile: str = "off"  # or default, cudagraphs: torch.compile, where it can
    numerics: str = "native"  # or portable; auto until the run begins: machine/numerics.py
    shards: int = 1  # equal shares of the images, one or more to each process that trains: machine/processes.py
    network: dict[str, Any] = field(default_factory=dict)  # how one that is not ours is built: config/networks.py
    params: dict[str, Any] = field(default_factory=dict)  # of the method, over its Config's defaults
    method_version: int = 1  # methods/NAME.py: VERSION, raised when a change there moves numbers

    def to_json(self) -> str:
        """Canonical: equal recipes give equal text. Without what was not said before, where it changes nothing."""
        fields = {key: value for key, value in asdict(self).items() if key not in LATER or value != LATER[key]}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The inverse of `to_json`.

        Raises: BadInput naming the first value that breaks a rule.
        """
        fields = read_json(text, "a recipe")
        if isinstance(fields.get("schedule", {}), dict):
            for key, value in (fields | fields.get("schedule", {})).items():
                if isinstance(value, dict) and value.keys() & set(CHOICES):
                    raise BadInput(f"recipe: {key} must be one value, got the choice {json.dumps(value)[:60]}")
        return recipe_from(fields, "recipe")


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def made_from(about: dict[str, Any]) -> str:
    """What a run.json's numbers depend on, as it should name it: its run, recipe and data.

    Of a checkpoint also its weights, and how its network is built and normalised: nothing of that was trained here.
    """
    text = json.dumps(about["recipe"], sort_keys=True, separators=(",", ":"))
    more = [about.get(key) for key in ("found", "network", "files")] if about.get("status") == "external" else []
    return fingerprint(about["run"], text, about["data_sha256"], *more)


def difference(found: dict[str, Any], wanted: dict[str, Any], where: str = "") -> str:
    """The first value in which two recipes or protocols differ, in words; ''. `numerics: auto` is any."""
    if not where:
        later = {key: value for key, value in LATER.items() if key in {*found, *wanted}}
        found, wanted = {**later, **found}, {**later, **wanted}
    for key in sorted({*found, *wanted}):
        one, other, here = found.get(key), wanted.get(key), f"{where}{key}"
        if isinstance(one, dict) and isinstance(other, dict):
            if inner := difference(one, other, f"{here}/"):
                return inner
        elif one != other and (here, other) != ("numerics", "auto"):
            return f"{here} is {json.dumps(one)}, the config says {json.dumps(other)}"
    return ""


@functools.cache
def named_recipes() -> dict[str, Any]:
    """config/recipes.yaml and what other packages' methods bring, read once: a grid has thousands of runs."""
    recipes = read_yaml(ROOT / "config/recipes.yaml")
    check_named_recipes(recipes, "config/recipes.yaml")
    for name, recipe in their_recipes().items():
        check_named_recipes({"methods": {name: recipe}, "datasets": {}}, f"RECIPE of {method_file(name).shown}")
    return {**recipes, "methods": {**recipes["methods"], **their_recipes()}}


def check_named_recipes(recipes: dict[str, Any], where: str) -> None:
    """Raises: BadInput if not METHOD -> variant -> field -> [value, source] below `methods`, and data sets below."""
    for key in ("methods", "datasets"):
        if not isinstance(recipes.get(key), dict):
            raise BadInput(f"{where}: {key} must be a mapping, got {recipes.get(key)!r}")
    for method, named in recipes["methods"].items():
        if method not in (known := method_names()):
            hint = did_you_mean(str(method), known)
            raise BadInput(f"{where}: methods: unknown method {method!r}: bring its file, or remove its recipe.{hint}")
        for variant, fields in (named or {}).items():
            place = f"{where}: {method}/{variant}"
            if not re.fullmatch("[a-z0-9_]+", str(variant)) or not isinstance(fields or {}, dict):
                raise BadInput(f"{place} must be a name in a-z, 0-9 and _ with a mapping of recipe fields")
            for field_name, pair in (fields or {}).items():
                if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str) and pair[1]):
                    raise BadInput(
                        f"{place}: {field_name} must be [value, source], as [1.1 eps, my own choice], got {pair!r}"
                    )


@functools.cache
def variants() -> dict[str, list[str]]:
    """Method -> its named recipes, `paper` first."""
    known = named_recipes()["methods"]
    return {name: list(known.get(name) or {"paper": {}}) for name in method_names()}


def check_names(spec: RunSpec, config: dict[str, Any]) -> None:
    """Raises: BadInput for a method or variant that neither config/recipes.yaml nor the config has for the data set."""
    known = variants()
    if spec.method == EXTERNAL and EXTERNAL not in known:
        raise BadInput(
            f"{EXTERNAL} is no method: so the rows of checkpoints are called, which were trained elsewhere and have no "
            "recipe. Evaluate one: python -m fastat evaluate --weights FILE ... (docs/checkpoints.md)"
        )
    if spec.method not in known:
        raise BadInput(f"unknown method {spec.method!r}.{did_you_mean(spec.method, known)}")
    if spec.named in known[spec.method]:
        return check_its_datasets(spec, config)
    if sweep.makes(spec, config.get("sweep") or {}):
        return None
    names = [*known[spec.method], *own_variants(spec, config)]
    if spec.named not in names:
        place = f"{{{spec.dataset}: {{{spec.method}/{spec.variant}: {{epochs: 3}}}}}}"
        raise BadInput(
            f"method {spec.method} has no variant {spec.variant!r}.{did_you_mean(spec.variant, names)}, and each "
            "followed by _dI_J, which trains on D_I^J alone (1 <= I <= J <= 10). Or make it, in the config: "
            f"`recipes: {place}`"
        )
    if not re.fullmatch("[a-z0-9_]+", spec.variant):
        raise BadInput(f"a variant's name is made of a-z, 0-9 and _, got {spec.variant!r}: it is a folder's")


def check_its_datasets(spec: RunSpec, config: dict[str, Any]) -> None:
    """A variant that names `datasets` is for these alone, until the config says how it is trained on another one.

    Raises: BadInput.
    """
    recipes, one = named_recipes(), f"{spec.method}/{spec.named}"
    sets, _ = ((recipes["methods"].get(spec.method) or {}).get(spec.named) or {}).get("datasets", (None, ""))
    mine = (config.get("recipes") or {}).get(spec.dataset) or {}
    if sets and like(spec, recipes) not in sets and one not in mine:
        raise BadInput(
            f"{one} is a recipe for {' and '.join(sets)}, not for {spec.dataset}. Say what is else there, in the "
            f"config: `recipes: {{{spec.dataset}: {{{one}: {{epochs: 30}}}}}}`; from Python leave `dataset` out, and "
            "say epochs and average"
        )


def own_variants(spec: RunSpec, config: dict[str, Any]) -> list[str]:
    """The variants of the run's method that the config makes for its data set: by `recipes`, or by `sweep`."""
    keys = [str(key).partition("/") for key in (config.get("recipes") or {}).get(spec.dataset) or {}]
    made = [variant for method, slash, variant in keys if slash and method == spec.method]
    return [*made, *sweep.names(spec.method, config.get("sweep") or {})]


def named_recipe(method: str, variant: str) -> dict[str, tuple[Any, str]]:
    """Field -> (value, source) of a named recipe on CIFAR10: `variant` over `paper`.

    Fields of the method itself are called `params.NAME`.
    """
    known = named_recipes()["methods"].get(method) or {}
    listed = {**known.get("paper", {}), **(known.get(variant) or {})}
    return {key: (value, source) for key, (value, source) in listed.items()}


def check_recipe_names(
    recipes: dict[str, Any], where: str, specs: Collection[RunSpec] = (), own: Iterable[str] = ()
) -> None:
    """Every recipe must be for a data set, and for `every`, a method or METHOD/VARIANT: a typo would change nothing.

    specs: the runs of the config's grid; a variant that its own recipes make must be one of theirs. own: the data sets
    that there are besides ours.
    Raises: BadInput for a name that no run can have, or that of a new variant that no run has.
    """
    known = ["every", *(key for name, names in variants().items() for key in (name, *(f"{name}/{v}" for v in names)))]
    for dataset, fields in recipes.items():
        if dataset not in (known_sets := [*CATALOG, *own]):
            raise BadInput(f"{where}: unknown dataset {dataset!r}.{did_you_mean(dataset, known_sets)}")
        names = [
            *known,
            *sorted({f"{spec.method}/{spec.named}" for spec in specs if spec.dataset == dataset} - {*known}),
        ]
        for name in fields:
            if name not in names:
                raise BadInput(f"{where}/{dataset}: {no_recipe(name, names, is_config=bool(specs))}")


def no_recipe(name: Any, known: list[str], is_config: bool) -> str:
    """Why no run can have a recipe of this name, and the way out."""
    method, _, variant = str(name).partition("/")
    if split_subset(variant)[1]:
        whole = f"{method}/{split_subset(variant)[0]}"
        return f"{name!r} has no recipe of its own: a training on D_I^J has that of {whole}. Write {whole}"
    if is_config and variant and method in variants():
        ours = [other for other in known if other.startswith(f"{method}/")]
        return (
            f"no run of the grid is {name!r}, so that it would change nothing. Name it there, as `method: {name}`."
            f"{did_you_mean(name, ours)}"
        )
    return f"no method or variant {name!r}.{did_you_mean(name, known)}"


def resolve(spec: RunSpec, config: dict[str, Any]) -> Recipe:
    """The run's recipe: its layers, each over those before it, and what they choose for this eps and network.

    Raises: BadInput naming the key and the rule.
    """
    check_names(spec, config)
    check_dataset(spec.dataset, config)
    return resolved(spec, config)


def resolved(spec: RunSpec, config: dict[str, Any]) -> Recipe:
    """As `resolve`, of any variant: one that nobody names is `paper` under another name."""
    where = f"recipe of {spec.dataset}/{spec.method}/{spec.variant}"
    swept = sweep.of(spec, config.get("sweep") or {})
    parts = layers(spec, named_recipes(), config.get("recipes") or {}, swept)
    below = {"numerics": config["numerics"], "params": proportional_defaults(spec, named_recipes())}
    fields = lay(below, laid(parts))
    fields["method_version"] = method_version(spec.method)
    if "network" in fields:
        raise BadInput(f"{where}: network must be left out: `models` of the config says how {spec.model} is built")
    door = door_of(spec.model, config)
    recipe = recipe_from({**chosen(fields, spec, where), **({"network": door} if door else {})}, where)
    check_sizes(recipe, spec.dataset, where)
    return recipe if spec.subset is None else on_subset(recipe, spec.subset, spec.dataset, where)


def check_dataset(dataset: str, config: dict[str, Any]) -> None:
    """A data set has a recipe, or is the user's own: named in the config, or prepared in the results folder.

    Raises: BadInput if it is neither.
    """
    own, known = catalog.own(config), named_recipes()["datasets"]
    if dataset in CATALOG and dataset not in known:
        raise BadInput(f"config/recipes.yaml has no recipe for dataset {dataset!r}. Known: {', '.join(known)}")
    if dataset not in known and dataset not in own and catalog.facts(dataset) is None:
        said = did_you_mean(dataset, [*known, *own])
        raise BadInput(
            f"unknown dataset {dataset!r}: neither one of ours nor in `datasets` of the config (--configfile).{said}"
        )


def layers(
    spec: RunSpec,
    named: dict[str, Any],
    own: dict[str, Any],
    swept: sweep.Swept | None = None,
    scaled: Callable[[Any], Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Recipe fields from the general to the particular; what a variant itself names is more so than a data set.

    A data set without a recipe takes CIFAR10's: in proportion to eps, unless that is one of AS_IT_IS. What the user's
    own config says is taken as it is.
    named: config/recipes.yaml; own: `recipes` of the config; swept: what the run's variant is, if a sweep made it; or
    all with the places of the values, and `scaled` for them (origins.py).
    """
    method, dataset = named["methods"].get(spec.method) or {}, named["datasets"].get(like(spec, named)) or {}
    variant = swept.over if swept else spec.named
    one, mine = f"{spec.method}/{variant}", own.get(spec.dataset) or {}
    taken = (scaled or at_any_eps) if is_scaled(spec, named) else (lambda part: part)
    yield taken(fields_of(method.get("paper") or {}))
    yield from (taken(dataset.get(key) or {}) for key in ("every", spec.method))
    if variant != "paper":
        yield taken(fields_of(method.get(variant) or {}))
    yield taken(dataset.get(one) or {})
    yield from (mine.get(key) or {} for key in ("every", spec.method, one))
    yield swept.fields if swept else {}


def fields_of(listed: dict[str, Any]) -> dict[str, Any]:
    """A named recipe as a data set writes one: {`params.alpha`: [value, source]} -> {`params`: {`alpha`: value}}."""
    parts = ((key.removeprefix("params."), key, value) for key, (value, _) in listed.items() if key != "datasets")
    return laid({key: value} if param == key else {"params": {param: value}} for param, key, value in parts)


def like(spec: RunSpec, named: dict[str, Any]) -> str:
    """The data set whose recipe trains this run: its own, or LIKE."""
    return spec.dataset if spec.dataset in named["datasets"] else LIKE


def is_scaled(spec: RunSpec, named: dict[str, Any]) -> bool:
    """Whether the run's recipe is one of 8/255, in proportion to its eps."""
    return spec.dataset not in named["datasets"] and spec.eps_255 not in AS_IT_IS


def at_any_eps(part: Any) -> Any:
    """Recipe fields of 8/255 in proportion: 4/255 becomes 0.5 eps, and a value by eps is 8's; all else stays."""
    if isinstance(part, dict):
        if part.keys() == {"by_eps"} and AT in part["by_eps"]:
            return at_any_eps(part["by_eps"][AT])
        return {key: at_any_eps(value) for key, value in part.items()}
    if isinstance(part, list):
        return [at_any_eps(value) for value in part]
    return in_proportion(part, AT) if is_absolute(part) else part


def proportional_defaults(spec: RunSpec, named: dict[str, Any]) -> dict[str, str]:
    """The lengths N/255 among the method's defaults that are in proportion in this run, so: {alpha: 0.5 eps}."""
    if not is_scaled(spec, named):
        return {}
    return {key: in_proportion(length, AT) for key, length in absolute_defaults(spec.method).items()}


@functools.cache
def absolute_defaults(method: str) -> dict[str, str]:
    """The lengths N/255 in the method's Config, without importing it."""
    of_method = {key.removeprefix("params."): value for key, (value, _) in defaults(method).items() if "params." in key}
    return {key: value for key, value in of_method.items() if is_absolute(value)}


def on_subset(recipe: Recipe, subset: tuple[int, int], dataset: str, where: str) -> Recipe:
    """The recipe for D_i^j: more epochs of fewer images, so that the iterations stay as many (Sec. III).

    Raises: BadInput where the images are not in memory.
    """
    if (facts := catalog.facts(dataset)) and facts.stored:
        raise BadInput(f"{where}: {dataset} is read from disk, where training on a subset is not built")
    first, last = subset
    return of_length(recipe, round(recipe.epochs * 10 / (last - first + 1)))


def of_length(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs, and its schedule stretched to them.

    A method that switches where the schedule does (`sampling_epochs`) does so after a whole epoch: then both do.
    """
    times, old = epochs / recipe.epochs, recipe.schedule
    decay, params = recipe.weight_decay_epochs, dict(recipe.params)
    switch, placed = params.get("sampling_epochs", 0), {*old.milestones, *(epoch for epoch, _ in old.points), decay}
    whole: dict[float, int] = {}
    if type(switch) is int and switch and switch in placed:
        whole = {switch: max(1, round(times * switch))}

    def stretched(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple((whole.get(epoch, epochs * (epoch / recipe.epochs)), value) for epoch, value in points)

    schedule = replace(
        old,
        milestones=tuple(whole.get(stone, times * stone) for stone in old.milestones),
        points=stretched(old.points),
        momentum_points=stretched(old.momentum_points),
    )
    if "decays" in params:  # of the learning rate, known to the method
        params["decays"] = [times * stone for stone in params["decays"]]
    if whole:
        params["sampling_epochs"] = whole[switch]
    decay = None if decay is None else whole.get(decay, times * decay)
    return replace(recipe, epochs=epochs, schedule=schedule, weight_decay_epochs=decay, params=params)


def check_sizes(recipe: Recipe, dataset: str, where: str) -> None:
    """Raises: BadInput if a recipe asks for more than the data set has, as far as that is known."""
    if (facts := catalog.facts(dataset)) is None:
        return
    if facts.stored and recipe.pad:
        raise BadInput(f"{where}: pad must be 0, got {recipe.pad}: {dataset} is stored larger than it is seen")
    for name in ("n_train", "n_test"):
        asked, has = getattr(recipe, name), getattr(facts, name)
        if (asked or 0) > has:
            raise BadInput(f"{where}: {name} must be at most {has}, as many as {dataset} has, or left out, got {asked}")
    if recipe.crop == "resized" and not facts.stored:
        rule = "crop must be window, or left out: resized is built for images that are read from disk, as imagenet's"
        raise BadInput(f"{where}: {rule}, and {dataset}'s are in memory")
    if recipe.hold_out and facts.stored:
        raise BadInput(f"{where}: hold_out must be 0: {dataset} is read from disk, where holding out is not built")
    n_held_out(recipe.hold_out, recipe.n_train or facts.n_train)


def n_held_out(hold_out: float, n_train: int) -> int:
    """How many of n_train images a recipe's `hold_out` keeps out of the training.

    Raises: BadInput if that is none, though some are asked for, or leaves none.
    """
    n = round(hold_out * n_train) if hold_out < 1 else int(hold_out)
    if hold_out and not 0 < n < n_train:
        raise BadInput(
            f"hold_out must be at least one training image and fewer than all {n_train:,}, got {hold_out:g}, which is "
            f"{n:,}. Write another share or number."
        )
    return n


def laid(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Recipe fields, each part over those before it."""
    fields: dict[str, Any] = {}
    for part in parts:
        fields = lay(fields, part)
    return fields


def lay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Recipe fields over others: `params` merge by name, and a schedule that neither says its kind nor chooses."""
    merged = {**below, **above}
    for key in ("params", "schedule"):
        new = above.get(key)
        if isinstance(new, dict) and (key == "params" or not new.keys() & {"kind", *CHOICES}):
            merged[key] = {**(below.get(key) or {}), **new}
    return merged


def chosen(value: Any, spec: RunSpec, where: str) -> Any:
    """What {by_eps: {8: 0.2, ...}} and {by_model: {wrn28_10: 0.08, other: 0.04}} say for this run, at any depth.

    Raises: BadInput if it says nothing for this eps or model.
    """
    if not isinstance(value, dict):
        return value
    if not is_choice(value):
        return {key: chosen(inner, spec, f"{where}: {key}") for key, inner in value.items()}
    ((axis, table),) = value.items()
    return chosen(table[choice(axis, table, spec, where)], spec, where)


def is_choice(value: dict[Any, Any]) -> bool:
    """Whether it is {by_eps: ...} or {by_model: ...}."""
    return len(value) == 1 and bool(value.keys() & set(CHOICES))


def choice(axis: str, table: Any, spec: RunSpec, where: str) -> Any:
    """The key of a table by eps or model that is this run's.

    Raises: BadInput if there is none.
    """
    if not isinstance(table, dict):
        raise BadInput(f"{where}: {axis} must be a mapping as {CHOICES[axis]}, got {table!r}")
    if axis == "by_model":
        if not table.keys() & {spec.model, "other"}:
            raise BadInput(
                f"{where} is given for {', '.join(map(str, table))}, not for {spec.model}. Add it, or `other`."
            )
        return spec.model if spec.model in table else "other"
    if spec.eps_255 not in table:
        known = ", ".join(eps_text(eps) if isinstance(eps, int) else repr(eps) for eps in table)
        raise BadInput(
            f"{where} is given for eps {known}, not for {eps_text(spec.eps_255)}. Add it under `recipes` in the "
            f"config, as {{by_eps: {{{spec.eps_255}: ...}}}}."
        )
    return spec.eps_255


def recipe_from(fields: dict[str, Any], where: str) -> Recipe:
    """A checked Recipe.

    Raises: BadInput for an unknown key or a value outside its range.
    """
    if (said := repr(fields)) not in _valid:  # a recipe is resolved anew for every run that has it
        validate(fields, "recipe", where)
        _valid.add(said)
    schedule = dict(fields.get("schedule") or {})
    for key in {"milestones", "points", "momentum_points"} & schedule.keys():
        schedule[key] = tuple(tuple(item) if isinstance(item, list | tuple) else item for item in schedule[key])
    fields = {**fields, "schedule": constructed(Schedule, schedule, f"{where}: schedule")}
    if fields.get("compile") is False:
        fields["compile"] = "off"  # YAML reads off as false
    recipe = constructed(Recipe, fields, where)
    if recipe.network:
        check_args(recipe.network, f"{where}: network")
    return checked(recipe, where)


def checked(recipe: Recipe, where: str) -> Recipe:
    """The recipe itself.

    Raises: BadInput if it breaks a rule between two fields.
    """
    for name, value, rule in broken(recipe):
        raise BadInput(f"{where}: {name} must be {rule}, got {value!r}")
    return recipe


_valid: set[str] = set()  # fields that broke no rule of the schema


def constructed(cls: Any, fields: dict[str, Any], where: str) -> Any:
    """The dataclass; what it lacks is named by Python."""
    try:
        return cls(**fields)
    except TypeError as error:
        raise BadInput(f"{where}: {error}") from error


def broken(recipe: Recipe) -> Iterator[tuple[str, Any, str]]:
    """The rules between two fields that the recipe breaks: (field, its value, how the sentence ends: "must be ...")."""
    r, schedule = recipe, recipe.schedule
    if r.hold_out >= 1 and r.hold_out % 1:
        yield "hold_out", r.hold_out, "a share of the training images below 1, as 0.02, or a whole number of them"
    if r.drop_last and r.n_train and r.n_train < r.batch_size:
        rule = f"at most n_train = {r.n_train} with drop_last: true, else no batch would be left"
        yield "batch_size", r.batch_size, rule
    if schedule.cycle_momentum and not schedule.momentum_points and r.momentum < 0.1:
        yield "momentum", r.momentum, "0.1 or more with cycle_momentum: true"
    if schedule.kind == "one_cycle" and r.epochs < 3:
        rule = "3 or more with kind: one_cycle, whose last epoch has lr / 250,000. Or take kind: triangular"
        yield "epochs", r.epochs, rule
    if r.weight_decay_epochs is not None and r.weight_decay_epochs > r.epochs:
        yield "weight_decay_epochs", r.weight_decay_epochs, f"between 0 and epochs = {r.epochs}, or left out"
    if r.shards > 1 and not (5040 % r.shards == r.batch_size % r.shards == 0 and r.drop_last):
        rule = f"1, or a divisor of 5040 and of batch_size = {r.batch_size}, with drop_last: true"
        yield "shards", r.shards, rule
    if r.network and r.arch != "shared":
        yield "arch", r.arch, "left out with a network that is not ours: it names the authors of ours"
    stones = list(schedule.milestones)
    if stones != sorted(stone for stone in stones if 0 < stone < r.epochs):
        shorter = [round(share * r.epochs, 2) for share in (0.8, 0.93)]
        way_out = f"Say them with the epochs, as schedule: {{milestones: {shorter}}}"
        yield "schedule: milestones", schedule.milestones, f"rising, and between 0 and epochs = {r.epochs}. {way_out}"
    for name, kind in (("milestones", "piecewise"), ("points", "linear")):
        value = getattr(schedule, name)
        if value and schedule.kind != kind:
            way_out = f"Write the kind too, as {{kind: {kind}, lr: {schedule.lr}, {name}: ...}}"
            rule = f"left out: {name} belongs to kind: {kind}, and kind: {schedule.kind} would ignore it. {way_out}"
            yield f"schedule: {name}", value, rule
    for name, needed in (("points", schedule.kind == "linear"), ("momentum_points", False)):
        value = getattr(schedule, name)
        if (value or needed) and not is_line(value, r.epochs):
            rule = f"pairs [epoch, value] from epoch 0 to {r.epochs}, epochs not falling, values 0 or more"
            rule += f". Say them with the epochs, as schedule: {{{name}: [[0, 0.1], [{r.epochs}, 0]]}}"
            yield f"schedule: {name}", value, rule


def is_line(points: tuple[tuple[float, float], ...], epochs: int) -> bool:
    """Whether it leads from the start to the end of the training."""
    done = [epoch for epoch, _ in points]
    return len(done) > 1 and done == sorted(done) and (done[0], done[-1]) == (0, epochs)
