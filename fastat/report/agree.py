"""Do two machines' runs of one grid agree? Bit for bit, within noise, or not. pandas, scipy; never torch.

Compared are the runs that both have: those of one name, which must be of one recipe and on the same data.

- bit for bit: the weights have the same sha256, and the networks give the same verdict on every image
- within noise: other bits, but the difference is what another seed gives, too
- differs: the same name is another training; or the same weights give other verdicts; or the difference is more than
  another seed gives
- not compared: other weights, and no evaluation on the same images under the same protocol; or noise that nobody knows,
  as no cell has two seeds

Two trainings that round differently are soon as far apart as two seeds (docs/findings.md), so that the noise of a
difference is that between seeds. Under clean, PGD10, PGD50 and AutoAttack, each cell with several runs is put to
Student's t with the spread of its seeds, and all runs together to Wilcoxon's signed ranks. A collapse is a draw of a
coin that falls anew for each seed: cells where a side disagrees with itself, or the sides on fewer than AGREED seeds,
are put to Fisher's exact test of how often it fell. Holm's adjustment of all these p-values has to be below ALPHA.

A run that is the only seed of its cell says little alone: on another machine one lost 45 points of clean accuracy. It
counts among all runs.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fastat.config.spec import RunSpec
from fastat.report.kept import ATTACKS, Kept, load, tier
from fastat.report.statistics import holm
from fastat.units import eps_text

ALPHA = 0.05
PRIOR = 4  # degrees of freedom that the spread of all cells counts in one cell
FEWEST = 10  # differences that Wilcoxon's test is asked of
AGREED = 3  # seeds: that many of a coin fall alike on both sides, and not the same way, in 3 % of all draws
TESTED = {"clean": "clean", "pgd10": "PGD10", "pgd50": "PGD50", "aa": "AutoAttack"}
BITS, NOISE, DIFFERS, NOT = "bit for bit", "within noise", "differs", "not compared"
SHOWN = 10  # of many lines of one kind
Facts = dict[str, str]


@dataclass
class Run:
    """A run that both have. word: '' until the statistics know; moved: under how many attacks verdicts are others."""

    name: str
    word: str
    reason: str = ""
    moved: int = 0
    gaps: dict[str, tuple[float, float, int]] = field(default_factory=dict)  # attack -> % here, % there, images

    @property
    def method(self) -> str:
        """`digits/preact_tiny atas`: its place but eps, and its method."""
        spec = RunSpec.parse(self.name)
        return f"{spec.dataset}/{spec.model} {spec.method}" + (f"/{spec.variant}" if spec.variant != "paper" else "")

    @property
    def cell(self) -> str:
        """`digits/preact_tiny atas at 77/255`."""
        return f"{self.method} at {eps_text(RunSpec.parse(self.name).eps_255)}"


@dataclass(frozen=True)
class Agreement:
    """What was found. tests: group, metric, runs, here, there, p, p_adjusted. exit_code: 1 if something differs."""

    here: Kept
    there: Kept
    runs: list[Run]
    tests: pd.DataFrame
    noise: dict[str, float]  # between seeds, in points
    broken: list[str]  # runs in portable numerics with other weights
    others: int = 0  # runs that both have, but of another recipe or on other data, which were left out

    @property
    def found(self) -> pd.DataFrame:
        """The tests that hold a difference."""
        return self.tests[self.tests["p_adjusted"] < ALPHA]

    @property
    def exit_code(self) -> int:
        """1 if something differs."""
        return int(len(self.found) > 0 or any(run.word == DIFFERS for run in self.runs))


def compare(results: Path, others: Path, alike: bool = False) -> Agreement:
    """The runs in two folders, each a results folder or one of `fastat docs --results`, or others: a folder of those.

    alike: those alone whose recipe and data are the same.
    Raises: BadInput if a folder cannot be read.
    """
    here = load(results)
    return judge(here, load(tier(here, others)), alike)


def judge(here: Kept, there: Kept, alike: bool = False) -> Agreement:
    """The runs that both have, one by one and then together."""
    common = sorted(set(here.runs.index) & set(there.runs.index))
    n_common = len(common)
    if alike:
        common = [n for n in common if not another_recipe(here.facts[n], there.facts[n], here, there)]
    runs = [compared(name, here, there) for name in common]
    open_runs = [run for run in runs if not run.word]
    spread = Spread.of(here, there, {run.name for run in runs if run.word == BITS or not (run.moved or run.word)})
    tests = tested([run for run in open_runs if run.moved], spread, here, there)
    for run in open_runs:
        run.word = NOISE
        if run.moved and not spread.known:
            run.word, run.reason = NOT, "how far seeds lie apart is not known, as no cell has two"
    others, broken = n_common - len(common), broken_promises(common, here, there)
    agreement = Agreement(here, there, runs, tests, spread.pooled, broken, others)
    guilty = set(agreement.found["group"])
    for run in open_runs:
        if run.moved and run.cell in guilty:
            run.word = DIFFERS
    return agreement


# Run by run


def compared(name: str, here: Kept, there: Kept) -> Run:
    """What weights and verdicts alone can say; word '' if that is not all."""
    a, b = here.facts[name], there.facts[name]
    if reason := another_training(a, b, here, there):
        return Run(name, DIFFERS, reason)
    equal = both(a, b, "weights") and a["weights"] == b["weights"]
    pairs, reason = paired(name, here, there)
    others = {attack: int((x != y).sum()) for attack, (x, y) in pairs.items()}
    moved = sum(n > 0 for n in others.values())
    if equal and moved and not rounds_differently(a, b):
        told = ", ".join(f"{n} images under {attack}" for attack, n in others.items() if n)
        return Run(name, DIFFERS, f"the same weights, other verdicts: {told}")
    if equal and not moved:
        return Run(name, BITS, reason)
    if not pairs:
        return Run(name, NOT, reason or "other weights, and no verdicts on both sides")
    gaps = {k: (100 * float(x.mean()), 100 * float(y.mean()), len(x)) for k, (x, y) in pairs.items()}
    return Run(name, "", reason, moved, gaps)


def both(a: Facts, b: Facts, key: str) -> bool:
    """Whether both sides say it."""
    return bool(a[key] and b[key])


def another_training(a: Facts, b: Facts, here: Kept, there: Kept) -> str:
    """Why one name stands for two trainings, '' if it does not. What nobody said is no difference."""
    if not (reason := another_recipe(a, b, here, there)) and both(a, b, "status") and a["status"] != b["status"]:
        return f"{a['status']} here, {b['status']} there"
    return reason


def another_recipe(a: Facts, b: Facts, here: Kept, there: Kept) -> str:
    """In what recipe or data differ; ''."""
    if both(a, b, "recipe") and a["recipe"] != b["recipe"]:
        return f"recipe ({first_keys(here.recipes[a['recipe']], there.recipes[b['recipe']])})"
    if both(a, b, "data_sha256") and a["data_sha256"] != b["data_sha256"]:
        return f"data ({a['data_sha256'][:16]} here, {b['data_sha256'][:16]} there)"
    return ""


def first_keys(mine: dict[str, str], theirs: dict[str, str], most: int = 3) -> str:
    """`schedule/lr 0.2 here, 0.1 there`, of the first few keys that differ."""
    keys = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    told = [f"{key} {mine.get(key, 'unset'):.40} here, {theirs.get(key, 'unset'):.40} there" for key in keys[:most]]
    return "; ".join([*told, *([f"and {len(keys) - most} more"] if len(keys) > most else [])])


def paired(name: str, here: Kept, there: Kept) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """Attack -> verdicts here and there on the same images; and why some are not among them."""
    mine, theirs = here.verdicts.get(name, {}), there.verdicts.get(name, {})
    a, b = here.facts[name], there.facts[name]
    pairs = {}
    reasons = [
        f"no verdicts under {', '.join(lacking)} {side}"
        for side, has, wanted in (("here", mine, theirs), ("there", theirs, mine))
        if (lacking := [attack for attack in ATTACKS if attack in wanted and attack not in has])
    ]
    for attack in (attack for attack in ATTACKS if attack in mine and attack in theirs):
        suite = "autoattack" if attack == "aa" else "whitebox"
        if both(a, b, suite) and a[suite] != b[suite]:
            reasons.append(f"another protocol of {suite}")
        elif mine[attack][1] != theirs[attack][1] or len(mine[attack][0]) != len(theirs[attack][0]):
            reasons.append(f"other test images under {attack}")
        else:
            pairs[attack] = (mine[attack][0], theirs[attack][0])
    return pairs, ", ".join(dict.fromkeys(reasons))


def rounds_differently(a: Facts, b: Facts) -> bool:
    """Whether the same weights may give other verdicts: evaluated in other numerics, or natively elsewhere.

    With which torch and on what, an evaluation says of itself; one that does not is taken for its training's.
    """
    key = "evaluation_numerics"
    if both(a, b, key) and a[key] != b[key]:
        return True
    said = (("evaluation_device", "processor"), ("evaluation_torch", "torch"))
    facts = (own if both(a, b, own) else of_training for own, of_training in said)
    elsewhere = any(both(a, b, fact) and a[fact] != b[fact] for fact in facts)
    return elsewhere and a[key] != "portable"


def broken_promises(common: list[str], here: Kept, there: Kept) -> list[str]:
    """A sentence for every run that is of other weights, though portable on both sides under the same torch."""
    found = []
    for name in common:
        a, b = here.facts[name], there.facts[name]
        promised = a["numerics"] == b["numerics"] == "portable" and both(a, b, "torch") and a["torch"] == b["torch"]
        same = a["recipe"] == b["recipe"] and a["data_sha256"] == b["data_sha256"]
        if promised and same and both(a, b, "weights") and a["weights"] != b["weights"]:
            mine, theirs = (f"{row['weights'][:16]} on {row['processor'] or 'an unknown processor'}" for row in (a, b))
            found.append(f"{name}: weights {mine} here, {theirs} there")
    return found


# Together


@dataclass(frozen=True)
class Spread:
    """How far seeds lie apart. pooled: metric -> standard deviation in points, NaN if no cell has two seeds.

    degrees: of freedom, by metric. own: (cell, metric) -> squares and degrees of freedom of its seeds alone.
    """

    pooled: dict[str, float]
    degrees: dict[str, int]
    own: dict[tuple[str, str], tuple[float, int]]

    @property
    def known(self) -> bool:
        """Whether some cell has two seeds."""
        return any(n > 0 for n in self.degrees.values())

    @classmethod
    def of(cls, here: Kept, there: Kept, same: set[str]) -> "Spread":
        """Of both sides; runs that are the `same` on both count once. Cells with a collapse scatter for themselves."""
        sides = [here.runs, there.runs[~there.runs.index.isin(same)]]
        rows = pd.concat([side.assign(side=k) for k, side in enumerate(sides)])
        rows = rows.assign(cell=[Run(str(name), "").cell for name in rows.index])
        fallen = set(rows["cell"][rows["collapsed"] == "1"])
        groups = rows.groupby(["cell", "side"])
        pooled: dict[str, float] = {}
        degrees: dict[str, int] = {}
        own: dict[tuple[str, str], tuple[float, int]] = {}
        for metric in TESTED:
            n = (groups[metric].count() - 1).clip(lower=0)
            squares = (groups[metric].var(ddof=1) * n).fillna(0)
            by_cell = pd.DataFrame({"squares": squares, "n": n}).groupby("cell").sum()
            whole = by_cell[~by_cell.index.isin(fallen)]
            degrees[metric] = int(whole["n"].sum())
            pooled[metric] = math.sqrt(whole["squares"].sum() / degrees[metric]) if degrees[metric] else math.nan
            own |= {(str(cell), metric): (total, k) for cell, total, k in by_cell.itertuples()}
        return cls(pooled, degrees, own)

    def of_seed(self, runs: list[Run], metric: str) -> tuple[float, float]:
        """The variance of the accuracy over seeds of these runs' cell, and its degrees of freedom.

        What the cell's own seeds say counts with their degrees of freedom, what all cells' say with PRIOR, for how far
        seeds lie apart differs between cells (the moderated t of Smyth 2004). It is at least that of so many images.
        """
        squares, n = self.own.get((runs[0].cell, metric), (0.0, 0))
        p = np.mean([run.gaps[metric][:2] for run in runs]) / 100
        of_images = 1e4 * p * (1 - p) / runs[0].gaps[metric][2]
        moderated = (PRIOR * self.pooled[metric] ** 2 + squares) / (PRIOR + n)
        return max(moderated, of_images), min(PRIOR + n, self.degrees[metric])


def tested(runs: list[Run], spread: Spread, here: Kept, there: Kept) -> pd.DataFrame:
    """A row per cell of several runs, and one for all runs, by metric: here, there (% or how often), p, p_adjusted."""
    rows: list[dict[str, Any]] = []
    for cell, members in grouped(runs, "cell"):
        fallen = [sum(side.facts[run.name]["collapsed"] == "1" for run in members) for side in (here, there)]
        if len(members) > 1 and is_coin(fallen[0], fallen[1], len(members)):
            p = float(stats.fisher_exact([[k, len(members) - k] for k in fallen]).pvalue)
            row = {"group": cell, "metric": "collapsed", "runs": len(members), "p": p}
            rows.append({**row, "here": fallen[0], "there": fallen[1]})
        elif len(members) > 1:
            rows += of_cell(cell, members, spread)
    table = pd.DataFrame([*rows, *of_all(runs)], columns=["group", "metric", "runs", "here", "there", "p"])
    return table.assign(p_adjusted=holm(table["p"].to_numpy(float)))


def grouped(runs: list[Run], by: str) -> list[tuple[str, list[Run]]]:
    """The runs of each cell or method."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(getattr(run, by), []).append(run)
    return sorted(found.items())


def is_coin(mine: int, theirs: int, n: int) -> bool:
    """Whether collapses of n runs here and there are a matter of luck: the seeds of a side disagree, or are too few."""
    return 0 < mine < n or 0 < theirs < n or (mine != theirs and n < AGREED)


def of_cell(cell: str, runs: list[Run], spread: Spread) -> Iterator[dict[str, Any]]:
    """A row per metric: is the mean difference of a cell's runs what seeds give? Student's t."""
    for metric in TESTED:
        measured = [run for run in runs if metric in run.gaps]
        if len(measured) < 2 or not spread.degrees[metric]:
            continue
        here, there = (np.array([run.gaps[metric][side] for run in measured]) for side in (0, 1))
        variance, degrees = spread.of_seed(measured, metric)
        scale = math.sqrt(2 * variance / len(measured))
        t = abs((here - there).mean()) / scale if scale else math.inf
        p = float(2 * stats.t.sf(t, degrees)) if (here != there).any() else 1.0
        yield {
            "group": cell, "metric": metric, "runs": len(measured), "here": here.mean(), "there": there.mean(), "p": p,
        }  # fmt: skip


def of_all(runs: list[Run]) -> Iterator[dict[str, Any]]:
    """A row per metric: do the runs' differences lie as often and as far on either side? Wilcoxon's signed ranks.

    Which side is better is a coin's throw for every run, if they round differently and no more, however far seeds lie
    apart.
    """
    for metric in TESTED:
        measured = [run for run in runs if metric in run.gaps]
        here, there = (np.array([run.gaps[metric][side] for run in measured]) for side in (0, 1))
        if (here != there).sum() < FEWEST:
            continue
        p = float(stats.wilcoxon(here, there, method="asymptotic", correction=True).pvalue)
        yield {
            "group": "all runs", "metric": metric, "runs": len(measured), "here": here.mean(), "there": there.mean(),
            "p": p,
        }  # fmt: skip


# In words


def described(found: Agreement) -> list[str]:
    """What was found, for people: the last line says it all."""
    here, there = found.here.folder, found.there.folder
    if not found.runs:
        sizes = f"{here} has {len(found.here.runs)} runs, {there} {len(found.there.runs)}"
        if found.others:
            return [f"nothing to compare: recipes or data of the {found.others} runs in both are others in {there}."]
        return [f"nothing to compare: no run is in both. {sizes}."]
    alone = [len(kept.runs) - len(found.runs) - found.others for kept in (found.here, found.there)]
    text = [f"here: {here} ({machine(found.here)})", f"there: {there} ({machine(found.there)})"]
    text.append(f"runs in both: {len(found.runs)}, only here: {alone[0]}, only there: {alone[1]}")
    text += [f"left out, as their recipes or data are others: {found.others}"] if found.others else []
    if any(run.word in (DIFFERS, NOT) or run.moved for run in found.runs):
        text += table(found.runs)
    text += noise_line(found)
    text += shown(reasons(DIFFERS, [run for run in found.runs if run.word == DIFFERS]))
    text += shown([f"differs: {sentence(row)}" for row in found.found.to_dict("records")])
    text += shown(reasons(NOT, [run for run in found.runs if run.word != DIFFERS]))
    if found.broken:
        text += ["Portable numerics did not keep their promise here, the same bits everywhere:", *shown(found.broken)]
    return [*text, last_line(found)]


def machine(kept: Kept) -> str:
    """`portable, AMD EPYC, torch 2.14.1`: in what numerics, where and under what the runs of a folder were made."""
    facts = [" and ".join(sorted(set(kept.runs[name]) - {""})) for name in ("numerics", "processor", "torch")]
    facts[2] = f"torch {facts[2]}" if facts[2] else ""
    return ", ".join(fact for fact in facts if fact) or "made nobody says where"


def table(runs: list[Run]) -> list[str]:
    """A line per method that is not bit for bit: how many of its runs are what, and its cell that moved most."""
    rows = []
    for method, members in grouped(runs, "method"):
        words = [run.word for run in members]
        if set(words) == {BITS}:
            continue
        equal = sum(bool(run.gaps) and not run.moved for run in members)
        counts = {word: words.count(word) for word in (BITS, NOISE, DIFFERS, NOT)}
        row = {"method": method, "runs": len(members), **counts}
        rows.append({**row, "every verdict equal": equal, "moved most": largest(members)})
    frame = pd.DataFrame(rows).set_index("method").rename_axis(None)
    return frame.loc[:, [name == "runs" or bool(frame[name].any()) for name in frame]].to_string().splitlines()


def largest(runs: list[Run]) -> str:
    """`PGD50 +3.1 at 77/255`: the cell's mean under one of TESTED that moved most."""
    moves = []
    for cell, members in grouped([run for run in runs if run.gaps], "cell"):
        for metric, label in TESTED.items():
            gaps = [run.gaps[metric][0] - run.gaps[metric][1] for run in members if metric in run.gaps]
            if gaps and (gap := float(np.mean(gaps))):
                moves.append((abs(gap), f"{label} {gap:+.1f} at {cell.rpartition(' ')[2]}"))
    return max(moves)[1] if moves else ""


def noise_line(found: Agreement) -> list[str]:
    """How far seeds lie apart, if that was asked."""
    if found.tests.empty or all(math.isnan(value) for value in found.noise.values()):
        return []
    told = ", ".join(f"{label} {found.noise[metric]:.1f}" for metric, label in TESTED.items())
    return [f"seeds of a cell lie so many points apart (standard deviation): {told}"]


def sentence(row: dict[Hashable, Any]) -> str:
    """A test in words."""
    label = TESTED.get(row["metric"], "")
    numbers = f"{label} {row['here']:.1f} % here, {row['there']:.1f} % there"
    if not label:
        numbers = f"{row['here']:.0f} collapsed here, {row['there']:.0f} there"
    return f"{row['group']}: {numbers} ({row['runs']} runs, p = {row['p_adjusted']:.2g} after Holm)"


def reasons(word: str, runs: list[Run]) -> list[str]:
    """`differs: recipe (epochs 30 here, 2 there): NAME and 18 more runs`, a line a reason."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if run.reason:
            found.setdefault(run.reason, []).append(run.name)
    more = {reason: f" and {len(names) - 1} more runs" if len(names) > 1 else "" for reason, names in found.items()}
    return [f"{word}: {reason}: {names[0]}{more[reason]}" for reason, names in found.items()]


def shown(sentences: list[str]) -> list[str]:
    """The first SHOWN, and how many more."""
    rest = len(sentences) - SHOWN
    return [*sentences[:SHOWN], *([f"and {rest} more"] if rest > 0 else [])]


def last_line(found: Agreement) -> str:
    """The whole in one of the words."""
    n, words = len(found.runs), [run.word for run in found.runs]
    if found.exit_code:
        guilty = words.count(DIFFERS)
        return f"differs: {guilty} of {n} runs." if guilty else f"differs: {n} runs taken together, none of them alone."
    judged = n - words.count(NOT)
    if not judged:
        return f"not compared: none of {n} runs."
    if words.count(BITS) == n:
        partly = sum(bool(run.reason) for run in found.runs)
        return f"bit for bit: all {n} runs{f'; verdicts of {partly} not compared' if partly else ''}."
    equal = sum(run.word == BITS or (bool(run.gaps) and not run.moved) for run in found.runs)
    rest = f", {n - judged} not compared" if n > judged else ""
    told = (
        f"within noise: {judged} of {n} runs{rest}; {words.count(BITS)} bit for bit, {equal} with every verdict equal"
    )
    if equal == judged:
        return f"{told}; where weights are not, they are other ones or of unknown sha256."
    return f"{told}; none of {len(found.tests)} comparisons shows more than another seed gives."
