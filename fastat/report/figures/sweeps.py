"""Sweeps: accuracy over whatever a config has swept, a panel for each sweep of a cell."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from fastat.report.figure_data import SWEEP
from fastat.report.figures import style
from fastat.report.figures.style import at
from fastat.report.methods import DASHED, DOTTED, SOLID, Dash, called, place
from fastat.report.methods import colour as colour_of

METRICS: dict[str, tuple[str, Dash, str]] = {  # name, dash and marker of each accuracy; AutoAttack's marker is hollow
    "clean": ("clean", DOTTED, "."), "pgd50": ("PGD50", SOLID, "o"), "aa": ("AutoAttack", DASHED, "s"),
}  # fmt: skip
HOLLOW = "aa"
COLUMNS, MOST_SWEEPS = 3, 16  # panels beside each other, and in all
ENTRY = 0.08  # of a panel's height that a line of its legend takes
MOST_LINES = 5  # of one accuracy in a panel: combinations of the other swept values
SHADES = ("#1b1b1b", "#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of these combinations
FAR = 30.0  # times: values so far apart stand on a logarithmic axis


def sweeps(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Clean, PGD50 and AutoAttack accuracy over the swept values: seeds as points, their means as lines."""
    rows = rows.dropna(subset=[*SWEEP, "key"])
    made = at(rows, own=0)
    places, words = panels(made)
    columns = 2 if len(places) == 4 else min(COLUMNS, len(places))
    figure, axes = style.panels(math.ceil(len(places) / columns), columns, max(style.WIDTH, 5.2 / columns),
                                 2.8 + 0.8 * (len(places) <= columns))  # fmt: skip
    every = [panel for row in axes for panel in row]
    for panel, where in zip(every, places, strict=False):
        here = at(rows, **dict(zip(SWEEP, where, strict=True)))
        draw(panel, at(here, own=0), at(here, own=1), words)
        dataset, model, eps, method, over, _ = where
        panel.set_title(f"{called(method, over)}\n{dataset}, {model}, eps {eps}", fontsize=9)
    for row in axes:
        row[0].set_ylabel("accuracy, test images (%)")
    style.off(every[len(places) :])
    handles, labels = zip(*signs(), strict=True)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=columns + 1, frameon=False,
        fontsize=style.NAME, handler_map={tuple: HandlerTuple(ndivide=None, pad=0.5)}, handlelength=4,
    )  # fmt: skip
    style.note(figure, words)
    ended = made[made["diverged"] != 1]
    at_end, passed = (int((ended[key] == 1).sum()) for key in ("collapsed_at_end", "collapsed_for_a_while"))
    diverged = f"; {len(made) - len(ended)} more diverged" if len(ended) < len(made) else ""
    return figure, (
        f"Sweeps: accuracy on test images over the swept value; {style.seeds(made)} a value, a point each, their means "
        "as lines, of words as bars; lengths in eps. "
        f"Of {len(ended)} trainings {at_end} are collapsed at the end, {passed} were for a while{diverged}."
    )


def panels(rows: pd.DataFrame) -> tuple[list[tuple[str, ...]], list[str]]:
    """What the panels are of, at most MOST_SWEEPS, and what to say of the others."""
    every, words = style.places(rows, SWEEP, len(rows))
    every.sort(key=lambda where: (*where[:2], int(where[2].split("/")[0]), place(where[3]), where[4] != "paper", where))
    if len(every) > MOST_SWEEPS:
        words.append(f"{MOST_SWEEPS} of {len(every)} sweeps are drawn; the others are in the figure's data.")
    return every[:MOST_SWEEPS], words


def draw(axes: Axes, rows: pd.DataFrame, own: pd.DataFrame, words: list[str]) -> None:
    """One sweep. own: the runs that it is over."""
    key, unit = rows["key"].iloc[0], rows["unit"].iloc[0]
    axes.set_xlabel(f"{key} (eps)" if unit == "eps" else key)
    if rows[list(METRICS)].isna().all(axis=None) and not (rows["diverged"] == 1).any():
        style.say(axes, "no run of this sweep was attacked")
        return
    rows = rows.assign(x=along(axes, rows))
    others = sorted(rows["rest"].fillna("").unique())
    if len(others) > MOST_LINES:
        words.append(f"{MOST_LINES} lines an accuracy are drawn in a panel; the others are in the figure's data.")
    colours = {"": colour_of(rows["method"].iloc[0])} if others == [""] else dict(zip(others, SHADES, strict=False))
    for rest, colour in colours.items():
        for metric in METRICS:
            line(axes, rows[rows["rest"].fillna("") == rest], metric, colour)
    for metric, (_, dash, _) in METRICS.items():
        if own[metric].notna().any():
            axes.axhline(own[metric].mean(), color="#888888", ls=dash, lw=0.7, zorder=1)
    left = rows[rows["diverged"] == 1]
    axes.scatter(left["x"], np.zeros(len(left)), marker="v", color="black", s=26, zorder=5, clip_on=False)
    axes.set_ylim(-1.5, None)
    if others != [""]:
        handles = [Line2D([], [], color=colour, label=rest) for rest, colour in colours.items()]
        axes.set_ylim(-1.5, axes.get_ylim()[1] / (1 - ENTRY * len(handles)))
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
        axes.legend(handles=handles, frameon=False, fontsize=style.NAME, handlelength=1.2, loc="upper left",
                    borderaxespad=0.1, labelspacing=0.2)  # fmt: skip


def along(axes: Axes, rows: pd.DataFrame) -> pd.Series:
    """Where each run stands on the axis: at its number, where all have one, else by category; sets the ticks."""
    if rows["number"].isna().any():
        names = list(dict.fromkeys(rows["setting"]))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return rows["setting"].map(names.index)
    values = np.sort(rows["number"].unique())
    scaled = values
    if len(values) > 1 and values[0] > 0 and values[-1] / values[0] >= FAR:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        scaled = np.log(values)
    if len(values) == 1 or np.diff(scaled).min() > 0.1 * (scaled[-1] - scaled[0]):  # their labels have room
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
    return rows["number"]


def line(axes: Axes, rows: pd.DataFrame, metric: str, colour: str) -> None:
    """One accuracy: seeds, the line of their means, and in black who is collapsed or was."""
    _, dash, marker = METRICS[metric]
    rows = rows.dropna(subset=[metric])
    means = rows.groupby("x")[metric].mean()
    ordered = rows["number"].notna().all()  # categories have no line between them
    bar = {"ls": dash, "lw": 1.2} if ordered else {"ls": "", "marker": "_", "ms": 22}
    axes.plot(means.index, means, color=colour, **bar)
    face = "white" if metric == HOLLOW else colour
    axes.scatter(rows["x"], rows[metric], ec=colour, fc=face, marker=marker, s=14, lw=0.9, zorder=3)
    if metric == "clean":
        return
    for kind, look in COLLAPSED.items():
        fell = rows[rows[kind] == 1]
        axes.scatter(fell["x"], fell[metric], **look, zorder=4)


COLLAPSED: dict[str, dict[str, object]] = {
    "collapsed_at_end": {"marker": "x", "color": "black", "s": 34},
    "collapsed_for_a_while": {"marker": "o", "fc": "none", "ec": "black", "s": 46},
}


def signs() -> list[tuple[Line2D | tuple[Line2D, ...], str]]:
    """What the signs of all panels mean; of the recipe swept over the thin lines, with the dash of each accuracy."""
    grey, ring = "#555555", {"marker": "o", "mfc": "none", "mec": "black"}
    accuracies = [
        (Line2D([], [], color=grey, ls=dash, marker=m, ms=4, mfc="white" if key == HOLLOW else grey), name)
        for key, (name, dash, m) in METRICS.items()
    ]
    own = tuple(Line2D([], [], color="#888888", lw=0.9, ls=dash) for _, dash, _ in METRICS.values())
    return [
        *accuracies,
        (own, "recipe swept over (same dashes)"),
        (Line2D([], [], color="black", marker="x", ls=""), "collapsed at the end"),
        (Line2D([], [], ls="", **ring), "collapsed for a while"),
        (Line2D([], [], color="black", marker="v", ls=""), "diverged"),
    ]
