"""Tables I and II from results/measured.csv, ours beside the paper's. pandas, never torch."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from fastat.files import atomic
from fastat.runs import ROOT

CELL = ["dataset", "model", "eps", "method", "variant"]
METRICS = {1: ["clean", "pgd10", "pgd50", "aa", "train_seconds"], 2: ["aa"]}
HEADINGS = {"clean": "clean", "pgd10": "PGD10", "pgd50": "PGD50", "aa": "AA", "train_seconds": "train s"}
ORDER = [
    "clean", "pgd10", "freeat", "yopo", "fgsm_rs", "fgsm_ga", "ssat", "atta", "nuat", "subat", "fgsm_sdi", "fgsm_pgi",
    "atas",
]  # fmt: skip


def write(number: int, measured: Path, table1_eps: dict[str, str], out: Path) -> None:
    """Write `out`.csv (every number), .md and .tex (for readers)."""
    rows = pd.read_csv(measured, dtype={"seed": str})
    if number == 1:
        rows = rows[rows["eps"] == rows["dataset"].map(table1_eps)]
    table = summary(rows, METRICS[number])
    pretty, words = readable(table, METRICS[number]), caption(number)
    if table.empty:
        words = f"No run is at the eps that `table1_eps` in the config names. {words}"
    for ending, text in {
        "csv": table.to_csv(index=False),
        "md": f"{pretty.to_markdown(index=False, disable_numparse=True)}\n\n{words}\n",
        "tex": latex(pretty, words),
    }.items():
        with atomic(Path(f"{out}.{ending}")) as partial:
            partial.write_text(text)


PASSES = {
    "forward": "F", "input_backward": "Bx", "parameter_backward": "Bw", "joint_backward": "Bxw", "double_backward": "D",
    "stem_forward": "f1", "stem_input_backward": "b1x", "stem_parameter_backward": "b1w",
}  # fmt: skip


def write_cost(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the cost table, `out`.csv and .md; rows as `python -m fastat cost` makes them."""
    rank = {name: k for k, name in enumerate(ORDER)}
    rows = sorted(rows, key=lambda row: (rank.get(row["method"], len(rank)), row["method"]))
    table = pd.DataFrame(rows)
    clean = float(table.loc[table["method"] == "clean", "gflop_per_image"].iloc[0])
    pretty = pd.DataFrame(
        {
            "method": table["method"],
            "passes per batch": [
                " + ".join(f"{row[kind]:g} {short}" for kind, short in PASSES.items() if row.get(kind)) for row in rows
            ],
            "GFLOP per image": [f"{v:.2f}" for v in table["gflop_per_image"]],
            "x clean": [f"{v / clean:.2f}" for v in table["gflop_per_image"]],
            "state, MB": [f"{v:.1f}" for v in table["state_mb"]],
            "state, bytes per image": [f"{v:.0f}" for v in table["state_bytes_per_image"]],
            "seconds x clean": [f"{v:.2f}" for v in table["seconds_over_clean"]],
        }
    )
    text = (
        "Passes are counted (F forward; B backward to x the input, w the weights, xw both; D double backward; f1, b1 "
        "the first layer alone). FLOPs by torch's formulas and state as on CIFAR10: PreActResNet-18, 50,000 images in "
        "40x40 frames, eps 8/255, default parameters. Seconds: preact_tiny on 8x8 images, batch 64, median, in turns.\n"
    )
    for ending, content in {
        "csv": table.to_csv(index=False),
        "md": f"{pretty.to_markdown(index=False, disable_numparse=True)}\n\n{text}",
    }.items():
        with atomic(Path(f"{out}.{ending}")) as partial:
            partial.write_text(content)


def caption(number: int) -> str:
    """What the columns mean, once."""
    first = {
        1: "Accuracy in % on test images, last epoch, at one eps per data set (Table I of the ATAS paper).",
        2: "AutoAttack accuracy in % on test images, last epoch, by eps (Table II of the ATAS paper).",
    }[number]
    return (
        f"{first} Mean and standard deviation over seeds; AA: with the number of attacked images n and the 95 % "
        "interval that n images leave (Wilson, seeds pooled). CO: first epoch of catastrophic overfitting by seed, "
        "(r) recovered by the end, - none. train PGD10: on training images, last epoch (best, its epoch), first seed."
    )


def summary(rows: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """One line per cell: mean and standard deviation over seeds, n seeds, and the paper's value where it has one."""
    rows = rows[rows["epoch"].isna()]
    paper = pd.read_csv(ROOT / "config/paper.csv").set_index(["dataset", "model", "eps", "method", "metric"])["value"]
    lines = []
    for cell, part in rows.groupby(CELL, sort=False):
        line: dict[str, Any] = dict(zip(CELL, cell, strict=True))
        part = part.sort_values("seed")
        line["seeds"] = part["seed"].nunique()
        line["diverged"] = int(pd.to_numeric(of(part, "diverged")).sum())
        line["cause"] = "; ".join(sorted(set(of(part, "cause").dropna().astype(str))))
        line["collapsed_at_end"] = int(pd.to_numeric(of(part, "collapsed_at_end")).sum())
        line["collapse"] = " ".join(collapse(one) for _, one in part.groupby("seed"))
        for metric in ("train_pgd10_last", "train_pgd10_best", "train_pgd10_best_epoch"):
            line[metric] = pd.to_numeric(of(part, metric)).head(1).mean()
        for metric in metrics:
            values = pd.to_numeric(of(part, metric)).dropna()
            line[metric], line[f"{metric}_std"] = values.mean(), values.std(ddof=1)
            if metric == "aa":
                n = pd.to_numeric(part.loc[part["metric"] == "aa", "n"])
                line["aa_n"] = n.max()
                line["aa_low"], line["aa_high"] = wilson(values.mean(), n.sum())
            key: Any = (*cell[:4], metric)
            if cell[4] == "paper" and key in paper.index:
                line[f"paper_{metric}"] = paper[key]
        lines.append(line)
    if not lines:
        return pd.DataFrame(columns=[*CELL, "seeds"])
    table = pd.DataFrame(lines)
    rank = {name: k for k, name in enumerate(ORDER)}
    table["_eps"] = table["eps"].str.removesuffix("/255").astype(int)
    table["_rank"] = table["method"].map(lambda name: rank.get(name, len(rank)))
    table = table.sort_values(["dataset", "model", "_eps", "_rank", "variant"], kind="stable")
    return table.drop(columns=["_eps", "_rank"]).reset_index(drop=True)


def of(part: pd.DataFrame, metric: str) -> pd.Series:
    """The values of one metric."""
    return part.loc[part["metric"] == metric, "value"]


def collapse(one_seed: pd.DataFrame) -> str:
    """`12`, `12(r)` if it recovered, `-` if there was no collapse."""
    first = pd.to_numeric(of(one_seed, "collapse_epoch")).dropna()
    if first.empty:
        return "-"
    ended = pd.to_numeric(of(one_seed, "collapsed_at_end")).any()
    return f"{int(first.iloc[0])}" if ended else f"{int(first.iloc[0])}(r)"


def wilson(percent: float, n: float) -> tuple[float, float]:
    """The 95 % interval, in %, of a proportion measured on n images (Wilson 1927)."""
    if pd.isna(percent) or not n:
        return math.nan, math.nan
    p, z = percent / 100, 1.959964
    centre, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return tuple(100 * (centre + side * spread) / (1 + z**2 / n) for side in (-1, 1))  # type: ignore[return-value]


def readable(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """The table as people read it: one text per cell, and only columns that say something."""
    if table.empty:
        return table
    names = table["method"] + table["variant"].map(lambda variant: "" if variant == "paper" else f"/{variant}")
    pretty = table[["dataset", "model", "eps"]].assign(method=names, seeds=table["seeds"].astype(str))
    for metric in metrics:
        texts = [show(*pair) for pair in zip(table[metric], table[f"{metric}_std"], strict=True)]
        heading = HEADINGS[metric]
        if metric == "aa":
            low, high = table["aa_low"], table["aa_high"]
            texts = [f"{t} [{a:.0f}, {b:.0f}]" if t else "" for t, a, b in zip(texts, low, high, strict=True)]
            sizes = table["aa_n"].dropna().astype(int).unique()
            heading += f" (n = {', '.join(map(str, sizes))})" if len(sizes) else ""
        pretty[heading] = texts
        if f"paper_{metric}" in table:
            pretty[f"{HEADINGS[metric]}, paper"] = [show(v, math.nan) for v in table[f"paper_{metric}"]]
    pretty["CO"] = table["collapse"]
    pretty["train PGD10"] = [
        "" if pd.isna(last) else f"{last:.0f} ({best:.0f}, {epoch:.0f})"
        for last, best, epoch in table[["train_pgd10_last", "train_pgd10_best", "train_pgd10_best_epoch"]].itertuples(
            index=False
        )
    ]
    if table["diverged"].any():
        pretty["diverged"] = [
            f"{n}: {why}" if n else "" for n, why in zip(table["diverged"], table["cause"], strict=True)
        ]
    return pretty


def latex(pretty: pd.DataFrame, text: str) -> str:
    """A table environment that needs the package booktabs."""
    escaped = pretty.map(lambda cell: cell.replace("±", r"$\pm$").replace("_", r"\_").replace("%", r"\%"))
    escaped.columns = [name.replace("_", r"\_") for name in pretty.columns]
    body = escaped.to_latex(index=False, column_format="l" * len(pretty.columns))
    return f"\\begin{{table}}\n\\caption{{{text.replace('%', chr(92) + '%')}}}\n{body}\\end{{table}}\n"


def show(mean: float, std: float) -> str:
    """`63.1 ± 0.8`; without a spread for one seed; empty for none, never a zero."""
    if pd.isna(mean):
        return ""
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"
