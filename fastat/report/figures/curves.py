"""Accuracy and loss by epoch: curves, and Figures 1, 3, 5, 7 and 8."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fastat.config import catalog
from fastat.report.figures import landscapes, style
from fastat.report.figures.style import at
from fastat.report.methods import about, called, place
from fastat.training.collapse import detect

ACCURACY = "PGD10, training images (%)"
CROSS = (
    "Marks in black: the epoch in which a collapse began, a cross where the network is collapsed at the end, a ring "
    "where it was for a while"
)
MARKS = {"at_end": {"marker": "x", "color": "black"}, "for_a_while": {"marker": "o", "fc": "none", "ec": "black"}}
SUBSETS = {  # Fig. 3: blues have small gradient norms, reds large ones
    "1-2": "#a6cee3", "1-3": "#5aa2d6", "1-4": "#1f4e9c", "7-10": "#fdb462", "8-10": "#e8601c", "9-10": "#a50f15",
}  # fmt: skip


def lines(axes: Axes, rows: pd.DataFrame, words: list[str], width: float = 1.2) -> list[tuple[str, str]]:
    """A line for each seed, or a mean in a band where the data is one; a mark at each collapse. Returns the cells."""
    cells = style.fewer(style.in_order(zip(rows["method"], rows["variant"], strict=True)), words)
    for method, variant in cells:
        part = at(rows, method=method, variant=variant).fillna({"seed": ""})
        look = {"color": about(method).colour, "ls": style.dash(method, variant), "lw": width}
        for _, one in part.groupby("seed"):
            one = one.sort_values("epoch")
            axes.plot(one["epoch"], one["value"], **look)
            if one["low"].notna().any():
                axes.fill_between(one["epoch"], one["low"], one["high"], color=look["color"], alpha=0.08, lw=0)
            for kind, mark in MARKS.items():
                fell = one[one[kind] > 0]
                axes.scatter(fell["epoch"], fell["value"], **mark, s=28, zorder=5)
    return cells


def from_zero(panels: list[Axes]) -> None:
    """Begin the accuracies a little below 0, so that lines at 0 are seen; after all are drawn, for they share it."""
    for panel in panels:
        panel.set_ylim(bottom=-1.5)


def facets(rows: pd.DataFrame, width: float = 4.2) -> tuple[Figure, list[list[Axes]], set[tuple[str, str]], list[str]]:
    """A row of panels for each data set and network, a column for each eps: figure, panels, cells, and what to note."""
    places, words = style.places(rows, ["dataset", "model"])
    columns = max(rows[(rows["dataset"] == d) & (rows["model"] == m)]["eps"].nunique() for d, m in places)
    if columns > style.MOST_COLUMNS:
        columns = style.MOST_COLUMNS
        words.append(f"The smallest {columns} eps are drawn; the others are in the figure's data.")
    figure, axes = style.panels(len(places), columns, width, 0.85 * width, sharey="row")
    cells: set[tuple[str, str]] = set()
    drawn = []
    for row, (dataset, model) in zip(axes, places, strict=True):
        here = at(rows, dataset=dataset, model=model)
        every = style.eps_order(here["eps"])[:columns]
        for panel, eps in zip(row, every, strict=False):
            cells |= set(lines(panel, at(here, eps=eps), words))
            panel.set(title=f"{dataset}, {model}, eps {eps}", xlabel="epoch")
        for panel in row[len(every) :]:
            panel.axis("off")
        drawn.append(row[: len(every)])
    return figure, drawn, cells, words


def told(rows: pd.DataFrame) -> str:
    """Where, and of how many seeds."""
    averaged = rows["seed"].isna().all()
    spread = "means with the range of seeds" if averaged else f"{style.seeds(rows)} a method, a line each"
    return f"{style.where(rows)}; {spread}"


def curves(rows: pd.DataFrame) -> tuple[Figure, str]:
    """PGD10 accuracy on training images by epoch."""
    figure, axes, cells, words = facets(rows, 5.2)
    for row in axes:
        row[0].set_ylabel(ACCURACY)
        from_zero(row)
    style.legend(figure, cells)
    style.note(figure, words)
    return figure, f"PGD10 accuracy on training images by epoch ({told(rows)}). {CROSS}."


def fig01(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Standard and fast AT by epoch, and the loss landscape of a fast run that is collapsed at the end."""
    places, words = style.places(rows, ["dataset", "model"])
    figure, axes = style.panels(len(places), 2, width=5)
    by_epoch, surfaces = at(rows, panel="curve"), at(rows, panel="surface")
    cells: set[tuple[str, str]] = set()
    for (left, right), (dataset, model) in zip(axes, places, strict=True):
        here = at(by_epoch, dataset=dataset, model=model)
        cells |= set(lines(left, here, words))
        left.set_title(f"{dataset}, {model}, eps {', '.join(style.eps_order(here['eps']))}")
        left.set(xlabel="epoch", ylabel=ACCURACY)
        from_zero([left])
        if "pgd10" not in set(here["method"]):
            left.text(0.02, 0.98, "no run of standard AT (pgd10)", transform=left.transAxes, va="top", color="#555555")
        seen = at(surfaces, dataset=dataset, model=model)
        if seen.empty:
            style.say(right, "No landscape: no run of fast AT here is collapsed at the end.")
        else:
            who = seen.iloc[0]
            right = landscapes.relief(figure, right, seen, (seen["loss"].min(), seen["loss"].max()))
            right.set_title(f"{called(who['method'], who['variant'])}, seed {who['seed']}, eps {who['eps']}")
    style.legend(figure, cells)
    style.note(figure, words)
    end = "Right: no run of fast AT is collapsed at the end, so there is no landscape."
    if len(surfaces):
        end = (
            f"Right: mean loss of {int(surfaces['n'].iloc[0])} test images of a run collapsed at the end, along the "
            f"sign of the gradient (v1) and random signs (v2): along v1 alone it is highest at {peaks(surfaces)} eps, "
            "where FGSM would expect 1."
        )
    return figure, f"Left: PGD10 accuracy of standard and fast AT by epoch ({told(by_epoch)}). {CROSS}. {end}"


def peaks(surfaces: pd.DataFrame) -> str:
    """Where each surface is highest along v1 alone, in eps."""
    along = surfaces[surfaces["w"] == 0]
    rows = along.loc[along.groupby(["dataset", "model"])["loss"].idxmax()]
    return ", ".join(f"{u:g}" for u in rows["u"])


def fig03(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Trainings on subsets by gradient norm: a row a method, a column a step size."""
    rows = rows.sort_values(["method", "alpha"], key=lambda c: c.map(place) if c.name == "method" else c)
    places, words = style.places(rows, ["dataset", "model", "eps"], 2)
    parts = [at(rows, dataset=d, model=m, eps=e) for d, m, e in places]
    rows_of = [at(part, method=method) for part in parts for method in part["method"].unique()]
    figure, axes = style.panels(len(rows_of), max(here["variant"].nunique() for here in rows_of), sharey="row")
    for row, here in zip(axes, rows_of, strict=True):
        variants = list(here["variant"].unique())
        for panel, variant in zip(row, variants, strict=False):
            on_subsets(panel, at(here, variant=variant))
        for panel in row[len(variants) :]:
            panel.axis("off")
        row[0].set_ylabel(ACCURACY)
        from_zero(row[: len(variants)])
    present = [s for s in SUBSETS if s in set(rows["subset"])] + sorted(set(rows["subset"]) - set(SUBSETS))
    handles = [Line2D([], [], color=SUBSETS.get(s, "#666666"), label=tenths(s)) for s in present]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, title="trained on")
    style.note(figure, words)
    told = [f"{called(str(method))}, {', '.join(fallen(part))}" for method, part in rows.groupby("method", sort=False)]
    return figure, (
        "PGD10 accuracy of trainings on the images with small (blue) and large (red) gradient norms alone, as many "
        f"iterations each ({style.where(rows)}; mean and standard deviation over {style.spread(rows['n_seeds'])}). "
        f"Collapsed at the end: {'; '.join(told)}."
    )


def on_subsets(panel: Axes, rows: pd.DataFrame) -> None:
    """One recipe on several subsets."""
    for subset, one in rows.groupby("subset"):
        one, colour = one.sort_values("progress"), SUBSETS.get(str(subset), "#666666")
        spread = one["std"].fillna(0)
        panel.plot(one["progress"], one["mean"], color=colour, lw=1.2)
        panel.fill_between(one["progress"], one["mean"] - spread, one["mean"] + spread, color=colour, alpha=0.2, lw=0)
    who = rows.iloc[0]
    size = f"step {who['alpha']:g} eps" if np.isfinite(who["alpha"]) else who["variant"]
    title = f"{called(who['method'])}, {size}, eps {who['eps']}\n{who['dataset']}, {who['model']}"
    panel.set_title(title, fontsize=9)
    panel.set_xlabel("share of the training")
    words = "\n".join(["collapsed at the end", *fallen(rows)])
    panel.text(0.02, 0.99, words, transform=panel.transAxes, va="top", size=7)


def tenths(subset: str) -> str:
    """`9-10` -> D_9^10."""
    first, last = subset.split("-")
    return f"$D_{{{first}}}^{{{last}}}$"


def fallen(rows: pd.DataFrame) -> list[str]:
    """`small norms: 0 of 3, 1 for a while`, and of large norms: how many are collapsed at the end, and were before."""
    runs = rows.groupby(["dataset", "model", "eps", "method", "variant", "subset"])
    counts = runs.agg(k=("at_end", "sum"), passed=("for_a_while", "sum"), n=("n_seeds", "max")).reset_index()
    small = counts["subset"].str.startswith("1-")
    sums = {word: counts[side][["k", "passed", "n"]].sum() for word, side in (("small", small), ("large", ~small))}
    return [
        f"{word} norms: {k:g} of {n:g}" + (f", {passed:g} for a while" if passed else "")
        for word, (k, passed, n) in sums.items()
        if n
    ]


def fig05(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Constant against adaptive steps."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 2, width=4.8)
    wanted = {"a": ("FGSM-RS with a step of 1 eps", "fgsm_adaptive"), "b": ("ATTA with a step of 1 eps", "atas")}
    for row, (dataset, model, eps) in zip(axes, places, strict=True):
        top = at(rows, dataset=dataset, model=model, eps=eps)[["value", "high"]].max(axis=None)
        for panel, (letter, (constant, adaptive)) in zip(row, wanted.items(), strict=True):
            here = at(rows, dataset=dataset, model=model, eps=eps, panel=letter)
            panel.set_title(f"({letter}) {dataset}, {model}, eps {eps}")
            if here.empty:
                style.say(panel, f"no run of {constant}, and none of {adaptive}")
                continue
            cells = lines(panel, here, words)
            steps = {cell: at(here, method=cell[0], variant=cell[1])["mean_alpha_255"].mean() for cell in cells}
            handles = [
                Line2D([], [], color=about(cell[0]).colour, ls=style.dash(*cell), label=stepped(cell, step))
                for cell, step in steps.items()
            ]
            drawn = {constant: any(m != adaptive for m, _ in cells), adaptive: any(m == adaptive for m, _ in cells)}
            lacking = [f"no run of {word}" for word, there in drawn.items() if not there]
            panel.legend(handles=handles, title="".join(lacking) or None, fontsize=8, title_fontsize=8, frameon=False)
            panel.set(xlabel="epoch", ylim=(-1.5, 1.25 * top))
        row[0].set_ylabel(ACCURACY)
    style.note(figure, words)
    return figure, (
        "PGD10 accuracy by epoch of (a) FGSM-RS and (b) ATTA with a step of eps, against the same with the adaptive "
        f"step, whose mean is in the legend ({told(rows)}). {CROSS}. {collapsed(rows)}."
    )


def stepped(cell: tuple[str, str], step: float) -> str:
    """A method and its mean step, where it is known."""
    return called(*cell) + (f", mean step {step:.1f}/255" if np.isfinite(step) else "")


def collapsed(rows: pd.DataFrame) -> str:
    """`ATAS: 0 of 3 trainings collapsed at the end, 1 for a while; ...`."""
    told = []
    for method, variant in style.in_order(zip(rows["method"], rows["variant"], strict=True)):
        part = at(rows, method=method, variant=variant)
        runs = part.groupby(["dataset", "model", "eps", "seed"], dropna=False)
        n = int(runs["n_seeds"].max().sum())
        at_end, passed = (int(part[kind].sum()) for kind in MARKS)
        told.append(f"{called(method, variant)}: {at_end} of {n} trainings collapsed at the end, {passed} for a while")
    return "; ".join(told)


def fig07(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Loss under PGD10 by epoch, smoothed."""
    rows = rows[rows["method"] != "clean"]
    if rows.empty:
        return style.blank("Nothing to draw: no adversarial training."), "Nothing to draw: no adversarial training."
    smooth = rows.assign(value=rows["smooth"], seed="", low=np.nan, high=np.nan, at_end=0, for_a_while=0)
    figure, axes, cells, words = facets(smooth)
    for row in axes:
        losses = np.concatenate([line.get_ydata() for panel in row for line in panel.lines])
        losses = losses[losses > 0]
        row[0].set_yscale("log")
        row[0].set_ylim(0.9 * losses.min(), min(1.1 * losses.max(), 8 * float(np.median(losses))))
        row[0].yaxis.set_major_formatter("{x:g}")
        row[0].set_ylabel("loss under PGD10 (nats)")
    style.legend(figure, cells)
    style.note(figure, words)
    return figure, (
        f"Cross-entropy under PGD10 on training images by epoch ({style.where(rows)}; mean over "
        f"{style.spread(rows['n_seeds'])}, running mean over 3 epochs, logarithmic, cut at the top). Lower at the end "
        "is a better fit to the attack."
    )


def fig08(rows: pd.DataFrame) -> tuple[Figure, str]:
    """FGSM-RS and ATAS again and again."""
    figure, axes, cells, words = facets(rows)
    for row in axes:
        row[0].set_ylabel(ACCURACY)
        from_zero(row)
    style.legend(figure, cells)
    style.note(figure, words)
    return figure, f"Repeated trainings of FGSM-RS and ATAS by epoch ({told(rows)}). {CROSS}. {collapsed(rows)}."


def collapse(rows: pd.DataFrame) -> Figure:
    """README's picture: accuracy under FGSM and PGD10 by epoch, a panel for each method with how many collapsed."""
    methods = list(dict.fromkeys(rows["method"]))
    figure, (axes,) = style.panels(1, len(methods), 3.6, 2.6, sharey="row")
    for panel, method in zip(axes, methods, strict=True):
        fell = []
        for _, one in at(rows, method=method).groupby("seed"):
            one = one.sort_values("epoch")
            percent = (one["train_fgsm_acc"] / 100, one["train_pgd10_acc"] / 100)
            fell.append(detect(*percent, catalog.required(one["dataset"].iloc[0]).n_classes))
            panel.plot(one["epoch"], one["train_fgsm_acc"], color="#999999", lw=1)
            panel.plot(one["epoch"], one["train_pgd10_acc"], color=about(method).colour, lw=1.5)
        words = f"{sum(one.at_end for one in fell)} of {len(fell)} collapsed at the end"
        passed = sum(one.for_a_while for one in fell)
        words += f", {passed} for a while" if passed else ""
        panel.set(title=f"{called(method)}: {words}", xlabel="epoch")
    axes[0].set_ylabel("accuracy (%)")
    looks = {"under FGSM": "#999999", "under PGD10": "black"}
    handles = [Line2D([], [], color=look, label=words) for words, look in looks.items()]
    axes[-1].legend(handles=handles, loc="lower right", frameon=False, fontsize=8)
    return figure
