"""On how much noise does the verdict of collapse depend? Gathers logs of trainings, and counts verdicts on them.

    python benchmarks/collapse.py gather portable=results native=../other/results LOGS.csv.xz
    python benchmarks/collapse.py count LOGS.csv.xz [--sweep]

`gather` takes every training of the folders. Those that both `portable` and another have were the default's, when the
rule was made. `count` prints, for the rule as it was before and as it is: the verdicts, how often noise changes them,
and how many of the default's change from one name to another. Noise, 50 draws a log: `sample`, each accuracy is drawn
again for the monitor's 128 images; `epochs`, what an epoch departs from the running median of five is that of another
epoch near it. `--sweep` changes one constant after another, on the logs that they were chosen on: those that `portable`
alone has.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import pandas as pd

from fastat.config.catalog import CATALOG
from fastat.training import collapse

TRIED = {
    "LASTING": (1, 2, 3, 4, 5),
    "GAP": (0.25, 1 / 3, 0.4, 0.5),
    "NOTHING": (0.05, 0.1, 0.15, 0.2, 0.25, 1 / 3),
    "LOST": (0.4, 0.5, 0.55, 0.6, 0.7),
    "REGAINED": (0.55, 0.65, 0.75, 0.85),
}
IMAGES, DRAWS, NEAR = 128, 50, 2  # of the monitor; of the noise; epochs by which the first one may move
Curve = tuple[np.ndarray, np.ndarray]  # FGSM and PGD10 accuracy by epoch
Verdict = tuple[str, int | None]  # at the end, for a while or never; first epoch
Rule = Callable[[Curve, int], Verdict]


def main() -> None:
    """Gather or count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("gather")
    verb.add_argument("results", nargs="+", help="NAME=FOLDER")
    verb.add_argument("out", type=Path)
    verb = verbs.add_parser("count")
    verb.add_argument("logs", type=Path)
    verb.add_argument("--sweep", action="store_true")
    args = parser.parse_args()
    if args.verb == "gather":
        gather(dict(word.split("=", 1) for word in args.results), args.out)
    elif args.sweep:
        sweep(curves(args.logs))
    else:
        count(curves(args.logs))


def default(every: dict[str, dict[str, Curve]]) -> set[str]:
    """The names of the trainings that are there in more than one numerics."""
    return {name for numerics, logs in every.items() if numerics != "portable" for name in logs}


def gather(results: dict[str, str], out: Path) -> None:
    """Write numerics, run, epoch, fgsm_acc, pgd10_acc of every training."""
    parts = []
    for numerics, folder in results.items():
        for path in sorted(Path(folder).glob("runs/**/log.csv")):
            log = pd.read_csv(path, usecols=["epoch", "fgsm_acc", "pgd10_acc"])
            name = path.parent.relative_to(Path(folder) / "runs").as_posix()
            parts.append(log.assign(numerics=numerics, run=name))
    rows = pd.concat(parts)[["numerics", "run", "epoch", "fgsm_acc", "pgd10_acc"]]
    rows.to_csv(out, index=False, lineterminator="\n")


def curves(logs: Path) -> dict[str, dict[str, Curve]]:
    """numerics -> run -> its curves."""
    rows = pd.read_csv(logs)
    return {
        str(numerics): {
            str(name): (one["fgsm_acc"].to_numpy(), one["pgd10_acc"].to_numpy()) for name, one in part.groupby("run")
        }
        for numerics, part in rows.groupby("numerics")
    }


def before(curve: Curve, n_classes: int) -> Verdict:
    """The rule that counted every epoch: a gap after a robust epoch, or one that lasts to the end, is a collapse."""
    floor, (fgsm, pgd) = max(2 / n_classes, 0.05), curve
    gap = (fgsm >= floor) & (pgd < fgsm / 3)
    robust = np.logical_or.accumulate((pgd >= floor) & ~gap)
    to_the_end = np.logical_and.accumulate(gap[::-1])[::-1]
    counted = gap & (robust | to_the_end)
    if not counted.any():
        return "never", None
    return "at the end" if gap[-1] else "for a while", int(counted.argmax()) + 1


def now(curve: Curve, n_classes: int) -> Verdict:
    """The rule as it is."""
    fgsm, pgd = curve
    found = collapse.detect(fgsm.tolist(), pgd.tolist(), n_classes)
    return "at the end" if found.at_end else "for a while" if found.for_a_while else "never", found.first


RULES = {"before": before, "now": now}


def verdicts(logs: dict[str, Curve], rule: Rule) -> dict[str, Verdict]:
    """run -> verdict."""
    return {name: rule(curve, CATALOG[name.split("/")[0]].n_classes) for name, curve in logs.items()}


def of_the_sample(curve: Curve, rng: np.random.Generator) -> Curve:
    """Each accuracy drawn again, for as many images."""
    fgsm, pgd = (rng.binomial(IMAGES, accuracy) / IMAGES for accuracy in curve)
    return fgsm, pgd


def of_the_epochs(curve: Curve, rng: np.random.Generator) -> Curve:
    """The running median of five epochs, and at each epoch what another one near it departs from its own."""
    n = len(curve[0])
    near = np.clip(np.arange(n) + rng.integers(-4, 5, n), 0, n - 1)
    smooth = [pd.Series(accuracy).rolling(5, center=True, min_periods=1).median().to_numpy() for accuracy in curve]
    fgsm, pgd = (np.clip(s + (c - s)[near], 0, 1) for c, s in zip(curve, smooth, strict=True))
    return fgsm, pgd


def flips(logs: dict[str, Curve], rule: Rule) -> str:
    """How often each noise changes the word, or moves the first epoch by more than NEAR."""
    told = verdicts(logs, rule)
    shares = []
    for name, noise in {"sample": of_the_sample, "epochs": of_the_epochs}.items():
        rng = np.random.default_rng(0)
        words, firsts = 0, 0
        for _ in range(DRAWS):
            drawn = verdicts({run: noise(curve, rng) for run, curve in logs.items()}, rule)
            words += sum(drawn[run][0] != told[run][0] for run in logs)
            firsts += sum(drawn[run][0] == told[run][0] and moved(drawn[run][1], told[run][1]) for run in logs)
        n = DRAWS * len(logs)
        shares.append(f"{name} {100 * words / n:.2f} % words, {100 * firsts / n:.2f} % first epochs")
    return "; ".join(shares)


def moved(one: int | None, other: int | None) -> bool:
    """Whether both are there and far from one another."""
    return one is not None and other is not None and abs(one - other) > NEAR


def tally(told: dict[str, Verdict]) -> str:
    """How many have each word."""
    words = [word for word, _ in told.values()]
    return ", ".join(f"{words.count(word)} {word}" for word in ("at the end", "for a while", "never"))


def count(every: dict[str, dict[str, Curve]]) -> None:
    """Print the counts of both rules."""
    theirs, portable = default(every), every["portable"]
    parts = {
        "chosen on": {name: curve for name, curve in portable.items() if name not in theirs},
        "portable": {name: curve for name, curve in portable.items() if name in theirs},
        **{numerics: logs for numerics, logs in every.items() if numerics != "portable"},
    }
    for rule in RULES:
        print(f"## {rule}")
        for part, logs in parts.items():
            told = verdicts(logs, RULES[rule])
            print(f"{part}: {len(logs)} trainings: {tally(told)}; noise: {flips(logs, RULES[rule])}")
        for one, other in itertools.combinations(list(parts)[1:], 2):
            a, b = (verdicts(parts[part], RULES[rule]) for part in (one, other))
            words = [f"{name}: {a[name]} {b[name]}" for name in sorted(a) if a[name][0] != b[name][0]]
            firsts = sum(moved(a[name][1], b[name][1]) for name in a)
            print(f"{one} and {other}: {len(words)} words of {len(a)} differ, {firsts} first epochs move")
            print("".join(f"  {line}\n" for line in words), end="")


def sweep(every: dict[str, dict[str, Curve]]) -> None:
    """Print the counts with one constant changed, the others as they are."""
    theirs = default(every)
    logs = {name: curve for name, curve in every["portable"].items() if name not in theirs}
    for name, values in TRIED.items():
        kept = getattr(collapse, name)
        for value in values:
            setattr(collapse, name, value)
            print(f"{name} {value:.3g}: {tally(verdicts(logs, now))}; noise: {flips(logs, now)}", flush=True)
        setattr(collapse, name, kept)


if __name__ == "__main__":
    main()
