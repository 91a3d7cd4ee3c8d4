"""What single images tell: Figures 6, 10 and 11."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fastat.report.figures import printed, style
from fastat.report.figures.style import End, at
from fastat.report.methods import called, colour, place
from fastat.units import parse_eps

PLACES = ["#0072b2", "#d55e00", "#117733", "#f0b400", "#882255", "#56b4e9", "#000000", "#785af0"]
TENTHS = {"D1": ("#1f4e9c", "$D_1^1$"), "D5": ("#777777", "$D_5^5$"), "D10": ("#a50f15", "$D_{10}^{10}$")}


def fig06(rows: pd.DataFrame) -> tuple[Figure, str]:
    """(a) largest gradient norms, (b) their ratio, (c) rank correlations of methods: those that have a run."""
    drawn, ratios, ranks = (at(rows, panel=kind) for kind in ("histogram", "ratio", "ranks"))
    places, words = style.places(rows, ["dataset", "model"], len(PLACES))
    n_methods = len({*ranks["method"], *ranks["method_b"]})
    side = max(2.8, 0.26 * n_methods)  # inches of the correlations' square
    kinds = [kind for kind, there in (("a", drawn), ("b", ratios), ("c", ranks)) if len(there)]
    widths = [side + 0.8 if kind == "c" else 3.2 for kind in kinds]
    figure, (axes,) = style.panels(
        1, len(kinds), sum(widths) / len(kinds), max(3.1, side + 0.8), gridspec_kw={"width_ratios": widths}
    )
    panels = dict(zip(kinds, axes, strict=True))
    if "a" in panels:
        histograms(panels["a"], drawn, places)
    if "b" in panels:
        by_eps(panels["b"], ratios, places)
    if len(places) > 1:
        handles = [
            Line2D([], [], color=hue, label=", ".join(where)) for hue, where in zip(PLACES, places, strict=False)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=style.NAME)
    here = correlations(panels["c"], ranks) if "c" in panels else ""
    lacking = [told for kind, told in LACKING.items() if kind not in kinds]
    style.note(figure, words + lacking)
    n = of_images(drawn) if len(drawn) else "none"
    return figure, (
        f"ATAS: (a) largest gradient norm of each training image ({n}; the last bin holds what is larger); (b) "
        "the ratio that Eq. 10 rests on, a dot a seed: above 1, and larger the longer the tail; (c) rank correlation "
        f"of the images' mean gradient norms between methods{here}: near 1, the norm is the image's own."
    )


LACKING = {
    "a": "(a) wants a run of atas with gradient norms.",
    "b": "(b) wants a run of atas with gradient norms.",
    "c": "(c) wants two methods with gradient norms on one data set.",
}


def histograms(axes: Axes, rows: pd.DataFrame, places: list[tuple[str, ...]]) -> None:
    """The largest gradient norms, a colour for each data set and network."""
    eps = []
    for hue, (dataset, model) in zip(PLACES, places, strict=False):
        one = at(rows, dataset=dataset, model=model)
        if len(one):
            edges = [*one["left"], one["right"].iloc[-1]]
            axes.stairs(100 * one["share"], edges, fill=True, alpha=0.35, color=hue)
            axes.stairs(100 * one["share"], edges, color=hue)
            eps.append(one["eps"].iloc[0])
    told = f", eps {', '.join(style.eps_order(eps))}"
    axes.set(title=f"(a) largest gradient norm{told}", xlabel="$G_{x_i,2}$", ylabel="images (%)", xlim=(0, None))


def by_eps(axes: Axes, rows: pd.DataFrame, places: list[tuple[str, ...]]) -> None:
    """The ratio by eps, a colour for each data set and network, and what the paper has."""
    for hue, (dataset, model) in zip(PLACES, places, strict=False):
        one = at(rows, dataset=dataset, model=model)
        one = one.assign(eps_255=one["eps"].map(parse_eps).astype(int))
        means = one.groupby("eps_255")["ratio"].mean()
        axes.plot(means.index, means, color=hue, lw=1)
        axes.scatter(one["eps_255"], one["ratio"], color=hue, s=14, zorder=3)
    theirs, whose = printed.numbers("ratio")
    axes.plot(theirs["eps_255"], theirs["value"], color=style.PAPER, lw=0.6, marker="D", ms=3.5, mfc="white")
    axes.annotate(whose, (theirs["eps_255"].iloc[0], theirs["value"].iloc[0]), (5, -2), size=style.NAME - 1,
                  textcoords="offset points", color=style.PALE, va="center")  # fmt: skip
    axes.set(title="(b) mean of $G^2$ over squared mean of $G$", xlabel="eps (1/255)", ylabel="ratio", xlim=(0, None))
    axes.margins(y=0.12)


def correlations(panel: Axes, ranks: pd.DataFrame) -> str:
    """A table of colours, of the first data set and network alone; which that is, where there are several."""
    dataset, model = ranks[["dataset", "model"]].iloc[0]
    one = at(ranks, dataset=dataset, model=model)
    names = sorted({*one["method"], *one["method_b"]}, key=place)
    table = pd.DataFrame(np.where(np.eye(len(names)) == 1, 1.0, np.nan), names, names)
    for a, b, value in zip(one["method"], one["method_b"], one["spearman"], strict=True):
        table.loc[a, b] = table.loc[b, a] = value
    panel.imshow(table, vmin=0, vmax=1, cmap="viridis")
    for i, j in np.ndindex(table.shape):
        if i != j and np.isfinite(table.iat[i, j]):
            dark = table.iat[i, j] < 0.6
            panel.text(j, i, f"{100 * table.iat[i, j]:.0f}", ha="center", va="center", size=6,
                       color="white" if dark else "black")  # fmt: skip
    labels = [called(name) for name in names]
    panel.set_xticks(range(len(names)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=style.NAME)
    panel.set_yticks(range(len(names)), labels, fontsize=style.NAME)
    panel.set_title("(c) rank correlation of norms (x 100)")
    panel.grid(False)
    return f" ({dataset}, {model})" if len(ranks[["dataset", "model"]].drop_duplicates()) > 1 else ""


def fig10(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Gradient norm and step size of three tenths of the images by epoch."""
    long = rows.groupby(["dataset", "model", "eps"])["epoch"].transform("max") > 6
    rows = rows[~long | (rows["epoch"] > 5)]
    since = " after epoch 5" if long.all() else ", of more than 6 epochs after epoch 5" if long.any() else " by epoch"
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 2, 4.2)
    quantities = {"grad_norm": "mean gradient norm", "alpha_255": "mean step size (1/255)"}
    for row, where in zip(axes, places, strict=True):
        for panel, (quantity, label) in zip(row, quantities.items(), strict=True):
            here = at(rows, dataset=where[0], model=where[1], eps=where[2], quantity=quantity)
            if here.empty:
                style.say(panel, f"no {quantity} among the runs' files")
                continue
            by_tenth(panel, here)
            panel.set(title=style.title(where, places), ylabel=label)
    style.note(figure, words)
    return figure, (
        f"Gradient norm and step size of ATAS{since}, of the tenths of the training images with the smallest, "
        "middle and largest norms: mean and deviation over seeds; dotted: perturbations drawn anew. If the order "
        "stays, the norm is a property of the image."
    )


def by_tenth(axes: Axes, rows: pd.DataFrame) -> None:
    """One quantity of the three tenths by epoch."""
    for epoch in rows[rows["reset"] == 1]["epoch"].unique():
        axes.axvline(epoch, color="#999999", lw=1, ls=":")
    ends = []
    for group, (hue, name) in TENTHS.items():
        one = at(rows, group=group).sort_values("epoch")
        if one.empty:
            continue
        deviation = one["std"].fillna(0)
        axes.plot(one["epoch"], one["mean"], color=hue)
        axes.fill_between(one["epoch"], one["mean"] - deviation, one["mean"] + deviation, color=hue, alpha=0.2, lw=0)
        ends.append(End(float(one["epoch"].iloc[-1]), float(one["mean"].iloc[-1]), name, hue))
    axes.set(xlabel="epoch", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.02)
    style.name_ends(axes, ends)


def fig11(rows: pd.DataFrame) -> tuple[Figure, str]:
    """How long ATAS's perturbations are."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 2, 3.8, 2.6)
    norms = {"delta_linf": r"$\|\delta\|_\infty$ / eps", "delta_l2": r"$\|\delta\|_2$ / (eps $\sqrt{d}$)"}
    for row, where in zip(axes, places, strict=True):
        for panel, (quantity, label) in zip(row, norms.items(), strict=True):
            one = at(rows, dataset=where[0], model=where[1], eps=where[2], quantity=quantity)
            if one.empty:
                style.say(panel, f"no {quantity} among the runs' files")
                continue
            edges = [*one["left"], one["right"].iloc[-1]]
            panel.stairs(100 * one["share"], edges, fill=True, color=colour("atas"))
            lowest = one[one["share"] > 0]["left"].min()
            panel.set(xlim=(max(0, min(0.8, lowest - 0.05)), 1.02), xlabel=label, ylabel="images (%)")
            panel.set_title(style.title(where, places))
    style.note(figure, words)
    return figure, (
        f"Norms of the perturbations that ATAS trained on in its last epoch ({of_images(rows)}), in units of what the "
        "budget allows. Where some pixel of an image reaches the budget it is on the left in the last bin; the "
        "lengths on the right would all be 1 if every pixel did. "
        f"In the last bin, and mean length: {'; '.join(filled(rows, where, places) for where in places)}."
    )


def filled(rows: pd.DataFrame, where: tuple[str, ...], every: list[tuple[str, ...]]) -> str:
    """`99.8 % of the images, 0.72 (digits, 77/255)`, with the network where `every` place is not of one."""
    here = at(rows, dataset=where[0], model=where[1], eps=where[2])
    full = 100 * here[(here["quantity"] == "delta_linf") & (here["right"] > 0.999)]["share"].sum()
    lengths = at(here, quantity="delta_l2")
    middle = (lengths["right"] * lengths["share"]).sum() - 0.5 * (lengths["right"] - lengths["left"]).mean()
    model = [where[1]] if len({one[1] for one in every}) > 1 else []
    return f"{full:.1f} % of the images, {middle:.2f} ({', '.join([where[0], *model, where[2]])})"


def of_images(rows: pd.DataFrame) -> str:
    """`1437 images x 3 seeds` and, of several data sets or networks, of which."""
    keys = ["dataset", "model"]
    every, _ = style.places(rows, keys, len(rows))
    told = []
    for where, part in rows.groupby(keys, sort=False):
        n, seeds = int(part["n"].iloc[0]), int(part["n_seeds"].iloc[0])
        own = f" of {one}" if (one := style.title(where, every)) else ""
        told.append(f"{n // seeds} images x {seeds} seed{'s' * (seeds != 1)}{own}")
    return ", ".join(told)
