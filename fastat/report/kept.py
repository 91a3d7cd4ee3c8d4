"""A finished grid in three small files that can be committed, for others to compare their runs with. Never torch.

runs.csv has a row per run, recipes.csv a row per recipe, correct.csv the rows of tidy.py under ATTACKS (docs/files.md).
`agree` reads a results folder into the same form, so that it compares like with like.
"""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastat.config.recipe import fingerprint
from fastat.config.spec import PATTERN, RunSpec
from fastat.errors import BadInput
from fastat.machine.files import atomic
from fastat.report.results import read, read_rows
from fastat.report.statistics import Verdicts, unpacked
from fastat.report.tidy import CORRECT, RUN

ATTACKS = ("clean", "fgsm", "pgd10", "pgd50", "aa")
FACTS = [
    "recipe", "data_sha256", "status", "collapsed", "numerics", "processor", "torch", "weights", "evaluation_numerics",
    "evaluation_torch", "evaluation_device", "whitebox", "autoattack",
]  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """A grid as it is kept.

    runs: by name, FACTS (texts, '' where nobody said; `recipe`, `whitebox` and `autoattack` are fingerprints, of the
    recipe and of the protocols) and the accuracies under ATTACKS in %. recipes: fingerprint -> `schedule/lr` -> value.
    correct: rows as tidy.py writes them. verdicts: name of a run -> attack -> which images it gets right.
    """

    folder: Path
    runs: pd.DataFrame
    recipes: dict[str, dict[str, str]]
    correct: pd.DataFrame
    verdicts: dict[str, dict[str, Verdicts]]

    @cached_property
    def facts(self) -> dict[str, dict[str, str]]:
        """Name of a run -> FACTS."""
        rows = self.runs[FACTS].itertuples()
        return {str(name): dict(zip(FACTS, map(str, row), strict=True)) for name, *row in rows}


def load(folder: Path) -> Kept:
    """The grid in a folder that `write` filled, or in a results folder.

    Raises: BadInput if it is neither, or a file damaged.
    """
    if os.path.isfile(folder / "runs.csv"):
        try:
            return committed(folder)
        except BadInput as error:
            raise BadInput(f"{folder}: {error}. Take it again: python -m fastat docs --results RESULTS") from error
    if os.path.isfile(folder / "measured.csv"):
        return of_results(folder)
    raise BadInput(
        f"{folder} has neither measured.csv (made by python -m fastat tidy --out {folder}) nor runs.csv (kept by "
        "python -m fastat docs --results RESULTS)."
    )


def tier(mine: Kept, folder: Path) -> Path:
    """Of the grids kept below a folder that is none itself, that which shares most runs, and of these has fewest."""
    if any(os.path.isfile(folder / name) for name in ("runs.csv", "measured.csv")):
        return folder
    here, sizes = set(mine.runs.index), {}
    for path in sorted(folder.glob("*/runs.csv")):
        try:
            there = set(texts(path, "run").index)
        except BadInput as error:
            raise BadInput(f"{path.parent}: {error}. Take it again: python -m fastat docs --results RESULTS") from error
        sizes[path.parent] = (-len(here & there), len(there))
    return min(sizes, key=lambda path: sizes[path], default=folder)


def write(kept: Kept, folder: Path) -> None:
    """Write runs.csv, recipes.csv and correct.csv."""
    recipes = pd.DataFrame.from_dict(kept.recipes, orient="index").sort_index(axis=1).fillna("")
    for name, table, index in (("runs", kept.runs, "run"), ("recipes", recipes, "recipe")):
        with atomic(folder / f"{name}.csv") as partial:
            table.to_csv(partial, index_label=index, float_format="%.2f")
    with atomic(folder / "correct.csv") as partial:
        kept.correct.to_csv(partial, index=False)


# A results folder


def of_results(folder: Path) -> Kept:
    """What `write` would keep of a results folder, without the runs that were left out there.

    Raises: BadInput if a file is missing or damaged, or evidence.jsonl says nothing of a run.
    """
    found = read(folder, needs=("measured.csv", "correct.csv"))
    way_out = f"Make it again: python -m fastat tidy --out {folder}"
    facts: dict[str, dict[str, str]] = {}
    recipes: dict[str, dict[str, str]] = {}
    columns = found.runs[["name", "collapsed_at_end", "left_out"]].sort_values("name")
    for name, collapsed, left_out in columns.itertuples(index=False):
        if name not in found.evidence and pd.notna(left_out):
            continue
        if name not in found.evidence:
            raise BadInput(f"{folder}: evidence.jsonl says nothing of {name}. {way_out}")
        about = found.evidence[name]
        recipe = flat(said(about, "recipe"))
        key = fingerprint(recipe) if recipe else ""
        recipes |= {key: recipe} if recipe else {}
        facts[name] = {**facts_of(about), "recipe": key, "collapsed": "" if pd.isna(collapsed) else str(int(collapsed))}
    correct = found.correct[found.correct["attack"].isin(ATTACKS)].astype({"n": "Int64"})
    try:
        verdicts = unpack(correct)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}. {way_out}") from error
    if foreign := sorted(set(verdicts) - set(facts)):
        raise BadInput(f"{folder}: correct.csv has {foreign[0]}, which measured.csv lacks. {way_out}")
    runs = pd.DataFrame.from_dict(facts, orient="index", columns=FACTS)
    return Kept(folder, runs.join(accuracies(verdicts)), recipes, correct, verdicts)


def facts_of(about: dict[str, Any]) -> dict[str, str]:
    """FACTS, less `recipe` and `collapsed`, of a run.json; runs made before these were written have few."""
    evaluations = {name: said(about, "evaluations", name) for name in ("whitebox", "autoattack")}
    numerics = {text(said(sidecar, "numerics")) for sidecar in evaluations.values()} - {""}
    torch = {text(said(sidecar, "versions", "torch")) for sidecar in evaluations.values()} - {""}
    devices = {text(said(sidecar, "device")) for sidecar in evaluations.values()} - {""}
    protocols = {name: said(sidecar, "protocol") for name, sidecar in evaluations.items()}
    return {
        "data_sha256": text(said(about, "data_sha256")),
        "status": text(said(about, "status")),
        "numerics": text(said(about, "numerics")),
        "processor": text(said(about, "machine", "processor")),
        "torch": text(said(about, "versions", "torch")),
        "weights": text(said(about, "files", "weights.safetensors")),
        "evaluation_numerics": "+".join(sorted(numerics)),
        "evaluation_torch": "+".join(sorted(torch)),
        "evaluation_device": "+".join(sorted(devices)),
        **{name: fingerprint(protocol) if protocol else "" for name, protocol in protocols.items()},
    }


def said(about: Any, *keys: str) -> Any:
    """The value in nested objects, None if it is not there."""
    for key in keys:
        about = about.get(key) if isinstance(about, dict) else None
    return about


def text(value: Any) -> str:
    """A value of JSON in a cell of a table: '' for null, a text as it is."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def flat(recipe: Any, above: str = "") -> dict[str, str]:
    """`{"schedule": {"lr": 0.1}}` -> `{"schedule/lr": "0.1"}`, without `numerics`: that is how it was computed."""
    if not isinstance(recipe, dict):
        return {}
    found: dict[str, str] = {}
    for key, value in recipe.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{key}/")
        elif f"{above}{key}" != "numerics":
            found[f"{above}{key}"] = text(value) or "none"
    return found


# Committed files


def committed(folder: Path) -> Kept:
    """What `write` wrote.

    Raises: BadInput, without its full stop, if a file is missing or damaged or the three do not belong together.
    """
    runs = texts(folder / "runs.csv", "run")
    for later in {"evaluation_torch", "evaluation_device"} - set(runs):  # kept before it was
        runs[later] = ""
    if absent := [name for name in (*FACTS, *ATTACKS) if name not in runs]:
        raise BadInput(f"runs.csv lacks the columns {', '.join(absent)}")
    for name in runs.index:
        RunSpec.parse(name)
    recipes = {
        str(key): {str(name): str(value) for name, value in row.items() if value}
        for key, row in texts(folder / "recipes.csv", "recipe").to_dict("index").items()
    }
    if lost := sorted(set(runs["recipe"]) - {"", *recipes}):
        raise BadInput(f"recipes.csv lacks {lost[0]}, which runs.csv names")
    if edited := [key for key, recipe in recipes.items() if fingerprint(recipe) != key]:
        raise BadInput(f"recipes.csv: {edited[0]} is not the fingerprint of its row")
    correct = read_rows(folder / "correct.csv", CORRECT, ["n"])
    correct = correct[correct["attack"].isin(ATTACKS)]
    verdicts = unpack(correct)
    whole = runs[FACTS].join(numbers(runs[list(ATTACKS)]))
    check(whole, accuracies(verdicts))
    return Kept(folder, whole, recipes, correct, verdicts)


def texts(path: Path, index: str) -> pd.DataFrame:
    """A CSV file as texts, '' for an empty cell, by its column `index`.

    Raises: BadInput, without its full stop, if it is missing or damaged or names a row twice.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise BadInput(f"There is no {path.name}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name} cannot be read ({error})") from error
    if index not in table:
        raise BadInput(f"{path.name} lacks the column {index}")
    if twice := list(table[index][table[index].duplicated()]):
        raise BadInput(f"{path.name} has {twice[0]} twice")
    return table.set_index(index).fillna("")  # a row that is cut short


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Cells of runs.csv as numbers, NaN for empty ones.

    Raises: BadInput, without its full stop, for a cell that is no number.
    """
    found = table.apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = found.isna() & (table != "")
    for attack in table.columns[wrong.any()]:
        name = str(table.index[wrong[attack]][0])
        raise BadInput(f"runs.csv: {attack} of {name} is no number: {table.loc[name, attack]!r}")
    return found


def check(runs: pd.DataFrame, counted: pd.DataFrame) -> None:
    """Raises: BadInput, without its full stop, if an accuracy in runs.csv is not what its verdicts say."""
    if foreign := sorted(set(counted.index) - set(runs.index)):
        raise BadInput(f"correct.csv has {foreign[0]}, which runs.csv lacks")
    counted = counted.reindex(runs.index)
    written = runs[list(ATTACKS)]
    wrong = ~(((written - counted).abs() < 0.0051) | (written.isna() & counted.isna()))
    for attack in ATTACKS:
        for name in runs.index[wrong[attack]]:
            of_bits, of_table = counted.loc[name, attack], written.loc[name, attack]
            raise BadInput(f"runs.csv has {of_table:.2f} % under {attack} of {name}, correct.csv {of_bits:.2f} %")


# Verdicts


def unpack(correct: pd.DataFrame) -> dict[str, dict[str, Verdicts]]:
    """Name of a run -> attack -> verdicts.

    Raises: BadInput, without its full stop, for a row that is damaged or there twice.
    """
    found: dict[str, dict[str, Verdicts]] = {}
    for *who, attack, n, images, bits in correct[CORRECT].itertuples(index=False):
        run = dict(zip(RUN, map(str, who), strict=True))
        name = PATTERN.format(**{**run, "eps": run["eps"].removesuffix("/255")})
        right = unpacked(bits, n)
        if right is None or pd.isna(images) or attack in found.get(name, {}):
            raise BadInput(f"correct.csv: the row of {name} under {attack} is damaged or there twice")
        found.setdefault(name, {})[str(attack)] = (right, str(images))
    return found


def accuracies(verdicts: dict[str, dict[str, Verdicts]]) -> pd.DataFrame:
    """A row per run, the accuracies under ATTACKS in %."""
    rows = {
        name: {attack: 100 * float(np.mean(right)) for attack, (right, _) in under.items()}
        for name, under in verdicts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(ATTACKS), dtype=float)
