"""What all figures share: panels, names beside lines, words where nothing can be drawn, the line of numbers, files."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastat.machine.files import atomic
from fastat.report.methods import DASHDOT, DASHED, DOTTED, PLAIN_FGSM, Dash, about, colour, is_grey, place
from fastat.units import is_eps, parse_eps

MOST_ROWS = 4  # of panels; what is left out is said below the figure, and is in its data
MOST_EPS = 6
MOST_LINES = 40  # methods and variants in one panel
WIDE = 3  # panels beside each other
WIDTH = 3.2  # inches of one of them
NAME = 7  # points: size of the names beside lines
ROOM = 8.8  # points that one of them takes
FILLED = 0.7  # of a panel's height that its axes surely have
INK, PALE, PAPER = "#222222", "#6b6b6b", "#9a9a9a"  # of names; of names of grey lines and of remarks; of the paper's

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
    return DASHED if (method, variant) == PLAIN_FGSM else others[sum(map(ord, variant)) % len(others)]


def above(method: str, variant: str = "paper") -> float:
    """The zorder of a method's line: the grey ones lie below."""
    return 2.0 if is_grey(colour(method, variant)) else 2.5


def in_order(cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(method, variant) in the paper's order, `paper` first."""
    return sorted(set(cells), key=lambda cell: (place(cell[0]), cell[1] != "paper", cell[1]))


def eps_order(values: Iterable[str]) -> list[str]:
    """`8/255` before `12/255`."""
    return sorted(set(values), key=parse_eps)


# Panels


def panels(
    n_rows: int, n_columns: int, width: float = WIDTH, height: float = 2.8, **more: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of n_rows x n_columns axes, as a list of rows."""
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(width * n_columns, height * n_rows), squeeze=False, layout="constrained", **more
    )
    return figure, [list(row) for row in axes]


def tall(n_names: int, least: float = 2.8) -> float:
    """Inches that a panel must be high for so many names beside it."""
    return max(least, n_names * ROOM / 72 / FILLED)


def off(panels: Iterable[Axes]) -> None:
    """Take away what no panel is left for."""
    for panel in panels:
        panel.remove()


def say(axes: Axes, words: str) -> None:
    """Put words where nothing can be drawn."""
    axes.text(0.5, 0.5, words, ha="center", va="center", wrap=True, transform=axes.transAxes, color="#555555", size=9)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.grid(False)


def blank(words: str) -> Figure:
    """A strip that says why there is no figure."""
    lines = textwrap.wrap(words, 90)
    figure, ((axes,),) = panels(1, 1, 6.4, 0.5 + 0.18 * len(lines))
    axes.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", transform=axes.transAxes, color="#555555", size=9)
    axes.axis("off")
    return figure


def title(place: Sequence[str], every: Sequence[Sequence[str]], *more: str) -> str:
    """What sets a panel apart: of its (data set, model, ...) what not all have, then `more`; an eps by its name."""
    own = [value for k, value in enumerate(place) if len({other[k] for other in every}) > 1]
    return ", ".join([*(f"eps {value}" if is_eps(value) else value for value in own), *more])


# Names beside lines and points


# Of lines between names and what they name. Without patchA, which is the box of the name, nobody clips the line at it.
TIE: dict[str, Any] = {"arrowstyle": "-", "shrinkA": 0, "patchA": None}


class End(NamedTuple):
    """Where a line ends, in data units, what it is called, and its colour."""

    x: float
    y: float
    words: str
    colour: str


def name_ends(axes: Axes, ends: list[End], from_share: float = 0.9) -> None:
    """Write each line's name right of its panel, none over another.

    Of a line that ends before this share of its panel, at its end, if there is room for it before the panel's.

    After the limits of the axes are set. An end that is at no finite place there has no name.
    """
    to_share = axes.transData + axes.transAxes.inverted()
    placed = [(*map(float, to_share.transform((end.x, end.y))), end) for end in ends]
    placed = [(x, y, end) for x, y, end in placed if math.isfinite(x) and math.isfinite(y)]
    room = ROOM * (1.4 if any("$" in end.words for end in ends) else 1)  # subscripts and superscripts are higher
    wide, high = inches(axes)
    gap, letter = room / (72 * FILLED * high), 0.66 * NAME / (72 * FILLED * wide)
    for early in (True, False):
        mine = sorted(
            (y, x, end) for x, y, end in placed if (x < from_share and x + 0.05 + letter * len(end.words) < 1) == early
        )
        for (_, x, end), y in zip(mine, spread([y for y, _, _ in mine], gap, 0.02, 0.97), strict=True):
            line = {"color": end.colour, "lw": 0.7, **TIE, "shrinkB": 0, "relpos": (0, 0.5)}
            halo = [patheffects.withStroke(linewidth=2, foreground="white")] if early else []
            axes.annotate(
                end.words, (end.x, end.y), (x + 0.03 if early else 1.04, y), xycoords="data", va="center", size=NAME,
                textcoords="axes fraction", color=PALE if is_grey(end.colour) else INK, arrowprops=line,
                annotation_clip=False, path_effects=halo, zorder=6,
            )  # fmt: skip


def inches(axes: Axes) -> tuple[float, float]:
    """Width and height of a panel's place in its figure, were all as large."""
    spec = axes.get_subplotspec()
    rows, columns = spec.get_gridspec().get_geometry() if spec else (1, 1)
    wide, high = axes.get_figure().get_size_inches()
    return float(wide) / columns, float(high) / rows


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending heights, at least `gap` apart and as near to the wanted ones as that allows, from low to high."""
    blocks: list[list[float]] = []  # sums and counts of heights less their ranks' gaps: isotonic regression
    for k, height in enumerate(wanted):
        blocks.append([height - k * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    bases = [total / count for total, count in blocks for _ in range(int(count))]
    top = max(low, high - gap * (len(wanted) - 1))
    return [min(max(base, low), top) + k * gap for k, base in enumerate(bases)]


NEAR = 11  # points between a point and its name, from which on a line ties them
DIRECTIONS = [  # to the right first, then to the left, then round
    (math.cos(turn), math.sin(turn))
    for turn in (0, math.pi, *(k * math.pi / 8 for k in (1, -1, 7, -7, 2, -2, 6, -6, 4, -4, 3, -3, 5, -5)))
]


def name_points(axes: Axes, points: list[End], others: list[tuple[float, float]]) -> None:
    """Write each point's name beside it, where it covers neither a point, nor one of the others, nor another name.

    A name that has no such place stands right of the panel.
    After everything else is drawn: places are tried on the figure as it will be.
    """
    lay_out(axes.get_figure())
    box = axes.get_window_extent()
    per_point = axes.get_figure().dpi / 72
    at = [tuple(map(float, axes.transData.transform((point.x, point.y)))) for point in points]
    small = [tuple(map(float, axes.transData.transform(other))) for other in others]
    taken = [
        (x - size * per_point, y - size * per_point, x + size * per_point, y + size * per_point)
        for every, size in ((at, 4), (small, 1.5))
        for x, y in every
    ]
    crowded = []
    for (x, y), point in sorted(zip(at, points, strict=True)):
        wide, high = NAME * per_point * (0.76 * len(point.words) + 1), 1.6 * NAME * per_point
        tried = (
            (x + far * dx * per_point - wide * (1 - dx) / 2, y + far * dy * per_point - high / 2, far)
            for far in (6, NEAR, 18, 27, 38, 50, 64, 80)
            for dx, dy in DIRECTIONS
        )
        free = next((one for one in tried if clear(*one[:2], wide, high, taken, box)), None)
        if free is None:
            crowded.append(point)
            continue
        left, low, far = free
        side = (0.0 if left > x else 1.0 if left + wide < x else 0.5, 0.5)
        taken.append((left, low, left + wide, low + high))
        line = {"color": PAPER, **TIE, "lw": 0.5, "shrinkB": 3, "relpos": side}
        offset = ((left - x) / per_point, (low + high / 2 - y) / per_point)
        axes.annotate(
            point.words, (point.x, point.y), offset, textcoords="offset points", va="center", size=NAME,
            color=PALE if is_grey(point.colour) else INK, arrowprops=line if far > NEAR else None, zorder=6,
        )  # fmt: skip
    name_ends(axes, crowded, 0)


def clear(left: float, low: float, wide: float, high: float, taken: list[tuple[float, ...]], box: Any) -> bool:
    """Whether a rectangle lies within `box` and touches none of those taken (left, low, right, top)."""
    right, top = left + wide, low + high
    inside = box.x0 <= left and right <= box.x1 and box.y0 <= low and top <= box.y1
    return inside and not any(left < b[2] and b[0] < right and low < b[3] and b[1] < top for b in taken)


# Words


def note(figure: Figure, words: list[str]) -> None:
    """Small sentences below the figure, each once, after those that are there; lines as long as its width allows."""
    every = list(dict.fromkeys([*filter(None, figure.get_supxlabel().split("\n")), *words]))
    for n_letters in range(int(19 * figure.get_figwidth()), 0, -1) if every else ():
        wrapped = "\n".join(line for one in every for line in textwrap.wrap(one, n_letters))
        label = figure.supxlabel(wrapped, size=NAME, color=PALE, x=0.01, ha="left", ma="left")
        if label.get_window_extent().x1 < 0.95 * figure.bbox.x1:  # letters of a picture of 150 dpi are 4 % wider
            return


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


def most_names(rows: pd.DataFrame, by: list[str]) -> int:
    """How many methods and variants are in the fullest panel, if there is one for each different `by`."""
    return int(rows.drop_duplicates([*by, "method", "variant"]).groupby(by).size().max())


def seeds(rows: pd.DataFrame) -> str:
    """`2 seeds`, `1 to 3 seeds`: of a cell."""
    return span(rows.groupby(["dataset", "model", "eps", "method", "variant"])["seed"].nunique(), "seed")


def span(counts: pd.Series, what: str) -> str:
    """`2 seeds`, `1 to 3 seeds`."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low} {what}{'s' * (low != 1)}" if low == high else f"{low} to {high} {what}s"


def where(rows: pd.DataFrame) -> str:
    """`digits, preact_tiny`: what the rows are of."""
    pairs = sorted(set(zip(rows["dataset"], rows["model"], strict=True)))
    shown = "; ".join(f"{dataset}, {model}" for dataset, model in pairs[:MOST_ROWS])
    return shown + (f" and {len(pairs) - MOST_ROWS} more" if len(pairs) > MOST_ROWS else "")


# Files


def lay_out(figure: Figure) -> None:
    """Give the panels the places that they will have."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)


def save(figure: Figure, caption: str, out: Path) -> None:
    """Write `out`.svg, .png and .txt, the same for the same data."""
    lay_out(figure)
    figure.set_layout_engine("none")  # once for both
    for ending, extra in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 150})):
        with atomic(out.with_name(f"{out.name}.{ending}")) as partial:
            figure.savefig(partial, format=ending, **extra)
    with atomic(out.with_name(f"{out.name}.txt")) as partial:
        partial.write_text(f"{caption}\n", encoding="utf-8")
    plt.close(figure)
