"""What was measured, read and cleaned once for the whole report: rows -> a row per run -> a row per cell. Never torch.

The files: measured.csv, correct.csv, evidence.jsonl (docs/files.md), and config/paper.csv with the paper's numbers.
What is left out of them is said in `Results.notes`. One rule for a number that stands there twice: the same value
counts once; of two different ones nobody can tell which is right, so that it is left empty.
"""

import functools
import json
import logging
import math
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from fastat import ROOT
from fastat.config import catalog, sweep
from fastat.config.attack_names import FEW, WITHOUT_APGD_T, is_name
from fastat.config.grid import middle
from fastat.config.recipe import Recipe, fingerprint
from fastat.config.spec import PATTERN, split_subset
from fastat.errors import BadInput
from fastat.machine import seals
from fastat.report.statistics import finite, wilson
from fastat.report.tidy import CELL, CORRECT, MEASURED, RUN
from fastat.report.verify import PROBLEM
from fastat.units import in_pixels, is_eps, parse_eps

log = logging.getLogger(__name__)
PLACE = CELL[:3]
RIVAL = "FastAT_Benchmark"  # the `table` of its numbers
TEXTS = ("cause", "device", "left_out")  # metrics that are no numbers
ALWAYS = [
    "diverged", "train_seconds", "peak_memory_mb", "collapse_epoch", "collapsed_at_end", "collapsed_for_a_while",
    "robustness_lost", "train_pgd10_last", "train_pgd10_best", "train_pgd10_best_epoch", "unverified", "clean", "fgsm",
    "pgd10", "pgd50", "aa", "aa_n", "best_clean", "best_pgd10", "best_pgd50", "best_aa", "best_epoch",
    "robust_train_loss", "ratio", *TEXTS,
]  # fmt: skip
DEFAULTS = {one.name: one.default for one in fields(Recipe) if one.default is not MISSING}
STEP_SIZES = {"fgsm_rs": ["alpha"], "atta": ["alpha"], "atas": ["gamma_over_c", "c"]}  # what Fig. 4 and Table IV vary
OF_RECIPE = ["alpha", "gamma_over_c", "c", "epochs", "redrawn", "n_train", "rest", "over", "varied"]
SHARES = {  # metrics in %
    "clean", "fgsm", "pgd10", "pgd50", "aa", "inside", "noise", "gradient", "far", "train_clean_acc", "train_fgsm_acc",
    "train_pgd10_acc", "train_pgd10_last", "train_pgd10_best", "train_held_out_pgd10_acc", "best_clean", "best_fgsm",
    "best_pgd10", "best_pgd50", "best_aa", "best_inside", "best_noise", "best_gradient", "best_far",
}  # fmt: skip
CATEGORIES = {*RUN, "metric", "group", "check", "attack"}  # few different texts, many rows


@dataclass(frozen=True)
class Results:
    """The results in a folder.

    measured: RUN, metric, epoch, value (NaN: no finite number), n, text (of TEXTS), and run, the index of `runs`.
    runs: a row per run, sorted by name: RUN, `name`, `eps_255`; of a run on D_9^10 alone `subset`, `9-10` (None of
    others), and `base`, the variant without it; every metric that is not by epoch (those of ALWAYS even if nobody
    measured them), NAME_n where it was measured on n images; of ATAS, `loss_gap` and `loss_quotient` to ATTA
    with the same seed; of its recipe `alpha` and `gamma_over_c` (step sizes in eps), `c`, `epochs`, `n_train`, `rest`
    and `redrawn` (before which epochs it drew perturbations anew); of a sweep's run `over`, the variant that it is over
    ('' of others), and `varied`, its (key, value) pairs; `swept`, `ablation` (see `compared_by_step`).
    correct: the verdicts on single images, no rows if nobody asked for them.
    evidence: name of a run -> its run.json. notes: what was left out, or is not the standard, in sentences. problems:
    the files of runs that were left out, as problems.csv has them.
    """

    folder: Path
    measured: pd.DataFrame
    runs: pd.DataFrame
    correct: pd.DataFrame
    evidence: dict[str, dict[str, Any]]
    notes: list[str]
    problems: pd.DataFrame

    @property
    def left_out(self) -> frozenset[tuple[str, str]]:
        """(run, file) of the problems."""
        return frozenset(zip(self.problems["run"], self.problems["file"], strict=True))

    @property
    def metrics(self) -> list[str]:
        """The numbers not by epoch that were measured: columns of `runs`."""
        rows = self.measured[self.measured["epoch"].isna()]
        return sorted(set(rows["metric"].astype(str)) - set(TEXTS))

    @property
    def attacks(self) -> list[str]:
        """The attacks by name (config/attack_names.py) among them."""
        return [metric for metric in self.metrics if is_name(metric)]

    def by_epoch(self, *metrics: str) -> pd.DataFrame:
        """A row per run (the index) and epoch at which any of the metrics has a value, with `epoch` and the metrics."""
        rows = self.measured[self.measured["metric"].isin(metrics)].dropna(subset=["epoch", "value"])
        rows = rows[["run", "epoch", "metric", "value"]].astype({"metric": str})
        wide = rows.pivot(index=["run", "epoch"], columns="metric", values="value")
        return wide.reindex(columns=list(metrics)).astype(float).reset_index("epoch")


def read(folder: Path, names: list[str] | None = None, needs: tuple[str, ...] = ()) -> Results:
    """The results in `folder` of the runs called `names` (None: all). correct.csv is read only if it is among `needs`.

    Raises: BadInput if a file of `needs` is missing or damaged; another one leaves a note.
    """
    notes: list[str] = []
    files = {"measured.csv": (MEASURED, ["epoch", "n"]), "correct.csv": (CORRECT, ["n"])}
    rows = {}
    for file in ("measured.csv", "correct.csv")[: 2 if "correct.csv" in needs else 1]:
        try:
            rows[file] = read_rows(folder / file, *files[file])
        except BadInput as error:
            if file in needs:
                raise BadInput(f"{folder}: {error}. Make it: python -m fastat tidy --out {folder}") from error
            notes.append(f"{error}: what is made from it is missing here.")
    evidence = read_evidence(folder / "evidence.jsonl", notes)
    problems = None
    if (folder / "problems.csv").exists():
        try:
            problems = read_rows(folder / "problems.csv", PROBLEM, []).fillna("")
        except BadInput as error:
            notes.append(f"{error}: what it leaves out is said nowhere.")
    found = of_rows(rows.get("measured.csv"), rows.get("correct.csv"), evidence, folder, names, problems)
    found.notes[:0] = notes
    for note in found.notes:
        log.warning("%s: %s", folder, note)
    return found


def of_rows(
    measured: pd.DataFrame | None = None,
    correct: pd.DataFrame | None = None,
    evidence: dict[str, dict[str, Any]] | None = None,
    folder: Path = Path("results"),
    names: list[str] | None = None,
    problems: pd.DataFrame | None = None,
) -> Results:
    """The results in rows as tidy.py writes them."""
    notes: list[str] = []
    rows = complete(pd.DataFrame(columns=MEASURED) if measured is None else measured, "measured.csv", notes)
    rows = rows.reset_index(drop=True)
    said = rows["metric"].isin(TEXTS)
    rows["text"], rows["value"] = rows["value"].astype(object).where(said), finite(rows["value"])
    shares = [name for name in rows["metric"].unique() if name in SHARES or is_name(name)]
    beyond = rows["metric"].isin(shares) & ~rows["value"].between(0, 100) & rows["value"].notna()
    if beyond.any():
        notes.append(f"measured.csv: {beyond.sum()} accuracies are not from 0 to 100 %; they are left empty.")
        rows["value"] = rows["value"].mask(beyond)
    rows["run"] = rows.groupby(RUN, observed=True, sort=True).ngroup()
    runs = named(rows)
    if names is not None:
        runs = runs[runs["name"].isin(names)]
        rows = rows[rows["run"].isin(runs.index)]
    rows = once(rows, ["run", "metric", "epoch"], "measured.csv", notes)
    runs = runs.join(recipes(runs, evidence or {}, notes)).join(wide(rows))
    runs = runs.join(compared_by_step(runs, notes))
    runs = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *ALWAYS])))
    right = complete(pd.DataFrame(columns=CORRECT) if correct is None else correct, "correct.csv", notes)
    right = once(right.reset_index(drop=True), [*RUN, "attack"], "correct.csv", notes)
    right = right.astype(dict.fromkeys([*RUN, "attack"], str))
    if names is not None:
        right = right.merge(runs[RUN], on=RUN)
    few = [name for name in sorted(set(runs["dataset"])) if (facts := catalog.facts(name)) and facts.n_classes <= FEW]
    if few and runs["aa"].notna().any():
        notes.append(f"{', '.join(few)}: {WITHOUT_APGD_T}.")
    problems = pd.DataFrame(columns=PROBLEM, dtype=str) if problems is None else problems
    if names is not None:
        problems = problems[problems["run"].isin(names)]
    if len(problems):
        n_runs = problems["run"].nunique()
        notes.append(f"{len(problems)} files of {n_runs} runs were left out: problems.csv says why, and the way out.")
    if mixed := of_several_recipes(runs, evidence or {}):
        notes.append(
            f"Seeds of {len(mixed)} cells were trained or attacked by different recipes, and yet they are averaged: "
            f"{', '.join(mixed[:3])}{', ...' * (len(mixed) > 3)}. Train them again by one config, or give one of them "
            "another variant's name."
        )
    if n_unverified := int((runs["unverified"] == 1).sum()):
        notes.append(
            f"{n_unverified} of {len(runs)} runs are unverified: made before results named what they were made from, "
            "or without their weights or data."
        )
    return Results(folder, rows, runs.join(losses(runs)), right, evidence or {}, notes, problems)


# Rows


def read_rows(path: Path, columns: list[str], numbers: list[str]) -> pd.DataFrame:
    """The rows of a CSV file: `numbers` as numbers, NaN for what is none or not finite, everything else as text.

    Raises: BadInput, a sentence without its full stop, if the file is missing, damaged or without one of the columns.
    """
    if isinstance(path, Path):
        seals.check(path)
    try:
        rows = pd.read_csv(path, dtype={name: "category" if name in CATEGORIES else str for name in columns})
    except FileNotFoundError as error:
        raise BadInput(f"There is no {path.name}") from error
    except (OSError, ValueError) as error:  # pandas' own errors and those of decoding are values'
        raise BadInput(f"{path.name} cannot be read ({error})") from error
    if absent := [name for name in columns if name not in rows]:
        raise BadInput(f"{path.name} lacks the columns {', '.join(absent)}")
    return rows[columns].assign(**{name: finite(rows[name]) for name in numbers})


def complete(rows: pd.DataFrame, file: str, notes: list[str]) -> pd.DataFrame:
    """The rows that name a run, or as much of one as the file has columns for."""
    good = rows[[name for name in (*RUN, "metric", "attack") if name in rows]].notna().all(axis=1)
    for name, holds in (("eps", is_eps), ("seed", lambda seed: str(seed).isdecimal())):
        if name in rows:
            good &= rows[name].isin([value for value in rows[name].unique() if holds(value)])
    if not good.all():
        notes.append(
            f"{file}: {(~good).sum()} rows without a complete name, or with an eps that is not N/255 or a seed that is "
            "no number, were left out."
        )
    return rows[good]


def once(rows: pd.DataFrame, keys: list[str], file: str, notes: list[str]) -> pd.DataFrame:
    """The rows, those that stand there twice once, and none of those whose keys are the same and not the rest."""
    again = rows[rows.duplicated(keys, keep=False)]
    same, distinct = again[again.duplicated()], again.drop_duplicates()
    if len(same):
        notes.append(f"{file}: {len(same)} rows stood there twice, and count once.")
    clash = distinct[distinct.duplicated(keys, keep=False)]
    if len(clash):
        what = ", ".join(sorted(set(clash["metric" if "metric" in rows else "attack"].astype(str))))
        n_runs = len(clash[RUN].drop_duplicates())
        notes.append(f"{file}: {n_runs} runs have two values of one number ({what}); they are left empty.")
    return rows.drop(index=same.index.union(clash.index))


def read_evidence(path: Path, notes: list[str]) -> dict[str, dict[str, Any]]:
    """Name of a run -> its run.json; lines that are no JSON object with `run` are counted in `notes`."""
    found: dict[str, dict[str, Any]] = {}
    damaged = 0
    try:
        seals.check(path)
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    about = json.loads(line)
                    found[about["run"]] = about
                except (ValueError, KeyError, TypeError, RecursionError):
                    damaged += bool(line.strip())
    except BadInput as error:
        notes.append(f"{error}: recipes, versions and commits of the runs are missing here.")
    except OSError as error:
        cause = "There is no" if isinstance(error, FileNotFoundError) else "It is not possible to read"
        notes.append(f"{cause} evidence.jsonl: recipes, versions and commits of the runs are missing here.")
    if damaged:
        notes.append(f"evidence.jsonl: {damaged} lines are damaged and were left out.")
    return found


# Runs


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with `run` -> a row per run: RUN, `eps_255`, `base`, `subset` and `name`."""
    runs = rows.drop_duplicates("run").set_index("run")[RUN].astype(str).sort_index()
    runs["eps_255"] = runs["eps"].map(parse_eps).astype(int)
    parts_of = [split_subset(variant) for variant in runs["variant"]]
    runs["base"] = [base for base, _ in parts_of]
    runs["subset"] = pd.Series([f"{d[0]}-{d[1]}" if d else None for _, d in parts_of], runs.index, dtype=object)
    columns = (runs[key] for key in ("dataset", "model", "eps_255", "method", "variant", "seed"))
    parts = ("dataset", "model", "eps", "method", "variant", "seed")
    runs["name"] = [
        PATTERN.format(**dict(zip(parts, map(str, who), strict=True))) for who in zip(*columns, strict=True)
    ]
    return runs


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per run, a column per metric that is not by epoch, and one per metric with n, NAME_n."""
    rows = rows[rows["epoch"].isna()].astype({"metric": str})
    said = rows["metric"].isin(TEXTS)
    parts = (
        rows[~said].pivot(index="run", columns="metric", values="value"),
        rows[said].pivot(index="run", columns="metric", values="text"),
        rows[rows["n"].notna()].pivot(index="run", columns="metric", values="n").astype(float).add_suffix("_n"),
    )
    return pd.concat(parts, axis=1)


def recipes(runs: pd.DataFrame, evidence: dict[str, dict[str, Any]], notes: list[str]) -> pd.DataFrame:
    """OF_RECIPE of each run; NaN, and '' for `rest`, where there is no evidence of it."""
    rows, damaged = [], 0
    named_so = runs[["name", "dataset", "method", "variant", "eps_255"]]
    for name, dataset, method, variant, eps_255 in named_so.itertuples(index=False):
        size = facts.n_train if (facts := catalog.facts(dataset)) else math.nan
        about = evidence.get(name, {})
        try:
            rows.append((*recipe(about, method, eps_255, size), *varied(about, variant)))
        except (AttributeError, TypeError, ValueError):
            rows.append((*recipe({}, method, eps_255, size), *varied({}, variant)))
            damaged += 1
    if damaged:
        notes.append(f"evidence.jsonl: {damaged} runs have a damaged recipe; it was left out.")
    return pd.DataFrame(rows, index=runs.index, columns=OF_RECIPE)


def recipe(about: dict[str, Any], method: str, eps_255: int, size: float) -> tuple[Any, ...]:
    """OF_RECIPE but the last two, of a run.json; n_train is else `size`. rest: a hash of all but the STEP_SIZES.

    Raises: AttributeError, TypeError or ValueError if these are not what a run writes.
    """
    said = about.get("recipe") or {}
    config = about.get("config") or said.get("params") or {}  # runs made before they said their config
    alpha, gamma_over_c = (step_in_eps(config.get(name), eps_255) for name in ("alpha", "gamma_over_c"))
    c = float(config["c"]) if "gamma_over_c" in config and "c" in config else math.nan
    redrawn = frozenset(about.get("redrawn") or ())
    rest = ""
    if said and method in STEP_SIZES:
        trained = {key: value for key, value in said.items() if key not in ("params", "numerics")}
        rest = fingerprint(trained, {key: config[key] for key in config if key not in STEP_SIZES[method]})
    epochs, n_train = float(said.get("epochs", math.nan)), float(said.get("n_train") or size)
    return alpha, gamma_over_c, c, epochs, redrawn, n_train, rest


def of_several_recipes(runs: pd.DataFrame, evidence: dict[str, dict[str, Any]]) -> list[str]:
    """The cells, as `digits/preact_tiny/eps77/atas/paper`, whose runs say of themselves different recipes or protocols.

    What a run says nothing of, as one that is not attacked yet, is no difference.
    """
    said: dict[tuple[str, str], set[str]] = {}
    for name in runs["name"]:
        about, cell = evidence.get(name, {}), name.rpartition("/")[0]
        trained, evaluations = (
            one if isinstance(one := about.get(key), dict) else {} for key in ("recipe", "evaluations")
        )
        trained = {key: value for key, value in trained.items() if key != "numerics"}
        parts = {"recipe": trained and [trained, about.get("numerics")]}
        parts |= {suite: one.get("protocol") for suite, one in evaluations.items() if isinstance(one, dict)}
        for part, value in parts.items():
            if value:
                said.setdefault((cell, part), set()).add(json.dumps(value, sort_keys=True))
    return sorted({cell for (cell, _), values in said.items() if len(values) > 1})


def varied(about: dict[str, Any], variant: str) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """The variant that a sweep's run is over, and its keys and values: where its name says some of its own recipe's.

    Raises: AttributeError or TypeError if these are not what a run writes.
    """
    said = {**DEFAULTS, **(about.get("recipe") or {})}
    config = about.get("config") or said.get("params") or {}
    schedule = {f"schedule.{key}": value for key, value in (said.get("schedule") or {}).items()}
    over, values = sweep.said(variant, {**said, **schedule, **config}) or ("", {})
    return over, tuple(values.items())


def compared_by_step(runs: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Which runs differ in their step size alone, by their recipes and whatever their variants are called.

    swept: of FGSM-RS, ATTA or ATAS, trained on all images, with the same `rest` as `paper` there or, where that was not
    run, as most others; of one recipe under two names the first, `paper` before others, a sweep's last. ablation:
    trained on a subset, made by a sweep, or swept beside `paper` under another name: not for Tables I and II and the
    figures of all methods.
    """
    subset = runs["subset"].notna()
    able = runs["method"].isin(STEP_SIZES)
    if unknown := int((able & (runs["rest"] == "")).sum()):
        notes.append(
            f"evidence.jsonl: {unknown} runs of {', '.join(STEP_SIZES)} are without a recipe: nobody can tell their "
            "step size, and they are left out where step sizes are compared (Figures 1, 4, 5, Table IV, claims)."
        )
    known = runs[able & (runs["rest"] != "") & ~subset]
    known = known.assign(later=(known["variant"] != "paper").astype(int) + (known["over"] != ""))
    known = known.sort_values(["later", "variant"], kind="stable")
    known = known.drop_duplicates([*PLACE, "method", "rest", "alpha", "gamma_over_c", "c"])
    swept: list[tuple[str, ...]] = []
    beside: list[tuple[str, ...]] = []
    for _, part in known.groupby([*PLACE, "method"], sort=False):
        has_paper = part["variant"].iloc[0] == "paper"
        mine = part[part["rest"] == (part["rest"].iloc[0] if has_paper else part["rest"].mode()[0])]
        cells = list(mine[CELL].itertuples(index=False, name=None))
        swept += cells
        beside += cells[1:] if has_paper else []
    cells_of = pd.MultiIndex.from_frame(runs[CELL])
    ablation = subset | (runs["over"] != "") | cells_of.isin(beside)
    return pd.DataFrame({"swept": cells_of.isin(swept), "ablation": ablation}, index=runs.index)


def step_in_eps(alpha: object, eps_255: int) -> float:
    """`1.5 eps` -> 1.5 and, at 8/255, `4/255` -> 0.5; NaN for what is no length."""
    try:
        return in_pixels(str(alpha), eps_255 / 255) / (eps_255 / 255)
    except BadInput:
        return math.nan


def losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Table III's gap and quotient of the robust training losses of ATTA and ATAS: in ATAS's rows, by seed."""
    key = [*PLACE, "seed"]
    atta, atas = (runs[(runs["method"] == name) & (runs["variant"] == "paper")] for name in ("atta", "atas"))
    theirs = atta.set_index(key)["robust_train_loss"].reindex(pd.MultiIndex.from_frame(atas[key])).to_numpy(float)
    ours = atas["robust_train_loss"].astype(float)
    return pd.DataFrame({"loss_gap": theirs - ours, "loss_quotient": theirs / ours}, index=atas.index)


def labels(rows: pd.DataFrame) -> pd.Series:
    """`atas`, or `atas/released`: a method as config/paper.csv and the tables have it."""
    return rows["method"] + rows["variant"].map(lambda variant: "" if variant == "paper" else f"/{variant}")


def first_eps(runs: pd.DataFrame, table1_eps: dict[str, str]) -> dict[str, str]:
    """Data set -> the eps that what shows one eps shows: `table1_eps`, or the middle one where no run is at that."""
    chosen = {}
    for dataset, part in runs.groupby("dataset"):
        wanted = table1_eps.get(str(dataset), "")
        chosen[str(dataset)] = wanted if wanted in set(part["eps"]) else middle(part["eps_255"])
    return chosen


# Cells


def are_there(runs: pd.DataFrame) -> pd.Series:
    """Which of the runs can be believed: of those that were left out whole nobody knows anything."""
    return runs["left_out"].isna() | runs["diverged"].notna()


def cells(runs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """A row per cell (the index), in the order of the runs.

    `seeds` (less those that were left out whole), `diverged`, `collapsed_at_end`, `collapsed_for_a_while` and
    `unverified` (how many), `cause` and `left_out` (texts), `hardware` (names); of every metric its mean, NAME_std and
    NAME_seeds (how many have it); with `aa`, `aa_n` and the interval `aa_low`, `aa_high` that so many images leave.
    Diverged runs are in no mean and no collapse. Seconds on different hardware have no mean.
    """
    fell = {name: runs[name].mask(runs["diverged"] == 1) for name in ("collapsed_at_end", "collapsed_for_a_while")}
    runs = runs.assign(counts=are_there(runs), **fell)
    by = runs.groupby(CELL, sort=False)
    table = pd.DataFrame({"seeds": by["counts"].sum()})
    for name in ("diverged", "collapsed_at_end", "collapsed_for_a_while", "unverified"):
        table[name] = by[name].sum().astype(int)
    for name in ("cause", "left_out"):
        table[name] = by[name].agg(lambda texts: "; ".join(sorted(set(texts.dropna()))))
    table["hardware"] = by["device"].agg(lambda names: sorted(set(names.dropna())))
    ended = runs.assign(**{metric: runs[metric].mask(runs["diverged"] == 1) for metric in metrics})
    by = ended.groupby(CELL, sort=False)
    for metric in metrics:
        values = by[metric]
        table[metric], table[f"{metric}_std"] = values.mean(), values.std(ddof=1)
        table[f"{metric}_seeds"] = values.count()
    if "train_seconds" in metrics:
        table.loc[table["hardware"].map(len) > 1, ["train_seconds", "train_seconds_std"]] = math.nan
    if "aa" in metrics:
        table["aa_n"] = by["aa_n"].max()
        bounds = [wilson(mean, n) for mean, n in zip(table["aa"], table["aa_n"].fillna(0), strict=True)]
        table["aa_low"], table["aa_high"] = [low for low, _ in bounds], [high for _, high in bounds]
    return table


# The paper


@functools.cache
def paper() -> pd.DataFrame:
    """config/paper.csv with `eps_255`: a row for every number of a table. All get the same frame: do not change it."""
    numbers = pd.read_csv(ROOT / "config/paper.csv")
    return numbers.assign(eps_255=numbers["eps"].map(parse_eps).astype(int))


@functools.cache
def rival() -> pd.DataFrame:
    """config/fastat_benchmark.csv in the shape of `paper`: FastAT_Benchmark's numbers.

    A number of the best epoch has the metric `best_aa`, as ours. All get the same frame: do not change it.
    """
    numbers = pd.read_csv(ROOT / "config/fastat_benchmark.csv")
    metrics = numbers["epoch"].map({"best": "best_", "last": ""}) + numbers["metric"]
    return numbers.assign(table=RIVAL, metric=metrics, eps_255=numbers["eps"].map(parse_eps).astype(int))


@functools.cache
def rival_methods() -> pd.DataFrame:
    """METHOD/VARIANT (the index) -> its `name` there, what it `runs`, what is `wrong` in it, what is run `here`."""
    return pd.read_csv(ROOT / "config/fastat_benchmark_methods.csv", keep_default_na=False, index_col="method")


def published(metric: str) -> pd.Series:
    """(dataset, model, eps, method or METHOD/VARIANT) -> the paper's number."""
    rows = paper()[paper()["metric"] == metric].drop_duplicates([*PLACE, "method"])
    return rows.set_index([*PLACE, "method"])["value"]
