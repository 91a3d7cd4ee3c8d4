"""What all figures share: a method's colour, panels with names, words where nothing can be drawn, files."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fastat.machine.files import atomic
from fastat.report.methods import DASHDOT, DASHED, DOTTED, Dash, about, called, place
from fastat.units import is_eps, parse_eps

MOST_ROWS = 4  # of panels; what is left out is said below the figure, and is in its data
MOST_COLUMNS = 6
MOST_LINES = 16  # methods and variants in one panel

VARIANTS = [DOTTED, DASHDOT, DASHED, (0, (3, 1, 1, 1, 1, 1))]


def face(method: str, variant: str = "paper") -> str:
    """What the marker is filled with: the method's colour for `paper`, white for its variants."""
    return about(method).colour if variant == "paper" else "white"


def dash(method: str, variant: str = "paper") -> Dash:
    """The method's dash for `paper`, another one for its variants."""
    own = about(method).dash
    if variant == "paper":
        return own
    others = [kind for kind in VARIANTS if kind not in (own, DASHED)]
    return DASHED if variant == "fgsm" else others[sum(map(ord, variant)) % len(others)]


def in_order(cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(method, variant) in the paper's order, `paper` first."""
    return sorted(set(cells), key=lambda cell: (place(cell[0]), cell[1] != "paper", cell[1]))


def eps_order(values: Iterable[str]) -> list[str]:
    """`8/255` before `12/255`."""
    return sorted(set(values), key=parse_eps)


def panels(n_rows: int, n_columns: int, width: float = 4.2, height: float = 3.2, **more: bool) -> tuple[Figure, list]:
    """A figure of n_rows x n_columns axes, as a list of rows."""
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(width * n_columns, height * n_rows), squeeze=False, layout="constrained", **more
    )
    return figure, [list(row) for row in axes]


def say(axes: Axes, words: str) -> None:
    """Put words where nothing can be drawn."""
    axes.text(0.5, 0.5, words, ha="center", va="center", wrap=True, transform=axes.transAxes, color="#555555", size=9)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.grid(False)


def blank(words: str) -> Figure:
    """A figure that says why it is empty."""
    figure, ((axes,),) = panels(1, 1)
    say(axes, words)
    return figure


def legend(figure: Figure, cells: Iterable[tuple[str, str]], marks: bool = False, lines: bool = True) -> None:
    """The methods and variants, in a column to the right."""
    handles = [
        Line2D(
            [],
            [],
            color=about(m).colour,
            label=called(m, v),
            ls=dash(m, v) if lines else "",
            marker=about(m).marker if marks else None,
            markerfacecolor=face(m, v),
        )
        for m, v in in_order(cells)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)


def note(figure: Figure, words: list[str]) -> None:
    """Small sentences below the figure, each once."""
    if words:
        figure.supxlabel(" ".join(dict.fromkeys(words)), size=8, color="#555555", x=0.01, ha="left")


def places(rows: pd.DataFrame, keys: list[str], most: int = MOST_ROWS) -> tuple[list[tuple[str, ...]], list[str]]:
    """The different values of `keys`, at most `most` of them, and what to say of the others, if anything."""
    every = list(rows[keys].drop_duplicates().itertuples(index=False, name=None))
    every.sort(key=lambda place: [parse_eps(v) if is_eps(v) else v for v in place])
    words = f"{most} of {len(every)} rows of panels are drawn; the others are in the figure's data."
    return every[:most], [words] if len(every) > most else []


def at(rows: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows that have these values."""
    for key, value in values.items():
        rows = rows[rows[key] == value]
    return rows


def fewer(cells: list[tuple[str, str]], words: list[str], most: int = MOST_LINES) -> list[tuple[str, str]]:
    """At most `most` cells, each method's `paper` before any variant; that there are more is added to `words`."""
    if len(cells) > most:
        words.append(f"{most} methods and variants a panel are drawn; the others are in the figure's data.")
    return in_order(sorted(cells, key=lambda cell: cell[1] != "paper")[:most])


def seeds(rows: pd.DataFrame) -> str:
    """`2 seeds`, `1 to 3 seeds`: of a cell."""
    return spread(rows.groupby(["dataset", "model", "eps", "method", "variant"])["seed"].nunique())


def spread(counts: pd.Series) -> str:
    """`2 seeds`, `1 to 3 seeds`."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low} seed{'s' * (low != 1)}" if low == high else f"{low} to {high} seeds"


def where(rows: pd.DataFrame) -> str:
    """`digits, preact_tiny`: what the rows are of."""
    pairs = sorted(set(zip(rows["dataset"], rows["model"], strict=True)))
    shown = "; ".join(f"{dataset}, {model}" for dataset, model in pairs[:MOST_ROWS])
    return shown + (f" and {len(pairs) - MOST_ROWS} more" if len(pairs) > MOST_ROWS else "")


def save(figure: Figure, caption: str, out: Path) -> None:
    """Write `out`.svg, .png and .txt, the same for the same data."""
    for ending, extra in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 150})):
        with atomic(out.with_name(f"{out.name}.{ending}")) as partial:
            figure.savefig(partial, format=ending, **extra)
    with atomic(out.with_name(f"{out.name}.txt")) as partial:
        partial.write_text(f"{caption}\n", encoding="utf-8")
    plt.close(figure)
