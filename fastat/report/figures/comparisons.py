"""Methods beside each other: accuracy by eps, collapse map, cost, theory, and Figure 4."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Transform

from fastat.report.figures import printed, style
from fastat.report.figures.style import End, at
from fastat.report.methods import DASHED, DOTTED, SOLID, about, called, colour, is_grey, place
from fastat.units import parse_eps

ATTACKS = {"clean": "clean", "pgd50": "PGD50", "aa": "AutoAttack"}
MORE_STEPS = "config/evening.yaml trains more step sizes."


def accuracy_by_eps(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Clean, PGD50 and AutoAttack accuracy on test images against eps; bars span the seeds."""
    rows = rows.assign(eps_255=rows["eps"].map(parse_eps).astype(int))
    places, words = style.places(rows, ["dataset", "model"])
    metrics = [metric for metric in ATTACKS if metric in set(rows["metric"])]
    n_names = style.most_names(rows, ["dataset", "model", "metric"])
    height = style.tall(min(n_names, style.MOST_LINES), 3.2)
    figure, axes = style.panels(len(places), len(metrics), height=height)
    for row, (dataset, model) in zip(axes, places, strict=True):
        for panel, metric in zip(row, metrics, strict=True):
            here = at(rows, dataset=dataset, model=model, metric=metric)
            panel.set(title=style.title((dataset, model), places, ATTACKS[metric]), xlabel="eps (1/255)")
            if here.empty:
                style.say(panel, f"no run under {ATTACKS[metric]}")
                continue
            by_eps(panel, here, (dataset, model, metric), words)
        row[0].set_ylabel("accuracy, test images (%)")
    style.note(figure, words)
    return figure, (
        "Accuracy on test images by eps: clean, under PGD50 and under AutoAttack, means with the range of seeds. At 0 "
        "no image withstands the attack. Thin and grey: the paper's numbers, at its own eps."
    )


def by_eps(axes: Axes, rows: pd.DataFrame, where: tuple[str, str, str], words: list[str]) -> None:
    """One accuracy of every method at one place against eps, beside the paper's."""
    ends = []
    ticks = sorted(rows["eps_255"].unique())
    cells = style.fewer(style.in_order(zip(rows["method"], rows["variant"], strict=True)), words)
    for k, cell in enumerate(cells):
        one = at(rows, method=cell[0], variant=cell[1]).sort_values("eps_255")
        spread = [one["mean"] - one["low"], one["high"] - one["mean"]]
        apart = one["eps_255"] * (1 + 0.03 * (k / len(cells) - 0.5))
        look = {"color": colour(*cell), "ls": style.dash(*cell), "zorder": style.above(*cell)}
        sign = {"marker": about(cell[0]).marker, "mfc": style.face(*cell), "ms": 4}
        axes.errorbar(apart, one["mean"], spread, **look, **sign, lw=1.1, elinewidth=0.8)
        ends.append(End(float(apart.iloc[-1]), float(one["mean"].iloc[-1]), called(*cell), look["color"]))
    theirs, whose = printed.numbers(where[2], *where[:2])
    theirs = theirs[theirs["method"].isin([m for m, v in cells if v == "paper" and stands_out(m)])]
    own = printed.numbers("aa", *where[:2])[0]["eps_255"]  # of all the paper's eps there
    alike = any(own.min() <= eps <= own.max() for eps in ticks)
    ticks = sorted({*ticks, *theirs["eps_255"]}) if alike else ticks
    values = np.concatenate([rows["low"], rows["high"], theirs["value"]])
    bottom, top = float(np.nanmin(values)), float(np.nanmax(values))
    axes.set_xscale("log")
    axes.set(xlim=(ticks[0] / EDGE, ticks[-1] * EDGE), ylim=(-1.5, max(10, 1.05 * top)))
    if where[2] == "clean":
        axes.set_ylim(max(-1.5, bottom - 5), 102)
    scaled(axes, ticks)
    style.name_ends(axes, ends, 0.9 if rows["eps_255"].nunique() > 1 else 0)
    if len(theirs):
        beside(axes, theirs, whose, None if alike else [own.min(), own.max()])


EDGE = 1.06  # times: how far an axis of eps goes beyond its ends


def scaled(axes: Axes, ticks: list[int]) -> None:
    """Ticks at these eps and nowhere else."""
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def beside(axes: Axes, theirs: pd.DataFrame, whose: str, span: list[int] | None) -> None:
    """The paper's numbers, thin and grey: on our axis of eps or, from end to end of `span`, on one of their own."""
    upper = axes.twiny()
    upper.set_xscale("log")
    upper.set_xlim((span[0] / EDGE, span[1] * EDGE) if span else axes.get_xlim())
    scaled(upper, sorted(set(theirs["eps_255"])) if span else [])
    for method, one in theirs.groupby("method"):
        sign = {"marker": about(str(method)).marker, "ms": 3.5, "mfc": "white"}
        upper.plot(one["eps_255"], one["value"], color=style.PAPER, lw=0.6, **sign, zorder=1.5)
    upper.tick_params(axis="x", colors=style.PALE, labelsize=style.NAME, length=2, pad=1)
    told = f"{whose}: eps (1/255)" if span else f"thin, grey: {whose}"
    upper.set_xlabel(told, size=style.NAME, color=style.PALE, labelpad=2)
    upper.grid(False)


def stands_out(method: str) -> bool:
    """Whether a method has a hue of its own."""
    return not is_grey(colour(method))


CELL_HIGH, CELL_WIDE = 0.36, 1.0  # inches of a cell of the map


def collapse_map(rows: pd.DataFrame) -> tuple[Figure, str]:
    """How often a method collapsed, at the end and for a while, by eps and, below it, by step size."""
    places, words = style.places(rows, ["dataset", "model"])
    maps = [one for where in places for one in maps_of(at(rows, dataset=where[0], model=where[1]), words)]
    heights = [CELL_HIGH * len(ys) + 0.25 for _, ys, _, _ in maps]
    wide = max(3.6, 1.5 + CELL_WIDE * max(len(xs) for _, _, xs, _ in maps))
    figure, axes = style.panels(
        len(maps), 1, wide, (sum(heights) + 0.55 * len(maps)) / len(maps), gridspec_kw={"height_ratios": heights}
    )
    for (panel,), (cells, ys, xs, label) in zip(axes, maps, strict=True):
        heat(panel, cells, ys, xs)
        place = tuple(cells[["dataset", "model"]].iloc[0])
        panel.set(title=style.title(place, places) or None, xlabel=label)
    if (rows["panel"] == "step").sum() == 0 or not any(label.startswith("step") for *_, label in maps):
        words.append("No map of step sizes: fgsm_rs or atta has not been trained with several; " + MORE_STEPS)
    style.note(figure, words)
    only = at(rows, panel="eps")
    at_end, never, passed, ran, left = (
        int(only[key].sum()) for key in ("at_end", "never", "for_a_while", "n", "diverged")
    )
    lost = f" ({never} of them not robust before)" if never else ""
    diverged = f"; {left} diverged and do not count" if left else ""
    return figure, (
        "How many trainings collapsed, of how many, by method and eps, and by step size in eps: `end`, collapsed at "
        "the end; `while`, for a while; exact 95 % intervals in % of both together. Of the runs by eps "
        f"{at_end} of {ran} collapsed at the end{lost}, {passed} for a while{diverged}. Empty: no run."
    )


Map = tuple[pd.DataFrame, list[str], list[str], str]  # cells with x and y, the names of rows and columns, of the x axis


def maps_of(rows: pd.DataFrame, words: list[str]) -> list[Map]:
    """The map by eps of one place and, where a method was trained with several step sizes, that by step."""
    by_eps, by_step = at(rows, panel="eps"), at(rows, panel="step")
    found: list[Map] = []
    if len(by_eps):
        order = style.fewer(style.in_order(zip(by_eps["method"], by_eps["variant"], strict=True)), words)
        by_eps = by_eps.assign(
            x=by_eps["eps"], y=[called(*c) for c in zip(by_eps["method"], by_eps["variant"], strict=True)]
        )
        found.append((by_eps, [called(*cell) for cell in order], style.eps_order(by_eps["x"]), "eps"))
    who = list(zip(by_step["method"], by_step["eps"], strict=True))
    by_step = by_step.assign(y=[f"{called(m)}, eps {eps}" for m, eps in who], size=by_step["alpha"].round(3))
    by_step = by_step[by_step.groupby("y")["size"].transform("nunique") > 1] if len(by_step) else by_step
    if len(by_step):
        rows_of = sorted(
            set(zip(by_step["method"], by_step["eps"], strict=True)), key=lambda w: (place(w[0]), parse_eps(w[1]))
        )
        by_step = by_step.assign(x=by_step["size"].map("{:g}".format))
        columns = [f"{x:g}" for x in sorted(by_step["size"].unique())]
        found.append((by_step, [f"{called(m)}, eps {eps}" for m, eps in rows_of], columns, "step size (eps)"))
    return found


def heat(axes: Axes, rows: pd.DataFrame, ys: list[str], xs: list[str]) -> None:
    """k of n in colour for every (y, x); in words, how many of each kind."""
    share = np.full((len(ys), len(xs)), np.nan)
    for one in rows[rows["y"].isin(ys) & rows["x"].isin(xs)].itertuples():
        i, j = ys.index(one.y), xs.index(one.x)
        counts = {"end": one.at_end - one.never, "never": one.never, "while": one.for_a_while}
        kinds = [f"{count:g} {word}" for word, count in counts.items() if count]
        told = f"{' + '.join(kinds) or 0} of {one.n:g}"
        words = f"{told}\n[{100 * one.low:.0f}, {100 * one.high:.0f}]" if one.n else "diverged"
        share[i, j] = one.k / one.n if one.n else np.nan
        axes.text(j, i, words, ha="center", va="center", size=6.5, color="white" if share[i, j] > 0.6 else "black")
    axes.imshow(share, cmap="Reds", vmin=0, vmax=1.2, aspect="auto")
    axes.set_xticks(range(len(xs)), xs)
    axes.set_yticks(range(len(ys)), ys, fontsize=8)
    axes.grid(False)


def cost_robustness(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Training time, and operations where they are known, against accuracy under attack."""
    rows = rows.fillna({"device": "unknown device"})
    places, words = style.places(rows, ["dataset", "model", "eps", "device"])
    costs = {"train_seconds": "training (s)"} | ({"gflop": "training (GFLOP)"} if rows["gflop"].notna().any() else {})
    attacks = [attack for attack in ("aa", "pgd50") if rows[attack].notna().any()]
    wanted = [(cost, attack) for cost in costs for attack in attacks]
    shapes = [wanted[k : k + 2] for k in range(0, len(wanted), 2)]
    n_names = style.most_names(rows, ["dataset", "model", "eps", "device"])
    height = style.tall(min(n_names, style.MOST_LINES), 3.6)
    figure, axes = style.panels(len(places) * len(shapes), max(map(len, shapes)), 4.6, height)
    bands = [(where, shape) for where in places for shape in shapes]
    clouds = []
    for row, (where, shape) in zip(axes, bands, strict=True):
        here = at(rows, **dict(zip(("dataset", "model", "eps", "device"), where, strict=True)))
        told = f"{where[0]}, {where[1]}, eps {where[2]}\n{where[3]}" if len(places) > 1 else ""
        for panel, (cost, attack) in zip(row, shape, strict=False):
            known = here.dropna(subset=[cost, attack])
            panel.set(title=told, xlabel=costs[cost], ylabel=f"{ATTACKS[attack]} (%)")
            if known.empty:
                style.say(panel, f"no run with {costs[cost]} and {ATTACKS[attack]}")
                continue
            cells = style.fewer(style.in_order(zip(known["method"], known["variant"], strict=True)), words)
            single = list(known[[cost, attack]].itertuples(index=False, name=None))
            clouds.append((panel, cloud(panel, known, cost, attack, cells), single))
        style.off(row[len(shape) :])
    operations = " Operations are those of each method's `paper`." if "gflop" in costs else ""
    devices = sorted(set(rows["device"]))
    words.append(f"Measured on: {'; '.join(devices)}.")
    style.note(figure, words)
    for panel, points, single in clouds:
        style.name_points(panel, points, single)
    return figure, (
        "What robustness costs: training against accuracy under attack on test images (small: single seeds, large: "
        "means). Grey line: the Pareto front, the methods that none beats in both. Times of different machines stand "
        f"in different rows.{operations}"
    )


def cloud(axes: Axes, rows: pd.DataFrame, cost: str, attack: str, cells: list[tuple[str, str]]) -> list[End]:
    """Seeds, their means, and the Pareto front of the means. Returns the means."""
    means = rows.groupby(["method", "variant"])[[cost, attack]].mean()
    points = []
    for cell in cells:
        one, hue = at(rows, method=cell[0], variant=cell[1]), colour(*cell)
        if len(one) > 1:
            axes.scatter(one[cost], one[attack], color=hue, marker=".", s=14, alpha=0.6)
        look = {"facecolor": hue if cell[1] == "paper" else "white", "edgecolor": hue, "marker": about(cell[0]).marker}
        axes.scatter(*means.loc[cell], s=45, zorder=3, lw=1.2, **look)
        points.append(End(*map(float, means.loc[cell]), called(*cell), hue))
    best = means.sort_values([cost, attack], ascending=[True, False])
    front = best[best[attack] > best[attack].cummax().shift(fill_value=-1.0)]
    axes.step(front[cost], front[attack], where="post", color="#bbbbbb", lw=1, zorder=1)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.09)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    return points


LOOKS = {  # of the theory's algorithms: those of the methods that they stand for
    "SGD_BCA": (colour("atta"), "o"), "A-SGD_BCA": (colour("atas"), "*"), "A-SGD_BCA, v for v-hat": ("#555555", "x"),
}  # fmt: skip


def theory(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Regrets beside their bounds, and who is faster by the tail."""
    kinds = list(rows["problem"].unique())
    figure, axes = style.panels(len(kinds), 3)
    tail, longest = rows["tail"].max(), rows["T"].max()
    for row, kind in zip(axes, kinds, strict=True):
        for panel, eta in zip(row, ("printed", "counted"), strict=False):
            regrets(panel, at(rows, problem=kind, eta=eta, tail=tail))
            panel.set_title(f"{kind}, tail {tail:g}, {eta} step sizes")
        by_tail(row[2], at(rows, problem=kind, T=longest))
        row[2].set_title(f"{kind}, T = {longest}")
    figure.legend(handles=signs(), loc="outside upper center", ncols=4, frameon=False, fontsize=style.NAME)
    printed_steps = rows[rows["eta"] == "printed"]
    over = (printed_steps["regret"] / printed_steps["bound"]).groupby(printed_steps["problem"]).max()
    worst = " and ".join(f"{value:.2f} times the bound on `{kind}`" for kind, value in over.items())
    counted = (rows["regret"] / rows["bound_counted"]).max()
    return figure, (
        f"Regret on a problem with a known saddle point and long-tailed gradient norms, {rows['seed'].nunique()} "
        "seeds, beside the bounds of Theorems IV.1 and IV.2: with the printed step sizes the largest regret is "
        f"{worst}, and never above {counted:.2f} times the bound that counts all n images. Right: SGD_BCA's regret "
        "over A-SGD_BCA's, by the tail."
    )


def regrets(axes: Axes, rows: pd.DataFrame) -> None:
    """Regret and bounds by T of one problem and one kind of step sizes."""
    for algorithm, (hue, sign) in LOOKS.items():
        means = at(rows, algorithm=algorithm).groupby("T")[["regret", "bound", "bound_counted"]].mean()
        axes.plot(means.index, means["regret"], color=hue, marker=sign, ms=4)
        if sign != "x":
            axes.plot(means.index, means["bound"], color=hue, ls=DASHED, lw=1)
            axes.plot(means.index, means["bound_counted"], color=hue, ls=DOTTED, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="T", ylabel="regret R(T)")


def by_tail(axes: Axes, rows: pd.DataFrame) -> None:
    """How many times as large SGD_BCA's regret and bound are, by the tail."""
    for eta, dash in (("printed", SOLID), ("counted", DASHED)):
        means = at(rows, eta=eta).groupby(["tail", "algorithm"])[["ratio", "regret", "bound"]].mean().unstack()
        x = means["ratio", "SGD_BCA"]
        axes.plot(
            x, means["regret", "SGD_BCA"] / means["regret", "A-SGD_BCA"], color="black", ls=dash, marker="o", ms=4
        )
        if eta == "printed":
            axes.plot(x, means["bound", "SGD_BCA"] / means["bound", "A-SGD_BCA"], color="#888888")
    axes.axhline(1, color="#cccccc", lw=1)
    axes.set(xlabel=r"$\sqrt{\mathrm{mean}\ G^2}$ / mean G", ylabel="SGD_BCA / A-SGD_BCA", ylim=(0, None))


def signs() -> list[Line2D]:
    """What the lines of all panels of `theory` mean."""
    regret = [Line2D([], [], color=hue, marker=sign, ms=4, label=name) for name, (hue, sign) in LOOKS.items()]
    return [
        *regret,
        Line2D([], [], color="#888888", ls=DASHED, lw=1, label="bound as printed"),
        Line2D([], [], color="#888888", ls=DOTTED, lw=1, label="bound, all n images counted"),
        Line2D([], [], color="black", ls=SOLID, marker="o", ms=4, label="right: regrets, printed steps"),
        Line2D([], [], color="black", ls=DASHED, marker="o", ms=4, label="right: regrets, counted steps"),
        Line2D([], [], color="#888888", label="right: bounds"),
    ]


def fig04(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Loss gap and robust accuracy by step size: a row for FGSM-RS and one for ATTA, whichever was run."""
    places, words = style.places(rows, ["dataset", "model", "eps"], 2)
    methods = [method for method in ("fgsm_rs", "atta") if method in set(rows["method"])]
    bands = [(where, method) for where in places for method in methods]
    figure, axes = style.panels(len(bands), 2, 4.2, 2.6)
    for row, (where, method) in zip(axes, bands, strict=True):
        here = at(rows, dataset=where[0], model=where[1], eps=where[2], method=method)
        letters = "ab" if method == "fgsm_rs" else "cd"
        name = called(method)
        row[0].set_title(style.title(where, places, f"({letters[0]}) {name}"))
        row[1].set_title(style.title(where, places, f"({letters[1]}) {name}"))
        gap(row[0], at(here, panel="gap"), method)
        trained(row[1], at(here, panel="accuracy"), method)
    few = at(rows, panel="accuracy").groupby("method")["alpha"].nunique().lt(2)
    if few.any():
        single = ", ".join(called(str(method)) for method in few.index[few])
        words.append(f"{single}: trained with one step size; {MORE_STEPS}")
    figure.legend(handles=shapes(rows), loc="outside upper center", ncols=4, frameon=False, fontsize=style.NAME)
    style.note(figure, words)
    gaps = at(rows, panel="gap")
    n = f"{style.span(gaps['n'].dropna().astype(int), 'training image')}" if len(gaps) else "none"
    return figure, (
        f"By step size: (a, c) how much higher the loss under PGD10 is than after one step, on {n} of trained networks "
        f"(mean and range of seeds){ends(gaps)}; (b, d) accuracy on test images of networks trained with it, a dot a "
        "seed."
    )


def shapes(rows: pd.DataFrame) -> list[Line2D]:
    """What the signs of Figure 4 mean, those that are there."""
    ended = set(rows.loc[rows["collapsed_at_end"] == 1, "panel"])
    signs = {
        Line2D([], [], color="#555555", ls=SOLID, marker="o", ms=4, label="PGD10"): rows["pgd10"].notna().any(),
        Line2D([], [], color="#555555", ls=DASHED, marker="s", ms=4, label="AutoAttack"): rows["aa"].notna().any(),
        Line2D([], [], color="black", ls="", marker="x", ms=5, label="collapsed at the end"): "accuracy" in ended,
        Line2D([], [], color="#888888", ls=DOTTED, label="gap of collapsed networks"): "gap" in ended,
    }
    return [sign for sign, there in signs.items() if there]


def ends(gaps: pd.DataFrame) -> str:
    """The mean gap after the smallest and the largest step in words, of what is one line of a panel."""
    keys = ["dataset", "model"]
    every, _ = style.places(gaps, keys, len(gaps))
    told = []
    for (*where, method, end), part in gaps.groupby([*keys, "method", gaps["collapsed_at_end"] == 1], sort=False):
        means = part.groupby("alpha")["gap"].mean()
        steps = (f"{means[step]:.2f} at {step:g} eps" for step in (means.index.min(), means.index.max()))
        who = called(str(method)) + (f" on {on}" if (on := style.title(where, every)) else "")
        told.append(f"{who}{', collapsed at the end,' if end else ''} {', '.join(steps)}")
    return f": {'; '.join(told)}" if told else ""


def gap(axes: Axes, rows: pd.DataFrame, method: str) -> None:
    """Loss under PGD10 less the loss after one step, by its size."""
    axes.set(xlabel="step size (eps)", ylabel="loss: PGD10 less one step", xlim=(0, None))
    if rows.empty:
        style.say(axes, f"no run of {method} with steps.csv")
        return
    for end, part in rows.groupby(rows["collapsed_at_end"] == 1):
        by = part.groupby("alpha")["gap"]
        look = {"color": "#888888" if end else colour(method), "ls": DOTTED if end else SOLID}
        axes.plot(by.mean().index, by.mean(), marker=".", **look)
        axes.fill_between(by.mean().index, by.min(), by.max(), color=look["color"], alpha=0.2, lw=0)
    axes.set(
        xlim=(0, 1.05 * rows["alpha"].max()), ylim=(min(-0.03 * rows["gap"].max(), 1.05 * rows["gap"].min()), None)
    )


def trained(axes: Axes, rows: pd.DataFrame, method: str) -> None:
    """Accuracy under attack of the networks trained with each step size, and what the paper says of such steps."""
    axes.set(xlabel="step size in training (eps)", ylabel="accuracy, test images (%)")
    if rows.empty:
        style.say(axes, f"no run of {method} with a known step size")
        return
    for metric, dash, shape in (("pgd10", SOLID, "o"), ("aa", DASHED, "s")):
        by = rows.dropna(subset=[metric]).groupby("alpha")[metric].mean()
        axes.plot(by.index, by, color=colour(method), ls=dash)
        for end, part in rows.groupby(rows["collapsed_at_end"] == 1):
            look = {"marker": "x", "color": "black"} if end else {"marker": shape, "color": colour(method)}
            axes.scatter(part["alpha"], part[metric], s=16, zorder=3, **look)
    highest = max(10.0, rows[["pgd10", "aa"]].max(axis=None))
    axes.set(xlim=(0, max(2.1, 1.05 * rows["alpha"].max())), ylim=(-1.5, 1.3 * highest))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for step, told in printed.STEPS[method].items():
        axes.plot([step, step], [0, 0.85], color=style.PAPER, lw=0.7, ls=DOTTED, zorder=1, transform=at_step(axes))
        axes.text(step, 0.99, f"paper, CIFAR10:\n{told}", ha="center", va="top", size=style.NAME - 1, color=style.PALE,
                  transform=at_step(axes))  # fmt: skip


def at_step(axes: Axes) -> Transform:
    """Across in data units, up in shares of the panel."""
    return axes.get_xaxis_transform()
