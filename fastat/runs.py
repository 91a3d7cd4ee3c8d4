"""What is to be run: config -> grid of runs -> recipe of each. Standard library, yaml and jsonschema only.

A run's name is its path: `digits/preact_tiny/eps77/atas/paper/seed0`. A recipe is data: everything that may
change a run's numbers, resolved from config/recipes.yaml, from the general to the particular.
"""

import ast
import difflib
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from fastat.data.catalog import CATALOG
from fastat.errors import BadInput
from fastat.units import eps_text, parse_eps

PRECISIONS = ("float32", "tf32", "bf16")
COMPILERS = ("off", "default", "cudagraphs")
ROOT = Path(__file__).resolve().parent.parent
SUBSET = r"(.+)_d(\d+)_(\d+)"  # a variant that trains on D_i^j
PATTERN = "{dataset}/{model}/eps{eps}/{method}/{variant}/seed{seed}"


@dataclass(frozen=True, order=True)
class RunSpec:
    """One training: what the path of its folder says."""

    dataset: str
    model: str
    eps_255: int
    method: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """`digits/preact_tiny/eps77/atas/paper/seed0`."""
        return PATTERN.format(**self.wildcards)

    @property
    def eps(self) -> float:
        """The radius; pixels lie in [0, 1]."""
        return self.eps_255 / 255

    @property
    def wildcards(self) -> dict[str, str]:
        """The parts of the name, as the workflow's patterns want them."""
        return {
            "dataset": self.dataset,
            "model": self.model,
            "eps": str(self.eps_255),
            "method": self.method,
            "variant": self.variant,
            "seed": str(self.seed),
        }

    @classmethod
    def of(cls, wildcards: Any) -> "RunSpec":
        """The inverse of `wildcards`, as a rule of the workflow holds them."""
        w = wildcards
        return cls(w.dataset, w.model, int(w.eps), w.method, w.variant, int(w.seed))

    @classmethod
    def parse(cls, name: str) -> "RunSpec":
        """The inverse of `name`.

        Raises: BadInput if the text is not of that form.
        """
        word = r"[a-z0-9_]+"
        match = re.fullmatch(rf"({word})/({word})/eps(\d+)/({word})/({word})/seed(\d+)", name.strip("/"))
        if not match:
            raise BadInput(f"a run is named {PATTERN} (as digits/preact_tiny/eps77/atas/paper/seed0), got {name!r}")
        dataset, model, eps, method, variant, seed = match.groups()
        return cls(dataset, model, int(eps), method, variant, int(seed))

    @property
    def named(self) -> str:
        """The recipe: the variant, less the subset that it may end with."""
        return of_subset(self.variant)[0]

    @property
    def subset(self) -> tuple[int, int] | None:
        """(i, j) of a run that trains on D_i^j alone, the images in the i-th to j-th tenth by gradient norm."""
        return of_subset(self.variant)[1]

    @property
    def ranked_by(self) -> "RunSpec":
        """The run whose gradient norms rank the images: the method's `paper` recipe on all images, seed 0."""
        return replace(self, variant="paper", seed=0)


def of_subset(variant: str) -> tuple[str, tuple[int, int] | None]:
    """`step175_d9_10` -> (`step175`, (9, 10)): a recipe, and the D_9^10 of the ATAS paper (Sec. III, Fig. 3)."""
    match = re.fullmatch(SUBSET, variant)
    if not match or not 1 <= int(match[2]) <= int(match[3]) <= 10:
        return variant, None
    return match[1], (int(match[2]), int(match[3]))


@dataclass(frozen=True)
class Schedule:
    """Learning rate and momentum as functions of progress in epochs; see training/learner.py."""

    kind: str  # "piecewise", "triangular" or "linear"
    lr: float = 0.1  # the first (piecewise) or highest (triangular) learning rate
    milestones: tuple[float, ...] = ()  # piecewise: x `factor` once this many epochs are done
    factor: float = 0.1
    cycle_momentum: bool = False  # triangular: momentum falls by 0.1 as the learning rate peaks
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
    momentum: float = 0.9
    average: float = 0.0  # decay of the weights' moving average that is reported; 0: none is kept
    drop_last: bool = False
    pad: int = 0  # zero pixels around an image before it is cropped back
    flip: bool = False
    n_train: int | None = None  # only the first so many images; None: all
    n_test: int | None = None
    monitor_images: int = 128  # training images attacked after every epoch, for log.csv
    arch: str = "shared"  # whose network of the model's name: fastat/models.py
    precision: str = "float32"  # or tf32, bf16; on the CPU float32 and tf32 are one
    compile: str = "off"  # or default, cudagraphs: torch.compile, where it can
    shards: int = 1  # equal shares of the images, one or more to each process that trains; see fastat/sharing.py
    params: dict[str, Any] = field(default_factory=dict)  # of the method, over its Config's defaults
    method_version: int = 1  # methods/NAME.py: VERSION, raised when a change there moves numbers

    def to_json(self) -> str:
        """Canonical: equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The inverse of `to_json`.

        Raises: BadInput naming the first value that breaks a rule.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"a recipe is a JSON object, got {text[:60]!r} ({error})") from error
        if not isinstance(fields, dict):
            raise BadInput(f"a recipe is a JSON object, got {text[:60]!r}")
        return recipe_from(fields, "recipe")


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------- config


def load_config(paths: Iterable[Path] = ()) -> dict[str, Any]:
    """config/config.yaml with the given files laid over it, as `snakemake --configfile` does.

    Raises: BadInput if a file is missing or not YAML, or the result breaks a rule (see `check_config`).
    """
    config: dict[str, Any] = {}
    for path in (ROOT / "config/config.yaml", *paths):
        config = overlay(config, read_yaml(path))
    check_config(config)
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        value = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} must hold `key: value` lines, got {type(value).__name__}")
    return value


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with `above` laid over it: mappings merge key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def check_config(config: dict[str, Any]) -> None:
    """Every rule that can be checked without torch, on a whole config.

    Raises: BadInput with the rule, the value and the way out.
    """
    for block in [*(config.get("grid") or []), *(config.get("extra_grid") or [])]:
        if isinstance(block, dict):
            for eps in _listed(block.get("eps", [])):
                parse_eps(eps)
    schema = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the top level"
        raise BadInput(f"config: {where}: {_explain(error)}")
    for eps in config["table1_eps"].values():
        parse_eps(eps)
    check_recipe_names(config["recipes"], "config: recipes")
    specs = expand(config)
    for name in config["snapshots"]:
        if not any(name == f"{spec.method}/{spec.variant}" for spec in specs):
            raise BadInput(f"config: snapshots: no run of the grid is {name!r}, written METHOD/VARIANT")
    for spec in specs:
        shards, n_processes = resolve(spec, config).shards, config["processes"].get(spec.dataset, 1)
        if shards % n_processes:
            raise BadInput(
                f"config: processes: {n_processes} for {spec.dataset} must divide the shards of its recipe, {shards}. "
                f"Write one that does, or set `recipes: {{{spec.dataset}: {{every: {{shards: {n_processes}, drop_last: "
                "true}}}} (it changes the order of the images)."
            )
    for dataset in {spec.dataset for spec in specs}:
        check_n_images(protocol(config, dataset)["autoattack"]["n_images"], dataset, resolve_dataset(dataset, config))


def check_recipe_names(recipes: dict[str, Any], where: str) -> None:
    """Every recipe must be for a data set, and for `every`, a method or METHOD/VARIANT: a typo would change nothing.

    Raises: BadInput for a name that no run can have.
    """
    known = ["every", *(key for name, names in variants().items() for key in (name, *(f"{name}/{v}" for v in names)))]
    for dataset, fields in recipes.items():
        if dataset not in CATALOG:
            raise BadInput(
                f"{where}: unknown dataset {dataset!r}.{_guess(dataset, CATALOG)} Known: {', '.join(CATALOG)}"
            )
        for name in fields:
            if name not in known:
                raise BadInput(f"{where}/{dataset}: no method or variant {name!r}.{_guess(name, known)}")


def check_n_images(n_images: int | str, dataset: str, fields: dict[str, Any]) -> None:
    """AutoAttack cannot attack more images than the test part has."""
    n_test = fields.get("n_test") or CATALOG[dataset].n_test
    if n_images != "all" and int(n_images) > n_test:
        raise BadInput(
            f"config: evaluation/autoattack/n_images is {n_images}, but {dataset} has {n_test} test images. "
            "Ask for fewer, or write `all`."
        )


def _explain(error: jsonschema.ValidationError) -> str:
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        extra = [key for key in error.instance if key not in known]
        return f"unknown key {extra[0]!r}.{_guess(str(extra[0]), known)} Known: {', '.join(known)}"
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        return f"unknown value {error.instance!r}.{_guess(str(error.instance), known)} Known: {', '.join(known)}"
    return error.message


def _guess(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# ------------------------------------------------------------------------------------------------ grid


def expand(config: dict[str, Any]) -> list[RunSpec]:
    """The runs that the config's grid names, sorted, each once.

    Raises: BadInput for an unknown method or variant.
    """
    known = variants()
    specs = set()
    for block in [*config["grid"], *config["extra_grid"]]:
        axes = [_listed(block[key]) for key in ("dataset", "model", "eps", "method", "seed")]
        for dataset, model, eps, method, seed in itertools.product(*axes):
            name, _, variant = str(method).partition("/")
            if name not in known:
                raise BadInput(f"unknown method {name!r}.{_guess(name, known)} Known: {', '.join(known)}")
            if of_subset(variant or "paper")[0] not in known[name]:
                raise BadInput(
                    f"method {name} has no variant {variant!r}.{_guess(variant, known[name])} "
                    f"Known: {', '.join(known[name])}, and each followed by _dI_J, which trains on D_I^J alone "
                    f"(1 <= I <= J <= 10)"
                )
            specs.add(RunSpec(dataset, model, parse_eps(eps), name, variant or "paper", int(seed)))
    return sorted(specs)


def protocol(config: dict[str, Any], dataset: str) -> dict[str, Any]:
    """How runs of this data set are attacked: `evaluation`, with what it says of the data set laid over it."""
    common = {key: value for key, value in config["evaluation"].items() if key != "datasets"}
    return overlay(common, (config["evaluation"].get("datasets") or {}).get(dataset) or {})


def keeps_snapshots(spec: RunSpec, config: dict[str, Any]) -> bool:
    """Whether the weights of every epoch of this run are kept, for Figure 2."""
    return f"{spec.method}/{spec.variant}" in config["snapshots"]


def files(spec: RunSpec, config: dict[str, Any]) -> list[str]:
    """What a finished run leaves in its folder (docs/files.md). Trained on a subset, it is not attacked."""
    left = ["run.json", "log.csv", "instances.safetensors"]
    if not spec.subset:
        left += [f"eval/{name}.csv" for name in ("whitebox", "surfaces", "steps", "autoattack")]
    return [*left, "eval/surfaces_by_epoch.csv"] if keeps_snapshots(spec, config) else left


def needs(spec: RunSpec) -> list[str]:
    """The files of other runs that a training starts from: on D_i^j, the gradient norms of all images."""
    return [f"results/runs/{spec.ranked_by.name}/instances.safetensors"] if spec.subset else []


def launcher(dataset: str, config: dict[str, Any]) -> str:
    """What starts a training on this data set: python, or torchrun where several processes share it."""
    n_processes = config["processes"].get(dataset, 1)
    if n_processes == 1:
        return "python -m fastat"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {n_processes} -m -- fastat"


def method_names() -> list[str]:
    """The methods: every file in methods/ is one."""
    return sorted(path.stem for path in (ROOT / "methods").glob("[a-z]*.py"))


@functools.cache
def named_recipes() -> dict[str, Any]:
    """config/recipes.yaml, read once: a grid has thousands of runs."""
    return read_yaml(ROOT / "config/recipes.yaml")


@functools.cache
def variants() -> dict[str, list[str]]:
    """Method -> its named recipes, `paper` first."""
    known = named_recipes()["methods"]
    return {name: list(known.get(name) or {"paper": {}}) for name in method_names()}


def named_recipe(method: str, variant: str) -> dict[str, tuple[Any, str]]:
    """Field -> (value, source) of a named recipe on CIFAR10: `variant` over `paper`.

    Fields of the method itself are called `params.NAME`.
    """
    known = named_recipes()["methods"].get(method) or {}
    listed = {**known.get("paper", {}), **(known.get(variant) or {})}
    return {key: (value, source) for key, (value, source) in listed.items()}


@functools.cache
def method_version(name: str) -> int:
    """`VERSION` of methods/NAME.py, without importing it: the workflow has no torch."""
    for node in ast.parse((ROOT / f"methods/{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
            return int(ast.literal_eval(node.value))
    raise BadInput(f"methods/{name}.py has no line `VERSION = 1`")


# --------------------------------------------------------------------------------------------- recipes


def resolve(spec: RunSpec, config: dict[str, Any]) -> Recipe:
    """The run's recipe: named recipe < data set < method on it < variant on it < the config's own `recipes`.

    Raises: BadInput naming the key and the rule.
    """
    fields: dict[str, Any] = {}
    for key, (value, _) in named_recipe(spec.method, spec.named).items():
        param = key.removeprefix("params.")
        fields = lay(fields, {key: value} if param == key else {"params": {param: value}})
    where, one = f"recipe of {spec.dataset}/{spec.method}/{spec.variant}", f"{spec.method}/{spec.named}"
    fields = lay(fields, resolve_dataset(spec.dataset, config, spec.method, one))
    fields["method_version"] = method_version(spec.method)
    recipe = recipe_from(chosen(fields, spec, where), where)
    check_sizes(recipe, spec.dataset, where)
    return recipe if spec.subset is None else on_subset(recipe, spec.subset, spec.dataset, where)


def on_subset(recipe: Recipe, subset: tuple[int, int], dataset: str, where: str) -> Recipe:
    """The recipe for D_i^j: more epochs of fewer images, so that the iterations stay as many (Sec. III).

    Raises: BadInput where the images are not in memory.
    """
    if CATALOG[dataset].stored:
        raise BadInput(f"{where}: {dataset} is read from disk, where training on a subset is not built")
    first, last = subset
    epochs = round(recipe.epochs * 10 / (last - first + 1))
    times = epochs / recipe.epochs

    def stretched(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple((epochs * (epoch / recipe.epochs), value) for epoch, value in points)

    old = recipe.schedule
    schedule = replace(
        old,
        milestones=tuple(times * stone for stone in old.milestones),
        points=stretched(old.points),
        momentum_points=stretched(old.momentum_points),
    )
    decay = recipe.weight_decay_epochs
    return replace(
        recipe, epochs=epochs, schedule=schedule, weight_decay_epochs=None if decay is None else times * decay
    )


def check_sizes(recipe: Recipe, dataset: str, where: str) -> None:
    """Raises: BadInput if a recipe asks for more than the data set has."""
    facts = CATALOG[dataset]
    if facts.stored and recipe.pad:
        raise BadInput(f"{where}: pad must be 0, got {recipe.pad}: {dataset} is stored larger than it is seen")
    for name in ("n_train", "n_test"):
        asked, has = getattr(recipe, name), getattr(facts, name)
        if (asked or 0) > has:
            raise BadInput(f"{where}: {name} must be at most {has}, as many as {dataset} has, or left out, got {asked}")


def lay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Recipe fields over others: `params` merge by name, and so does a schedule that does not say its kind."""
    merged = {**below, **above}
    for key in ("params", "schedule"):
        new = above.get(key)
        if isinstance(new, dict) and (key == "params" or "kind" not in new):
            merged[key] = {**(below.get(key) or {}), **new}
    return merged


def chosen(value: Any, spec: RunSpec, where: str) -> Any:
    """What {by_eps: {8: 0.2, ...}} and {by_model: {wrn28_10: 0.08, other: 0.04}} say for this run, at any depth.

    Raises: BadInput if it says nothing for this eps or model.
    """
    if not isinstance(value, dict):
        return value
    if set(value) not in ({"by_eps"}, {"by_model"}):
        return {key: chosen(inner, spec, f"{where}: {key}") for key, inner in value.items()}
    ((axis, table),) = value.items()
    if not isinstance(table, dict):
        example = {"by_eps": "{8: 0.2, 12: 0.6}", "by_model": "{wrn28_10: 0.08, other: 0.04}"}[axis]
        raise BadInput(f"{where}: {axis} must be a mapping as {example}, got {table!r}")
    if axis == "by_model":
        if not table.keys() & {spec.model, "other"}:
            raise BadInput(
                f"{where} is given for {', '.join(map(str, table))}, not for {spec.model}. Add it, or `other`."
            )
        return table.get(spec.model, table.get("other"))
    if spec.eps_255 not in table:
        known = ", ".join(eps_text(eps) if isinstance(eps, int) else repr(eps) for eps in table)
        raise BadInput(
            f"{where} is given for eps {known}, not for {eps_text(spec.eps_255)}. Add it under `recipes` in the "
            f"config, as {{by_eps: {{{spec.eps_255}: ...}}}}."
        )
    return table[spec.eps_255]


def resolve_dataset(dataset: str, config: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The recipe fields of a dataset, then those under the given keys, then the config's own."""
    datasets = named_recipes()["datasets"]
    if dataset not in datasets:
        raise BadInput(f"config/recipes.yaml has no recipe for dataset {dataset!r}. Known: {', '.join(datasets)}")
    own = config.get("recipes") or {}
    fields: dict[str, Any] = {}
    for source in (datasets[dataset], own.get(dataset) or {}):
        for key in ("every", *keys):
            fields = lay(fields, source.get(key) or {})
    return fields


def recipe_from(fields: dict[str, Any], where: str) -> Recipe:
    """A checked Recipe.

    Raises: BadInput for an unknown key or a value outside its range.
    """
    fields = dict(fields)
    schedule = fields.pop("schedule", None) or {}
    if not isinstance(schedule, dict):
        raise BadInput(f"{where}: schedule must be a mapping as {{kind: triangular, lr: 0.1}}, got {schedule!r}")
    schedule = _construct(Schedule, dict(schedule), f"{where}: schedule")
    if fields.get("compile") is False:
        fields["compile"] = "off"  # YAML reads off as false
    recipe = _construct(Recipe, {**fields, "schedule": schedule}, where)
    for name in ("epochs", "batch_size", "monitor_images"):
        _require(
            _whole(getattr(recipe, name)) and getattr(recipe, name) > 0,
            where,
            name,
            recipe,
            "a whole number above 0",
        )
    for name in ("n_train", "n_test"):
        value = getattr(recipe, name)
        _require(
            value is None or (_whole(value) and value > 0),
            where,
            name,
            recipe,
            "a whole number above 0, or left out",
        )
    if recipe.drop_last and recipe.n_train and recipe.n_train < recipe.batch_size:
        raise BadInput(
            f"{where}: batch_size must be at most n_train = {recipe.n_train} with drop_last: true, "
            f"got {recipe.batch_size}: no batch would be left"
        )
    _require(_whole(recipe.pad) and recipe.pad >= 0, where, "pad", recipe, "a whole number, 0 or more")
    for name in ("weight_decay", "momentum", "average"):
        _require(_number(getattr(recipe, name)) and 0 <= getattr(recipe, name) < 1, where, name, recipe, "in [0, 1)")
    cycles = schedule.cycle_momentum and not schedule.momentum_points
    _require(not cycles or recipe.momentum >= 0.1, where, "momentum", recipe, "0.1 or more with cycle_momentum: true")
    ends = recipe.weight_decay_epochs
    _require(
        ends is None or (_number(ends) and 0 <= ends <= recipe.epochs),
        where,
        "weight_decay_epochs",
        recipe,
        f"between 0 and epochs = {recipe.epochs}, or left out",
    )
    arch_is_a_word = isinstance(recipe.arch, str) and re.fullmatch(r"[a-z0-9_]+", recipe.arch) is not None
    _require(arch_is_a_word, where, "arch", recipe, "a name of ARCHS in fastat/models.py")
    for name, known in (("precision", PRECISIONS), ("compile", COMPILERS)):
        _require(getattr(recipe, name) in known, where, name, recipe, f"one of {', '.join(known)}")
    shards = recipe.shards
    _require(
        _whole(shards)
        and (shards == 1 or shards > 1 and 5040 % shards == recipe.batch_size % shards == 0 and recipe.drop_last),
        where,
        "shards",
        recipe,
        f"1, or a divisor of 5040 and of batch_size = {recipe.batch_size}, with drop_last: true",
    )
    for name in ("drop_last", "flip"):
        _require(isinstance(getattr(recipe, name), bool), where, name, recipe, "true or false")
    _require(isinstance(recipe.params, dict), where, "params", recipe, "a mapping")
    where = f"{where}: schedule"
    kinds = ("piecewise", "triangular", "linear")
    _require(schedule.kind in kinds, where, "kind", schedule, "piecewise, triangular or linear")
    for name in ("lr", "factor"):
        _require(_number(getattr(schedule, name)) and getattr(schedule, name) > 0, where, name, schedule, "above 0")
    stones = list(schedule.milestones)
    _require(
        stones == sorted(stones) and all(0 < m < recipe.epochs for m in stones),
        where,
        "milestones",
        schedule,
        f"rising, and between 0 and epochs = {recipe.epochs}",
    )
    for name in ("points", "momentum_points"):
        line = getattr(schedule, name)
        _require(
            (not line and (name, schedule.kind) != ("points", "linear")) or _is_line(line, recipe.epochs),
            where,
            name,
            schedule,
            f"pairs [epoch, value] from epoch 0 to {recipe.epochs}, epochs not falling, values 0 or more",
        )
    for name, kind in (("milestones", "piecewise"), ("points", "linear")):
        if getattr(schedule, name) and schedule.kind != kind:
            raise BadInput(
                f"{where}: {name} belongs to kind: {kind}, got kind: {schedule.kind}, where it would be ignored. "
                f"Write the kind too: {{kind: {kind}, lr: {schedule.lr}, {name}: ...}}."
            )
    return recipe


def _is_line(points: tuple[tuple[float, float], ...], epochs: int) -> bool:
    epochs_done = [point[0] for point in points if len(point) == 2 and all(map(_number, point)) and point[1] >= 0]
    whole = len(epochs_done) == len(points) > 1
    return whole and epochs_done == sorted(epochs_done) and (epochs_done[0], epochs_done[-1]) == (0, epochs)


def _construct(cls: Any, fields: dict[str, Any], where: str) -> Any:
    known = list(cls.__dataclass_fields__)
    for key in fields:
        if key not in known:
            raise BadInput(f"{where}: unknown key {key!r}.{_guess(key, known)} Known: {', '.join(known)}")
    try:
        for key in ("points", "momentum_points"):
            fields.update({key: tuple(map(tuple, fields[key]))} if key in fields else {})
        if "milestones" in fields:
            fields["milestones"] = tuple(fields["milestones"])
        return cls(**fields)
    except TypeError as error:
        raise BadInput(f"{where}: {error}") from error


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e30


def _require(holds: bool, where: str, name: str, owner: Any, rule: str) -> None:
    if not holds:
        raise BadInput(f"{where}: {name} must be {rule}, got {getattr(owner, name)!r}")
