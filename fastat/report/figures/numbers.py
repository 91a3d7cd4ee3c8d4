"""The line of numbers below each figure: what it is of, how many runs and seeds, on how many images."""

from pathlib import Path

import pandas as pd

from fastat.errors import BadInput
from fastat.report import figure_data
from fastat.report.figures import style
from fastat.report.tidy import CELL, RUN

TRAINING = {"train_pgd10_acc": "training images under PGD10"}
TEST = {"clean": "test images", "pgd50": "under PGD50", "aa": "under AutoAttack"}
IMAGES = {  # figure -> what was measured on how many images; the others' captions say their own
    **dict.fromkeys(("curves", "fig01", "fig03", "fig05", "fig07", "fig08"), TRAINING),
    **dict.fromkeys(("accuracy_by_eps", "cost_robustness", "sweeps", "fig04"), TEST),
}


def read(data: Path) -> pd.DataFrame:
    """about.csv of a folder of data; no rows where there is none."""
    try:
        return figure_data.read_data(data / "about.csv", figure_data.ABOUT)
    except BadInput:
        return pd.DataFrame(columns=figure_data.ABOUT)


def told(name: str, rows: pd.DataFrame, about: pd.DataFrame) -> list[str]:
    """`digits, preact_tiny: 58 runs, 1 to 3 seeds a cell; 360 test images, 50 under AutoAttack.`; none for `theory`."""
    if "dataset" not in rows:
        return []
    parts = [", ".join(runs(rows))] if runs(rows) else []
    here = about.merge(rows[["dataset", "model"]].drop_duplicates())
    parts += [", ".join(images(here, IMAGES[name]))] if name in IMAGES and len(here) else []
    return [f"{style.where(rows)}{one_eps(rows)}: {'; '.join(filter(None, parts))}."] if any(parts) else []


def one_eps(rows: pd.DataFrame) -> str:
    """`, eps 8/255` where all rows are of one."""
    eps = rows["eps"].dropna().unique() if "eps" in rows else []
    return f", eps {eps[0]}" if len(eps) == 1 else ""


def runs(rows: pd.DataFrame) -> list[str]:
    """`58 runs`, `1 to 3 seeds a cell`: counted, or as the rows say where they are means."""
    keys = [key for key in CELL if key in rows]
    if "seed" in rows and rows["seed"].notna().any():
        own = rows.dropna(subset=["seed"])[[key for key in RUN if key in rows]].drop_duplicates()
        counts = each = own.groupby(keys, dropna=False).size()
    elif "n_seeds" in rows or "n" in rows:
        one = "n_seeds" if "n_seeds" in rows else "n"
        more = [key for key in ("base", "subset") if key in rows]
        apart = ["metric"] if "metric" in rows else []  # of which some seeds have one and not another
        each = rows.dropna(subset=[one]).groupby([*keys, *more, *apart], dropna=False)[one].max().astype(int)
        each = each[each > 0]
        counts = each.groupby([*keys, *more], dropna=False).max()
    else:
        return []
    if counts.empty:
        return []
    n = int(counts.sum())
    return [f"{n} run{'s' * (n != 1)}", f"{style.span(each, 'seed')} a cell"]


def images(about: pd.DataFrame, wanted: dict[str, str]) -> list[str]:
    """`360 test images`, `50 under AutoAttack`: what was measured on as many as the one before is not said again."""
    parts: list[str] = []
    last = None
    for metric, words in wanted.items():
        mine = about[about["metric"] == metric]
        if mine.empty:
            continue
        low, high = int(mine["least"].min()), int(mine["most"].max())
        if (low, high) != last:
            parts.append(f"{low} {words}" if low == high else f"{low} to {high} {words}")
        last = low, high
    return parts
