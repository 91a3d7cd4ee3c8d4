"""Which method is better, and is that more than noise? pairs.csv: methods in pairs, on the same images. Never torch."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastat.config.attack_names import is_name
from fastat.config.spec import EXTERNAL
from fastat.machine.files import atomic
from fastat.report.results import PLACE, Results
from fastat.report.statistics import Verdicts, by_cell, compare, holm

COLUMNS = [
    "dataset", "model", "eps", "attack", "method_a", "variant_a", "method_b", "variant_b", "n_seeds", "n_images",
    "difference", "low", "high", "only_a", "only_b", "p", "p_adjusted", "more_seeds",
    "more_images",
]  # fmt: skip
ATTACKS = ("pgd50", "aa")


def write_csv(results: Results, out: Path) -> None:
    """Write pairs.csv."""
    with atomic(out) as partial:
        compared(results.correct).to_csv(partial, index=False)


def compared(correct: pd.DataFrame) -> pd.DataFrame:
    """correct.csv -> a row for every method against ATAS, and against the best, under PGD50, AutoAttack and by name.

    A network that was trained elsewhere is compared with these, and is never what others are compared with.
    Two methods are compared on the seeds that both have and the images that both were attacked on. The interval of the
    difference and p are one answer, for other seeds and other images (statistics.paired); p_adjusted: Holm's over
    PGD50 and AutoAttack and, by itself, over the attacks asked for by name: asking for one moves no other's. only_a,
    only_b: verdicts on which they differ.
    """
    rows: list[dict[str, Any]] = []
    named = [attack for attack in correct["attack"].unique() if is_name(attack)]
    wanted = correct[correct["attack"].isin([*ATTACKS, *named])]
    for (dataset, model, eps, attack), part in wanted.groupby([*PLACE, "attack"], sort=True):
        cells = by_cell(part)
        if not cells:
            continue
        references = [one for one in dict.fromkeys([("atas", "paper"), best_of(cells)]) if one in cells]
        for other, one in itertools.product(references, cells):
            if one == other or (one in references and references.index(one) < references.index(other)):
                continue
            found = compare(cells[one], cells[other])
            if found:
                names = {"method_a": one[0], "variant_a": one[1], "method_b": other[0], "variant_b": other[1]}
                rows.append({"dataset": dataset, "model": model, "eps": eps, "attack": attack, **names, **found})
    table = pd.DataFrame(rows, columns=COLUMNS)
    p, of_named = table["p"].to_numpy(float).copy(), table["attack"].isin(named).to_numpy()
    for family in (of_named, ~of_named):
        p[family] = holm(p[family])
    return table.assign(p_adjusted=p)


def best_of(cells: dict[tuple[str, str], dict[str, Verdicts]]) -> tuple[str, str] | None:
    """The cell with the highest mean on the images that most cells were attacked on; None: all were trained elsewhere.

    Of several groups of images that as many cells have, the one of the first cell.
    """
    images = {
        cell: dict.fromkeys((which, len(right)) for right, which in runs.values())
        for cell, runs in cells.items()
        if cell[0] != EXTERNAL
    }
    if not images:
        return None
    ((most, _),) = Counter(which for found in images.values() for which in found).most_common(1)

    def mean(cell: tuple[str, str]) -> float:
        return float(np.mean([bits.mean() for bits, which in cells[cell].values() if (which, len(bits)) == most]))

    return max((cell for cell, found in images.items() if most in found), key=mean)
