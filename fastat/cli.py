"""The command line: dispatches, gives exit codes. A verb's work is done in the module that it calls."""

import argparse
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from fastat import IN_CLONE, ROOT
from fastat.arguments import parse, parser
from fastat.config import absent, catalog, external, networks, own_data
from fastat.config.attack_names import parse_list
from fastat.config.grid import (
    attacks_for,
    check_pgd_step,
    every_run,
    expand,
    load_config,
    protocol_for,
    protocol_from,
    table1_eps,
    warnings,
)
from fastat.config.method_files import title
from fastat.config.only import only
from fastat.config.recipe import Recipe, check_dataset, resolve, variants
from fastat.config.schema import read_json, validate
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.errors import BadInput, did_you_mean, of_memory
from fastat.machine import numerics, seals

log = logging.getLogger("fastat")
MOST_LINES = 20  # of problems, on a terminal
WAY_OUT = "See to the path, its permissions and the room on its disk."
CHECKPOINT = ("weights", "model", "dataset", "eps", "normalise", "name", "arch", "entry", "part", "images")
WHERE = ("config", "docs")  # the folders of what `where` knows


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: done; 1: failed; 2: the input cannot be used; 128 + n: stopped by signal n, as Ctrl-C (130)."""
    args = parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if getattr(args, "results", None):
            catalog.learn(args.results)
        name_runs(args)
        done = globals()[f"do_{args.verb.replace('-', '_')}"](args) or 0
        sys.stdout.flush()
        return done
    except BadInput as error:
        print(printable(f"fastat {args.verb}: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fastat {args.verb}: stopped by Ctrl-C. {what_is_kept(args)}", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno is None:
            raise
        if error.filename is None:  # it is of what is printed, which Python would try to print again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever reads it has enough, as `head`
            return 0
        where = f"{error.filename}: " if error.filename else ""
        print(f"fastat {args.verb}: {where}{error.strerror}. {WAY_OUT}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError, ImportError) as error:
        if not of_memory(error):
            raise
        way_out = "`python -m fastat plan` says what a run needs; a smaller batch_size or `store: int8` needs less"
        cause = f" ({str(error).splitlines()[0]})" if str(error) else ""
        print(f"fastat {args.verb}: out of memory{cause}. {way_out}.", file=sys.stderr)
        return 2


def name_runs(args: argparse.Namespace) -> None:
    """Put a run's name in the place of its path, as a shell completes it.

    Raises: BadInput for a path in another results folder.
    """
    below = Path(os.path.abspath(getattr(args, "results", None) or "results")) / "runs"

    def name(text: str) -> str:
        path = Path(os.path.abspath(text))
        if text and below in path.parents:
            return str(path.relative_to(below))
        if other := re.match(r"(.*/|)runs/[^/]+/[^/]+/eps[0-9]", text):
            raise BadInput(f"{text} is not below {below}. Name its folder: --results {other[1] or '.'}")
        return text

    for key in ("run", "a", "b"):
        if isinstance(text := getattr(args, key, None), str):
            setattr(args, key, name(text))
    if getattr(args, "runs", None):
        args.runs = [name(text) for text in args.runs]


def what_is_kept(args: argparse.Namespace) -> str:
    """What an interrupted verb leaves to go on from, in a sentence."""
    if args.verb == "evaluate" and args.run:
        state = args.results / "runs" / args.run.strip("/") / "state"
        kept = [*sorted(state.glob("attack-*.csv")), *sorted(state.glob("autoattack-*.csv"))]
        if kept:
            whose = "AutoAttack's" if kept[-1].name.startswith("auto") else "An attack's"
            return f"{whose} finished images are kept in {kept[-1]}: run again to go on."
    return "Nothing is half written: run again."


def existing(folder: Path, option: str, pattern: str = "*") -> Path:
    """The folder that is read.

    Raises: BadInput if there is none, or nothing in it that fits `pattern`: out of nothing, only blanks would be made.
    """
    way_out = "Name the one that the workflow wrote into"
    if not folder.is_dir():
        raise BadInput(f"{option} {folder}: there is no such folder. {way_out}")
    if next(folder.glob(pattern), None) is None:
        raise BadInput(f"{option} {folder}: there is no {pattern} in it. {way_out}")
    return folder


def network_of(args: argparse.Namespace, spec: RunSpec) -> networks.Door:
    """How the run's network is built, as --network or the config says; {} of ours, and where neither names it.

    Of a checkpoint without the normalisation, which its run.json says apart.
    """
    if args.network is not None:
        door = networks.canonical(networks.door_from(args.network))
    else:
        door = networks.door_of(spec.model, load_config(args.configfile) if args.configfile else {})
    return external.without(door) if spec.method == EXTERNAL else door


def do_methods(args: argparse.Namespace) -> None:
    """Print all methods, or the named recipes of one side by side. Listing imports none."""
    import methods
    from fastat.config import fields

    if args.name:
        if args.name not in variants():
            raise BadInput(f"unknown method {args.name!r}.{did_you_mean(args.name, variants())}")
    elif args.diff:
        raise BadInput("--diff is between the recipes of one method: name it, as in `methods nuat --diff`")
    if args.json:
        listed = {
            name: {"recipes": recipes, "params": {key: value for key, (value, _) in fields.params(name).items()}}
            for name, recipes in variants().items()
            if args.name in (None, name)
        }
        print(json.dumps(listed, indent=2))
        return
    if args.name:
        print(methods.describe(args.name, only_differences=args.diff))
        return
    for name, recipes in variants().items():
        print(f"{name:14} {', '.join(recipes):24} {title(name)}")
    print("\nOne of them in full: python -m fastat methods NAME [--diff]")


def do_recipe(args: argparse.Namespace) -> None:
    """Print the run's recipe with the origin of each value."""
    from fastat.config import origins

    print(origins.describe(RunSpec.parse(args.run), args.configfile))


def do_new_method(args: argparse.Namespace) -> None:
    """Write the beginnings of a method, and say what is to be edited."""
    from fastat.config import new_method

    need_clone("new-method NAME")
    print(new_method.begin(args.name))


def need_clone(verb: str) -> None:
    """Raises: BadInput where fastat is installed, for a verb that writes beside the code."""
    if not IN_CLONE:
        raise BadInput(
            f"it writes into a clone of fastat, and {ROOT.parent} is an installed copy. Go into a clone and type "
            f"`python -m fastat {verb}`. A method of your own package needs none: `fastat where docs/own-method.md`."
        )


def do_where(args: argparse.Namespace) -> None:
    """Print a path, for `snakemake --snakefile "$(fastat where Snakefile)"` and the like.

    Raises: BadInput for what does not come with it.
    """
    paths = (path for folder in WHERE for path in sorted((ROOT / folder).glob("*.*")))
    known = ["Snakefile", *(str(path.relative_to(ROOT)) for path in paths)]
    if args.name and args.name not in known:
        raise BadInput(f"no {args.name!r} comes with fastat.{did_you_mean(args.name, known)}")
    print(ROOT / args.name)


def do_completion(args: argparse.Namespace) -> None:
    """Print the script."""
    from fastat import completion

    print(completion.script(args.shell, parser()), end="")


def do_check(args: argparse.Namespace) -> None:
    """Check the config, then build every method and network of it without memory, and open its checkpoints."""
    from fastat.networks import external as checkpoints
    from fastat.training import run

    config = load_config(args.configfile)
    specs = expand(config)
    for line in run.build_all(specs, config):
        print(line)
    for line in own_data.lines(specs, config):
        print(line)
    others = external.of_config(config)
    for line in dict.fromkeys(checkpoints.in_words(one) for one in others):
        print(line)
    for line in (*warnings(config), *absent.lines(specs, config, args.results)):
        print(f"warning: {line}", file=sys.stderr)
    print(f"{len(specs)} runs{f' and {len(others)} checkpoints' if others else ''}: the config is good")


def do_plan(args: argparse.Namespace) -> None:
    """Print what the grid takes; refuse what does not fit here. Or time this device first, with --calibrate."""
    from fastat.cost import plan
    from fastat.machine import devices, files
    from fastat.report import power, timings

    config, device = load_config(args.configfile), pick_device(args)
    specs = only(expand(config), args.only)
    if not specs:
        raise BadInput("the grid is empty: nothing is trained, so that there is nothing to plan")
    if args.calibrate:
        pairs = sorted({(spec.dataset, spec.model) for spec in specs})
        found = plan.calibration_as_json(plan.calibrate(pairs, config, device), devices.name(device))
        files.write_json(args.calibrate, found)
        print(json.dumps(found, indent=2))
        return
    calibration = plan.read_calibration(args.calibration) if args.calibration else plan.Calibration()
    took = finished_runs(config, args.results, args.on or calibration.device or devices.name(device))
    costs = plan.grid_costs(specs, config, calibration, took)
    if args.out:
        where = device.type if took.device == devices.name(device) else config["device"]
        files.write_json(args.out, plan.as_json(costs, took.device, where))
    print(plan.describe(costs, took.device, args.long))
    for line in timings.in_words(took, "these hours"):
        print(line)
    whole = all((args.results / name).is_file() for name in ("measured.csv", "correct.csv"))
    print(f"\n{power.HEADING}\n{power.described(power.table(specs, config, args.results if whole else None))}\n")
    if config["device"] == "cuda" and device.type != "cuda":
        print("The config asks for CUDA, and none is here: whether the memory suffices was not checked.")
    else:
        at_once = config["runs_per_gpu"] if device.type == "cuda" else 1
        plan.check_memory(costs, devices.memory(device), devices.name(device), at_once)
    plan.check_disk(costs, args.results)


def finished_runs(config: dict[str, Any], results: Path, device: str) -> Any:
    """What the finished runs of the grid took on the device."""
    from fastat.report import progress, timings

    place = progress.Place(results, config)
    there = (results / "runs").is_dir()
    return timings.of([progress.look(spec, place) for spec in expand(config)] if there else [], device)


def do_status(args: argparse.Namespace) -> None:
    """Print how the grid stands; again and again with --watch."""
    from fastat.report import status

    config = load_config(args.configfile)
    if not args.watch:
        found = status.survey(config, args.results)
        print(status.as_json(found) if args.json else printable(status.describe(found)))
        return
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    try:
        status.watch(
            lambda: status.survey(config, args.results),
            lambda text: print(f"{clear}{printable(text)}\n", flush=True),
            args.watch,
        )
    except KeyboardInterrupt:
        print("Looked at no longer; what runs goes on.")


def do_clean(args: argparse.Namespace) -> int:
    """Print what lies in the results folder, or remove the kinds that are named; 1 if some of that had to stay."""
    from fastat.report import clean

    if "others" in args.what and not args.configfile:
        raise BadInput("others are the runs that a grid does not name: say which, as --configfile config/config.yaml")
    notes: list[str] = []
    found = clean.look(args.results, {spec.name for spec in every_run(load_config(args.configfile))}, notes)
    if not args.what:
        print(printable(clean.describe(found, notes)))
        return 0
    said, whole = clean.remove(found, args.what, args.results)
    print(printable(said))
    return int(not whole)


def printable(text: str) -> str:
    """With `?` for what in a file's name or content is no text, or steers a terminal."""
    said = text.encode(errors="replace").decode()
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in said)


def do_data(args: argparse.Namespace) -> None:
    """Prepare a data set."""
    from fastat.data import sources

    config = load_config(args.configfile)
    options = catalog.own(config).get(args.dataset) if args.options is None else read_json(args.options, "--options")
    if args.options is None:
        check_dataset(args.dataset, config)
    else:
        validate({args.dataset: options}, "config#/properties/datasets", "--options")
    out = args.out or Path(f"results/data/{args.dataset}.safetensors")
    sources.prepare(args.dataset, args.source or own_data.path_of(config["data_dir"], "data_dir"), out, options)


def do_train(args: argparse.Namespace) -> int | None:
    """Train one run into results/runs/NAME."""
    spec = RunSpec.parse(args.run)
    if args.recipe is None:
        config = load_config(args.configfile)
        networks.check_name(spec.model, config)
        recipe = resolve(spec, config)
        for line in own_data.warnings(spec.dataset, config):
            log.warning("%s", line)
    else:
        recipe = Recipe.from_json(args.recipe)
    numerics.pin(recipe.numerics, spec.dataset, args.device, args.threads)

    from fastat.training import run
    from fastat.training.trainer import Stopped

    try:
        run.run(spec, recipe, args.results, pick_device(args), args.snapshots, args.cuda_graphs)
    except Stopped as stopped:
        log.info("%s", stopped)
        return stopped.code
    return None


def do_evaluate(args: argparse.Namespace) -> None:
    """Attack one run's weights and look at them: results/runs/NAME/eval/*.csv."""
    said = [name for name in CHECKPOINT if getattr(args, name) is not None]
    if args.run and said and args.weights is None:
        images = ", and a config how many images: evaluation: {autoattack: {n_images: 10}}" * ("images" in said)
        raise BadInput(
            f"{' '.join(f'--{name}' for name in said)} go with --weights: of a run its name and run.json say the like"
            f"{images}. Leave them out"
        )
    if (args.run is None) == (args.weights is None):
        raise BadInput(
            f"name a run by --run, or a checkpoint by --weights, got {'both' if args.run else ' '.join(said) or 'none'}"
        )
    if args.weights is not None:
        evaluate_checkpoint(args)
        return
    if "released" in (args.protocol or ()):
        raise BadInput("--protocol released is of checkpoints: name the run's own, --weights .../weights.safetensors")
    if args.shard and args.suite != "autoattack":
        raise BadInput("--shard is of AutoAttack: write --suite autoattack with it")
    spec = RunSpec.parse(args.run)
    protocol = protocol_said(args, spec)
    attacks = attacks_said(args, spec.dataset)
    door = network_of(args, spec)
    numerics.pin(protocol["numerics"], spec.dataset, args.device, args.threads)

    from fastat.evaluation import run

    run.evaluate(spec, protocol, args.results, pick_device(args), args.suite, args.epoch, door, attacks, args.shard)


def attacks_said(args: argparse.Namespace, dataset: str) -> tuple[str, ...]:
    """The attacks by name that --attacks, or else, without a --protocol, the config asks for.

    Raises: BadInput for what names none, and where they do not go with the suite or the epoch.
    """
    if args.attacks is not None:
        attacks = parse_list(args.attacks, "--attacks")
    else:
        said = any(text != "released" for text in args.protocol or ())
        attacks = () if said else attacks_for(load_config(args.configfile), dataset)
    if args.suite == "attacks" and not attacks:
        raise BadInput('--suite attacks: no attack is asked for. Name one, as --attacks "autoattack L2 eps=0.5"')
    if args.suite == "attacks" and args.epoch == "best":
        raise BadInput("--suite attacks: the last epoch's weights alone are attacked. Leave --epoch best out")
    if args.attacks is not None and (args.suite not in ("attacks", "all") or args.epoch == "best"):
        what = "--epoch best" if args.epoch == "best" else f"--suite {args.suite}"
        raise BadInput(f"{what} leaves out what --attacks names. Write --suite attacks, or all, without --epoch best")
    return attacks


def protocol_said(args: argparse.Namespace, spec: RunSpec) -> dict[str, Any]:
    """How it is attacked: as --protocol has it in JSON, else as the config."""
    texts = [text for text in args.protocol or () if text != "released"]
    if len(texts) > 1:
        raise BadInput(f"--protocol: `released`, and JSON once, got {len(texts)} times")
    where = "--protocol: " if texts else "config: evaluation/"
    protocol = protocol_from(texts[0]) if texts else protocol_for(load_config(args.configfile), spec.dataset)
    check_pgd_step(protocol, where, [spec.eps_255])
    return protocol


def evaluate_checkpoint(args: argparse.Namespace) -> None:
    """Make a run of weights that were trained elsewhere, and attack it."""
    if args.shard:
        raise BadInput("--shard goes with --run: evaluate the checkpoint with --suite whitebox first, then its shards")
    if args.epoch:
        raise BadInput("--epoch is of runs that were trained here: a checkpoint is one epoch's")
    block = {name: getattr(args, name) for name in CHECKPOINT if getattr(args, name) is not None}
    block["suite"] = args.suite
    if args.normalise is not None:
        block["normalise"] = external.normalise_from(args.normalise)
    if args.images is not None:
        block["images"] = int(args.images) if args.images.isdecimal() else args.images
    if "released" in (args.protocol or ()):
        block["protocol"] = "released"
    if absent := [name for name in ("model", "dataset", "eps") if name not in block]:
        raise BadInput(f"--weights needs {' and '.join(f'--{name}' for name in absent)} (docs/checkpoints.md)")
    door = networks.door_from(args.network) if args.network else None
    (one,) = external.of_block(block, load_config(args.configfile), "--weights", door)
    protocol = protocol_said(args, one.spec)
    attacks = attacks_said(args, one.spec.dataset)
    numerics.pin(protocol["numerics"], one.spec.dataset, args.device, args.threads)

    from fastat.evaluation import external as evaluation

    evaluation.evaluate(one, protocol, args.results, pick_device(args), attacks)
    log.info("%s", args.results / "runs" / one.spec.name)


def do_probe(args: argparse.Namespace) -> None:
    """Loss surfaces of D_1 and D_10 in the epochs around the collapse, from kept snapshots: Figure 2."""
    spec = RunSpec.parse(args.run)
    door = network_of(args, spec)
    numerics.pin(args.numerics, spec.dataset, args.device, args.threads)

    from fastat.evaluation import run

    run.probe(spec, args.results, pick_device(args), args.numerics, door)


def do_cost(args: argparse.Namespace) -> None:
    """Write the cost table."""
    import torch

    from fastat.cost import steps

    if args.threads:
        torch.set_num_threads(args.threads)
    steps.write_table(steps.measure(args.repeats), args.out)


def do_docs(args: argparse.Namespace) -> None:
    """Renew the generated parts of the documentation."""
    import methods
    from fastat.report import docs

    need_clone("docs")
    if args.results:
        docs.keep(existing(args.results, "--results"), args.tier)
    docs.renew({name: methods.describe(name) for name in methods.ours()})


def do_report(args: argparse.Namespace) -> None:
    """Everything from tidy to the page, then where it is."""
    from fastat.report import contents, theory

    args.out, args.full, args.strict = args.results, False, False
    do_tidy(args)
    do_figure_data(args)
    theory.write_csv(args.results / "figures/theory.csv")
    do_judge(args)
    args.data, args.out = args.results / "figures", args.figures or figures_of(args.results)
    args.only = list(contents.drawn(config_of_folder(args)))
    do_draw(args)
    args.out = args.results / "report/index.html"
    do_page(args)
    print(contents.where(args.results))


def figures_of(results: Path) -> Path:
    """Where they are drawn unless it is said: of two results folders that lie side by side each has its own."""
    return (results.parent if results.name == "results" else results) / "figures"


def do_verify(args: argparse.Namespace) -> int:
    """Print of every run `ok`, `unverified` and why, or what is wrong; 1 if anything is."""
    from fastat.report import verify

    if bool(args.runs) == args.all:
        raise BadInput("name the runs to be verified, or write --all")
    lines, wrong = verify.lines(args.results, args.runs or None, config_of(args))
    print(printable("\n".join(lines)))
    return int(wrong)


def do_tidy(args: argparse.Namespace) -> None:
    """Write measured.csv, correct.csv, evidence.jsonl and problems.csv."""
    from fastat.report import tidy

    with seals.written(args.out, "tidy", tidy.FILES):
        problems = tidy.write_all(args.results, args.out, config_of(args), args.full)
    for problem in problems[:MOST_LINES]:
        log.warning("%s", printable(str(problem)))
    if problems:
        log.warning("left out: %d files of runs, all in %s", len(problems), args.out / "problems.csv")


def do_figure_data(args: argparse.Namespace) -> None:
    """Write results/figures/*.csv."""
    from fastat.report import figure_data

    config = config_of(args)
    names = [spec.name for spec in every_run(config)] if config else None
    results = existing(args.results, "--results")
    with seals.written(results / "figures", "figure-data", figure_data.FILES):
        figure_data.write_all(results, names, first_eps(args), results / "figures")


def config_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """What a --configfile says, None without one."""
    return load_config(args.configfile) if args.configfile else None


def do_theory(args: argparse.Namespace) -> None:
    """Write the regrets and their bounds."""
    from fastat.report import theory

    theory.write_csv(args.out)


def first_eps(args: argparse.Namespace) -> dict[str, str]:
    """Data set -> the eps that Table I and figures of one eps show."""
    return table1_eps(config_of_folder(args))


def config_of_folder(args: argparse.Namespace) -> dict[str, Any]:
    """What a --configfile says; without one, what the workflow that filled the folder was told, or the default."""
    kept = args.results / "config.json"
    if args.configfile or not kept.exists():
        return load_config(args.configfile)
    try:
        return load_config([kept])
    except BadInput as error:
        raise BadInput(
            f"{error}\nThat is {kept}, what the workflow that filled the folder was told. Name a config with "
            "--configfile (the default is config/config.yaml), or remove the file."
        ) from None


def do_judge(args: argparse.Namespace) -> int:
    """Write tables, verdicts, claims, pairs and sanity into args.results; 1 with --strict if a number failed."""
    from fastat.report import claims, pairs, results, sanity, tables, verdicts

    folder = existing(args.results, "--results")
    found = results.read(folder, needs=("measured.csv", "correct.csv"))
    with seals.written(folder, "judge", ("sanity.csv", "pairs.csv", "claims.csv", "verdicts.csv")):
        tables.write_all(found, first_eps(args), folder / "tables")
        sanity.write_csv(found, folder / "sanity.csv")
        pairs.write_csv(found, folder / "pairs.csv")
        claims.write_report(found, folder / "figures", folder / "claims.csv")
        line, failed = verdicts.write_report(found, folder / "verdicts.csv", folder / "reproduction.md")
    print(line)
    return int(failed and args.strict)


def do_agree(args: argparse.Namespace) -> int:
    """Print how the runs that both folders have compare; 1 if something differs."""
    from fastat.report import agree

    found = agree.compare(existing(args.results, "--results"), existing(args.others, "--with"), args.alike)
    print(printable("\n".join(agree.described(found))))
    return found.exit_code


def do_compare(args: argparse.Namespace) -> None:
    """Print how two cells or runs compare."""
    from fastat.report import versus

    rows = versus.compared(existing(args.results, "--results"), args.a, args.b)
    print(json.dumps(rows, indent=1) if args.json else printable("\n".join(versus.described(rows))))


def do_export(args: argparse.Namespace) -> None:
    """Write a run's folder, or a grid's archive, and say what is in it."""
    if bool(args.run) == args.all:
        raise BadInput("name the run to be exported, or write --all")
    if args.all:
        from fastat.exchange import archive

        print(archive.write(existing(args.results, "--results"), args.out, config_of(args), args.weights))
        return
    if args.weights:
        raise BadInput("--weights belongs to --all: the folder of one run has its weights")
    from fastat.exchange import folder

    spec, config = RunSpec.parse(args.run), config_of(args)
    named = config is not None and (spec.method != EXTERNAL or spec in every_run(config))
    print(folder.write(spec, args.results, args.out, config if named else None, network_of(args, spec)))


def do_import(args: argparse.Namespace) -> None:
    """Say of each run whether it is there now, or was already, and which data are missing."""
    from fastat.exchange import arrival

    print(printable("\n".join(arrival.take_in(args.source, args.results))))


def do_merge(args: argparse.Namespace) -> int:
    """Say what came from where; 1 if two folders differ, and nothing was written."""
    from fastat.exchange import merge

    lines, differ = merge.merge(args.folders, args.out, args.keep, args.dry_run)
    print(printable("\n".join(lines)))
    return int(differ)


def do_draw(args: argparse.Namespace) -> None:
    """Write figures/*."""
    from fastat.report import figures

    out = args.out or figures_of(args.data.parent)
    figures.write_all(existing(args.data, "--data", "*.csv"), out, args.only)


def do_page(args: argparse.Namespace) -> None:
    """Write the page."""
    from fastat.report import page

    figures, out = args.figures or figures_of(args.results), args.out or args.results / "report/index.html"
    page.write_html(existing(args.results, "--results", "*.csv"), figures, out)


def pick_device(args: argparse.Namespace) -> Any:
    """The device asked for; sets the number of threads.

    Raises: BadInput if CUDA is asked for and absent.
    """
    import torch

    from fastat.machine import devices

    if args.threads:
        torch.set_num_threads(args.threads)
    return devices.pick(args.device, args.runs_per_gpu)
