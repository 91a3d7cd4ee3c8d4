"""The figures, each from results/figures/NAME.csv alone. pandas, matplotlib; never torch."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # before matplotlib is loaded: the one of a notebook may not be there
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fastat.errors import BadInput, did_you_mean
from fastat.machine.files import atomic
from fastat.report import figure_data, theory
from fastat.report.figures import comparisons, curves, images, landscapes, numbers, printed, style, sweeps

log = logging.getLogger(__name__)
Draw = Callable[[pd.DataFrame], tuple[Figure, str]]  # data -> figure, caption

# Name: (how it is drawn, what must have been run).
FIGURES: dict[str, tuple[Draw, str]] = {
    "curves": (curves.curves, "any finished training"),
    "accuracy_by_eps": (comparisons.accuracy_by_eps, "any evaluated run"),
    "collapse_map": (comparisons.collapse_map, "any finished training"),
    "cost_robustness": (comparisons.cost_robustness, "any evaluated run"),
    "sweeps": (sweeps.sweeps, "a config with a `sweep`, as {fgsm_rs: {alpha: [0.5 eps, 1 eps]}} (docs/own-recipe.md)"),
    "theory": (comparisons.theory, "python -m fastat theory"),
    "fig01": (curves.fig01, "pgd10, and fgsm_rs or fgsm_rs/fgsm"),
    "fig02": (landscapes.fig02, "fgsm_rs/step175 among the config's `snapshots` (config/evening.yaml)"),
    "fig03": (curves.fig03, "fgsm_rs or atta on subsets of the images, as fgsm_rs/step175_d9_10 (config/evening.yaml)"),
    "fig04": (
        comparisons.fig04,
        "fgsm_rs or atta, and variants with other step sizes, as step175 (config/evening.yaml)",
    ),
    "fig05": (
        curves.fig05,
        "fgsm_rs with a step of eps (step100) and fgsm_adaptive, or atta and atas (config/evening.yaml)",
    ),
    "fig06": (images.fig06, "atas"),
    "fig07": (curves.fig07, "any finished training"),
    "fig08": (curves.fig08, "fgsm_rs or atas"),
    "fig09": (landscapes.fig09, "atas"),
    "fig10": (images.fig10, "atas"),
    "fig11": (images.fig11, "atas"),
}


def write_all(data: Path, out: Path, only: list[str] | None = None) -> None:
    """Write out/NAME.svg, .png and .txt (the caption) of every figure, or of `only` these, from data/NAME.csv.

    A figure without data is drawn as an empty panel that says what must have been run.

    Raises: BadInput for a name that is no figure's.
    """
    for name in only or FIGURES:
        if name not in FIGURES:
            raise BadInput(f"there is no figure {name!r}.{did_you_mean(name, FIGURES)}")
    with plt.style.context(STYLE, after_reset=True):
        for name in only or FIGURES:
            figure, caption = drawn(name, data / f"{name}.csv")
            style.save(figure, caption, out / name)
            log.info("%s: %s", name, caption)


STYLE = {
    "svg.hashsalt": "fastat", "axes.grid": True, "grid.color": "#dddddd", "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "font.size": 9, "axes.titlesize": 9.5, "lines.linewidth": 1.5,
}  # fmt: skip


def drawn(name: str, path: Path) -> tuple[Figure, str]:
    """The figure and its caption; words in its place where there is nothing to draw, or its data are damaged."""
    draw, needs = FIGURES[name]
    columns = theory.COLUMNS if name == "theory" else figure_data.DATA[name][0]
    try:
        rows = figure_data.read_data(path, columns)
    except BadInput as error:
        words = f"Nothing to draw: {path.name} is not there." if not path.exists() else f"Nothing to draw: {error}."
    else:
        if rows.empty:
            words = f"Nothing to draw: there is no run yet of: {needs}."
        else:
            try:
                figure, caption = draw(rows)
                told = [*numbers.told(name, rows, numbers.read(path.parent)), *printed.said(name)]
                style.note(figure, told)
                return figure, " ".join([caption, *told])
            except (LookupError, ValueError, TypeError, ArithmeticError) as error:  # whatever gaps and texts lead to
                plt.close("all")
                words = f"Nothing to draw: {path.name} is damaged ({type(error).__name__}: {error})."
                log.warning("%s: %s", path, words)
    return style.blank(words), words


def write_picture(data: Path, out: Path) -> None:
    """Write the SVG file `out`, README's picture, from the CSV file that docs.py keeps."""
    rows = pd.read_csv(data, dtype=dict.fromkeys(figure_data.TEXT, str))
    with plt.style.context(STYLE, after_reset=True), atomic(out) as partial:
        figure = curves.collapse(rows)
        figure.savefig(partial, format="svg", metadata={"Date": None})
        plt.close(figure)
