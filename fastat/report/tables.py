"""Tables I and II from results/measured.csv, ours beside the paper's. pandas, never torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from fastat.files import atomic
from fastat.runs import ROOT

CELL = ["dataset", "model", "eps", "method", "variant"]
METRICS = {1: ["clean", "pgd10", "pgd50", "aa", "train_seconds", "collapse_epoch"], 2: ["aa"]}


def write(number: int, measured: Path, table1_eps: dict[str, str], out: Path) -> None:
    """Write `out`.csv, .md and .tex."""
    rows = pd.read_csv(measured, dtype={"seed": str})
    if number == 1:
        rows = rows[rows["eps"] == rows["dataset"].map(table1_eps)]
    table = summary(rows, METRICS[number])
    pretty = table.copy()
    for metric in METRICS[number]:
        if metric != "collapse_epoch":
            pretty[metric] = [show(*v) for v in zip(table[metric], table[f"{metric}_std"], strict=True)]
            pretty = pretty.drop(columns=f"{metric}_std")
    for ending, text in {
        "csv": table.to_csv(index=False),
        "md": pretty.to_markdown(index=False) + "\n",
        "tex": pretty.to_latex(index=False, na_rep=""),
    }.items():
        with atomic(Path(f"{out}.{ending}")) as partial:
            partial.write_text(text)


def summary(rows: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """One line per cell: mean and standard deviation over seeds, n seeds, and the paper's value where it has one."""
    rows = rows[rows["epoch"].isna()]
    paper = pd.read_csv(ROOT / "config/paper.csv").set_index(["dataset", "model", "eps", "method", "metric"])["value"]
    lines = []
    for cell, part in rows.groupby(CELL, sort=False):
        line: dict[str, Any] = dict(zip(CELL, cell, strict=True))
        line["seeds"] = part["seed"].nunique()
        line["diverged"] = int(part.loc[part["metric"] == "diverged", "value"].sum())
        ended = part.loc[part["metric"] == "collapsed_at_end", "value"]
        line["collapsed_at_end"] = int(ended.sum())  # seeds whose reported network is a collapsed one
        for metric in metrics:
            values = part.loc[part["metric"] == metric, "value"].dropna()
            if metric == "collapse_epoch":
                line[metric] = " ".join(str(int(v)) for v in values)  # of the seeds that collapsed
                continue
            line[metric], line[f"{metric}_std"] = values.mean(), values.std(ddof=1)
            key: Any = (*cell[:4], metric)
            if cell[4] == "paper" and key in paper.index:
                line[f"paper_{metric}"] = paper[key]
        lines.append(line)
    return pd.DataFrame(lines)


def show(mean: float, std: float) -> str:
    """`63.1 ± 0.8`; without a spread for one seed; empty for none, never a zero."""
    if pd.isna(mean):
        return ""
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"
