"""What the paper says, as tests: each claim with its statistic on our runs, and whether it holds. Never torch.

`holds` and `does not hold`: the 95 % interval of the statistic lies on one side, or p, two-sided, is under 0.05;
`undecided`: neither; `not run`: the runs that it needs are not there. Evaluated for each data set by itself. Methods
are compared on the same seeds and images, and what collapses at the same eps, with the same network. Runs that are not
there, cannot be believed or diverged are in no claim. Of 19 claims about nothing one would be decided by chance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastat.config.spec import EXTERNAL
from fastat.machine import seals
from fastat.machine.files import atomic
from fastat.report.markup import markdown
from fastat.report.methods import REFERENCE, REMEDY, SLOW, of_family
from fastat.report.results import Results, are_there
from fastat.report.statistics import (
    Verdicts,
    by_cell,
    compare,
    finite,
    holm,
    mean_interval,
    paired,
    ranks_agree,
    seeds,
    shared,
    shares_differ,
)
from fastat.units import eps_text

COLUMNS = ["claim", "text", "where", "scale", "statistic", "value", "low", "high", "p", "verdict", "evidence"]
PLACE = ["model", "eps"]  # of one data set
ON_A_PAR = "; on a par: above -2"
Found = dict[str, Any]


class NotRun(Exception):
    """Which runs a claim lacks."""


@dataclass(frozen=True)
class Evidence:
    """The results of one data set."""

    dataset: str
    runs: pd.DataFrame  # Results.runs, with the mean step `mean_alpha_255`
    correct: pd.DataFrame
    figures: Path

    def runs_of(self, method: str, variant: str = "paper", needs: str | None = None) -> pd.DataFrame:
        """The runs of a method.

        Raises: NotRun if there are none, or none with the metric `needs`.
        """
        rows = self.runs[(self.runs["method"] == method) & (self.runs["variant"] == variant)]
        if needs is not None:
            rows = rows[rows[needs].notna()]
        if rows.empty:
            raise NotRun(f"no {method}/{variant} with {needs}" if needs else f"no {method}/{variant}")
        return rows

    def swept(self, *methods: str) -> pd.DataFrame:
        """The runs of these methods that differ in their step size alone, by their recipes."""
        return self.runs[self.runs["method"].isin(methods) & self.runs["swept"]]

    def data(self, name: str, *numbers: str) -> pd.DataFrame:
        """What a figure is drawn from, of this data set: the rows with a finite value in each of `numbers`.

        Raises: NotRun if there are none, or the file cannot be read.
        """
        path = self.figures / f"{name}.csv"
        try:
            seals.check(path)
            rows = pd.read_csv(path, dtype={"seed": str, "seed_a": str, "seed_b": str})
        except (FileNotFoundError, pd.errors.EmptyDataError):
            raise NotRun(f"no {path.name}") from None
        except (OSError, ValueError) as error:  # pandas' own errors and those of decoding are values'
            raise NotRun(f"{path.name} cannot be read ({error})") from error
        if absent := {"dataset", *numbers} - set(rows):
            raise NotRun(f"{path.name} lacks the columns {', '.join(sorted(absent))}")
        rows = rows.assign(**{number: finite(rows[number]) for number in numbers}).dropna(subset=list(numbers))
        rows = rows[rows["dataset"] == self.dataset]
        if rows.empty:
            raise NotRun(f"{path.name} has nothing of {self.dataset}")
        return rows


@dataclass(frozen=True)
class Claim:
    """One claim: what the paper says, where, and the test."""

    name: str
    text: str
    where: str
    statistic: str
    test: Callable[[Evidence], Found]


def write_report(results: Results, figures: Path, out: Path) -> None:
    """Write `out`, claims.csv, and claims.md beside it. figures: the folder of the figures' data."""
    table = judge(results, figures)
    with atomic(out) as partial:
        table.to_csv(partial, index=False)
    count = int((trained(results.runs)["method"] != EXTERNAL).sum())
    data = " and ".join(sorted(set(results.runs["dataset"]))) or "nothing"
    diverged = int((results.runs["diverged"] == 1).sum())
    data += f"; {diverged} more diverged, and {'is' if diverged == 1 else 'are'} in no claim" if diverged else ""
    body = markdown(readable(table))
    with atomic(out.with_suffix(".md")) as partial:
        partial.write_text(
            f"# The paper's claims, tested\n\n{count} trainings on {data}.\n\n{body}\n", encoding="utf-8"
        )


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: a text per cell, what holds first."""
    order = ["holds", "does not hold", "undecided", "not run"]
    table = table.iloc[table["verdict"].map(order.index).argsort(kind="stable")]
    measured = []
    for value, low, high, p in table[["value", "low", "high", "p"]].itertuples(index=False):
        interval = "" if pd.isna(low) else f" [{low:.3g}, {high:.3g}]"
        measured.append(
            ("" if pd.isna(value) else f"{value:.3g}") + interval + ("" if pd.isna(p) else f", p = {p:.2g}")
        )
    return pd.DataFrame(
        {
            "verdict": table["verdict"], "claim": table["text"], "in the paper": table["where"], "data": table["scale"],
            "statistic": table["statistic"], "measured": measured, "from": table["evidence"],
        }
    )  # fmt: skip


def judge(results: Results, figures: Path) -> pd.DataFrame:
    """A row for each claim and data set; at least one for each claim, if nothing was run at all."""
    lines = [tried(claim, evidence) for evidence in by_data_set(results, figures).values() for claim in CLAIMS]
    return pd.DataFrame(lines, columns=COLUMNS)


def by_data_set(results: Results, figures: Path) -> dict[str, Evidence]:
    """Data set -> its results; of nothing, that of ''. figures: the folder of the figures' data."""
    steps = results.by_epoch("train_alpha_255").groupby(level=0)["train_alpha_255"].mean()
    runs, correct = trained(results.runs.assign(mean_alpha_255=steps)), results.correct
    return {
        name: Evidence(name, runs[runs["dataset"] == name], correct[correct["dataset"] == name], figures)
        for name in sorted(set(runs["dataset"])) or [""]
    }


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are there, can be believed, and did not diverge: those of which a claim may speak."""
    return runs[are_there(runs) & (runs["diverged"] != 1)]


def tried(claim: Claim, evidence: Evidence) -> Found:
    """The claim's row on one data set."""
    about = {"claim": claim.name, "text": claim.text, "where": claim.where, "scale": evidence.dataset}
    try:
        found = claim.test(evidence)
    except NotRun as missing:
        found = {"verdict": "not run", "evidence": str(missing)}
    return {**about, "statistic": claim.statistic, **found}


def side(value: float, low: float, high: float, evidence: str, than: float = 0.0) -> Found:
    """Above `than`: holds if the whole interval is; does not hold if none of it is."""
    word = "holds" if low > than else "does not hold" if high < than else "undecided"
    return {"value": value, "low": low, "high": high, "verdict": word, "evidence": evidence}


# Comparisons of methods, paired by seed and image


def gap(evidence: Evidence, one: tuple[str, str], other: tuple[str, str], attack: str = "aa") -> Found:
    """Mean difference in accuracy (points) over each eps, model and seed that both have, with its interval."""
    difference = differences(evidence, one, other, attack)
    found = paired(difference)
    told = f"{counted_pairs(len(difference))}, {difference.shape[1]} images each"
    return {"value": 100 * found.mean, "low": 100 * found.low, "high": 100 * found.high, "told": told,
            "pairs": len(difference)}  # fmt: skip


def on_pairs(found: Found, allowed: str = "", than: float = 0.0) -> Found:
    """`side` of a `gap`. One pair of runs knows of images alone, and of methods decides nothing."""
    row = side(found["value"], found["low"], found["high"], found["told"] + allowed, than)
    if found["pairs"] > 1:
        return row
    return {**row, "verdict": "undecided", "evidence": f"{row['evidence']}; of other seeds one pair knows nothing"}


def differences(evidence: Evidence, one: tuple[str, str], other: tuple[str, str], attack: str = "aa") -> np.ndarray:
    """(pairs of runs, images) of -1, 0, 1: a pair is of one eps, model and seed.

    Raises: NotRun if there is no pair on the same images.
    """
    a, b = (runs_of(evidence, who, attack) for who in (one, other))
    both = shared(a, b)
    if not both:
        raise NotRun(f"no run that {'/'.join(one)} and {'/'.join(other)} both have under {attack}")
    return np.stack([a[key][0].astype(float) - b[key][0] for key in both])


def counted_pairs(n: int) -> str:
    """`1 pair of runs`, `2 pairs of runs`."""
    return f"{n} pair{'s' * (n != 1)} of runs"


def runs_of(evidence: Evidence, who: tuple[str, str], attack: str) -> dict[tuple[str, ...], Verdicts]:
    """(model, eps, seed) -> verdicts under the attack, of one method and variant."""
    rows = evidence.correct
    rows = rows[(rows["method"] == who[0]) & (rows["variant"] == who[1]) & (rows["attack"] == attack)]
    parts = grouped(rows, ["model", "eps"])
    return {(*key, seed): bits for key, part in parts for seed, bits in seeds(part).items()}


def atas_beats(other: str) -> Callable[[Evidence], Found]:
    """ATAS minus the other method under AutoAttack."""

    def test(evidence: Evidence) -> Found:
        return on_pairs(gap(evidence, ("atas", "paper"), (other, "paper")))

    return test


def atas_beats_all(evidence: Evidence) -> Found:
    """In how many eps and networks ATAS has the best mean under AutoAttack among the fast methods.

    Judged against each of the others, on the same images and seeds, two or more: it must be better than all of them
    beyond the noise everywhere to hold, and worse than one anywhere, beyond the noise that so many comparisons have
    (Holm), not to.
    """
    rows = fast(evidence.runs)
    if rows["aa"].isna().all() or "atas" not in set(rows["method"]):
        raise NotRun("no ATAS under AutoAttack")
    means = rows.groupby(["model", "eps_255", "method"])["aa"].mean().unstack()
    ranks = means.rank(axis=1, ascending=False)["atas"].dropna()
    means = means.loc[ranks.index]
    if ranks.empty or means.shape[1] < 2:
        raise NotRun("no other fast method beside ATAS")
    first = int((ranks == 1).sum())
    told = ", ".join(
        f"{where[0]} {eps_text(where[1])}: rank {rank:g}" for where, rank in zip(ranks.index, ranks, strict=True)
    )
    found = [one for where in ranks.index for one in against_others(evidence, *where)]
    if not found:
        raise NotRun("no run of ATAS and another fast method on the same images")
    several = [one for one in found if one["n_seeds"] > 1]
    adjusted = holm(np.array([one["p"] for one in several]))
    better = sum(one["low"] > 0 for one in several)
    worse = sum(one["high"] < 0 and p < 0.05 for one, p in zip(several, adjusted, strict=True))
    everyone = int(means.drop(columns="atas").notna().sum().sum())
    word = "holds" if better == everyone else "does not hold" if worse else "undecided"
    told += f"; of {everyone} others at an eps and network {len(several)} share two seeds or more with it"
    told += f"; beyond the noise: better than {better}, worse than {worse}"
    return {"value": first / len(ranks), "verdict": word, "evidence": f"of up to {means.shape[1]} methods; {told}"}


def fast(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of fast methods by their `paper` recipe."""
    return rows[(rows["variant"] == "paper") & ~rows["method"].isin(of_family(REFERENCE, SLOW))]


def against_others(evidence: Evidence, model: str, eps_255: int) -> list[Found]:
    """ATAS against each other fast method there that has runs of the same seeds and images."""
    rows = evidence.correct
    rows = rows[(rows["attack"] == "aa") & (rows["model"] == model) & (rows["eps"] == eps_text(eps_255))]
    cells = by_cell(fast(rows))
    mine = cells.pop(("atas", "paper"), {})
    return [found for other in cells.values() if (found := compare(mine, other))]


def as_good_as_pgd10(evidence: Evidence) -> Found:
    """ATAS minus PGD10 under AutoAttack: on par if no more than two points are lost."""
    return on_pairs(gap(evidence, ("atas", "paper"), ("pgd10", "paper")), ON_A_PAR, than=-2.0)


def grouped(rows: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """The groups of rows, by several columns."""
    for key, part in rows.groupby(by):
        assert isinstance(key, tuple)
        yield tuple(map(str, key)), part


# Collapse

ALONE = "of them not robust before"
COUNTED_OUT = "; p = {:.2g} if those not robust before do not count"
NONE_LEFT = "; none is left if those not robust before do not count"


def shares(one: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str], by: list[str]) -> Found:
    """Does `one` collapse more often than `other`, at the end or for a while? Compared where `by` is the same.

    Said besides: the p of the collapses alone that took robustness which was there.
    Raises: NotRun if the two have no such place in common.
    """
    one, other = (a.merge(b[by].drop_duplicates(), on=by) for a, b in ((one, other), (other, one)))
    if one.empty:
        raise NotRun(f"no {names[0]} and {names[1]} at the same {' and '.join(by)}")
    strata = by_place(one, other, by, "collapsed")
    value, p = shares_differ(strata.values())
    word = "undecided" if p >= 0.05 else "holds" if value > 0 else "does not hold"
    told = [f"{' '.join(map(str, key))} {k} of {n} and {m} of {r}" for key, (k, n, m, r) in strata.items()]
    text = f"{names[0]} {counted(one)}, {names[1]} {counted(other)}"
    text += f"; {', '.join(told)}" if len(told) > 1 else ""
    if ALONE in text:
        lost = by_place(one, other, by, "lost").values()
        text += COUNTED_OUT.format(shares_differ(lost)[1]) if any(k + m for k, _, m, _ in lost) else NONE_LEFT
    return {"value": value, "p": p, "verdict": word, "evidence": text}


def by_place(one: pd.DataFrame, other: pd.DataFrame, by: list[str], what: str) -> dict[Any, tuple[int, int, int, int]]:
    """Place -> of how many runs of each it is so: k of n and m of r. Both have the same places."""
    theirs = dict(list(other.groupby(by)[what]))
    groups = one.groupby(by)[what]
    return {key: (int(mine.sum()), len(mine), int(theirs[key].sum()), len(theirs[key])) for key, mine in groups}


def fallen(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs, with whether each collapsed, at the end or for a while, and whether that took robustness.

    Where nobody knows, it did.
    """
    collapsed = rows["collapse_epoch"].notna()
    return rows.assign(collapsed=collapsed, lost=collapsed & (rows["robustness_lost"] != 0))


def counted(rows: pd.DataFrame) -> str:
    """`3 of 4 runs`, and where some collapsed, `(2 at the end, 1 of them not robust before, 1 for a while)`."""
    k = int(rows["collapsed"].sum())
    ended = rows[rows["collapsed"] & (rows["collapsed_at_end"] == 1)]
    never = int((ended["robustness_lost"] == 0).sum())
    said = f"{len(ended)} at the end" + (f", {never} {ALONE}" if never else "")
    return f"{k} of {len(rows)} runs" + (f" ({said}, {k - len(ended)} for a while)" if k else "")


def rs_and_atas(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of FGSM-RS and those of ATAS, at the eps, models and seeds that both have."""
    one, other = fallen(evidence.runs_of("fgsm_rs")), fallen(evidence.runs_of("atas"))
    key = ["model", "eps", "seed"]
    return one.merge(other[key], on=key), other.merge(one[key], on=key)


def rs_collapses_more(evidence: Evidence) -> Found:
    """FGSM-RS against ATAS."""
    return shares(*rs_and_atas(evidence), ("FGSM-RS", "ATAS"), PLACE)


def rs_and_remedies(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of FGSM-RS and of methods with a regulariser or another start, at the eps, models, seeds of both.

    Raises: NotRun if there are none.
    """
    one = fallen(evidence.runs_of("fgsm_rs"))
    other = evidence.runs[evidence.runs["method"].isin(of_family(REMEDY)) & (evidence.runs["variant"] == "paper")]
    key = ["model", "eps", "seed"]
    other = fallen(other.merge(one[key], on=key))
    if other.empty:
        raise NotRun("no run of GradAlign and the like beside FGSM-RS")
    return one.merge(other[key].drop_duplicates(), on=key), other


def others_avoid(evidence: Evidence) -> Found:
    """FGSM-RS against the remedies."""
    one, other = rs_and_remedies(evidence)
    found = shares(one, other, ("FGSM-RS", "the others"), PLACE)
    by_method = other.groupby("method")["collapsed"]
    told = ", ".join(
        f"{name} {k} of {n}"
        for name, k, n in zip(by_method.sum().index, by_method.sum(), by_method.size(), strict=True)
    )
    return {**found, "evidence": f"{found['evidence']}: {told}"}


def larger_eps(evidence: Evidence) -> Found:
    """Rank correlation of eps and collapse over the runs of FGSM-RS."""
    rows = fallen(evidence.runs_of("fgsm_rs"))
    return collapses_with(rows, "eps_255", f"collapsed: {counted(rows)}", ["model"])


def collapses_with(rows: pd.DataFrame, x: str, told: str, within: list[str]) -> Found:
    """Rank correlation of x and collapse; said besides, as in `shares`: of lost robustness alone."""
    found = rank_correlation(rows, x, "collapsed", told, within)
    if ALONE not in told or "p" not in found:
        return found
    p = rank_correlation(rows, x, "lost", told, within).get("p", 1.0)  # where each method and eps is of one kind
    return {**found, "evidence": told + (COUNTED_OUT.format(p) if rows["lost"].any() else NONE_LEFT)}


def by_step(evidence: Evidence) -> pd.DataFrame:
    """The runs of FGSM-RS and ATTA where they were run with several step sizes.

    Raises: NotRun if there are none.
    """
    rows = fallen(evidence.swept("fgsm_rs", "atta").dropna(subset=["alpha"]))
    rows = rows[rows.groupby(["model", "eps", "method"])["alpha"].transform("nunique") > 1]
    if rows.empty:
        raise NotRun("no run whose recipe differs from another's in its step size alone")
    return rows


def larger_step(evidence: Evidence) -> Found:
    """Rank correlation of step size and collapse."""
    rows = by_step(evidence)
    sizes = f"{rows['alpha'].min():g} to {rows['alpha'].max():g} eps"
    told = f"collapsed: {counted(rows)}, with fixed steps of {sizes}"
    return collapses_with(rows, "alpha", told, [*PLACE, "method"])


def rank_correlation(rows: pd.DataFrame, x: str, y: str, told: str, within: list[str]) -> Found:
    """Spearman's, of runs of which `within` is the same, positive if the claim holds.

    Undecided where one of the two is the same in all of them.
    Raises: NotRun for fewer than four rows, or one x alone.
    """
    rows = rows.dropna(subset=[x, y])
    if len(rows) < 4 or rows[x].nunique() < 2:
        raise NotRun(f"too few that differ: {told}")
    strata = rows.groupby(within).ngroup().tolist()
    value, p = ranks_agree(rows[x].to_numpy(float), rows[y].to_numpy(float), strata)
    if np.isnan(value):
        return {"verdict": "undecided", "evidence": told}
    word = "undecided" if p >= 0.05 else "holds" if value > 0 else "does not hold"
    return {"value": value, "p": p, "verdict": word, "evidence": told}


def by_norms(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trainings on D_i to D_10 and trainings on D_1 to D_j, the same recipes.

    Raises: NotRun if one of them is not there.
    """
    rows = fallen(evidence.runs.dropna(subset=["subset"]))
    first, last = rows["subset"].str.startswith("1-"), rows["subset"].str.endswith("-10")
    small, large = rows[first & ~last], rows[last & ~first]
    if small.empty or large.empty:
        raise NotRun("no trainings on subsets")
    return large, small


def large_norms_collapse(evidence: Evidence) -> Found:
    """Large gradient norms against small ones."""
    return shares(*by_norms(evidence), ("large gradient norms", "small"), [*PLACE, "method", "base"])


def bulges_of(evidence: Evidence) -> np.ndarray:
    """How far the loss inside the budget exceeds that of FGSM's corner, D_10 minus D_1, at the middle epoch drawn.

    Raises: NotRun if no run has both.
    """
    rows = evidence.data("fig02", "epoch", "u", "w", "loss")
    bulges = []
    for _, run in rows.groupby(["model", "eps", "method", "variant", "seed"]):
        epochs = sorted(run["epoch"].unique())
        at = run[run["epoch"] == epochs[min(2, len(epochs) - 1)]]
        along = at[(at["w"] == 0) & (at["u"] >= 0)]
        bulge = {g: p["loss"].max() - p.loc[p["u"].idxmax(), "loss"] for g, p in along.groupby("group")}
        if {"D1", "D10"} <= set(bulge):
            bulges.append(bulge["D10"] - bulge["D1"])
    if not bulges:
        raise NotRun("fig02.csv has no run with both groups")
    return np.array(bulges)


def collapse_starts_in_d10(evidence: Evidence) -> Found:
    """The mean over runs."""
    values = bulges_of(evidence)
    low, high = mean_interval(values)
    told = f"{len(values)} runs, nats: {', '.join(f'{v:.2f}' for v in values)}"
    if len(values) < 2:
        return {"value": values.mean(), "verdict": "undecided", "evidence": told}
    return side(values.mean(), low, high, told)


def fixed_and_adaptive(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """FGSM-RS with step eps and FGSM-RS with the adaptive step.

    Raises: NotRun if one of them is not there.
    """
    fixed = evidence.swept("fgsm_rs")
    fixed = fixed[np.isclose(fixed["alpha"], 1)]
    if fixed.empty:
        raise NotRun("no run of fgsm_rs whose recipe has a step of eps")
    return fallen(fixed), fallen(evidence.runs_of("fgsm_adaptive"))


def adaptive_step_prevents(evidence: Evidence) -> Found:
    """The fixed step against the adaptive one."""
    return shares(*fixed_and_adaptive(evidence), ("fixed step", "adaptive step"), PLACE)


def adaptive_steps(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The runs of ATAS and of FGSM-RS with its step, with the mean `step` over eps.

    Raises: NotRun if neither has two.
    """
    runs = evidence.runs
    rows = fallen(runs[runs["method"].isin(["atas", "fgsm_adaptive"]) & (runs["variant"] == "paper")])
    rows = rows.assign(step=rows["mean_alpha_255"] / rows["eps_255"]).dropna(subset=["step"])
    parts = {str(name): part for name, part in rows.groupby("method") if len(part) > 1}
    if not parts:
        raise NotRun("no two runs of a method with an adaptive step")
    return parts


def adaptive_step_is_larger(evidence: Evidence) -> Found:
    """Mean step over eps, minus 1, of ATAS or FGSM-RS with its step, the smaller: the fixed step of Fig. 5 is eps."""
    parts = adaptive_steps(evidence)
    told = "; ".join(
        f"{name}: mean step {part['step'].mean():.2f} eps, collapsed: {counted(part)}" for name, part in parts.items()
    )
    least = min((part["step"].to_numpy() - 1 for part in parts.values()), key=np.mean)
    low, high = mean_interval(least)
    return side(float(least.mean()), low, high, told)


# Ratios and losses


def tail_ratio(evidence: Evidence) -> Found:
    """sqrt(mean G^2) / mean G - 1 of ATAS: how much the bound of A-SGD_BCA is tighter at beta = 0."""
    rows = evidence.runs_of("atas", needs="ratio")
    values = np.sqrt(rows["ratio"].to_numpy()) - 1
    low, high = mean_interval(values)
    told = "; ".join(f"{eps_text(eps)}: {np.sqrt(part['ratio']).mean():.3f}" for eps, part in rows.groupby("eps_255"))
    told += " (1 or more by Cauchy-Schwarz, so how much counts: 0.1 asked)"
    return side(float(values.mean()), low, high, told, than=0.1)


def ratio_grows(evidence: Evidence) -> Found:
    """Rank correlation of eps and the ratio over runs of ATAS."""
    rows = evidence.runs_of("atas", needs="ratio")
    told = "; ".join(f"{eps_text(eps)}: {part['ratio'].mean():.2f}" for eps, part in rows.groupby("eps_255"))
    return rank_correlation(rows, "eps_255", "ratio", told, ["model"])


def losses(evidence: Evidence) -> pd.DataFrame:
    """The runs of ATAS with a robust training loss, where ATTA with the same seed has one too."""
    _, atas = (evidence.runs_of(name, needs="robust_train_loss") for name in ("atta", "atas"))
    both = atas[atas["loss_gap"].notna()]
    if both.empty:
        raise NotRun("no run that ATTA and ATAS both have")
    return both


def lower_loss(evidence: Evidence) -> Found:
    """Robust training loss of ATTA minus ATAS, nats."""
    rows = losses(evidence)
    low, high = mean_interval(rows["loss_gap"].to_numpy())
    told = "; ".join(f"{eps_text(eps)}: {part['loss_gap'].mean():+.3f}" for eps, part in rows.groupby("eps_255"))
    if len(rows) < 2:
        return {"value": rows["loss_gap"].mean(), "verdict": "undecided", "evidence": told}
    return side(rows["loss_gap"].mean(), low, high, told)


def tails_and_losses(evidence: Evidence) -> Found:
    """Rank correlation of the ratio and the loss gap."""
    rows = losses(evidence).dropna(subset=["ratio"])
    if rows.empty:
        raise NotRun("no ratio of ATAS")
    return rank_correlation(rows, "ratio", "loss_gap", counted_pairs(len(rows)), ["model"])


def log_times(evidence: Evidence) -> np.ndarray:
    """Natural logarithms of the training seconds of ATAS over ATTA's, on the same hardware.

    Raises: NotRun if there is no pair.
    """
    key = ["model", "eps_255", "seed", "device"]
    one, other = (evidence.runs_of(name, needs="train_seconds")[[*key, "train_seconds"]] for name in ("atas", "atta"))
    both = one.merge(other, on=key, suffixes=("", "_atta"))
    if both.empty:
        raise NotRun("no run that ATAS and ATTA both have on the same hardware")
    return np.log((both["train_seconds"] / both["train_seconds_atta"]).to_numpy())


def as_fast(evidence: Evidence) -> Found:
    """Training seconds of ATAS over ATTA's: within 10 % of 1 (geometric mean, t-interval)."""
    logs = log_times(evidence)
    low, high = np.exp(mean_interval(logs))
    word = "holds" if low >= 0.9 and high <= 1.1 else "does not hold" if high < 0.9 or low > 1.1 else "undecided"
    told = f"geometric mean of {counted_pairs(len(logs))}; clocks are noisy"
    return {"value": float(np.exp(logs.mean())), "low": low, "high": high, "verdict": word, "evidence": told}


def settings(evidence: Evidence) -> list[str]:
    """The variants of ATAS with another gamma or c.

    Raises: NotRun if there are none.
    """
    rows = evidence.swept("atas")
    rows = rows[rows["variant"] != "paper"]
    if rows.empty:
        raise NotRun("no run of atas whose recipe has another gamma or c")
    return sorted(set(rows["variant"]))


def insensitive(evidence: Evidence) -> Found:
    """Largest loss of AutoAttack accuracy, in points, by a gamma or c of Table IV; two are allowed.

    It holds if all are compared and none surely loses more; of so many settings one that does is held to Holm's level.
    Raises: NotRun if none can be compared.
    """
    gaps, absent = {}, []
    for v in settings(evidence):
        try:
            gaps[v] = gap(evidence, ("atas", v), ("atas", "paper"))
        except NotRun:
            absent.append(v)
    if not gaps:
        raise NotRun(f"no run that atas/paper and one of {', '.join(absent)} both have under aa")
    worst = min(gaps, key=lambda v: gaps[v]["value"])
    told = f"worst of {len(gaps)}: {worst}; {gaps[worst]['told']}"
    told += f"; not compared under aa: {', '.join(absent)}" if absent else ""
    found = on_pairs({**gaps[worst], "told": told}, ON_A_PAR, -2.0)
    several = [v for v in gaps if gaps[v]["pairs"] > 1]
    lost = [paired(differences(evidence, ("atas", v), ("atas", "paper")) + 0.02) for v in several]
    refuted = [one.mean < 0 and p < 0.05 for one, p in zip(lost, holm(np.array([o.p for o in lost])), strict=True)]
    holds = not absent and len(several) == len(gaps) and all(one["low"] > -2 for one in gaps.values())
    return {**found, "verdict": "does not hold" if any(refuted) else "holds" if holds else "undecided"}


def norm_is_the_instance_s(evidence: Evidence) -> Found:
    """Rank correlation of the images' mean gradient norms between trainings with other seeds: above 0.5."""
    rows = evidence.data("fig06_ranks", "spearman")
    value, least = float(rows["spearman"].mean()), float(rows["spearman"].min())
    word = "holds" if least > 0.5 else "does not hold" if value < 0.5 else "undecided"
    return {"value": value, "low": least, "high": float(rows["spearman"].max()), "verdict": word,
            "evidence": f"{len(rows)} pairs of trainings; low and high are the extremes"}  # fmt: skip


CLAIMS = (
    Claim(
        "atas-atta", "ATAS is more robust than ATTA", "Sec. V-B, Table I", "AA, ATAS - ATTA, points", atas_beats("atta")
    ),
    Claim(
        "atas-rs",
        "ATAS is more robust than FGSM-RS",
        "Sec. V-B, Table I",
        "AA, ATAS - FGSM-RS, points",
        atas_beats("fgsm_rs"),
    ),
    Claim(
        "atas-best",
        "ATAS is the most robust fast method at every eps",
        "Sec. V-B, Table II",
        "share of eps and networks where ATAS is first",
        atas_beats_all,
    ),
    Claim("atas-pgd10", "ATAS is on par with PGD10", "Sec. V-B", "AA, ATAS - PGD10, points", as_good_as_pgd10),
    Claim(
        "rs-collapses",
        "FGSM-RS collapses where ATAS does not",
        "Fig. 8",
        "share that collapsed, at the end or for a while, difference",
        rs_collapses_more,
    ),
    Claim(
        "others-avoid",
        "GradAlign and other remedies avoid collapse where FGSM-RS does not",
        "Sec. II, Sec. V-B",
        "share that collapsed, at the end or for a while, difference",
        others_avoid,
    ),
    Claim("eps-collapse", "A larger eps makes FGSM-RS collapse", "Table II", "Spearman, eps and collapse", larger_eps),
    Claim(
        "step-collapse",
        "A larger step size makes single-step methods collapse",
        "Sec. III, Fig. 3",
        "Spearman, step and collapse",
        larger_step,
    ),
    Claim(
        "norm-collapse",
        "Images with large gradient norms cause collapse",
        "Sec. III, Fig. 3",
        "share that collapsed, at the end or for a while, difference",
        large_norms_collapse,
    ),
    Claim(
        "d10-first",
        "The loss surface of D_10 is distorted first",
        "Sec. III, Fig. 2",
        "loss inside over the corner's, D_10 - D_1, nats",
        collapse_starts_in_d10,
    ),
    Claim(
        "adaptive-prevents",
        "The adaptive step alone keeps FGSM-RS from collapse",
        "Sec. IV, Fig. 5a",
        "share that collapsed, at the end or for a while, difference",
        adaptive_step_prevents,
    ),
    Claim(
        "adaptive-larger",
        "The adaptive step is larger on average than the fixed one",
        "Sec. IV, Fig. 5",
        "mean step / eps - 1, of the method with the smaller",
        adaptive_step_is_larger,
    ),
    Claim(
        "tail",
        "Gradient norms are long-tailed: the ratio of Eq. 10 exceeds 1",
        "Sec. IV-A, Fig. 6b",
        "sqrt(mean G^2) / mean G - 1",
        tail_ratio,
    ),
    Claim("tail-eps", "The ratio grows with eps", "Table III, Fig. 6b", "Spearman, eps and ratio", ratio_grows),
    Claim(
        "loss",
        "ATAS ends with a lower robust training loss than ATTA",
        "Sec. V-A, Fig. 7",
        "loss under PGD10, ATTA - ATAS, nats",
        lower_loss,
    ),
    Claim(
        "tail-loss",
        "A larger ratio goes with a larger gap in the loss",
        "Table III",
        "Spearman, ratio and gap",
        tails_and_losses,
    ),
    Claim("time", "ATAS takes as long as ATTA", "Sec. IV, Table I", "training seconds, ATAS / ATTA", as_fast),
    Claim(
        "insensitive",
        "ATAS is not sensitive to gamma and c",
        "Table IV",
        "AA, worst setting - default, points",
        insensitive,
    ),
    Claim(
        "instance",
        "The gradient norm is a property of the image",
        "Sec. V-C, Fig. 10",
        "Spearman of mean norms between trainings, the least above 0.5",
        norm_is_the_instance_s,
    ),
)
