"""What the report consists of, by name. Standard library only: the Snakefile reads it."""

import csv
from pathlib import Path
from typing import Any

TABLES = ("table1", "table2", "table3", "table4", "table5", "supplement")
FIGURES = (
    "curves", "accuracy_by_eps", "collapse_map", "cost_robustness", "sweeps", "theory",
    "fig01", "fig02", "fig03", "fig04", "fig05", "fig06", "fig07", "fig08", "fig09", "fig10", "fig11",
)  # fmt: skip
FIGURE_SIDES = ("about", "fig06_ranks", "surfaces")  # data beside them that captions, claims and page need


def drawn(config: dict[str, Any]) -> tuple[str, ...]:
    """The figures of a config: that of sweeps only if it has one, since it would be empty."""
    return tuple(name for name in FIGURES if name != "sweeps" or config["sweep"])


def where(results: Path) -> str:
    """The last line of everything that makes the page: where it is, and what is not on it."""
    try:
        with open(results / "problems.csv", newline="", encoding="utf-8") as file:
            wrong = [row["run"] for row in csv.DictReader(file)]
    except (OSError, KeyError):
        wrong = []
    out = f"; left out: {len(wrong)} files of {len(set(wrong))} runs ({results / 'problems.csv'})" if wrong else ""
    return f"All results: {results / 'report/index.html'}{out}"
