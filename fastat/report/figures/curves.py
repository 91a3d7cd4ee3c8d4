"""Accuracy and loss by epoch: curves, and Figures 1, 3, 5, 7 and 8."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fastat.report.figures import landscapes, style
from fastat.report.figures.style import at

ACCURACY = "PGD10, training images (%)"
CROSS = "A black cross marks the epoch of catastrophic overfitting"
SUBSETS = {  # Fig. 3: blues have small gradient norms, reds large ones
    "1-2": "#a6cee3", "1-3": "#5aa2d6", "1-4": "#1f4e9c", "7-10": "#fdb462", "8-10": "#e8601c", "9-10": "#a50f15",
}  # fmt: skip


def lines(axes: Axes, rows: pd.DataFrame, width: float = 1.2) -> list[tuple[str, str]]:
    """A line for each seed, or a mean in a band where the data is one; a cross at each collapse. Returns the cells."""
    cells = style.in_order(zip(rows["method"], rows["variant"], strict=True))
    for method, variant in cells[: style.MOST_LINES]:
        part = at(rows, method=method, variant=variant).fillna({"seed": ""})
        look = {"color": style.colour(method), "ls": style.dash(method, variant), "lw": width}
        for _, one in part.groupby("seed"):
            one = one.sort_values("epoch")
            axes.plot(one["epoch"], one["value"], **look)
            if one["low"].notna().any():
                axes.fill_between(one["epoch"], one["low"], one["high"], color=look["color"], alpha=0.15, lw=0)
            fell = one[one["collapse"] > 0]
            axes.scatter(fell["epoch"], fell["value"], marker="x", color="black", s=28, zorder=5)
    return cells[: style.MOST_LINES]


def facets(
    rows: pd.DataFrame, title: str = "{dataset}, {model}, eps {eps}"
) -> tuple[Figure, set[tuple[str, str]], str]:
    """A row of panels for each data set and network, a column for each eps."""
    places, words = style.places(rows, ["dataset", "model"])
    columns = max(rows[(rows["dataset"] == d) & (rows["model"] == m)]["eps"].nunique() for d, m in places)
    figure, axes = style.panels(len(places), columns, sharey=True)
    cells: set[tuple[str, str]] = set()
    for row, (dataset, model) in zip(axes, places, strict=True):
        here = at(rows, dataset=dataset, model=model)
        every = style.eps_order(here["eps"])
        for k, panel in enumerate(row):
            if k >= len(every):
                panel.axis("off")
                continue
            part = at(here, eps=every[k])
            cells |= set(lines(panel, part))
            drawn = part[["method", "variant"]].drop_duplicates()
            if len(drawn) > style.MOST_LINES:
                words = f"{style.MOST_LINES} methods and variants a panel are drawn. {words}".strip()
            panel.set_title(title.format(dataset=dataset, model=model, eps=every[k]))
            panel.set_xlabel("epoch")
            panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
        row[0].set_ylabel(ACCURACY)
    return figure, cells, words


def told(rows: pd.DataFrame) -> str:
    """Where, and of how many seeds."""
    averaged = rows["seed"].isna().all()
    spread = "means with the range of seeds" if averaged else f"{style.seeds(rows)} a method, a line each"
    return f"{style.where(rows)}; {spread}"


def curves(rows: pd.DataFrame) -> tuple[Figure, str]:
    """PGD10 accuracy on training images by epoch."""
    figure, cells, words = facets(rows)
    style.legend(figure, cells)
    style.note(figure, words)
    return figure, f"PGD10 accuracy on training images by epoch ({told(rows)}). {CROSS}."


def fig01(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Standard and fast AT by epoch, and the loss landscape of a fast run that collapsed."""
    places, words = style.places(rows, ["dataset", "model"])
    figure, axes = style.panels(len(places), 2, width=5)
    by_epoch, surfaces = at(rows, panel="curve"), at(rows, panel="surface")
    cells: set[tuple[str, str]] = set()
    for (left, right), (dataset, model) in zip(axes, places, strict=True):
        here = at(by_epoch, dataset=dataset, model=model)
        cells |= set(lines(left, here))
        left.set_title(f"{dataset}, {model}, eps {', '.join(style.eps_order(here['eps']))}")
        left.set(xlabel="epoch", ylabel=ACCURACY, ylim=(0, None))
        if "pgd10" not in set(here["method"]):
            left.text(0.02, 0.98, "no run of standard AT (pgd10)", transform=left.transAxes, va="top", color="#555555")
        seen = at(surfaces, dataset=dataset, model=model)
        if seen.empty:
            style.say(right, "No landscape: no run of fast AT here ended collapsed.")
        else:
            who = seen.iloc[0]
            right = landscapes.relief(figure, right, seen, (seen["loss"].min(), seen["loss"].max()))
            right.set_title(f"{style.name(who['method'], who['variant'])}, seed {who['seed']}, eps {who['eps']}")
    style.legend(figure, cells)
    style.note(figure, words)
    end = "Right: no run of fast AT ended collapsed, so there is no landscape."
    if len(surfaces):
        end = (
            f"Right: mean loss of {int(surfaces['n'].iloc[0])} test images of a run that ended collapsed, along the "
            "sign of the gradient (v1) and random signs (v2): high inside the budget, low at FGSM's corner."
        )
    return (
        figure,
        f"Left: PGD10 accuracy of standard and fast adversarial training by epoch ({told(by_epoch)}). {CROSS}. {end}",
    )


def fig03(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Trainings on subsets by gradient norm: a row a method, a column a step size."""
    rows = rows.sort_values(["method", "alpha"], key=lambda c: c.map(style.rank) if c.name == "method" else c)
    places, words = style.places(rows, ["dataset", "model", "eps"], 2)
    rows_of = [(p, m) for p in places for m in at(rows, dataset=p[0], model=p[1], eps=p[2])["method"].unique()]
    steps = {key: at(rows, dataset=key[0][0], model=key[0][1], eps=key[0][2], method=key[1]) for key in rows_of}
    figure, axes = style.panels(len(rows_of), max(p["variant"].nunique() for p in steps.values()), sharey=True)
    for row, ((dataset, model, eps), method) in zip(axes, rows_of, strict=True):
        here = steps[(dataset, model, eps), method]
        variants = list(here["variant"].unique())
        for k, panel in enumerate(row):
            if k >= len(variants):
                panel.axis("off")
                continue
            part = at(here, variant=variants[k])
            for subset, one in part.groupby("subset"):
                one, look = one.sort_values("progress"), SUBSETS.get(str(subset), "#666666")
                panel.plot(one["progress"], one["mean"], color=look, lw=1.2)
                spread = one["std"].fillna(0)
                panel.fill_between(
                    one["progress"], one["mean"] - spread, one["mean"] + spread, color=look, alpha=0.2, lw=0
                )
            alpha = part["alpha"].iloc[0]
            size = f"step {alpha:g} eps" if np.isfinite(alpha) else variants[k]
            panel.set_title(f"{style.name(method)}, {size}, eps {eps}\n{dataset}, {model}", fontsize=9)
            panel.set(xlabel="share of the training", ylim=(0, None))
        row[0].set_ylabel(ACCURACY)
    present = [s for s in SUBSETS if s in set(rows["subset"])] + sorted(set(rows["subset"]) - set(SUBSETS))
    handles = [Line2D([], [], color=SUBSETS.get(s, "#666666"), label=f"$D_{{{s.split('-')[0]}}}^{{{s.split('-')[1]}}}$")
               for s in present]  # fmt: skip
    figure.legend(handles=handles, loc="outside right upper", frameon=False, title="trained on")
    style.note(figure, words)
    last = rows.groupby(["dataset", "model", "eps", "method", "variant", "subset"])
    fell, trained = int(last["collapses"].sum().sum()), int(last["n_seeds"].max().sum())
    low, high = int(rows["n_seeds"].min()), int(rows["n_seeds"].max())
    return figure, (
        "PGD10 accuracy of trainings on the images with small (blue) and large (red) gradient norms alone "
        f"({style.where(rows)}; mean and standard deviation over {low if low == high else f'{low} to {high}'} seeds; "
        f"as many iterations each). A sudden fall is catastrophic overfitting: {fell} of {trained} trainings "
        "collapsed."
    )


def fig05(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Constant against adaptive steps."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 2, width=4.8, sharey=True)
    wanted = {"a": ("FGSM-RS with a step of 1 eps", "fgsm_adaptive"), "b": ("ATTA with a step of 1 eps", "atas")}
    for row, (dataset, model, eps) in zip(axes, places, strict=True):
        for panel, (letter, (constant, adaptive)) in zip(row, wanted.items(), strict=True):
            here = at(rows, dataset=dataset, model=model, eps=eps, panel=letter)
            panel.set_title(f"({letter}) {dataset}, {model}, eps {eps}")
            if here.empty:
                style.say(panel, f"no run of {constant}, and none of {adaptive}")
                continue
            cells = lines(panel, here)
            handles = []
            for method, variant in cells:
                step = at(here, method=method, variant=variant)["mean_alpha_255"].mean()
                label = f"{style.name(method, variant)}, mean step {step:.1f}/255"
                look = {"color": style.colour(method), "ls": style.dash(method, variant)}
                handles.append(Line2D([], [], label=label, **look))
            panel.legend(handles=handles, fontsize=8, frameon=False)
            drawn = {constant: any(m != adaptive for m, _ in cells), adaptive: any(m == adaptive for m, _ in cells)}
            lacking = [word for word, there in drawn.items() if not there]
            if lacking:
                panel.text(
                    0.5, 0.02, f"no run of {lacking[0]}", transform=panel.transAxes, ha="center", color="#555555"
                )
            panel.set_xlabel("epoch")
        row[0].set_ylim(bottom=0)  # shared with its neighbour, when both are drawn
        row[0].set_ylabel(ACCURACY)
    style.note(figure, words)
    return figure, (
        "PGD10 accuracy by epoch of (a) FGSM-RS and (b) ATTA with a step of eps, against the same with the adaptive "
        f"step, whose mean is in the legend ({told(rows)}). {CROSS}: does the larger mean step of the adaptive method "
        "do without?"
    )


def fig07(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Loss under PGD10 by epoch, smoothed."""
    rows = rows[rows["method"] != "clean"]
    if rows.empty:
        return style.blank("Nothing to draw: no adversarial training."), "Nothing to draw: no adversarial training."
    smooth = rows.assign(value=rows["smooth"], seed="", low=np.nan, high=np.nan, collapse=0)
    figure, cells, words = facets(smooth)
    losses = smooth["value"][smooth["value"] > 0]
    for axes in (axes for axes in figure.axes if axes.lines):
        axes.set_yscale("log")
        axes.set_ylim(0.9 * losses.min(), min(1.1 * losses.max(), 8 * float(losses.median())))
        axes.yaxis.set_major_formatter("{x:g}")
    for axes in figure.axes[:: max(1, len(figure.axes))]:
        axes.set_ylabel("loss under PGD10 (nats)")
    style.legend(figure, cells)
    style.note(figure, words)
    low, high = int(rows["n_seeds"].min()), int(rows["n_seeds"].max())
    return figure, (
        f"Cross-entropy under PGD10 on training images by epoch ({style.where(rows)}; mean over "
        f"{low if low == high else f'{low} to {high}'} seeds, running mean over 3 epochs, logarithmic). Lower at the "
        "end is a better fit to the attack; lines that leave at the top collapsed."
    )


def fig08(rows: pd.DataFrame) -> tuple[Figure, str]:
    """FGSM-RS and ATAS again and again."""
    figure, cells, words = facets(rows)
    style.legend(figure, cells)
    style.note(figure, words)
    fell = {m: int((at(rows, method=m)["collapse"] > 0).sum()) for m in rows["method"].unique()}
    runs = rows.groupby("method")[["dataset", "model", "eps", "seed"]].apply(lambda part: len(part.drop_duplicates()))
    words = "; ".join(f"{style.name(str(m))}: {fell[m]} of {runs[m]} trainings collapsed" for m in fell)
    return figure, f"Repeated trainings of FGSM-RS and ATAS by epoch ({told(rows)}). {CROSS}. {words}."
