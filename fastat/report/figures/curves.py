"""Accuracy and loss by epoch: curves, and Figures 1, 3, 5, 7 and 8."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fastat.config import catalog
from fastat.report.figure_data import COLLAPSES
from fastat.report.figures import landscapes, printed, style
from fastat.report.figures.style import End, at
from fastat.report.methods import called, colour, place
from fastat.training.collapse import detect
from fastat.units import parse_eps

ACCURACY = "PGD10, training images (%)"
CROSS = "Cross: there a collapse began that lasts to the end; ring: one that passed"
MARKS = {"at_end": {"marker": "x", "color": "black"}, "for_a_while": {"marker": "o", "fc": "none", "ec": "black"}}
SUBSETS = {  # Fig. 3: blues have small gradient norms, reds large ones
    "1-2": "#a6cee3", "1-3": "#5aa2d6", "1-4": "#1f4e9c", "7-10": "#fdb462", "8-10": "#e8601c", "9-10": "#a50f15",
}  # fmt: skip


def lines(axes: Axes, rows: pd.DataFrame, words: list[str]) -> dict[tuple[str, str], End]:
    """A line for each seed, or a mean in a band where the data is one; a mark at each collapse.

    Returns where each cell's line ends: of several seeds' the one in the middle.
    """
    ends = {}
    for cell in style.fewer(style.in_order(zip(rows["method"], rows["variant"], strict=True)), words):
        part = at(rows, method=cell[0], variant=cell[1]).fillna({"seed": ""})
        look = {"color": colour(*cell), "ls": style.dash(*cell), "zorder": style.above(*cell)}
        last = []
        for _, one in part.dropna(subset=["x", "value"]).groupby("seed"):
            one = one.sort_values("x")
            axes.plot(one["x"], one["value"], lw=1.2, **look)
            if one["low"].notna().any():
                axes.fill_between(one["x"], one["low"], one["high"], color=look["color"], alpha=0.08, lw=0)
            for kind, mark in MARKS.items():
                fell = one[one[kind] > 0]
                axes.scatter(fell["x"], fell["value"], **mark, s=28, zorder=5)
            last.append((float(one["value"].iloc[-1]), float(one["x"].iloc[-1])))
        if last:
            y, x = sorted(last)[len(last) // 2]
            ends[cell] = End(x, y, called(*cell), look["color"])
    return ends


def from_zero(panels: list[Axes]) -> None:
    """Begin the accuracies a little below 0, so that lines at 0 are seen; after all are drawn, for they share it."""
    for panel in panels:
        panel.set_ylim(bottom=-1.5)


def along(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows with `x`, and its name: the epoch or, where trainings differ in length, the share of the training."""
    ends = rows["epochs"]
    if ends.nunique() < 2:
        return rows.assign(x=rows["epoch"]), "epoch"
    return rows.assign(x=rows["epoch"] / ends), f"share of the training ({ends.min():g} to {ends.max():g} epochs)"


def ticks(axes: Axes, label: str) -> None:
    """Few and round ticks along the training, which is called so."""
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.margins(x=0.02)
    axes.set_xlabel(label)


Drawn = list[tuple[Axes, dict[tuple[str, str], End]]]  # panels and the ends of their lines


def facets(rows: pd.DataFrame) -> tuple[Figure, list[Drawn], list[str]]:
    """A panel for each data set, network and eps, WIDE beside each other: figure, rows of panels, and what to note."""
    rows, label = along(rows)
    where, words = style.places(rows, ["dataset", "model"])
    bands: list[list[tuple[str, str, str]]] = []
    for dataset, model in where:
        every = style.eps_order(at(rows, dataset=dataset, model=model)["eps"])
        if len(every) > style.MOST_EPS:
            words.append(f"The smallest {style.MOST_EPS} eps are drawn; the others are in the figure's data.")
        every = every[: style.MOST_EPS]
        bands += [
            [(dataset, model, eps) for eps in every[k : k + style.WIDE]] for k in range(0, len(every), style.WIDE)
        ]
    n_names = style.most_names(rows, ["dataset", "model", "eps"])
    height = style.tall(min(n_names, style.MOST_LINES))
    figure, axes = style.panels(len(bands), max(map(len, bands)), height=height, sharey="row")
    drawn: list[Drawn] = []
    for row, band in zip(axes, bands, strict=True):
        drawn.append([])
        for panel, (dataset, model, eps) in zip(row, band, strict=False):
            drawn[-1].append((panel, lines(panel, at(rows, dataset=dataset, model=model, eps=eps), words)))
            panel.set_title(style.title((dataset, model), where, f"eps {eps}"))
            ticks(panel, label)
        style.off(row[len(band) :])
    return figure, drawn, words


def finished(figure: Figure, drawn: list[Drawn], words: list[str], label: str = ACCURACY) -> None:
    """The y axes' name, what each line is called, and the notes: when the limits are set."""
    for row in drawn:
        row[0][0].set_ylabel(label)
        for panel, ends in row:
            style.name_ends(panel, list(ends.values()))
    style.note(figure, words)


def of_seeds(rows: pd.DataFrame) -> str:
    """What a line is."""
    return "means with the range of seeds" if rows["seed"].isna().all() else "a line a seed"


def curves(rows: pd.DataFrame) -> tuple[Figure, str]:
    """PGD10 accuracy on training images by epoch."""
    figure, drawn, words = facets(rows)
    for row in drawn:
        from_zero([panel for panel, _ in row])
    finished(figure, drawn, words)
    return figure, f"PGD10 accuracy on training images by epoch, {of_seeds(rows)}. {CROSS}."


def fig01(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Standard and fast AT by epoch, and the loss landscape of a fast run that is collapsed at the end."""
    places, words = style.places(rows, ["dataset", "model"])
    surfaces = at(rows, panel="surface")
    by_epoch, label = along(at(rows, panel="curve"))
    columns = 1 + bool(len(surfaces))
    figure, axes = style.panels(len(places), columns, 4.2, 3, gridspec_kw={"width_ratios": [1.25, 1][:columns]})
    for row, (dataset, model) in zip(axes, places, strict=True):
        here = at(by_epoch, dataset=dataset, model=model)
        ends = lines(row[0], here, words)
        told = f"eps {', '.join(style.eps_order(here['eps']))}"
        row[0].set(title=style.title((dataset, model), places, told), ylabel=ACCURACY)
        ticks(row[0], label)
        from_zero([row[0]])
        style.name_ends(row[0], list(ends.values()))
        if "pgd10" not in set(here["method"]):
            words.append(f"No run of standard AT (pgd10) on {dataset}, {model}.")
        seen = at(surfaces, dataset=dataset, model=model)
        if len(seen):
            landscape(figure, row[1], seen)
        else:
            words.append(f"No landscape of {dataset}, {model}: no run of fast AT there is collapsed at the end.")
            style.off(row[1:])
    style.note(figure, words)
    end = "No run of fast AT is collapsed at the end, so there is no landscape."
    if len(surfaces):
        end = (
            f"Right: mean loss of {style.span(surfaces['n'].astype(int), 'test image')} of a run collapsed at the end, "
            f"along the sign of the gradient (v1) and random signs (v2); along v1 alone highest at {peaks(surfaces)} "
            "eps, where FGSM would expect 1."
        )
    return figure, f"PGD10 accuracy of standard and fast AT by epoch, {of_seeds(by_epoch)}. {CROSS}. {end}"


def landscape(figure: Figure, axes: Axes, seen: pd.DataFrame) -> None:
    """The right of Figure 1: the surface of one run."""
    who = seen.iloc[0]
    solid = landscapes.relief(figure, axes, seen, (seen["loss"].min(), seen["loss"].max()))
    solid.set_title(f"{called(who['method'], who['variant'])}, seed {who['seed']}, eps {who['eps']}")


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
    figure, axes = style.panels(len(rows_of), max(here["variant"].nunique() for here in rows_of), 3.8, sharey="row")
    for row, here in zip(axes, rows_of, strict=True):
        variants = list(here["variant"].unique())
        top = (here["mean"] + here["std"].fillna(0)).max()
        row[0].set_ylim(-1.5, 1.35 * max(top, 10.0))
        row[0].set_ylabel(ACCURACY)
        for panel, variant in zip(row, variants, strict=False):
            on_subsets(panel, at(here, variant=variant), places)
        style.off(row[len(variants) :])
    style.note(figure, words)
    told = [f"{called(str(method))}, {', '.join(fallen(part))}" for method, part in rows.groupby("method", sort=False)]
    return figure, (
        "PGD10 accuracy of trainings on the images with small (blue) and large (red) gradient norms alone, as many "
        f"iterations each, mean and standard deviation over seeds. Collapsed at the end: {'; '.join(told)}."
    )


def on_subsets(panel: Axes, rows: pd.DataFrame, places: list[tuple[str, ...]]) -> None:
    """One recipe on several subsets."""
    ends = []
    for subset, one in rows.groupby("subset"):
        one, hue = one.sort_values("progress"), SUBSETS.get(str(subset), "#666666")
        deviation = one["std"].fillna(0)
        panel.plot(one["progress"], one["mean"], color=hue, lw=1.2)
        panel.fill_between(
            one["progress"], one["mean"] - deviation, one["mean"] + deviation, color=hue, alpha=0.2, lw=0
        )
        ends.append(End(float(one["progress"].iloc[-1]), float(one["mean"].iloc[-1]), tenths(str(subset)), hue))
    who = rows.iloc[0]
    size = f"step {who['alpha']:g} eps" if np.isfinite(who["alpha"]) else who["variant"]
    panel.set_title(style.title((who["dataset"], who["model"], who["eps"]), places, called(who["method"]), size))
    panel.set_xlabel("share of the training")
    panel.margins(x=0.02)
    style.name_ends(panel, ends)
    words = "\n".join(["collapsed at the end", *fallen(rows)])
    panel.text(0.02, 0.98, words, transform=panel.transAxes, va="top", size=style.NAME)


def tenths(subset: str) -> str:
    """`9-10` -> D_9^10."""
    first, last = subset.split("-")
    return f"$D_{{{first}}}^{{{last}}}$"


def fallen(rows: pd.DataFrame) -> list[str]:
    """`small norms: 0 of 3 (1 for a while)`, and so of large norms, D_i^10, and of those between, where there are any.

    How many are collapsed at the end, and were before.
    """
    cells = rows.groupby(["dataset", "model", "eps", "method", "variant", "subset"])
    counts = cells.agg({**dict.fromkeys(COLLAPSES, "sum"), "n_seeds": "max"}).reset_index()
    first, last = counts["subset"].str.startswith("1-"), counts["subset"].str.endswith("-10")
    sides = {"small": first & ~last, "middle": ~first & ~last, "large": last & ~first, "all": first & last}
    return [
        f"{side} norms: {how_many(*(int(counts.loc[here, name].sum()) for name in (*COLLAPSES, 'n_seeds')))}"
        for side, here in sides.items()
        if here.any()
    ]


def how_many(at_end: int, never: int, passed: int, n: int, diverged: int = 0) -> str:
    """`2 of 5 (1 not robust before, 1 for a while)`: how many of n are collapsed at the end, and how many were.

    diverged: how many there are beside the n.
    """
    counts = {"not robust before": never, "for a while": passed, "more diverged": diverged}
    more = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{at_end} of {n}" + (f" ({', '.join(more)})" if more else "")


ADAPTED = {"a": "fgsm_rs", "b": "atta"}
ADAPTIVE = {"a": ("FGSM-RS with a step of 1 eps", "fgsm_adaptive"), "b": ("ATTA with a step of 1 eps", "atas")}


def fig05(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Constant against adaptive steps, of whichever of the two comparisons has a run."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    letters = [letter for letter in ADAPTIVE if letter in set(rows["panel"])]
    rows, label = along(rows)
    figure, axes = style.panels(len(places), len(letters), 4.4, sharey="row")
    for row, (dataset, model, eps) in zip(axes, places, strict=True):
        row[0].set_ylabel(ACCURACY)
        drawn = []
        for panel, letter in zip(row, letters, strict=True):
            here = at(rows, dataset=dataset, model=model, eps=eps, panel=letter)
            drawn.append((panel, with_steps(lines(panel, here, words), here)))
            panel.set_title(style.title((dataset, model, eps), places, f"({letter}) {called(ADAPTED[letter])}"))
            ticks(panel, label)
            if here.empty:
                style.say(panel, f"no run of {' or '.join(ADAPTIVE[letter])}")
        from_zero(row)
        for panel, ends in drawn:
            style.name_ends(panel, ends)
    lacking = [word for letter, pair in ADAPTIVE.items() for word in lacked(at(rows, panel=letter), *pair)]
    if lacking:
        words.append(f"No run of {', '.join(lacking)}: config/evening.yaml has them.")
    style.note(figure, words)
    return figure, (
        "PGD10 accuracy by epoch of (a) FGSM-RS and (b) ATTA with a step of eps, against the same with the adaptive "
        f"step, {of_seeds(rows)}; beside the names: the mean step. {CROSS}. {collapsed(rows, ['panel'])}."
    )


def lacked(rows: pd.DataFrame, constant: str, adaptive: str) -> list[str]:
    """What of a comparison has no run."""
    is_adaptive = rows["method"] == adaptive
    return [word for word, there in ((constant, ~is_adaptive), (adaptive, is_adaptive)) if not there.any()]


def with_steps(ends: dict[tuple[str, str], End], rows: pd.DataFrame) -> list[End]:
    """The ends with the mean step of each cell, in eps, beside its name."""
    told = []
    for (method, variant), end in ends.items():
        mine = at(rows, method=method, variant=variant)
        step = (mine["mean_alpha_255"] / mine["eps"].map(parse_eps)).mean()
        told.append(end._replace(words=called(method) + (f", {step:.2f} eps" if np.isfinite(step) else "")))
    return told


def collapsed(rows: pd.DataFrame, within: list[str]) -> str:
    """`Collapsed at the end: FGSM-RS 2 of 5, ATAS 0 of 5 (1 for a while)`, of places with both methods, if any has.

    within: what else sets the pairs of methods apart.
    """
    told, words = [], "Collapsed at the end"
    n_methods = rows.groupby(["dataset", "model", "eps", *within])["method"].transform("nunique")
    most = n_methods.groupby([rows[key] for key in within]).transform("max") if within else n_methods.max()
    if (n_methods < most).any():
        rows, words = rows[n_methods == most], f"{words}, where both were run"
    for method, variant in style.in_order(zip(rows["method"], rows["variant"], strict=True)):
        part = at(rows, method=method, variant=variant)
        runs = part.groupby(["dataset", "model", "eps", "seed"], dropna=False)
        counts = (*part[list(COLLAPSES)].sum(), *runs[["n_seeds", "diverged"]].max().sum())
        told.append(f"{called(method, variant)} {how_many(*map(int, counts))}")
    return f"{words}: {', '.join(told)}"


def fig07(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Loss under PGD10 by epoch, smoothed."""
    rows = rows[rows["method"] != "clean"]
    if rows.empty:
        return style.blank("Nothing to draw: no adversarial training."), "Nothing to draw: no adversarial training."
    smooth = rows.assign(value=rows["smooth"], seed="", low=np.nan, high=np.nan, **dict.fromkeys(COLLAPSES, 0))
    figure, drawn, words = facets(smooth)
    for row in drawn:
        panel = row[0][0]
        losses = np.concatenate([line.get_ydata() for panel, _ in row for line in panel.lines])
        losses = losses[losses > 0]
        panel.set_yscale("log")
        panel.set_ylim(0.9 * losses.min(), min(1.1 * losses.max(), 8 * float(np.median(losses))))
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
    finished(figure, drawn, words, "loss under PGD10 (nats)")
    return figure, (
        "Cross-entropy under PGD10 on training images by epoch: mean over seeds, running mean over 3 epochs, cut at "
        f"the top; lower is a better fit to the attack. ATTA less ATAS, over the last 3 epochs: {gaps(rows)} (paper, "
        f"CIFAR10, ResNet-18: {printed.by_eps('loss_gap')})."
    )


def gaps(rows: pd.DataFrame) -> str:
    """`0.05 at 8/255`: how much lower ATAS ends than ATTA, both as in the paper."""
    own = at(rows, variant="paper")
    last = own.sort_values("epoch").groupby(["dataset", "model", "eps", "method"])["smooth"].last().unstack()
    if not {"atta", "atas"} <= set(last):
        return "not both are there"
    gap = (last["atta"] - last["atas"]).dropna()
    where = sorted(gap.items(), key=lambda item: (item[0][:2], parse_eps(item[0][2])))
    several = len({place[:2] for place, _ in where}) > 1
    told = [f"{value:.2f} at {eps}" + (f" ({data}, {model})" if several else "") for (data, model, eps), value in where]
    return ", ".join(told) or "at no eps both are there"


def fig08(rows: pd.DataFrame) -> tuple[Figure, str]:
    """FGSM-RS and ATAS again and again."""
    figure, drawn, words = facets(rows)
    for row in drawn:
        from_zero([panel for panel, _ in row])
    finished(figure, drawn, words)
    return figure, f"Repeated trainings of FGSM-RS and ATAS by epoch, {of_seeds(rows)}. {CROSS}. {collapsed(rows, [])}."


def collapse(rows: pd.DataFrame) -> Figure:
    """README's picture: accuracy under FGSM and PGD10 by epoch, a panel for each method with how many collapsed.

    Seeds that did not are pale where another one did.
    """
    methods = list(dict.fromkeys(rows["method"]))
    figure, (axes,) = style.panels(1, len(methods), 3.6, 2.6, sharey="row")
    for panel, method in zip(axes, methods, strict=True):
        seeds = [one.sort_values("epoch") for _, one in at(rows, method=method).groupby("seed")]
        fell = [
            detect(
                one["train_fgsm_acc"] / 100,
                one["train_pgd10_acc"] / 100,
                catalog.required(one["dataset"].iloc[0]).n_classes,
            )
            for one in seeds
        ]
        some_fell = any(one.first for one in fell)
        for one, word in zip(seeds, fell, strict=True):
            pale = 0.3 if some_fell and not word.first else 1.0
            panel.plot(one["epoch"], one["train_fgsm_acc"], color="#777777", lw=1, alpha=pale)
            panel.plot(one["epoch"], one["train_pgd10_acc"], color=colour(method), lw=1.5, alpha=pale)
        words = f"{sum(one.at_end for one in fell)} of {len(fell)} collapsed at the end"
        passed = sum(one.for_a_while for one in fell)
        words += f", {passed} for a while" if passed else ""
        panel.set(title=f"{called(method)}: {words}", xlabel="epoch")
    axes[0].set_ylabel("accuracy (%)")
    looks = {"under FGSM": "#777777", "under PGD10": "black"}
    handles = [Line2D([], [], color=look, label=words) for words, look in looks.items()]
    axes[-1].legend(handles=handles, loc="lower right", frameon=False, fontsize=8)
    return figure
