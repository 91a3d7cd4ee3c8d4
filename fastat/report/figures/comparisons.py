"""Methods beside each other: accuracy by eps, collapse map, cost, theory, and Figure 4."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from fastat.report.figures import style
from fastat.report.figures.style import at
from fastat.report.methods import DASHED, DOTTED, SOLID, about, called, place
from fastat.units import parse_eps

ATTACKS = {"clean": "clean", "pgd50": "PGD50", "aa": "AutoAttack"}
MOST_CELLS = 24  # methods and variants in the collapse map and among the costs


def accuracy_by_eps(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Clean, PGD50 and AutoAttack accuracy on test images against eps; bars span the seeds."""
    rows = rows.assign(eps_255=rows["eps"].map(parse_eps).astype(int))
    places, words = style.places(rows, ["dataset", "model"])
    figure, axes = style.panels(len(places), 3)
    drawn: set[tuple[str, str]] = set()
    for row, (dataset, model) in zip(axes, places, strict=True):
        for panel, (metric, label) in zip(row, ATTACKS.items(), strict=True):
            here = at(rows, dataset=dataset, model=model, metric=metric)
            panel.set(title=f"{dataset}, {model}: {label}", xlabel="eps (1/255)", ylabel="accuracy, test images (%)")
            if here.empty:
                style.say(panel, f"no run attacked by {label}")
                continue
            cells = style.in_order(zip(here["method"], here["variant"], strict=True))
            cells = style.fewer(cells, words)
            drawn |= set(cells)
            for k, (method, variant) in enumerate(cells):
                one = at(here, method=method, variant=variant).sort_values("eps_255")
                spread = [one["mean"] - one["low"], one["high"] - one["mean"]]
                apart = one["eps_255"] * (1 + 0.003 * (k - len(cells) / 2))
                look = {"color": about(method).colour, "ls": style.dash(method, variant)}
                sign = {"marker": about(method).marker, "mfc": style.face(method, variant), "ms": 5}
                panel.errorbar(apart, one["mean"], spread, **look, **sign, lw=1.1, elinewidth=0.8)
            panel.set_xticks(sorted(here["eps_255"].unique()))
            panel.set_ylim(-1.5, None if metric != "clean" else 102)
    style.legend(figure, drawn, marks=True)
    style.note(figure, words)
    return figure, (
        f"Accuracy on test images by eps: clean, under PGD50 and under AutoAttack ({style.where(rows)}; mean of "
        f"{style.spread(rows['n_seeds'])}, bars span them). At 0 under an attack, no image withstands it."
    )


def collapse_map(rows: pd.DataFrame) -> tuple[Figure, str]:
    """How often a method collapsed, at the end and for a while, by eps and by step size."""
    places, words = style.places(rows, ["dataset", "model"])
    heights = [0.8 + 0.36 * min(MOST_CELLS, at(rows, dataset=d, model=m, panel="eps")[["method", "variant"]]
                                .drop_duplicates().shape[0]) for d, m in places]  # fmt: skip
    figure, axes = style.panels(len(places), 2, width=5.6, height=max(2.8, float(np.mean(heights))))
    for row, (dataset, model) in zip(axes, places, strict=True):
        here = at(rows, dataset=dataset, model=model)
        by_eps, by_step = at(here, panel="eps"), at(here, panel="step")
        by_eps = by_eps.assign(x=by_eps["eps"], y=list(zip(by_eps["method"], by_eps["variant"], strict=True)))
        order = style.fewer(style.in_order(by_eps["y"]), words, MOST_CELLS)
        heat(row[0], by_eps, order, style.eps_order(by_eps["x"]), lambda y: called(*y))
        row[0].set(title=f"{dataset}, {model}", xlabel="eps")
        by_step = by_step.assign(
            x=by_step["alpha"].round(3), y=list(zip(by_step["method"], by_step["eps"], strict=True))
        )
        by_step = by_step[by_step.groupby("y")["x"].transform("nunique") > 1]
        if by_step.empty:
            style.say(row[1], "no runs of fgsm_rs or atta with several step sizes")
        else:
            ys = sorted(set(by_step["y"]), key=lambda y: (place(y[0]), int(y[1].split("/")[0])))
            heat(row[1], by_step, ys, sorted(by_step["x"].unique()), lambda y: f"{called(y[0])}, eps {y[1]}")
            row[1].set_ylim(max(len(ys), len(order)) - 0.5, -0.5)  # cells as high as on the left
            row[1].spines["left"].set_bounds(len(ys) - 0.5, -0.5)
            row[1].spines["bottom"].set_position(("data", len(ys) - 0.5))
        row[1].set(title=f"{dataset}, {model}", xlabel="step size (eps)")
    style.note(figure, words)
    only = at(rows, panel="eps")
    at_end, passed, ran, left = (int(only[key].sum()) for key in ("at_end", "for_a_while", "n", "diverged"))
    diverged = f"; {left} diverged and do not count" if left else ""
    return figure, (
        "How many trainings collapsed, of how many, by method and eps (left) and by the step size of FGSM-RS and ATTA "
        "(right): `end`, the network is collapsed at the end; `while`, it was for a while and recovered; exact 95 % "
        f"intervals in % of both together ({style.where(rows)}; left: {at_end} of {ran} collapsed at the end, {passed} "
        f"for a while{diverged}). Empty: no run. Few seeds leave wide intervals."
    )


def heat(axes: Axes, rows: pd.DataFrame, ys: list, xs: list, label: object) -> None:
    """k of n in colour for every (y, x); in words, how many at the end and for a while."""
    share = np.full((len(ys), len(xs)), np.nan)
    for one in rows[rows["y"].isin(ys) & rows["x"].isin(xs)].itertuples():
        i, j = ys.index(one.y), xs.index(one.x)
        kinds = [f"{count:g} {word}" for count, word in ((one.at_end, "end"), (one.for_a_while, "while")) if count]
        told = f"{' + '.join(kinds) or 0} of {one.n:g}"
        words = f"{told}\n[{100 * one.low:.0f}, {100 * one.high:.0f}]" if one.n else "diverged"
        share[i, j] = one.k / one.n if one.n else np.nan
        axes.text(j, i, words, ha="center", va="center", size=6.5, color="white" if share[i, j] > 0.6 else "black")
    axes.imshow(share, cmap="Reds", vmin=0, vmax=1.2, aspect="auto")
    axes.set_xticks(range(len(xs)), [f"{x:g}" if isinstance(x, float) else x for x in xs])
    axes.set_yticks(range(len(ys)), [label(y) for y in ys], fontsize=8)  # type: ignore[operator]
    axes.grid(False)


def cost_robustness(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Training time, and operations where they are known, against accuracy under attack."""
    rows = rows.fillna({"device": "unknown device"})
    places, words = style.places(rows, ["dataset", "model", "eps", "device"])
    costs = {"train_seconds": "training (s)"} | ({"gflop": "training (GFLOP)"} if rows["gflop"].notna().any() else {})
    panels = [(cost, attack) for cost in costs for attack in ("aa", "pgd50")]
    figure, axes = style.panels(len(places), len(panels), width=4.4)
    drawn: set[tuple[str, str]] = set()
    for row, (dataset, model, eps, device) in zip(axes, places, strict=True):
        here = at(rows, dataset=dataset, model=model, eps=eps, device=device)
        for panel, (cost, attack) in zip(row, panels, strict=True):
            known = here.dropna(subset=[cost, attack])
            panel.set(
                title=f"{dataset}, {model}, eps {eps}\n{device}", xlabel=costs[cost], ylabel=f"{ATTACKS[attack]} (%)"
            )
            if known.empty:
                style.say(panel, f"no run with {costs[cost]} and {ATTACKS[attack]}")
                continue
            cells = style.in_order(zip(known["method"], known["variant"], strict=True))
            cells = style.fewer(cells, words, MOST_CELLS)
            drawn |= set(cells)
            cloud(panel, known, cost, attack, cells)
    style.legend(figure, drawn, marks=True, lines=False)
    style.note(figure, words)
    return figure, (
        f"What robustness costs: training against accuracy under attack on test images ({style.where(rows)}; "
        f"{style.seeds(rows)}; small: single seeds, large: means). Grey: the Pareto front, the methods that none "
        "beats in both; times of different machines stand in different rows."
    )


def cloud(axes: Axes, rows: pd.DataFrame, cost: str, attack: str, cells: list[tuple[str, str]]) -> None:
    """Seeds, their means, and the Pareto front of the means."""
    means = rows.groupby(["method", "variant"])[[cost, attack]].mean()
    for method, variant in cells:
        one, colour = at(rows, method=method, variant=variant), about(method).colour
        if len(one) > 1:
            axes.scatter(one[cost], one[attack], color=colour, marker=".", s=14, alpha=0.6)
        look = {"facecolor": style.face(method, variant), "edgecolor": colour, "marker": about(method).marker}
        axes.scatter(*means.loc[(method, variant)], s=55, zorder=3, lw=1.2, **look)
    best = means.sort_values([cost, attack], ascending=[True, False])
    front = best[best[attack] > best[attack].cummax().shift(fill_value=-1.0)]
    axes.step(front[cost], front[attack], where="post", color="#888888", lw=1, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def theory(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Regrets beside their bounds, and who is faster by the tail."""
    kinds = list(rows["problem"].unique())
    looks = {"SGD_BCA": (about("atta").colour, "o"), "A-SGD_BCA": (about("atas").colour, "*"),
             "A-SGD_BCA, v for v-hat": (about("nuat").colour, "x")}  # fmt: skip
    figure, axes = style.panels(len(kinds), 3, width=4.4)
    tail, longest = rows["tail"].max(), rows["T"].max()
    for row, kind in zip(axes, kinds, strict=True):
        for panel, eta in zip(row, ("printed", "counted"), strict=False):
            here = at(rows, problem=kind, eta=eta, tail=tail)
            for algorithm, (colour, sign) in looks.items():
                means = at(here, algorithm=algorithm).groupby("T")[["regret", "bound", "bound_counted"]].mean()
                panel.plot(means.index, means["regret"], color=colour, marker=sign, label=f"{algorithm}")
                if sign != "x":
                    panel.plot(means.index, means["bound"], color=colour, ls=DASHED, lw=1)
                    panel.plot(means.index, means["bound_counted"], color=colour, ls=DOTTED, lw=1)
            panel.set(xscale="log", yscale="log", xlabel="T", ylabel="regret R(T)")
            panel.set_title(f"{kind}, tail {tail:g}, {eta} step sizes")
        for eta, dash in (("printed", SOLID), ("counted", DASHED)):
            here = at(rows, problem=kind, T=longest, eta=eta)
            means = here.groupby(["tail", "algorithm"])[["ratio", "regret", "bound"]].mean().unstack()
            x = means["ratio", "SGD_BCA"]
            won = means["regret", "SGD_BCA"] / means["regret", "A-SGD_BCA"]
            row[2].plot(x, won, color="black", ls=dash, marker="o", label=f"regrets, {eta} steps")
            if eta == "printed":
                row[2].plot(x, means["bound", "SGD_BCA"] / means["bound", "A-SGD_BCA"], color="#888888", label="bounds")
        row[2].axhline(1, color="#cccccc", lw=1)
        row[2].set(xlabel=r"$\sqrt{\mathrm{mean}\ G^2}$ / mean G", ylabel="SGD_BCA / A-SGD_BCA", ylim=(0, None))
        row[2].set_title(f"{kind}, T = {longest}")
        row[2].legend(frameon=False, fontsize=8, handlelength=4)
    handles = axes[0][0].get_legend_handles_labels()[0] + [
        Line2D([], [], color="#888888", ls=DASHED, label="bound as printed"),
        Line2D([], [], color="#888888", ls=DOTTED, label="bound, all n images counted"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    printed = rows[rows["eta"] == "printed"]
    over = (printed["regret"] / printed["bound"]).groupby(printed["problem"]).max()
    worst = " and ".join(f"{value:.2f} times the bound on `{kind}`" for kind, value in over.items())
    counted = (rows["regret"] / rows["bound_counted"]).max()
    return figure, (
        f"Regret on a problem with a known saddle point, long-tailed gradient norms and {rows['seed'].nunique()} "
        "seeds, beside the bounds of Theorems IV.1 and IV.2: with the printed step sizes the largest regret is "
        f"{worst}, and never above {counted:.2f} times the bound that counts all n images. Right: how many times as "
        "large SGD_BCA's regret is, by the tail."
    )


def fig04(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Loss gap and robust accuracy by step size, FGSM-RS left and ATTA right."""
    places, words = style.places(rows, ["dataset", "model", "eps"])
    figure, axes = style.panels(len(places), 4, width=3.6)
    for row, (dataset, model, eps) in zip(axes, places, strict=True):
        here = at(rows, dataset=dataset, model=model, eps=eps)
        for k, method in enumerate(("fgsm_rs", "atta")):
            gap(row[2 * k], at(here, method=method, panel="gap"), method, "ac"[k])
            trained(row[2 * k + 1], at(here, method=method, panel="accuracy"), method, "bd"[k])
        row[0].text(-0.25, 1.12, f"{dataset}, {model}, eps {eps}", transform=row[0].transAxes, fontsize=9)
    style.note(figure, words)
    gaps = at(rows, panel="gap")
    n = f"{int(gaps['n'].iloc[0])} training images" if len(gaps) else "none"
    return figure, (
        f"FGSM-RS (a, b) and ATTA (c, d) on {style.where(rows)}. (a, c) How much higher the loss under PGD10 is than "
        f"after one step of each size, on {n} of trained networks (mean and range of seeds){ends(gaps)}. (b, d) "
        "Accuracy on test images of networks trained with each step size, a dot a seed; crosses: collapsed at "
        "the end."
    )


def ends(gaps: pd.DataFrame) -> str:
    """The mean gap after the smallest and the largest step, in words."""
    told = []
    for method, part in gaps.groupby("method", sort=False):
        means = part.groupby("alpha")["gap"].mean()
        steps = (f"{means[step]:.2f} at {step:g} eps" for step in (means.index.min(), means.index.max()))
        told.append(f"{called(str(method))} {', '.join(steps)}")
    return f": {'; '.join(told)}" if told else ""


def gap(axes: Axes, rows: pd.DataFrame, method: str, letter: str) -> None:
    """Loss under PGD10 less the loss after one step, by its size."""
    axes.set(title=f"({letter}) {called(method)}", xlabel="step size (eps)", ylabel="PGD10's loss - one step's")
    if rows.empty:
        style.say(axes, f"no run of {method} with steps.csv")
        return
    for end, part in rows.groupby(rows["collapsed_at_end"] == 1):
        by = part.groupby("alpha")["gap"]
        look = {"color": "#888888" if end else about(method).colour, "ls": DOTTED if end else SOLID}
        axes.plot(by.mean().index, by.mean(), marker=".", label="collapsed at the end" if end else "robust", **look)
        axes.fill_between(by.mean().index, by.min(), by.max(), color=look["color"], alpha=0.2, lw=0)
    if rows["collapsed_at_end"].eq(1).any():
        axes.legend(frameon=False, fontsize=8)


def trained(axes: Axes, rows: pd.DataFrame, method: str, letter: str) -> None:
    """Accuracy under attack of the networks trained with each step size."""
    axes.set(title=f"({letter}) {called(method)}", xlabel="step size in training (eps)", ylabel="accuracy (%)")
    if rows.empty:
        style.say(axes, f"no run of {method} with a known step size")
        return
    for metric, dash, shape in (("pgd10", SOLID, "o"), ("aa", DASHED, "s")):
        by = rows.groupby("alpha")[metric].mean()
        axes.plot(
            by.index, by, color=about(method).colour, ls=dash, label={"pgd10": "PGD10", "aa": "AutoAttack"}[metric]
        )
        for end, part in rows.groupby(rows["collapsed_at_end"] == 1):
            look = {"marker": "x", "color": "black"} if end else {"marker": shape, "color": about(method).colour}
            axes.scatter(part["alpha"], part[metric], s=16, zorder=3, **look)
    axes.set_ylim(-1.5, None)
    axes.legend(frameon=False, fontsize=8)
