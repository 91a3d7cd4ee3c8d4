"""What may stand on the command line: every verb with its arguments. What a verb does is in cli.py."""

import argparse
import math
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from fastat import ROOT, __version__
from fastat.errors import did_you_mean

WITH = (
    "another results folder, or what `docs --results` kept of one (default: the tier in docs/results that shares most)"
)
RUN = "digits/preact_tiny/eps77/atas/paper/seed0"
EXAMPLES = {  # what may follow each verb
    "methods": "nuat --diff",
    "recipe": f"{RUN} --configfile config/smoke.yaml",
    "new-method": "my_method",
    "where": "config/smoke.yaml",
    "completion": "bash",
    "check": "--configfile config/smoke.yaml",
    "plan": "--configfile config/paper.yaml --only cifar10",
    "status": "--configfile config/evening.yaml --watch",
    "clean": "parts attacks --configfile config/evening.yaml",
    "data": "--dataset digits --out results/data/digits.safetensors",
    "train": f"--run {RUN}",
    "evaluate": f"--run {RUN} --suite whitebox",
    "probe": "--run digits/preact_tiny/eps77/fgsm_rs/step175/seed0",
    "cost": "--out cost",
    "report": "--configfile results/config.json",
    "verify": RUN,
    "tidy": "--out results",
    "figure-data": "--results results",
    "theory": "--out results/figures/theory.csv",
    "judge": "--configfile results/config.json --strict",
    "draw": "--only fig03 fig11",
    "page": "--out results/report/index.html",
    "agree": "--with ../other/results",
    "compare": "digits/preact_tiny/eps77/atas digits/preact_tiny/eps77/atta",
    "export": f"{RUN} --out atas-digits",
    "import": "atas-digits --results results",
    "merge": "one/results two/results --out results",
    "docs": "--results results",
}
FIGURES = "folder of the drawn figures (default: `figures` beside a folder called results, in one of another name)"
SHELLS = ("bash", "zsh", "fish")
Verb = Callable[[str, str], argparse.ArgumentParser]


def parse(argv: list[str]) -> argparse.Namespace:
    """What was typed. Exits with code 2 and usage if it cannot be, with the verb that may have been meant."""
    top = parser()
    verb = next((word for word in argv if not word.startswith("-")), None)
    if verb is not None and verb not in EXAMPLES:
        top.error(f"unknown verb {verb!r}.{did_you_mean(verb, EXAMPLES)}")
    return top.parse_args(argv)


def parser() -> argparse.ArgumentParser:
    """All verbs."""
    called = "fastat" if Path(sys.argv[0]).stem == "fastat" else "python -m fastat"
    top = argparse.ArgumentParser(prog=called, description="Fast adversarial training, reproducibly.")
    top.add_argument("--version", action="version", version=versions(), help="of fastat, torch and Python")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        example = f"Example: {called} {name} {EXAMPLES[name]}"
        as_it_is = argparse.RawDescriptionHelpFormatter  # an example is copied, and must not be broken into lines
        return verbs.add_parser(name, help=text, description=text, epilog=example, formatter_class=as_it_is)

    add_questions(verb)
    add_measurements(verb)
    add_reports(verb)
    return top


def versions() -> str:
    """`fastat 0.1.0, torch 2.14.1, Python 3.11.7`, without importing torch."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "not installed"
    return f"fastat {__version__}, torch {torch}, Python {platform.python_version()}"


def add_questions(verb: Verb) -> None:
    """About methods and configs, before anything runs."""
    sub = verb("methods", "List the methods, or one method's named recipes, each value with its source.")
    sub.add_argument("name", nargs="?", help="as atas (default: list all)")
    sub.add_argument("--diff", action="store_true", help="only what differs from the recipe `paper`")
    sub.add_argument("--json", action="store_true", help="for scripts")
    sub = verb("recipe", "Print every value of a run's recipe, with the file and line that it comes from.")
    sub.add_argument("run", help="as digits/preact_tiny/eps77/atas/paper/seed0")
    sub.add_argument("--results", type=file_path, default=Path("results"), help="where own data sets lie, if prepared")
    add_configfile(sub)
    sub = verb("new-method", "Begin another method: its file, test, page and recipe, from templates.")
    sub.add_argument("name", help="as n_fgsm")
    sub = verb("where", "Print the path of what comes with the suite: its Snakefile, a config, a page of docs.")
    sub.add_argument("name", nargs="?", default="", help="as Snakefile, config/smoke.yaml (default: their folder)")
    sub = verb("completion", "Print what completes verbs and options in your shell; source it there.")
    sub.add_argument("shell", choices=SHELLS)
    sub = verb("check", "Check a config before anything expensive runs.")
    sub.add_argument("--results", type=file_path, default=Path("results"), help="where own data sets lie, if prepared")
    add_configfile(sub)
    sub = verb("plan", "Say what a grid takes: FLOPs, GPU-hours, memory, disk; refuse what cannot fit here.")
    add_configfile(sub)
    sub.add_argument(
        "--only", nargs="*", default=[], metavar="PART", help="runs with these parts in their name, as cifar10 atas"
    )
    sub.add_argument(
        "--results", type=file_path, default=Path("results"), help="where they are written; finished ones say how long"
    )
    sub.add_argument("--on", metavar="DEVICE", help="as run.json names it (default: the calibration's, or this one)")
    sub.add_argument(
        "--calibration", type=file_path, help="a file made by --calibrate, for what has no finished run like it"
    )
    sub.add_argument("--long", action="store_true", help="a line for every variant, with passes and FLOPs")
    sub.add_argument("--out", type=file_path, help="write seconds and bytes of every cell, as results/plan.json")
    sub.add_argument("--calibrate", type=file_path, help="time a few steps on this device, write this file and stop")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_threads(sub)
    sub.set_defaults(runs_per_gpu=1)
    sub = verb("status", "Say how the grid stands, from disk alone: done, running, failed, how long still.")
    sub.add_argument("--results", type=file_path, default=Path("results"))
    add_configfile(sub)
    how = sub.add_mutually_exclusive_group()
    how.add_argument(
        "--watch",
        nargs="?",
        type=positive,
        const=10.0,
        metavar="SECONDS",
        help="look again every 10 s, until none runs",
    )
    how.add_argument("--json", action="store_true", help="for scripts: every run")
    sub = verb("clean", "Say what lies in a results folder, with sizes; remove what is asked for by name.")
    sub.add_argument(
        "what", nargs="*", metavar="NAME", help="as parts states (default: remove nothing, say what is there)"
    )
    sub.add_argument("--results", type=file_path, default=Path("results"))
    add_configfile(sub)


def add_measurements(verb: Verb) -> None:
    """What needs torch, in the order in which the workflow calls it."""
    sub = verb("data", "Read a data set from its source into one file.")
    sub.add_argument("--dataset", required=True, help="one of ours, or of `datasets` in a config")
    sub.add_argument("--source", type=file_path, help="where archives are looked for (default: the config's data_dir)")
    sub.add_argument("--out", type=file_path, help="(default: results/data/NAME.safetensors)")
    sub.add_argument("--options", help="where an own data set comes from, as JSON; by default the config says it")
    add_configfile(sub)
    sub = verb("train", "Train one run, or resume it.")
    add_run(sub)
    sub.add_argument("--recipe", help="the resolved recipe as JSON; by default it comes from the config")
    sub.add_argument("--snapshots", action="store_true", help="keep the weights of every epoch, for `probe`")
    graphs = "on a GPU, replay a step where that is the same (default), or never"
    sub.add_argument("--cuda-graphs", choices=("auto", "never"), default="auto", help=graphs)
    sub = verb("evaluate", "Attack the weights of one run, or of a checkpoint from elsewhere (--weights).")
    add_run(sub, required=False)
    add_checkpoint(sub)
    suites = ("whitebox", "autoattack", "attacks", "all")
    sub.add_argument(
        "--suite", choices=suites, default="all", help="FGSM, PGD and probes; AutoAttack; those of --attacks; or all"
    )
    sub.add_argument(
        "--attacks",
        nargs="+",
        action="extend",
        metavar="NAME",
        help='more attacks, as "pgd-20 alpha=0.25eps restarts=10 best" "autoattack L2 eps=0.5" (docs/attacks.md); '
        "by default the config says which",
    )
    sub.add_argument("--shard", type=count, help="this one alone of the shards that the protocol has, from 1")
    sub.add_argument("--epoch", choices=("last", "best"), help="whose weights (default: both, if images are held out)")
    sub.add_argument(
        "--protocol",
        action="append",
        help="`released` (of a checkpoint: as the ATAS code evaluates), or the evaluation block as JSON",
    )
    add_network(sub)
    sub = verb("probe", "Loss surfaces around a collapse, from the weights kept by `train --snapshots`.")
    add_run(sub)
    sub.add_argument("--numerics", choices=("auto", "portable", "native"), default="auto")
    add_network(sub)
    sub = verb("cost", "Count passes, FLOPs and state of every method, and time its step against clean training.")
    sub.add_argument("--repeats", type=count, default=10, help="timed steps of each method")
    add_threads(sub)
    sub.add_argument("--out", type=file_path, required=True, help="path without ending: .csv and .md are written")


def add_reports(verb: Verb) -> None:
    """What is made from what was measured, likewise; and the documentation."""
    sub = verb("report", "Make tables, verdicts, figures and page of what is there, finished or not.")
    add_report(sub)
    sub.add_argument("--figures", type=file_path, help=FIGURES)
    sub = verb("verify", "Say of runs whether their files are what they should be; exit code 1 if not.")
    sub.add_argument("runs", nargs="*", metavar="RUN", help="as digits/preact_tiny/eps77/atas/paper/seed0")
    sub.add_argument("--all", action="store_true", help="every run that is there, or that the config names")
    add_report(sub)
    sub = verb("tidy", "Gather the runs into measured.csv, correct.csv, evidence.jsonl and problems.csv.")
    add_report(sub)
    sub.add_argument("--full", action="store_true", help="hash large files again that have not changed")
    sub.add_argument("--out", type=file_path, required=True, help="folder")
    sub = verb("figure-data", "Gather what each figure is drawn from into results/figures/NAME.csv.")
    add_report(sub)
    sub = verb("theory", "Put the paper's regret bounds to the test where the saddle point is known.")
    sub.add_argument("--out", type=file_path, default=Path("results/figures/theory.csv"))
    sub = verb("judge", "Make the tables, and judge paper's cells, claims, pairs of methods, sanity.")
    add_report(sub)
    sub.add_argument("--strict", action="store_true", help="exit with 1 if a cell of the paper was not reproduced")
    sub = verb("draw", "Draw the figures from their data.")
    sub.add_argument("--data", type=file_path, default=Path("results/figures"))
    sub.add_argument("--only", nargs="*", metavar="NAME", help="as fig03 (default: all)")
    sub.add_argument("--out", type=file_path, help=f"NAME.svg, .png and .txt are written into this {FIGURES}")
    sub = verb("page", "Put every result on one offline page.")
    sub.add_argument("--results", type=file_path, default=Path("results"))
    sub.add_argument("--figures", type=file_path, help=FIGURES)
    sub.add_argument("--out", type=file_path, help="file (default: report/index.html in the results folder)")
    sub = verb(
        "compare", "Say which of two cells or runs is better, by how much, how surely, and what would settle it."
    )
    sub.add_argument(
        "a", metavar="A", help="as digits/preact_tiny/eps77/atas, .../atas/released or .../atas/paper/seed0"
    )
    sub.add_argument("b", metavar="B", help="likewise")
    sub.add_argument("--results", type=file_path, default=Path("results"), help="after tidy or report")
    sub.add_argument("--json", action="store_true", help="for scripts: every number")
    sub = verb("agree", "Compare the runs that two folders have: bit for bit, within noise, or differs.")
    sub.add_argument("--results", type=file_path, default=Path("results"))
    sub.add_argument(
        "--with", type=file_path, default=ROOT / "docs/results", dest="others", metavar="FOLDER", help=WITH
    )
    sub.add_argument("--alike", action="store_true", help="leave out runs of another recipe, or on other data")
    sub = verb("export", "Write a finished run as a folder that needs no fastat, or a grid's evidence as one archive.")
    sub.add_argument("run", nargs="?", metavar="RUN", help="as digits/preact_tiny/eps77/atas/paper/seed0")
    sub.add_argument("--all", action="store_true", help="every run that results/config.json or --configfile names")
    sub.add_argument("--out", type=file_path, required=True, help="a new folder; with --all a file, .tar or .tar.gz")
    sub.add_argument("--weights", action="store_true", help="with --all: the networks, too")
    add_report(sub)
    add_network(sub)
    sub = verb("import", "Put what `export` wrote into a results folder, after every hash was checked.")
    sub.add_argument("source", type=file_path, metavar="FOLDER_OR_ARCHIVE")
    sub.add_argument("--results", type=file_path, default=Path("results"))
    sub = verb("merge", "Put the results of several machines into one folder; say where two of them differ.")
    sub.add_argument("folders", type=file_path, nargs="+", metavar="FOLDER", help="results folders")
    sub.add_argument("--out", type=file_path, required=True, help="a results folder, new or with what it keeps")
    sub.add_argument("--keep", type=file_path, metavar="FOLDER", help="whose content counts where two differ")
    sub.add_argument("--dry-run", action="store_true", help="write nothing, say what would be")
    sub = verb("docs", "Renew README's table and picture, and docs/methods, from code, recipes and docs/results.")
    sub.add_argument("--results", type=file_path, help="a finished tier, whose tables docs/results/TIER takes first")
    sub.add_argument(
        "--tier", default="default", help="which one it is: default, all, evening, fashion, night or paper"
    )


def file_path(text: str) -> Path:
    """The type of every argument that is a path. `~` is the home folder, also in --source=~/data or from a config.

    Raises: argparse.ArgumentTypeError if it is empty, or the home of somebody unknown.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} begins with the home of an unknown user. Write ./{text}") from error
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty. The folder where you are is .")
    return path


def positive(text: str) -> float:
    """A number of seconds above 0."""
    if not 0 < float(text) < math.inf:
        raise ValueError
    return float(text)


def count(text: str) -> int:
    """A whole number from 1 to 1000: of threads, runs or repeats."""
    if not re.fullmatch("[1-9][0-9]{0,2}|1000", text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000, got {text[:60]!r}")
    return int(text)


def add_configfile(sub: argparse.ArgumentParser) -> None:
    """--configfile, as Snakemake has it."""
    sub.add_argument("--configfile", type=file_path, nargs="*", default=[], help="laid over config/config.yaml")


def add_report(sub: argparse.ArgumentParser) -> None:
    """What is reported: all runs that are there, or those that a config names, which then must be as it says."""
    sub.add_argument("--results", type=file_path, default=Path("results"))
    add_configfile(sub)


def add_checkpoint(sub: argparse.ArgumentParser) -> None:
    """What is said of weights that were trained elsewhere, in place of --run: docs/checkpoints.md."""
    group = sub.add_argument_group("a checkpoint from elsewhere, in place of --run (docs/checkpoints.md)")
    group.add_argument("--weights", metavar="FILE", help="safetensors, .pt, .pth, .pth.tar")
    group.add_argument(
        "--model", help="preact_resnet18, a name of `models`, module:factory, timm:NAME or torchvision:NAME"
    )
    group.add_argument("--dataset", help="one of ours, or of `datasets` in a config; prepared")
    group.add_argument("--eps", help="the L-infinity radius, as 8/255")
    group.add_argument(
        "--normalise",
        nargs="+",
        metavar="HOW",
        help="inside (or none), cifar10, imagenet, or MEAN STD as 0.49,0.48,0.45 0.25,0.24,0.26",
    )
    group.add_argument("--name", help="what its rows are called (default: after the file)")
    group.add_argument("--arch", help="of our networks: whose rules built it, as fast_adversarial")
    group.add_argument("--entry", help="the part of the file that holds the weights, as state_dict_ema")
    group.add_argument("--part", choices=("test", "train"), help="which images are attacked (default: test)")
    group.add_argument("--images", help="how many images AutoAttack attacks (default: as the config says), or all")


def add_run(sub: argparse.ArgumentParser, required: bool = True) -> None:
    """What names a run and where its files are."""
    sub.add_argument("--run", required=required, help="as digits/preact_tiny/eps77/atas/paper/seed0")
    sub.add_argument("--results", type=file_path, default=Path("results"))
    sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sub.add_argument("--runs-per-gpu", type=count, default=1, help="of several GPUs, take one with fewer runs at work")
    add_threads(sub)
    add_configfile(sub)


def add_network(sub: argparse.ArgumentParser) -> None:
    """--network: code is never imported for what a file in results says."""
    sub.add_argument("--network", help="how a network of your own is built, as JSON; by default the config says it")


def add_threads(sub: argparse.ArgumentParser) -> None:
    """--threads, which pick_device sets."""
    sub.add_argument("--threads", type=count, help="CPU threads (default: torch's)")
