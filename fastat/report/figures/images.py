"""What single images tell: Figures 6, 10 and 11."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fastat.report.figures import style
from fastat.report.figures.style import at
from fastat.report.methods import about, called, place
from fastat.units import parse_eps

PLACES = ["#0048c8", "#d62728", "#5b9252", "#feae08", "#7d0867", "#56b4e9", "#833844", "#5ed781"]
TENTHS = {"D1": ("#1f4e9c", "$D_1^1$"), "D5": ("#777777", "$D_5^5$"), "D10": ("#a50f15", "$D_{10}^{10}$")}


def fig06(rows: pd.DataFrame) -> tuple[Figure, str]:
    """(a) largest gradient norms, (b) their ratio, (c) rank correlations of methods."""
    figure, ((left, middle, right),) = style.panels(1, 3, width=4.6, height=3.8)
    drawn, ratios, ranks = (at(rows, panel=kind) for kind in ("histogram", "ratio", "ranks"))
    places, words = style.places(rows, ["dataset", "model"], len(PLACES))
    for colour, (dataset, model) in zip(PLACES, places, strict=False):
        label = f"{dataset}, {model}"
        one = at(drawn, dataset=dataset, model=model)
        if len(one):
            edges = [*one["left"], one["right"].iloc[-1]]
            left.stairs(100 * one["share"], edges, fill=True, alpha=0.35, color=colour)
            left.stairs(100 * one["share"], edges, color=colour, label=f"{label}, eps {one['eps'].iloc[0]}")
        one = at(ratios, dataset=dataset, model=model)
        if len(one):
            one = one.assign(eps_255=one["eps"].map(parse_eps).astype(int))
            means = one.groupby("eps_255")["ratio"].mean()
            middle.plot(means.index, means, color=colour, lw=1, label=label)
            middle.scatter(one["eps_255"], one["ratio"], color=colour, s=14, zorder=3)
    left.set(title="(a) largest gradient norm of each image", xlabel="$G_{x_i,2}$", ylabel="images (%)")
    middle.set(title="(b) mean of $G^2$ over squared mean of $G$", xlabel="eps (1/255)", ylabel="ratio")
    for panel, there in ((left, drawn), (middle, ratios)):
        if there.empty:
            style.say(panel, "no run of atas with gradient norms")
        else:
            panel.legend(frameon=False, fontsize=8)
    place = correlations(right, ranks)
    style.note(figure, words)
    n = of_images(drawn) if len(drawn) else "none"
    return figure, (
        f"ATAS on {style.where(rows)}. (a) Histogram of each training image's largest gradient norm ({n}; the last "
        "bin holds what is larger). (b) The ratio that Eq. 10 rests on, a dot a seed: above 1, and larger the longer "
        f"the tail. (c) Rank correlation of the images' mean gradient norms between methods{place}: near 1, the norm "
        "is the image's own."
    )


def correlations(panel: style.Axes, ranks: pd.DataFrame) -> str:
    """A table of colours, of the first data set and network alone; which that is."""
    panel.set_title("(c) rank correlation of norms (x 100)")
    if ranks.empty:
        style.say(panel, "fewer than two methods with gradient norms on one data set")
        return ""
    dataset, model = ranks["dataset"].iloc[0], ranks["model"].iloc[0]
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
    panel.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=7)
    panel.set_yticks(range(len(names)), labels, fontsize=7)
    panel.grid(False)
    return f" ({dataset}, {model})"


def fig10(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Gradient norm and step size of three tenths of the images by epoch."""
    rows = rows[rows["epoch"] > 5] if rows["epoch"].max() > 6 else rows
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 2, width=4.8)
    quantities = {"grad_norm": "mean gradient norm", "alpha_255": "mean step size (1/255)"}
    for row, (dataset, model, eps) in zip(axes, places, strict=True):
        for panel, (quantity, label) in zip(row, quantities.items(), strict=True):
            here = at(rows, dataset=dataset, model=model, eps=eps, quantity=quantity)
            for epoch in here[here["reset"] == 1]["epoch"].unique():
                panel.axvline(epoch, color="#999999", lw=1, ls=":")
            for group, (colour, name) in TENTHS.items():
                one = at(here, group=group).sort_values("epoch")
                spread = one["std"].fillna(0)
                panel.plot(one["epoch"], one["mean"], color=colour, label=name)
                panel.fill_between(
                    one["epoch"], one["mean"] - spread, one["mean"] + spread, color=colour, alpha=0.2, lw=0
                )
            panel.set(title=f"{dataset}, {model}, eps {eps}", xlabel="epoch", ylabel=label, ylim=(0, None))
        row[0].legend(frameon=False, fontsize=8)
    style.note(figure, words)
    return figure, (
        f"ATAS on {style.where(rows)}: mean gradient norm and step size after epoch 5 of the tenths of the training "
        f"images with the smallest, middle and largest norms (mean and deviation over {style.spread(rows['n_seeds'])}; "
        "dotted: perturbations drawn anew). If the order stays, the norm is a property of the image."
    )


def fig11(rows: pd.DataFrame) -> tuple[Figure, str]:
    """How long ATAS's perturbations are."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 2, width=4.4)
    norms = {"delta_linf": r"$\|\delta\|_\infty$ / eps", "delta_l2": r"$\|\delta\|_2$ / (eps $\sqrt{d}$)"}
    for row, (dataset, model, eps) in zip(axes, places, strict=True):
        for panel, (quantity, label) in zip(row, norms.items(), strict=True):
            one = at(rows, dataset=dataset, model=model, eps=eps, quantity=quantity)
            if one.empty:
                style.say(panel, f"no {quantity} among the runs' files")
                continue
            edges = [*one["left"], one["right"].iloc[-1]]
            panel.stairs(100 * one["share"], edges, fill=True, color=about("atas").colour)
            panel.set(title=f"{dataset}, {model}, eps {eps}", xlabel=label, ylabel="images (%)", xlim=(0, 1.02))
    style.note(figure, words)
    first = at(rows, dataset=places[0][0], model=places[0][1], eps=places[0][2])
    full = 100 * first[(first["quantity"] == "delta_linf") & (first["right"] > 0.999)]["share"].sum()
    lengths = at(first, quantity="delta_l2")
    middle = (lengths["right"] * lengths["share"]).sum() - 0.5 * (lengths["right"] - lengths["left"]).mean()
    return figure, (
        f"Norms of the perturbations that ATAS trained on in its last epoch ({style.where(rows)}; {of_images(rows)}), "
        f"in units of what the budget allows. In {full:.1f} % of the images some pixel reaches the budget (left); did "
        f"all pixels of all images, the lengths on the right would be 1: their mean is {middle:.2f}."
    )


def of_images(rows: pd.DataFrame) -> str:
    """`1437 images x 3 seeds`, of the first place."""
    n, seeds = int(rows["n"].iloc[0]), int(rows["n_seeds"].iloc[0])
    return f"{n // seeds} images x {seeds} seed{'s' * (seeds != 1)}"
