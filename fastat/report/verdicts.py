"""The reproduction report: every number of the paper, ours beside it, and a verdict. pandas, scipy; never torch.

The gap is ours minus the paper's. Its 95 % interval has three parts: our seeds (Student's t; with one seed, unknown,
and only the images count), our test images, and the paper's one run on its own test images (10,000, ImageNet 50,000).
How much the paper's own seeds scatter is not known, and so not in it; of FastAT_Benchmark's three it is.

- reproduced: the whole interval lies within MARGIN points of 0 (Table III: within a tenth of the paper's value)
- within noise: the interval holds 0, but is too wide to say more
- not reproduced: the interval leaves 0 out, and does not lie within the margin
- collapsed at the end in k of n: the paper's or our networks collapsed there. One such number is a draw of a coin, so
  how often is compared, not the mean: k of our n runs are collapsed at the end
- not run: there is no such run of ours, or none that finished
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are used

from fastat.machine.files import atomic
from fastat.report.markup import markdown
from fastat.report.results import PLACE, RIVAL, Results, labels, paper, rival, rival_methods
from fastat.report.statistics import exact

COLUMNS = [
    "table", "dataset", "model", "eps", "method", "metric", "paper", "ours", "std", "n_seeds", "n_images", "low",
    "high", "gap", "verdict", "reason",
]  # fmt: skip
KEY = [*PLACE, "method"]
MARGIN = 1.0  # point
ATTACKED = ("pgd10", "pgd50", "aa")
OF_RIVAL = (
    "Runs of config/fastat_benchmark.yaml: the methods as their own papers have them, by its protocol. Its numbers are "
    "means of three seeds, at the epoch that was best on 1,000 held-out images (`best_`): docs/fastat-benchmark.md."
)
COLLAPSED = 2.0  # %: AutoAttack leaves less
PAPER_IMAGES = {"imagenet": 50_000}  # 10,000 elsewhere


def write_report(results: Results, out: Path, report: Path) -> tuple[str, bool]:
    """Write verdicts.csv and the report for people; returns its summary, and whether one of its numbers failed."""
    table = judge(results.runs)
    papers, rivals = table[table["table"] != RIVAL], table[table["table"] == RIVAL]
    line, method = summary(papers, "the paper"), str(__doc__).partition("\n\n")[2].rstrip()
    parts = ["# The paper's numbers and ours", line, listed(papers), method]
    named = rivals.rename(columns={"paper": "published"}).join(rival_names(rivals))
    parts += [f"# {RIVAL}'s numbers and ours", summary(rivals, RIVAL), listed(named), OF_RIVAL]
    with atomic(out) as partial:
        table.to_csv(partial, index=False)
    with atomic(report) as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return line, bool((papers["verdict"] == "not reproduced").any())


def listed(rows: pd.DataFrame) -> str:
    """Those of the rows that were run, for people."""
    rows = rows[rows["verdict"] != "not run"].drop(columns="table")
    return markdown(rows.map(cell)) if len(rows) else "None of them was run."


def rival_names(rows: pd.DataFrame) -> pd.DataFrame:
    """What FastAT_Benchmark calls each row's method, and what is wrong with its number."""
    return rival_methods()[["name", "wrong"]].reindex(rows["method"]).set_axis(rows.index)


def judge(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each of the paper's numbers. runs: as Results has them."""
    known = {key: part for key, part in runs.assign(method=labels(runs)).groupby(KEY, sort=False)}
    numbers = paper()[paper()["value"].notna() & (paper()["metric"] != "lam")]  # what it chose is no result
    draws = draws_of_a_collapse(numbers)
    numbers = pd.concat([numbers.assign(n_seeds=1), rival()])
    lines = []
    for record in numbers.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        key = tuple(row[name] for name in KEY)
        lines.append({**row, "std": math.nan, "paper": row["value"], **verdict(row, known.get(key), key in draws)})
    return pd.DataFrame(lines, columns=COLUMNS)


def draws_of_a_collapse(numbers: pd.DataFrame) -> set[tuple[str, ...]]:
    """The paper's cells whose network had collapsed: AutoAttack leaves next to nothing, or less than at a larger eps.

    As CIFAR100, WRN-28-10, 8/255, SubAT: 7.08 %, but 12.58 % at 12/255.
    """
    aa = numbers[numbers["metric"] == "aa"].drop_duplicates(KEY).sort_values("eps_255", ascending=False)
    beyond = aa.groupby(["dataset", "model", "method"])["value"].transform(lambda v: v.cummax().shift())
    found = aa[(aa["value"] < COLLAPSED) | (aa["value"] < beyond)]
    return set(found[KEY].itertuples(index=False, name=None))


def verdict(row: dict[str, Any], ours: pd.DataFrame | None, a_draw: bool) -> dict[str, Any]:
    """The columns from `ours` on, of one of the paper's numbers."""
    metric = "train_seconds" if row["metric"] == "train_hours" else row["metric"]
    if ours is None:
        return {"verdict": "not run", "reason": "no such run", "n_seeds": 0}
    diverged = int((ours["diverged"] == 1).sum())
    if diverged and diverged < len(ours):
        found = verdict(row, ours[ours["diverged"] != 1], a_draw)
        return {**found, "reason": "; ".join(filter(None, [found["reason"], f"{diverged} more diverged"]))}
    finished = ours[ours[metric].notna() & (ours["diverged"] != 1)]
    if finished.empty:
        return {"verdict": "not run", "reason": f"{diverged} diverged" if diverged else "not measured", "n_seeds": 0}
    if metric == "train_seconds":
        return time(row, finished)
    values, n = finished[metric].to_numpy(), finished[f"{metric}_n"].min() if f"{metric}_n" in finished else math.nan
    of_images = metric.removeprefix("best_") in ("clean", *ATTACKED)
    scale = MARGIN if of_images else 0.1 * abs(row["value"])
    found = {"ours": values.mean(), "std": values.std(ddof=1) if len(values) > 1 else math.nan}
    found |= {"n_seeds": len(values), "n_images": n, "gap": values.mean() - row["value"]}
    fallen = finished["collapsed_at_end"].dropna() if not metric.startswith("best_") else pd.Series(dtype=float)
    k, watched = int((fallen == 1).sum()), len(fallen)
    if a_draw and not watched:
        return {
            **found,
            "verdict": "not run",
            "reason": "the paper's network collapsed; nobody looked whether ours did",
        }
    if a_draw or k:
        low, high = exact(k, watched)
        theirs = "the paper's network collapsed too" if a_draw else "the paper's did not"
        theirs = "whether theirs did is not published" if row["table"] == RIVAL else theirs
        word = f"probability {100 * low:.0f} to {100 * high:.0f} %; {theirs}"
        return {
            **found,
            "low": 100 * low,
            "high": 100 * high,
            "verdict": f"collapsed at the end in {k} of {watched}",
            "reason": word,
        }
    if len(values) == 1 and not of_images:
        return {**found, "verdict": "within noise", "reason": "one seed: how it scatters is not known"}
    if of_images and not n >= 1:
        return {**found, "verdict": "within noise", "reason": "on how many images is not known"}
    their_seeds = scatter(row["std"], int(row["n_seeds"])) if row["n_seeds"] > 1 else 0.0
    half = math.hypot(seeds_part(values), their_seeds, images_part(values.mean(), n, row) if of_images else 0.0)
    low, high = found["gap"] - half, found["gap"] + half
    alone = "one seed: its own scatter is not in the interval" if len(values) == 1 else ""
    return {**found, "low": low, "high": high, "verdict": word_of(low, high, scale), "reason": alone}


def time(row: dict[str, Any], finished: pd.DataFrame) -> dict[str, Any]:
    """Hours are shown and not judged: they are of other hardware. Those of two kinds of hardware have no mean."""
    devices = sorted(set(finished["device"].dropna()))
    found = {"n_seeds": len(finished), "verdict": "other hardware"}
    if len(devices) > 1:
        return {**found, "reason": f"{' and '.join(devices)}: no mean over two kinds of hardware"}
    hours = finished["train_seconds"].to_numpy() / 3600
    found |= {"ours": hours.mean(), "std": hours.std(ddof=1) if len(hours) > 1 else math.nan}
    return {**found, "gap": hours.mean() - row["value"], "reason": f"{devices[0] if devices else 'ours'} and a V100"}


def seeds_part(values: np.ndarray) -> float:
    """Half of the mean's 95 % interval over seeds; 0 for one."""
    return scatter(values.std(ddof=1), len(values)) if len(values) > 1 else 0.0


def scatter(std: float, n: int) -> float:
    """Half of the 95 % interval of a mean of n values with that standard deviation."""
    return float(scipy.stats.t.ppf(0.975, n - 1) * std / math.sqrt(n))


def images_part(mean: float, n: float, row: dict[str, Any]) -> float:
    """Half of the 95 % interval that our n test images and the paper's leave, in points.

    Two right and two wrong images are added to each (Agresti and Coull 1998): 0 of 50 is not known exactly.
    """
    both = ((mean, n), (row["value"], PAPER_IMAGES.get(row["dataset"], 10_000)))
    shares = [((percent / 100 * m + 2) / (m + 4), m + 4) for percent, m in both]
    return 100 * float(scipy.stats.norm.ppf(0.975)) * math.sqrt(sum(p * (1 - p) / m for p, m in shares))


def word_of(low: float, high: float, margin: float) -> str:
    """The verdict on an interval of the gap."""
    if -margin <= low and high <= margin:
        return "reproduced"
    return "within noise" if low <= 0 <= high else "not reproduced"


def summary(table: pd.DataFrame, whose: str) -> str:
    """`450 numbers of the paper: 0 reproduced, ...`."""
    words = table["verdict"].where(~table["verdict"].str.startswith("collapsed"), "collapsed at the end in some")
    counts = words.value_counts()
    order = [
        "reproduced",
        "within noise",
        "not reproduced",
        "collapsed at the end in some",
        "other hardware",
        "not run",
    ]
    return f"{len(table)} numbers of {whose}: " + ", ".join(f"{counts.get(word, 0)} {word}" for word in order)


def cell(value: Any) -> str:
    """A number with two digits, a text as it is, nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)
