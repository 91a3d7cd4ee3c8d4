"""Figures from results/measured.csv. pandas, matplotlib, seaborn; never torch."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import pandas as pd  # noqa: E402
import seaborn as sns  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from fastat.files import atomic  # noqa: E402


def write(name: str, measured: Path, out: Path) -> None:
    """Write `out`.svg and .png."""
    rows = pd.read_csv(measured, dtype={"seed": str})
    rows["value"] = pd.to_numeric(rows["value"], errors="coerce")  # the cause of a divergence is a text
    rows["name"] = rows["method"] + rows["variant"].map(lambda v: "" if v == "paper" else f" ({v})")
    rows["panel"] = rows["dataset"] + ", " + rows["model"]
    sns.set_theme(style="whitegrid", palette="colorblind")
    matplotlib.rcParams["svg.hashsalt"] = "fastat"
    figure = {"curves": curves, "accuracy_by_eps": accuracy_by_eps}[name](rows)
    for ending in ("svg", "png"):
        with atomic(Path(f"{out}.{ending}")) as partial:
            figure.savefig(
                partial,
                format=ending,
                dpi=150,
                bbox_inches="tight",
                metadata={"Date": None} if ending == "svg" else None,
            )


def colours(rows: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Name of a method -> its colour, the same in every figure of a run; as many colours as methods."""
    names = sorted(set(rows["name"]))
    return dict(zip(names, sns.color_palette("husl", len(names)), strict=True))


def dashes(rows: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    """Neighbours in colour differ in their dashes."""
    kinds: list[tuple[int, ...]] = [(), (4, 1.5), (1, 1)]  # type: ignore[list-item]
    return {name: kinds[k % 3] for k, name in enumerate(sorted(set(rows["name"])))}


def curves(rows: pd.DataFrame) -> Figure:
    """PGD10 accuracy on training images by epoch (Fig. 1 left, Fig. 8); a cross marks the collapse of a seed."""
    at = rows[rows["metric"] == "train_pgd10_acc"].copy()
    at["eps_255"] = at["eps"].str.removesuffix("/255").astype(int)
    at = at.sort_values(["eps_255", "name"])
    grid = sns.relplot(
        data=at, x="epoch", y="value", hue="name", palette=colours(rows), style="name", dashes=dashes(rows),
        units="seed", estimator=None, col="eps", row="panel",
        kind="line", height=4.2, aspect=1.1,
    )  # fmt: skip
    fallen = rows[(rows["metric"] == "collapse_epoch") & rows["value"].notna()]
    who = ["panel", "eps", "name", "seed"]
    marks = fallen[[*who, "value"]].rename(columns={"value": "epoch"}).merge(at, on=[*who, "epoch"])
    for (panel, eps), part in marks.groupby(["panel", "eps"]):
        grid.axes_dict[(panel, eps)].scatter(part["epoch"], part["value"], marker="x", color="black", zorder=5)
    grid.set_axis_labels("epoch", "PGD10, training images (%)")
    grid.set_titles("{row_name}, eps {col_name}")
    grid.legend.set_title("method (x: collapse)")
    return grid.figure


def accuracy_by_eps(rows: pd.DataFrame) -> Figure:
    """PGD50 and AutoAttack accuracy on test images against eps; bars span the seeds."""
    at = rows[rows["metric"].isin(["clean", "pgd50", "aa"])].copy()
    at["eps_255"] = at["eps"].str.removesuffix("/255").astype(int)
    grid = sns.relplot(
        data=at, x="eps_255", y="value", hue="name", palette=colours(rows), style="name", dashes=dashes(rows),
        markers=True, col="metric",
        row="panel", kind="line", errorbar=("pi", 100), err_style="bars", height=4.2, aspect=1.1,
    )  # fmt: skip
    grid.set_axis_labels("eps (1/255)", "accuracy, test images (%)")
    grid.set_titles("{row_name}, {col_name}")
    grid.legend.set_title("method")
    return grid.figure
