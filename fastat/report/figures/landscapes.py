"""Loss landscapes: Figures 2 and 9, and the right of Figure 1."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fastat.report.figures import style
from fastat.report.figures.style import at
from fastat.report.methods import called


def relief(figure: Figure, axes: Axes, rows: pd.DataFrame, limits: tuple[float, float]) -> Axes:
    """The loss over u (along v1) and w (along v2), in the place of `axes`; limits: of the loss."""
    place = axes.get_subplotspec()
    axes.remove()
    solid = figure.add_subplot(place, projection="3d")
    table = rows.pivot_table(index="u", columns="w", values="loss")
    u, w = np.meshgrid(table.index, table.columns, indexing="ij")
    low, high = limits[0], max(limits[1], limits[0] + 1e-6)
    solid.plot_surface(u, w, table.to_numpy(), cmap="viridis", vmin=low, vmax=high, rstride=1, cstride=1, lw=0.1,
                       edgecolor="#00000040")  # fmt: skip
    solid.set(xlabel="v1 (eps)", ylabel="v2 (eps)", zlim=(low, high), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    solid.zaxis.set_major_locator(MaxNLocator(4))
    solid.tick_params(pad=-2, labelsize=style.NAME)
    for axis in (solid.xaxis, solid.yaxis):
        axis.label.set_size(style.NAME + 1)
        axis.labelpad = -5
    solid.view_init(elev=28, azim=-125)
    solid.set_box_aspect((1, 1, 0.8), zoom=0.95)
    return solid


def fig02(rows: pd.DataFrame) -> tuple[Figure, str]:
    """D_1 above D_10, from left to right the epochs around the collapse, of one run."""
    rows = rows.sort_values(["dataset", "model", "eps", "method", "variant", "seed"])
    keys = ["dataset", "model", "eps", "method", "variant", "seed"]
    fallen = rows[rows["collapse_epoch"].notna()]
    who = (fallen if len(fallen) else rows).iloc[0][keys]
    run = at(rows, **dict(who))
    epochs, groups = sorted(run["epoch"].unique()), [g for g in ("D1", "D10") if g in set(run["group"])]
    figure, axes = style.panels(len(groups), len(epochs), 2.5, 2.4)
    for row, group in zip(axes, groups, strict=True):
        here = at(run, group=group)
        limits = float(here["loss"].min()), float(here["loss"].max())
        for panel, epoch in zip(row, epochs, strict=True):
            seen = at(here, epoch=epoch)
            if seen.empty:
                style.say(panel, f"no surface of epoch {epoch:g}")
                continue
            words = f"{'$D_1^1$' if group == 'D1' else '$D_{10}^{10}$'}, epoch {epoch:g}"
            relief(figure, panel, seen, limits).set_title(words, y=0.98)
    others = rows[keys].drop_duplicates().shape[0] - 1
    style.note(figure, [f"{others} more run{'s are' if others > 1 else ' is'} in the figure's data."] if others else [])
    fell = who_fell(run)
    return figure, (
        f"Mean loss (nats) over the {int(run['n'].iloc[0])} first images of the tenths with the smallest (top) "
        "and the largest (bottom) gradient norms, along the sign of the gradient (v1) and random signs (v2): "
        f"{called(who['method'], who['variant'])}, eps {who['eps']}, seed {who['seed']}, {fell}. A range of loss a "
        "row. A ridge inside the budget is catastrophic overfitting."
    )


def who_fell(run: pd.DataFrame) -> str:
    """When the run collapsed, in words, and whether it recovered."""
    epoch, at_end, lost = run[["collapse_epoch", "collapsed_at_end", "robustness_lost"]].iloc[0]
    if np.isnan(epoch):
        return "which did not collapse"
    early = ", not robust before," if lost == 0 else ""
    return f"which{early} collapsed in epoch {epoch:g}, " + (
        "and is collapsed at the end" if at_end == 1 else "for a while"
    )


def fig09(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Three test images after ATAS, a row of panels for each data set and network."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    seeds = sorted(set(map(str, rows["seed"])))
    columns = min(3, rows["group"].nunique())
    figure, axes = style.panels(len(places), columns, 3, 2.7)
    for row, where in zip(axes, places, strict=True):
        here = at(rows, dataset=where[0], model=where[1], eps=where[2])
        limits = float(here["loss"].min()), float(here["loss"].max())
        groups = list(here["group"].unique())[:columns]
        for panel, group in zip(row, groups, strict=False):
            seen = at(here, group=group)
            title = style.title(where, places, f"test image {group.split(':')[1]}")
            relief(figure, panel, seen, limits).set_title(title, y=0.98)
        style.off(row[len(groups) :])
    style.note(figure, words)
    return figure, (
        "Loss (nats) of single test images after ATAS along the sign of the gradient (v1) and random signs (v2), seed"
        f"{'s' * (len(seeds) > 1)} {', '.join(seeds)}; one range of loss a row. A landscape without ridges inside the "
        "budget is not distorted."
    )
