"""Two cells, or two runs, against one another, in words and numbers: `python -m fastat compare A B`. Never torch."""

import difflib
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from fastat.config.attack_names import is_name
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.report.results import read
from fastat.report.statistics import Verdicts, compare, seeds
from fastat.report.tidy import CELL
from fastat.units import eps_text

ATTACKS = {"aa": "AutoAttack", "pgd50": "PGD50", "pgd10": "PGD10", "fgsm": "FGSM", "clean": "clean"}  # hardest first
FORM = "DATASET/MODEL/epsN/METHOD, with /VARIANT (else paper), and with /seedN for one run alone"


def compared(results: Path, a: str, b: str) -> list[dict[str, Any]]:
    """A row for each attack that both stood, those asked for by name last: who is better, how much, and how surely.

    a, b: FORM. Cells are paired by seed; a run against a run is one pair, whatever their seeds.
    Raises: BadInput for a name that is none, what was not attacked, or two that share no images.
    """
    correct = read(results, needs=("correct.csv",)).correct
    one, other = (Side(name, correct) for name in (a, b))
    if one.cell == other.cell and one.seed == other.seed:
        raise BadInput(f"{a} and {b} are the same")
    if one.cell[0] != other.cell[0]:
        raise BadInput(f"{a} and {b} are of two data sets: no image of one is an image of the other")
    rows = []
    for attack in [*ATTACKS, *sorted(name for name in correct["attack"].unique() if is_name(name))]:
        found = compare(*paired_up(one.verdicts(attack), other.verdicts(attack), one.seed and other.seed))
        if found:
            rows.append({"a": one.name, "b": other.name, "attack": attack, **found})
    if not rows:
        raise BadInput(
            f"{one.name} and {other.name} share no images under any attack with the same seed: what is to be compared "
            "must have been attacked on the same images of one data set"
        )
    return rows


class Side:
    """A cell or a run, and its rows of correct.csv."""

    def __init__(self, name: str, correct: pd.DataFrame):
        """Raises: BadInput if there is no such thing."""
        parts = name.strip("/").split("/")
        self.seed = parts.pop().removeprefix("seed") if re.fullmatch("seed[0-9]+", parts[-1]) else ""
        if len(parts) not in (4, 5):
            raise BadInput(f"a cell or run is named {FORM}; got {name!r}")
        variant = parts[4] if len(parts) == 5 else "paper"
        spec = RunSpec.parse("/".join([*parts[:4], variant, f"seed{self.seed or 0}"]))
        self.cell = (spec.dataset, spec.model, eps_text(spec.eps_255), spec.method, spec.variant)
        self.name = spec.name if self.seed else spec.name.rpartition("/")[0]
        mine = (correct[CELL] == list(self.cell)).all(axis=1)
        self.rows = correct[mine & (correct["seed"] == self.seed)] if self.seed else correct[mine]
        if self.rows.empty:
            known = [tuple(map(str, cell)) for cell in correct[CELL].drop_duplicates().to_numpy()]
            names = [
                f"{d}/{m}/eps{eps.removesuffix('/255')}/{method}/{variant}" for d, m, eps, method, variant in known
            ]
            near = difflib.get_close_matches(self.name, names)
            raise BadInput(f"nothing was attacked of {self.name}. The nearest that was: {', '.join(near) or 'none'}")

    def verdicts(self, attack: str) -> dict[str, Verdicts]:
        """Seed -> verdicts under the attack."""
        return seeds(self.rows[self.rows["attack"] == attack])


def paired_up(
    one: dict[str, Verdicts], other: dict[str, Verdicts], runs: str
) -> tuple[dict[str, Verdicts], dict[str, Verdicts]]:
    """The same verdicts under the same keys; of two single runs, whatever their seeds."""
    if not runs:
        return one, other
    return dict(zip([""], one.values(), strict=False)), dict(zip([""], other.values(), strict=False))


def described(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as people read them."""
    lines = [f"a: {rows[0]['a']}", f"b: {rows[0]['b']}"]
    for row in rows:
        sure = "a is better" if row["low"] > 0 else "b is better" if row["high"] < 0 else "undecided"
        attack = ATTACKS.get(row["attack"], row["attack"])
        lines.append(
            f"{attack}: a - b is {row['difference']:+.1f} points, 95 % from {max(row['low'], -100):.1f} to "
            f"{min(row['high'], 100):.1f}, p = {row['p']:.2g}: {sure}, on {counted(row['n_seeds'], 'seed')} and "
            f"{counted(row['n_images'], 'image')}{'' if row['p'] < 0.05 else f'. {would_tell(row)}'}"
        )
    return lines


def would_tell(row: dict[str, Any]) -> str:
    """How many more seeds or images would decide, if the difference is as large as it seems."""
    if row["difference"] == 0:
        return "There is no difference to be told"
    ways = [(row[f"more_{what}s"], what) for what in ("seed", "image") if not math.isnan(row[f"more_{what}s"])]
    told = " or ".join(f"{n:,.0f} more {what}{'s' * (n != 1)}" for n, what in ways)
    alone = "One seed says nothing of other seeds. " if row["n_seeds"] == 1 else ""
    return f"{alone}{told} would tell" if told else f"{alone}Neither more seeds nor more images alone would tell"


def counted(n: int, what: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n:,} {what}{'s' * (n != 1)}"
