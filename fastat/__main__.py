"""python -m fastat VERB. The composition root: the one place that knows methods, data, models and paths together."""

import argparse
import hashlib
import importlib
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from fastat import ROOT, __version__
from fastat.config.grid import expand, load_config, protocol_for
from fastat.config.recipe import Recipe, fingerprint, named_recipe, resolve, variants
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

log = logging.getLogger("fastat")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: done; 1: failed; 2: the input cannot be used; 143: stopped by SIGTERM, state saved."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return args.run_verb(args) or 0
    except BadInput as error:
        print(f"fastat {args.verb}: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if type(error).__name__ != "OutOfMemoryError" and "allocate memory" not in str(error):
            raise
        way_out = "`python -m fastat plan` says what a run needs; a smaller batch_size or `store: int8` needs less"
        print(f"fastat {args.verb}: out of memory ({str(error).splitlines()[0]}). {way_out}.", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Verbs in the order in which the workflow calls them."""
    top = argparse.ArgumentParser(prog="python -m fastat", description="Fast adversarial training, reproducibly.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run_verb=function)
        return sub

    sub = verb("methods", do_methods, "List the methods, or one method's named recipes, each value with its source.")
    sub.add_argument("name", nargs="?", help="as atas (default: list all)")
    sub.add_argument("--diff", action="store_true", help="only what differs from the recipe `paper`")
    sub.add_argument("--json", action="store_true", help="for scripts")
    sub = verb("check", do_check, "Check a config before anything expensive runs.")
    add_configfile(sub)
    sub = verb("plan", do_plan, "Say what a grid takes: FLOPs, GPU-hours, memory, disk; refuse what cannot fit here.")
    add_configfile(sub)
    sub.add_argument("--only", default="", help="runs with this in their name, as cifar10/wrn28_10")
    sub.add_argument("--results", type=Path, default=Path("results"), help="where they would be written")
    sub.add_argument("--calibration", type=Path, help="a file made by --calibrate; else the hours come from the paper")
    sub.add_argument("--calibrate", type=Path, help="time a few steps on this device, write this file and stop")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sub.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    sub.set_defaults(runs_per_gpu=1)
    sub = verb("data", do_data, "Read a data set from its source into one file.")
    sub.add_argument("--dataset", required=True)
    sub.add_argument("--source", type=Path, default=Path("data"), help="where archives are looked for")
    sub.add_argument("--out", type=Path, required=True)
    sub = verb("train", do_train, "Train one run, or resume it.")
    add_run(sub)
    sub.add_argument("--recipe", help="the resolved recipe as JSON; by default it comes from the config")
    sub.add_argument("--snapshots", action="store_true", help="keep the weights of every epoch, for `probe`")
    sub.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    sub = verb("evaluate", do_evaluate, "Attack the weights of one run, and look at its loss surfaces.")
    add_run(sub)
    sub.add_argument("--suite", choices=("whitebox", "autoattack", "all"), default="all", help="AutoAttack, the rest")
    sub.add_argument("--protocol", help="the evaluation block as JSON; by default it comes from the config")
    sub.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    sub = verb("probe", do_probe, "Loss surfaces around a collapse, from the weights kept by `train --snapshots`.")
    add_run(sub)
    sub.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    sub = verb(
        "cost", do_cost, "Count passes, FLOPs and state of every method, and time its step against clean training."
    )
    sub.add_argument("--repeats", type=int, default=10, help="timed steps of each method")
    sub.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    sub.add_argument("--out", type=Path, required=True, help="path without ending: .csv and .md are written")
    verb("pages", do_pages, "Renew the generated part of docs/methods from code, recipes and docs/results.")
    sub = verb("tidy", do_tidy, "Gather the given runs into measured.csv, correct.csv and evidence.jsonl.")
    sub.add_argument("--results", type=Path, default=Path("results"))
    sub.add_argument("--runs", type=Path, help="a file with one run name a line (default: all that are there)")
    sub.add_argument("--out", type=Path, required=True, help="folder")
    sub = verb("figure-data", do_figure_data, "Gather what each figure is drawn from into results/figures/NAME.csv.")
    add_report(sub)
    sub.add_argument("--runs", type=Path, help="a file with one run name a line (default: all that are there)")
    sub = verb("judge", do_judge, "Make the tables, and judge paper's cells, claims, pairs of methods, sanity.")
    add_report(sub)
    sub.add_argument("--strict", action="store_true", help="exit with 1 if a cell of the paper was not reproduced")
    sub = verb("draw", do_draw, "Draw the figures from their data.")
    sub.add_argument("--data", type=Path, default=Path("results/figures"))
    sub.add_argument("--only", nargs="*", metavar="NAME", help="as fig03 (default: all)")
    sub.add_argument("--out", type=Path, default=Path("figures"), help="folder: NAME.svg, .png and .txt are written")
    sub = verb("page", do_page, "Put every result on one offline page.")
    sub.add_argument("--results", type=Path, default=Path("results"))
    sub.add_argument("--figures", type=Path, default=Path("figures"))
    sub.add_argument("--out", type=Path, default=Path("results/report/index.html"))
    return top


def add_configfile(sub: argparse.ArgumentParser) -> None:
    """--configfile, as Snakemake has it."""
    sub.add_argument("--configfile", type=Path, nargs="*", default=[], help="laid over config/config.yaml")


def add_report(sub: argparse.ArgumentParser) -> None:
    """What is reported, and which eps of a data set is the first to be shown."""
    sub.add_argument("--results", type=Path, default=Path("results"))
    sub.add_argument("--eps", help="dataset -> eps of Table I, as JSON; by default it comes from the config")
    add_configfile(sub)


def add_run(sub: argparse.ArgumentParser) -> None:
    """What names a run and where its files are."""
    sub.add_argument("--run", required=True, help="as digits/preact_tiny/eps77/atas/paper/seed0")
    sub.add_argument("--results", type=Path, default=Path("results"))
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sub.add_argument("--runs-per-gpu", type=int, default=1, help="of several GPUs, take one with fewer runs at work")
    add_configfile(sub)


def do_methods(args: argparse.Namespace) -> None:
    """Print all methods, or the named recipes of one side by side."""
    import methods

    if args.name:
        if args.name not in variants():
            raise BadInput(f"unknown method {args.name!r}. Known: {', '.join(variants())}")
        print(describe_method(args.name, only_differences=args.diff))
        return
    listed = {
        name: {"recipes": recipes, "params": asdict(methods.config_class(name)())}
        for name, recipes in variants().items()
    }
    if args.json:
        print(json.dumps(listed, indent=2))
        return
    for name, recipes in variants().items():
        title = str(importlib.import_module(f"methods.{name}").__doc__).splitlines()[0]
        print(f"{name:14} {', '.join(recipes):24} {title}")
    print("\nOne of them in full: python -m fastat methods NAME [--diff]")


def describe_method(name: str, only_differences: bool = False) -> str:
    """Every value of a method's named recipes on CIFAR10, side by side, each with its source."""
    import methods

    module = importlib.import_module(f"methods.{name}")
    default = f"default of methods/{name}.py"
    defaults = {f"params.{key}": (value, default) for key, value in asdict(methods.config_class(name)()).items()}
    recipes = {variant: defaults | named_recipe(name, variant) for variant in variants()[name]}
    lines = [] if only_differences else [str(module.__doc__).strip(), "", "Recipes on CIFAR10; a value holds for all:"]
    for key in dict.fromkeys(key for recipe in reversed(recipes.values()) for key in recipe):
        said = {variant: recipe[key] for variant, recipe in recipes.items() if key in recipe}
        heading = key.removeprefix("params.")
        if len(said) == len(recipes) and all(entry == said["paper"] for entry in said.values()):
            if not only_differences:
                lines += [f"  {heading:20} {'':10} {show_value(said['paper'][0]):40} {said['paper'][1]}"]
            continue
        for variant, (value, source) in said.items():
            if variant == "paper" or value != said.get("paper", (None,))[0]:
                lines += [f"  {heading:20} {variant:10} {show_value(value):40} {source}"]
                heading = ""
    return "\n".join(lines)


def show_value(value: Any) -> str:
    """A recipe value in one line."""
    if isinstance(value, dict):
        return ", ".join(str(item) if key == "kind" else f"{key} {json.dumps(item)}" for key, item in value.items())
    return json.dumps(value) if isinstance(value, list | bool) or value is None else str(value)


def do_check(args: argparse.Namespace) -> None:
    """Check the config, then build every method and model of it without memory, on the meta device."""
    from fastat.networks import models
    from fastat.units import in_pixels

    config = load_config(args.configfile)
    step = config["evaluation"]["pgd_step"]
    try:
        in_pixels(step, 0.1)
    except ValueError as error:
        raise BadInput(f"config: evaluation/pgd_step: {error}") from error
    specs = expand(config)
    for spec in {replace(spec, seed=0): spec for spec in specs}.values():  # a seed changes no recipe
        if spec.model not in models.MODELS:
            raise BadInput(f"unknown model {spec.model!r}. Known: {', '.join(models.MODELS)}")
        _, method = build_method(spec, resolve(spec, config), "meta")
        if config["processes"].get(spec.dataset, 1) > 1 and hasattr(method, "ONE_PROCESS"):
            raise BadInput(
                f"config: processes: {spec.dataset} has {config['processes'][spec.dataset]}, but {spec.method} cannot "
                f"be shared: {method.ONE_PROCESS}. Put its runs into a config of their own."
            )
    print(f"{len(specs)} runs: the config is good")


def do_plan(args: argparse.Namespace) -> None:
    """Print what the grid takes; refuse what does not fit here. Or time this device first, with --calibrate."""
    import torch

    from fastat import plan
    from fastat.machine import files

    config, device = load_config(args.configfile), pick_device(args)
    specs = [spec for spec in expand(config) if args.only in spec.name]
    if not specs:
        raise BadInput(f"no run of the grid has {args.only!r} in its name")
    if args.calibrate:
        pairs = sorted({(spec.dataset, spec.model) for spec in specs})
        found = {"device": device_name(device), "flops_per_second": plan.calibrate(pairs, config, device)}
        files.write_json(args.calibrate, found)
        print(json.dumps(found, indent=2))
        return
    rates = read_calibration(args.calibration) if args.calibration else {}
    costs = plan.of_grid(
        specs, config, lambda spec, recipe, processes: build_method(spec, recipe, "meta", processes=processes), rates
    )
    print(plan.describe(costs))
    if config["device"] == "cuda" and device.type != "cuda":
        print("The config asks for CUDA, and none is here: whether the memory suffices was not checked.")
    else:
        has = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else plan.host_memory()
        plan.check_memory(costs, has, device_name(device), config["runs_per_gpu"] if device.type == "cuda" else 1)
    plan.check_disk(costs, args.results)


def read_calibration(path: Path) -> dict[str, float]:
    """What --calibrate wrote."""
    try:
        rates = json.loads(path.read_text())["flops_per_second"]
        return {name: float(rate) for name, rate in rates.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{path} is no calibration ({error}). Make one: python -m fastat plan --calibrate {path}"
        ) from error


def device_name(device: Any) -> str:
    """What people call it."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def do_data(args: argparse.Namespace) -> None:
    """Prepare a data set."""
    from fastat.data import datasets

    datasets.prepare(args.dataset, args.source, args.out)


def build_method(
    spec: RunSpec, recipe: Recipe, device_name: str, n_train: int | None = None, processes: Any = None
) -> Any:
    """The run's task and method: of one process's share, where several train together."""
    import torch

    import methods
    from fastat.config.catalog import CATALOG
    from fastat.machine.processes import ALONE, SharedGenerator
    from fastat.machine.seeds import generator
    from fastat.networks import models
    from fastat.types import Task

    facts, device, processes = CATALOG[spec.dataset], torch.device(device_name), processes or ALONE
    channels, height, width = facts.stored or facts.shape
    n_train = n_train or tenths(recipe.n_train or facts.n_train, spec.subset)
    whole, rest = divmod(n_train // recipe.shards, recipe.batch_size // recipe.shards)
    with torch.device("meta"):
        n_params = sum(p.numel() for p in models.build(spec.model, channels, facts.n_classes, recipe.arch).parameters())
    rng = None if device_name == "meta" else generator(device, spec.seed, "method")
    if rng is not None and processes.size > 1:
        shared = SharedGenerator(device, processes)
        shared.set_state(rng.get_state())
        rng = shared
    task = Task(
        eps=spec.eps,
        n_train=-(-n_train // recipe.shards) * recipe.shards // processes.size,  # as many in every process
        n_classes=facts.n_classes,
        image_shape=facts.shape,
        frame_shape=(channels, height + 2 * recipe.pad, width + 2 * recipe.pad),
        n_epochs=recipe.epochs,
        batch_size=recipe.batch_size // processes.size,
        n_batches=whole if recipe.drop_last or not rest else whole + 1,
        n_params=n_params,
        device=device,
        rng=rng,
        processes=processes,
    )
    torch.manual_seed(generator(torch.device("cpu"), spec.seed, "method-init").initial_seed())
    return task, methods.build(spec.method, task, **recipe.params)


def tenths(n: int, subset: tuple[int, int] | None) -> int:
    """How many of n images the i-th to j-th tenth have, about."""
    return n if subset is None else n * (subset[1] - subset[0] + 1) // 10


def do_train(args: argparse.Namespace) -> int | None:
    """Train one run into results/runs/NAME."""
    import torch

    from fastat.config.catalog import CATALOG
    from fastat.data import datasets
    from fastat.machine import devices, processes
    from fastat.machine.seeds import generator
    from fastat.networks import models
    from fastat.training.learner import SGDLearner
    from fastat.training.trainer import Stopped, Training, train

    spec = RunSpec.parse(args.run)
    recipe = Recipe.from_json(args.recipe) if args.recipe else from_config(args, spec)
    together, device = processes.join(pick_device(args), recipe.shards)
    devices.set_precision(recipe.precision)
    data = datasets.load(args.results / f"data/{spec.dataset}.safetensors", device, recipe.n_train, recipe.n_test)
    watched, images = data.train, data.sha256
    if spec.subset:
        tenth = ranks(spec, args.results)
        chosen = torch.nonzero((tenth >= spec.subset[0]) & (tenth <= spec.subset[1])).flatten()
        data = replace(data, train=data.train.only(chosen.to(device)))
        images = fingerprint(images, chosen.tolist())
    task, method = build_method(spec, recipe, str(device), len(data.train), together)
    if together.size > 1 and hasattr(method, "ONE_PROCESS"):
        raise BadInput(f"{spec.method} cannot be shared by {together.size} processes: {method.ONE_PROCESS}. Start one.")
    torch.manual_seed(generator(torch.device("cpu"), spec.seed, "init").initial_seed())
    facts = CATALOG[spec.dataset]
    model = models.build(spec.model, facts.shape[0], facts.n_classes, recipe.arch)
    model = model.to(device).to(memory_format=torch.channels_last)
    processes.synchronise_batchnorm(model, together)
    example = torch.zeros((task.batch_size, *facts.shape), device=device)
    passes = importlib.import_module(f"methods.{spec.method}").PASSES
    compiled = devices.compile_model(model, recipe.compile, example, "double_backward" in passes)
    redraws = getattr(method, "redraws", lambda epoch: False)
    made_from = fingerprint(spec.name, recipe.to_json(), images)
    about = {
        "run": spec.name,
        "recipe": json.loads(recipe.to_json()),
        "config": asdict(method.config),
        "redrawn": [epoch for epoch in range(1, recipe.epochs + 1) if redraws(epoch)],
        "made_from": made_from,
        "data_sha256": data.sha256,
        "images": f"D_{spec.subset[0]}^{spec.subset[1]} by {spec.ranked_by.name}" if spec.subset else "all",
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "versions": {"fastat": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "git_commit": git_commit(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "processes": together.size,
        "compiled": compiled,
    }
    learner = SGDLearner(model, recipe, together)
    run = Training(
        spec.name, spec.seed, data, recipe, task, model, method, learner, watched, made_from, about, args.snapshots
    )
    try:
        train(run, args.results / "runs" / spec.name)
    except Stopped as stopped:
        log.info("%s", stopped)
        return 143
    return None


def ranks(spec: RunSpec, results: Path) -> Any:
    """(n,) 1..10: which D_i each training image belongs to, by the run that ranks them for `spec`.

    Raises: BadInput if that run is not there, or has no gradient norms.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from fastat.evaluation import probes

    path = results / "runs" / spec.ranked_by.name / "instances.safetensors"
    try:
        return probes.deciles(load_file(path)["grad_norm"])
    except (OSError, KeyError, SafetensorError, ValueError) as error:
        raise BadInput(
            f"{spec.name} needs the gradient norms of the training images, and {path} has none ({error}). "
            f"Train first: python -m fastat train --run {spec.ranked_by.name}"
        ) from error


def do_evaluate(args: argparse.Namespace) -> None:
    """Attack one run's weights and look at them: results/runs/NAME/eval/*.csv.

    AutoAttack's finished images stay in state/, so that an evaluation made again does not attack them again.
    """
    from fastat.data import datasets
    from fastat.data.subsets import stratified
    from fastat.evaluation import autoattack, evaluate, probes
    from fastat.machine import devices, files

    spec, device = RunSpec.parse(args.run), pick_device(args)
    devices.set_precision("float32")
    tables = {"whitebox": evaluate.COLUMNS, "autoattack": evaluate.COLUMNS}
    tables |= {"surfaces": probes.SURFACE_COLUMNS, "steps": probes.STEP_COLUMNS}
    protocol = json.loads(args.protocol) if args.protocol else None
    protocol = protocol or protocol_for(load_config(args.configfile), spec.dataset)
    folder, eps, seed = args.results / "runs" / spec.name, spec.eps, protocol["seed"]
    about = finished(folder, spec)

    def write(name: str, rows: Iterable[dict[str, Any]]) -> None:
        files.write_rows(folder / f"eval/{name}.csv", tables[name], list(rows))

    if about["status"] == "diverged":
        for name in tables:
            write(name, [])
        return
    sizes = {key: about["recipe"][key] for key in ("n_train", "n_test")}
    data = datasets.load(args.results / f"data/{spec.dataset}.safetensors", device, **sizes)
    model = load_network(folder / "weights.safetensors", spec, about, device)
    if args.suite in ("whitebox", "all"):
        keys = ("batch_size", "pgd_step", "pgd_restarts", "seed")
        settings = evaluate.Protocol(eps, **{key: protocol[key] for key in keys})
        write("whitebox", evaluate.whitebox(model, data.test, settings))
        surfaces = probes.last_surfaces(model, data.test, eps=eps, seed=seed)
        write("surfaces", probes.rounded(surfaces))
        write("steps", probes.rounded(probes.single_steps(model, data.train, eps=eps, seed=seed)))
    if args.suite in ("autoattack", "all"):
        aa, n_test = protocol["autoattack"], len(data.test)
        index = stratified(data.test.labels, n_test if aa["n_images"] == "all" else aa["n_images"], seed=0)
        weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
        partial = folder / f"state/autoattack-{fingerprint(aa, seed, index.tolist(), weights)}.csv"
        options = {"eps": eps, "batch_size": aa["batch_size"], "seed": seed}
        with files.exclusive(folder / "state"):
            found = autoattack.standard(model, data.test.take, index, **options, partial=partial)
        write("autoattack", found)


def do_probe(args: argparse.Namespace) -> None:
    """Loss surfaces of D_1 and D_10 in the epochs around the collapse, from kept snapshots: Figure 2."""
    import torch

    from fastat.data import datasets
    from fastat.evaluation import probes
    from fastat.machine import devices, files

    spec, device = RunSpec.parse(args.run), pick_device(args)
    devices.set_precision("float32")
    folder = args.results / "runs" / spec.name
    about = finished(folder, spec)
    sizes = {key: about["recipe"][key] for key in ("n_train", "n_test")}
    data = datasets.load(args.results / f"data/{spec.dataset}.safetensors", device, **sizes)
    tenth = ranks(spec, args.results).to(device)
    groups = {f"D{k}": torch.nonzero(tenth == k).flatten()[:128] for k in (1, 10)}
    rows: list[dict[str, Any]] = []
    for epoch in probes.around(about["collapse"]["first"], about["epochs_done"]):
        model = load_network(folder / f"snapshots/epoch{epoch:03d}.safetensors", spec, about, device)
        rows += probes.surfaces(model, data.train, groups, eps=spec.eps, seed=0, epoch=epoch)
    files.write_rows(folder / "eval/surfaces_by_epoch.csv", probes.SURFACE_COLUMNS, probes.rounded(rows))


def finished(folder: Path, spec: RunSpec) -> dict[str, Any]:
    """The run.json of a finished run.

    Raises: BadInput if there is none.
    """
    if not (folder / "run.json").exists():
        raise BadInput(f"{folder} holds no finished run. Train it first: python -m fastat train --run {spec.name}")
    return dict(json.loads((folder / "run.json").read_text()))


def load_network(path: Path, spec: RunSpec, about: dict[str, Any], device: Any) -> Any:
    """The run's network with the weights of a file, in eval mode.

    Raises: BadInput if the file is damaged, missing or of another network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from fastat.config.catalog import CATALOG
    from fastat.networks import models

    facts = CATALOG[spec.dataset]
    model = models.build(spec.model, facts.shape[0], facts.n_classes, about["recipe"].get("arch", "shared"))
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, OSError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:300]
        raise BadInput(f"{path} is damaged or of another network: {cause}. Train it again.") from error
    return model.to(device).to(memory_format=torch.channels_last).eval()


def do_cost(args: argparse.Namespace) -> None:
    """Write the cost table: passes and seconds on preact_tiny and digits' shape, FLOPs and state as on CIFAR10."""
    import torch

    import methods
    from fastat.networks import models
    from fastat.report import costs
    from fastat.training import cost

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    small: dict[str, cost.Rehearsal] = {}
    rows: list[dict[str, Any]] = []
    for name in methods.names():
        module, build = importlib.import_module(f"methods.{name}"), partial(methods.build, name)
        tiny = models.build("preact_tiny", 1, 10).to(memory_format=torch.channels_last)
        small[name] = cost.rehearse(build, tiny, (1, 8, 8), n_train=640, batch_size=64)
        with torch.device("meta"):
            cifar_net = models.build("preact_resnet18", 3, 10)
        large = cost.rehearse(build, cifar_net, (3, 32, 32), pad=4, n_train=50_000)
        cycle = range(getattr(module, "CYCLE", 1))
        passes = cost.count_passes(tiny, 64, [small[name].step(number) for number in cycle])
        gflop = sum(cost.flops(large.step(number)) for number in cycle) / len(cycle) / 128 / 1e9
        state = cost.state_bytes(large.method)
        rows.append({"method": name, **passes, "gflop_per_image": gflop, "state_mb": state / 1e6})
        rows[-1]["state_bytes_per_image"] = state / 50_000
    taken = cost.seconds({name: one.step() for name, one in small.items()}, args.repeats)
    for row in rows:
        row["seconds_over_clean"] = taken[row["method"]] / taken["clean"]
    costs.write(rows, args.out)


def do_pages(args: argparse.Namespace) -> None:
    """Write docs/methods/*.md."""
    from fastat.report import pages

    pages.write({name: describe_method(name) for name in variants()})


def do_tidy(args: argparse.Namespace) -> None:
    """Write measured.csv, correct.csv and evidence.jsonl."""
    from fastat.report import tidy

    tidy.write(args.results, args.runs.read_text().split() if args.runs else None, args.out)


def do_figure_data(args: argparse.Namespace) -> None:
    """Write results/figures/*.csv."""
    from fastat.report import figure_data

    names = args.runs.read_text().split() if args.runs else None
    figure_data.write(args.results, names, first_eps(args), args.results / "figures")


def first_eps(args: argparse.Namespace) -> dict[str, str]:
    """Data set -> the eps that Table I and figures of one eps show."""
    return dict(json.loads(args.eps) if args.eps else load_config(args.configfile)["table1_eps"])


def do_judge(args: argparse.Namespace) -> int:
    """Write tables, verdicts, claims, pairs and sanity into args.results; 1 with --strict if a number failed."""
    from fastat.report import claims, sanity, statistics, tables, tidy, verdicts

    results = args.results
    measured, correct = (tidy.read(results / name) for name in ("measured.csv", "correct.csv"))
    tables.write_all(measured, correct, first_eps(args), results / "tables")
    sanity.write(measured, results / "sanity.csv")
    statistics.write(correct, results / "pairs.csv")
    claims.write(measured, correct, results / "figures", results / "claims.csv")
    line, failed = verdicts.write(measured, results / "verdicts.csv", results / "reproduction.md")
    print(line)
    return int(failed and args.strict)


def do_draw(args: argparse.Namespace) -> None:
    """Write figures/*."""
    from fastat.report import figures

    figures.write_all(args.data, args.out, args.only)


def do_page(args: argparse.Namespace) -> None:
    """Write the page."""
    from fastat.report import page

    page.write(args.results, args.figures, args.out)


def from_config(args: argparse.Namespace, spec: RunSpec) -> Recipe:
    """The recipe that the config gives this run."""
    return resolve(spec, load_config(args.configfile))


def pick_device(args: argparse.Namespace) -> Any:
    """The device asked for; sets the number of threads.

    Raises: BadInput if CUDA is asked for and absent.
    """
    import torch

    from fastat.machine import devices

    if args.threads:
        torch.set_num_threads(args.threads)
    return devices.pick(args.device, args.runs_per_gpu)


def git_commit() -> str:
    """The commit of this code, `-dirty` if it was changed since; '' outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
