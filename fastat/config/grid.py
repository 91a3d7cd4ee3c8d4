"""A config file -> the runs that it names, and what the workflow asks of each. No torch."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastat import ROOT
from fastat.config import catalog, external, own_data, sweep
from fastat.config.attack_names import check_attack, parse, parse_list
from fastat.config.networks import check_models, check_name, network_option
from fastat.config.recipe import check_names, check_recipe_names, named_recipes, resolve, resolved, variants
from fastat.config.schema import read_json, read_yaml, validate
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.errors import BadInput
from fastat.units import eps_text, in_pixels, length_of, parse_eps

AXES = ("dataset", "model", "eps", "method", "seed")  # of a block of the grid
MOST_RUNS = 1_000_000


def load_config(paths: Iterable[Path] = (), said: dict[str, Any] | None = None) -> dict[str, Any]:
    """config/config.yaml with the given files laid over it, as `snakemake --configfile` does, and `said` over all.

    Raises: BadInput if a file is missing or not YAML, or the result breaks a rule (see `check_config`).
    """
    config: dict[str, Any] = {}
    for path in (ROOT / "config/config.yaml", *paths):
        config = overlay(config, read_yaml(path))
    config = overlay(config, said or {})
    check_config(config)
    return config


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
    for block in [block for key in ("grid", "extra_grid", "external") for block in listed(config.get(key))]:
        for eps in listed(block.get("eps", [])) if isinstance(block, dict) else ():
            parse_eps(eps)
    own = catalog.own(config)
    validate(config, "config", "config", own)
    own_data.check(own)
    for eps in config["table1_eps"].values():
        parse_eps(eps)
    validate(named_recipes()["datasets"], "config#/properties/recipes", "config/recipes.yaml: datasets")
    check_recipe_names(named_recipes()["datasets"], "config/recipes.yaml: datasets")
    named = named_runs(config)
    check_recipe_names(config["recipes"], "config: recipes", named, own)
    check_sweep(config, named)
    check_models(config["models"])
    specs = expand(config)
    check_pgd_step(config["evaluation"], "config: evaluation/", {spec.eps_255 for spec in specs})
    if len(specs) > config["max_runs"]:
        raise BadInput(
            f"config: these are {len(specs):,} runs, at most max_runs = {config['max_runs']:,}. If you mean it, write "
            f"`max_runs: {len(specs)}` (`python -m fastat plan` says what they take); else name fewer"
        )
    for model in sorted({spec.model for spec in specs}):
        check_name(model, config)
    for spec in specs:
        recipe, n_processes = resolve(spec, config), config["processes"].get(spec.dataset, 1)
        if recipe.shards % n_processes:
            raise BadInput(
                f"config: processes: {n_processes} for {spec.dataset} must divide the shards of its recipe, "
                f"{recipe.shards}. Write one that does, or set `recipes: {{{spec.dataset}: {{every: {{shards: "
                f"{n_processes}, drop_last: true}}}}}}` (it changes the order of the images)."
            )
        check_n_images(protocol_for(config, spec.dataset)["autoattack"], spec.dataset, recipe.n_test)
    for one in external.of_config(config):
        facts, protocol = catalog.facts(one.spec.dataset), one.protocol(protocol_for(config, one.spec.dataset))
        check_pgd_step(protocol, "config: evaluation/", [one.spec.eps_255])
        n_train = facts.n_train if facts and one.recipe["part"] == "train" else None
        check_n_images(protocol["autoattack"], one.spec.dataset, n_train)
    check_attacks(every_run(config), config)


def check_attacks(specs: Iterable[RunSpec], config: dict[str, Any]) -> None:
    """Raises: BadInput for an attack that is none, or cannot be made on a run of the grid."""
    for name in config["evaluation"].get("datasets") or {}:
        attacks_for(config, name)
    for dataset, eps_255 in sorted({(spec.dataset, spec.eps_255) for spec in specs}):
        facts = catalog.facts(dataset)
        for name in attacks_for(config, dataset):
            try:
                check_attack(
                    parse(name), eps_255 / 255, facts.shape if facts else None, facts.n_classes if facts else None
                )
            except BadInput as error:
                raise BadInput(f"config: evaluation/attacks, {dataset} at eps {eps_text(eps_255)}: {error}") from error


def check_sweep(config: dict[str, Any], named: set[RunSpec]) -> None:
    """Raises: BadInput for a sweep that breaks a rule. named: the runs that the grid names."""
    taken = {method: set(names) for method, names in variants().items()}
    for fields in config["recipes"].values():
        for method, _, variant in (str(key).partition("/") for key in fields):
            taken.setdefault(method, set()).add(variant)
    sweep.check(config["sweep"], named, taken)


def warnings(config: dict[str, Any]) -> list[str]:
    """Where `recipes` of the config give variants of a cell one recipe, so that some of them are not what they say."""
    cells: dict[tuple[Any, ...], list[RunSpec]] = {}
    for spec in {replace(spec, seed=0) for spec in named_runs(config) if config["recipes"].get(spec.dataset)}:
        cells.setdefault((spec.dataset, spec.model, spec.eps_255, spec.method, spec.subset), []).append(spec)
    same: dict[tuple[str, str, str], set[RunSpec]] = {}  # data set, key of its recipes, method -> runs
    for specs in cells.values():
        for one, other in itertools.combinations(specs, 2):
            if resolved(one, config) == resolved(other, config) and (key := made_the_same(one, other, config)):
                same.setdefault((one.dataset, key, one.method), set()).update((one, other))
    return [
        f"config: recipes: {dataset}: {key} gives {' and '.join(labels(specs))} the same recipe. To change one of "
        f"them, write it under {labels(specs)[0]}"
        for (dataset, key, _), specs in sorted(same.items())
    ]


def labels(specs: Iterable[RunSpec]) -> list[str]:
    """METHOD/VARIANT of these runs of a method, each once, `paper` before other variants."""
    ordered = sorted(specs, key=lambda spec: (spec.named != "paper", spec.variant))
    return list(dict.fromkeys(f"{spec.method}/{spec.variant}" for spec in ordered))


def made_the_same(one: RunSpec, other: RunSpec, config: dict[str, Any]) -> str:
    """The key of the data set's own recipes without which the two differ; '' if there is none."""
    mine = config["recipes"][one.dataset]
    for key in mine:
        rest = {name: fields for name, fields in mine.items() if name != key}
        without = {**config, "recipes": {one.dataset: rest}}
        if resolved(one, without) != resolved(other, without):
            return str(key)
    return ""


def table1_eps(config: dict[str, Any]) -> dict[str, str]:
    """Data set -> the eps that Table I shows; of an own one that the config says nothing of, the grid's middle one."""
    grid: dict[str, set[int]] = {name: set() for name in catalog.own(config)}
    for spec in expand(config):
        grid.get(spec.dataset, set()).add(spec.eps_255)
    return {name: middle(every) for name, every in grid.items() if every} | dict(config["table1_eps"])


def middle(every: Iterable[int]) -> str:
    """Of several eps in 255ths the middle one, of two the lower, as `77/255`."""
    ordered = sorted(set(every))
    return eps_text(ordered[(len(ordered) - 1) // 2])


def check_pgd_step(protocol: dict[str, Any], where: str, radii: Iterable[float] = ()) -> None:
    """The step of PGD must be a length above 0, and ten steps reach the edge of every ball. radii: in 255ths.

    Raises: BadInput.
    """
    step = protocol["pgd_step"]
    try:
        if not in_pixels(step, 0.1):
            raise BadInput(f"a step must be above 0, got {step!r}. Write 0.2 eps")
        length, unit = length_of(step) or (0.0, "")
        if unit == "/255" and (far := [eps for eps in radii if 10 * length < eps]):
            raise BadInput(
                f"PGD10's ten steps of {step} lead {10 * length:g}/255 far: the ball's edge is out of reach at eps "
                f"{eps_text(f'{max(far):g}')}. Write a step in proportion, as 0.2 eps"
            )
    except BadInput as error:
        raise BadInput(f"{where}pgd_step: {error}") from error


def protocol_from(text: str) -> dict[str, Any]:
    """The `evaluation` block of one data set and `numerics`, from JSON.

    Raises: BadInput with the rule, the value and the way out.
    """
    protocol = read_json(text, "--protocol")
    block = {key: value for key, value in protocol.items() if key != "numerics"}
    validate(block, "config#/properties/evaluation", "--protocol")
    check_pgd_step(block, "--protocol: ")
    if protocol.pop("attacks", None):
        raise BadInput("--protocol: attacks have an option of their own. Write --attacks NAME ...")
    if "numerics" not in protocol:
        raise BadInput("--protocol: there is no 'numerics'")
    validate(protocol["numerics"], "config#/properties/numerics", "--protocol: numerics")
    return in_one_piece(protocol)


def check_n_images(autoattack: dict[str, Any], dataset: str, n_test: int | None) -> None:
    """AutoAttack cannot attack more images than the test part has; of one that is not prepared nobody can tell.

    autoattack: that block of the protocol.
    Raises: BadInput for more images, or more shards than images.
    """
    facts, n_images = catalog.facts(dataset), autoattack["n_images"]
    n_test = n_test or (facts.n_test if facts else None)
    if n_images != "all" and n_test is not None and int(n_images) > n_test:
        raise BadInput(
            f"config: evaluation/autoattack/n_images is {n_images}, but {dataset} has {n_test} test images. "
            "Ask for fewer, or write `all`."
        )
    n, shards = n_test if n_images == "all" else int(n_images), autoattack.get("shards", 1)
    if n is not None and shards > n:
        raise BadInput(
            f"config: evaluation/autoattack/shards is {shards}, but {n} images of {dataset} are attacked: some would "
            f"have none. Write {n} or fewer"
        )


def listed(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return value if isinstance(value, list) else [value]


def expand(config: dict[str, Any]) -> list[RunSpec]:
    """The runs that the config's grid names and those that its sweep makes beside them, sorted, each once.

    Raises: BadInput for an unknown method or variant, or more than MOST_RUNS.
    """
    specs = named_runs(config)
    return sorted(specs | sweep.runs(specs, config["sweep"]))


def every_run(config: dict[str, Any]) -> list[RunSpec]:
    """The runs that `expand` gives and the checkpoints under `external`: all whose rows the config asks for."""
    return sorted([*expand(config), *(one.spec for one in external.of_config(config))])


def named_runs(config: dict[str, Any]) -> set[RunSpec]:
    """The runs that the grid names.

    Raises: BadInput for an unknown method or variant, or if they and the sweep's are more than MOST_RUNS.
    """
    axes_of = [[listed(block[key]) for key in AXES] for block in blocks(config)]
    swept = sweep.count(config["sweep"])
    if (count := sum(swept.values())) > MOST_RUNS:
        raise BadInput(f"config: sweep: {count:,} combinations, at most {MOST_RUNS:,}. Sweep over fewer values at once")
    count = 0
    for axes in axes_of:
        beside = sum(1 + swept.get(sweep.split(method), 0) for method in axes[AXES.index("method")])
        count += beside * math.prod(len(axis) for key, axis in zip(AXES, axes, strict=True) if key != "method")
    if count > MOST_RUNS:
        raise BadInput(f"config: the grid names {count:,} runs, at most {MOST_RUNS:,}. Split it into several configs")
    specs = set()
    for axes in axes_of:
        for dataset, model, eps, method, seed in itertools.product(*axes):
            name, variant = sweep.split(method)
            spec = RunSpec(dataset, model, parse_eps(eps), name, variant, int(seed))
            check_names(spec, config)
            specs.add(spec)
    return specs


def protocol_for(config: dict[str, Any], dataset: str) -> dict[str, Any]:
    """How runs of this data set are attacked by the standard suites: `evaluation`, as it is for it, and numerics."""
    common = {key: value for key, value in config["evaluation"].items() if key != "datasets"}
    common["numerics"] = config["numerics"]
    whole = overlay(common, (config["evaluation"].get("datasets") or {}).get(dataset) or {})
    return in_one_piece({key: value for key, value in whole.items() if key != "attacks"})


def in_one_piece(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol, without `shards: 1`, which says nothing."""
    aa = {key: value for key, value in protocol["autoattack"].items() if (key, value) != ("shards", 1)}
    return {**protocol, "autoattack": aa}


def attacks_for(config: dict[str, Any], dataset: str) -> tuple[str, ...]:
    """The attacks beyond the standard suites that are asked for on this data set, by their canonical names.

    Raises: BadInput for what names no attack.
    """
    mine = (config["evaluation"].get("datasets") or {}).get(dataset) or {}
    where = f"config: evaluation/{f'datasets/{dataset}/' if 'attacks' in mine else ''}attacks"
    return parse_list(mine.get("attacks", config["evaluation"].get("attacks", [])), where)


def is_attacked_by_name(spec: RunSpec, config: dict[str, Any]) -> bool:
    """Whether the config asks for attacks on the run beyond the standard suites. A checkpoint's `suite` must be all."""
    whole = spec.method != EXTERNAL or external.of_spec(spec, config).suite == "all"
    return whole and not spec.subset and bool(attacks_for(config, spec.dataset))


def is_under_autoattack(spec: RunSpec, config: dict[str, Any]) -> bool:
    """Whether AutoAttack attacks the run: unless every block of the grid that names it says `autoattack: false`."""
    if spec.method == EXTERNAL:
        return external.of_spec(spec, config).suite in ("autoattack", "all")
    if spec.subset or all(block.get("autoattack", True) for block in blocks(config)):
        return not spec.subset
    asked = [block.get("autoattack", True) for block in blocks_of(spec, config)]
    return not asked or any(asked)


def keeps_snapshots(spec: RunSpec, config: dict[str, Any]) -> bool:
    """Whether the weights of every epoch of this run are kept, for Figure 2: if a block that names it says so."""
    asked = any(block.get("snapshots") for block in blocks(config))
    return asked and any(block.get("snapshots") for block in blocks_of(spec, config))


def blocks(config: dict[str, Any]) -> list[dict[str, Any]]:
    """All blocks of the grid."""
    return [*config["grid"], *config["extra_grid"]]


def blocks_of(spec: RunSpec, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of the grid that name the run, or what a sweep made it beside."""
    made = sweep.of(spec, config["sweep"])
    named = [spec, *([replace(spec, variant=made.over)] if made else [])]
    return [block for block in blocks(config) if any(is_of_block(one, block) for one in named)]


def n_under_autoattack(spec: RunSpec, config: dict[str, Any]) -> int:
    """How many images of the run AutoAttack attacks."""
    if not is_under_autoattack(spec, config):
        return 0
    n_images = protocol_of_run(spec, config)["autoattack"]["n_images"]
    if n_images != "all":
        return int(n_images)
    facts = catalog.required(spec.dataset)
    if spec.method == EXTERNAL:
        return facts.n_train if external.of_spec(spec, config).recipe["part"] == "train" else facts.n_test
    return resolve(spec, config).n_test or facts.n_test


def is_of_block(spec: RunSpec, block: dict[str, Any]) -> bool:
    """Whether a block of the grid names the run."""
    return (
        spec.dataset in listed(block["dataset"])
        and spec.model in listed(block["model"])
        and spec.seed in listed(block["seed"])
        and (spec.method, spec.variant) in map(sweep.split, listed(block["method"]))
        and spec.eps_255 in map(parse_eps, listed(block["eps"]))
    )


def last_evaluation(spec: RunSpec, config: dict[str, Any]) -> str:
    """The file that the standard evaluations of a run write last: all write into one folder, one after the other."""
    if spec.method == EXTERNAL:
        last = "autoattack" if is_under_autoattack(spec, config) else "steps"
    else:  # with or without AutoAttack, which is of the same job: whether it is asked for makes no attack again
        last = "best_whitebox" if resolve(spec, config).hold_out else "steps"
    return f"results/runs/{spec.name}/eval/{last}.json"


def shard_files(spec: RunSpec, config: dict[str, Any], prefix: str = "") -> list[str]:
    """What says that the shards of AutoAttack are done, where the protocol has some; [] where it has none.

    prefix: `best_` of the best epoch's.
    """
    n = protocol_of_run(spec, config)["autoattack"].get("shards", 1)
    return [f"results/runs/{spec.name}/state/{prefix}shard{k}of{n}.json" for k in range(1, n + 1)] if n > 1 else []


def network_option_of(spec: RunSpec, config: dict[str, Any]) -> str:
    """What names the run's network beside --run; '' of ours."""
    one = spec.method == EXTERNAL
    return external.of_spec(spec, config).network_option if one else network_option(spec.model, config)


def protocols_of(attacks: Iterable[str], protocol: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the rows of each of these attacks depend on besides its name; numerics besides, in all."""
    whitebox = {key: protocol[key] for key in ("batch_size", "seed")}
    by_parts = {**{k: v for k, v in protocol["autoattack"].items() if k != "shards"}, "seed": protocol["seed"]}
    return {name: by_parts if parse(name).parts else whitebox for name in attacks}


# What in a protocol the rows of each file depend on; numerics besides, in all.
PROTOCOL = {
    "whitebox": ("batch_size", "pgd_step", "pgd_restarts", "seed"),
    "surfaces": ("seed",),
    "steps": ("seed",),
    "autoattack": ("autoattack", "seed"),
    "attacks": ("attacks",),  # protocols_of
    "surfaces_by_epoch": (),
}
PROTOCOL |= {f"best_{name}": PROTOCOL[name] for name in ("whitebox", "autoattack")}  # of the best epoch's weights
BY_SUITE = {"whitebox": ("whitebox", "surfaces", "steps"), "autoattack": ("autoattack",)}
ENDINGS = ("csv", "json")  # of an evaluation: its rows, and what they were made from
ROWS = ["attack", "index", "label", "correct", "step"]  # docs/files.md
SURFACE = ["epoch", "group", "n", "u", "w", "loss"]
COLUMNS = {name: ROWS for name in ("whitebox", "autoattack", "attacks", "best_whitebox", "best_autoattack")}
COLUMNS |= {"surfaces": SURFACE, "surfaces_by_epoch": SURFACE, "steps": ["start", "alpha", "loss", "pgd10_loss", "n"]}


def files_of(suite: str) -> list[str]:
    """The evaluations that a suite (`whitebox`, `autoattack` or `all`) writes; of another none."""
    return [name for part, names in BY_SUITE.items() if suite in (part, "all") for name in names]


def protocol_of_run(spec: RunSpec, config: dict[str, Any]) -> dict[str, Any]:
    """How this run is attacked: as all of its data set, but for what a checkpoint's own block says."""
    usual = protocol_for(config, spec.dataset)
    return external.of_spec(spec, config).protocol(usual) if spec.method == EXTERNAL else usual


def protocol_of(name: str, protocol: dict[str, Any]) -> dict[str, Any]:
    """What of a protocol eval/NAME.csv depends on."""
    return {key: protocol[key] for key in PROTOCOL[name]}


def result_files(spec: RunSpec, config: dict[str, Any]) -> list[str]:
    """What a finished run leaves in its folder (docs/files.md). Trained on a subset, it is not attacked."""
    if spec.method == EXTERNAL:
        names = files_of(external.of_spec(spec, config).suite)
        names += ["attacks"] if is_attacked_by_name(spec, config) else []
        return ["run.json", "weights.safetensors", *(f"eval/{name}.{e}" for name in names for e in ENDINGS)]
    left = ["run.json", "log.csv", "instances.safetensors"]
    if not spec.subset:
        attacked = is_under_autoattack(spec, config)
        left += [f"eval/{name}.{e}" for name in files_of("all" if attacked else "whitebox") for e in ENDINGS]
        if is_attacked_by_name(spec, config):
            left += [f"eval/attacks.{e}" for e in ENDINGS]
        if resolve(spec, config).hold_out:
            left += [f"eval/best_{name}.{e}" for name in ("whitebox", "autoattack")[: 1 + attacked] for e in ENDINGS]
    return [*left, *(f"eval/surfaces_by_epoch.{e}" for e in ENDINGS)] if keeps_snapshots(spec, config) else left


def needed_files(spec: RunSpec) -> list[str]:
    """The files of other runs that a training starts from: on D_i^j, the gradient norms of all images."""
    return [f"results/runs/{spec.ranked_by.name}/instances.safetensors"] if spec.subset else []


def launcher(dataset: str, config: dict[str, Any]) -> str:
    """What starts a training on this data set: python, or torchrun where several processes share it."""
    n_processes = config["processes"].get(dataset, 1)
    if n_processes == 1:
        return "python -m fastat"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {n_processes} -m -- fastat"
