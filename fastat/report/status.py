"""How a grid stands: done, running, failed and why, waiting, how long still. From disk alone, on any machine."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastat.config import estimates
from fastat.config.estimates import Estimates
from fastat.config.grid import every_run
from fastat.errors import BadInput
from fastat.report import timings
from fastat.report.methods import place as rank
from fastat.report.progress import STATUSES, Place, Progress, last_word, look, strangers
from fastat.report.timings import Timings

SHOWN = 20  # runs of a list that are shown; --json has all
TO_DO = ("running", "stopped", "waiting")  # what failed is not: it wants to be mended
QUIET = 3  # looks in a row that see nothing running before `watch` ends: between two jobs nothing runs


@dataclass(frozen=True)
class Status:
    """A grid, at one moment.

    runs: sorted by name. data: data set -> why it could not be prepared. others: runs that lie there beside the grid's.
    left: seconds until all is done with as many at work as now (one, if there is none), as far as they are known.
    """

    results: Path
    runs: list[Progress]
    data: list[Progress]
    others: list[str]
    notes: list[str]
    left: float

    def count(self, status: str) -> int:
        """How many runs have it."""
        return sum(run.status == status for run in self.runs)

    @property
    def to_do(self) -> list[Progress]:
        """The runs that are at work, or wait for somebody to go on with them."""
        return [run for run in self.runs if run.status in TO_DO]


def survey(config: dict[str, Any], results: Path) -> Status:
    """Look at every run of the config's grid below `results`."""
    place, specs = Place(results, config), every_run(config)
    if not results.is_dir():
        place.notes.append(f"There is no folder {results}: nothing was begun, or --results names another one.")
    runs = [look(spec, place) for spec in specs]
    attacked = {spec.name for spec in specs if not spec.subset}
    took, plan = timings.of(runs), planned(place)
    estimate(runs, attacked, took, plan)
    place.notes.extend(said_of_devices(runs, took, plan))
    data = unprepared(sorted({spec.dataset for spec in specs}), place)
    others = strangers(place, {run.run for run in runs})
    return Status(results, runs, data, others, place.notes, shared(runs))


def planned(place: Place) -> Estimates:
    """What `plan --out` wrote into the results folder, if it did."""
    try:
        return estimates.read(place.results)
    except BadInput as error:
        place.notes.append(f"{error}.")
        return Estimates()


def said_of_devices(runs: list[Progress], took: Timings, plan: Estimates) -> list[str]:
    """Whose seconds are not counted, and where those of the plan are another device's; as sentences."""
    if not any(run.status in TO_DO for run in runs):
        return []
    other = plan.device and took.device and plan.device != took.device
    said = f"{estimates.PLAN} is of {plan.device}, the finished runs of {took.device}." if other else ""
    return [*timings.in_words(took, "what is left"), *([said] if said else [])]


def shared(runs: list[Progress]) -> float:
    """Seconds until all is done with as many at work as now; not less than those at work take."""
    at_work = [run.left for run in runs if run.status == "running"]
    return max([sum(run.left for run in runs if run.status in TO_DO) / max(len(at_work), 1), *at_work])


def estimate(
    runs: list[Progress], attacked: set[str], took: Timings | None = None, plan: Estimates | None = None
) -> None:
    """Set `left` and `unknown` of every run: from its own epochs, what is finished like it, or the plan.

    attacked: the names of the runs that are evaluated. took: what is finished, if not these runs.
    """
    took, plan = took or timings.of(runs), plan or Estimates()
    for run in runs:
        own = run.seconds * run.of if run.seconds and run.of else None
        share = {run.stage: 1 - run.done / run.of} if run.of else {}
        for stage, like_it, by_plan in (
            ("training", took.training(run.run), plan.of(run.run, "train_seconds")),
            ("evaluation", took.evaluation(run.run, run.autoattack), plan.of(run.run, "evaluate_seconds")),
        ):
            if run.stage in ("training", stage) and (stage == "training" or run.run in attacked):
                seconds = own if stage == "training" and own else like_it.seconds if like_it else by_plan
                run.left += (seconds or 0.0) * share.get(stage, 1.0)
                run.unknown += [stage] if seconds is None else []
        run.unknown += ["named attack"] if run.stage == "attacks" else []


def group(run: Progress) -> tuple[str, ...]:
    """Data set, network and method."""
    dataset, model, _, method, *_ = run.run.split("/")
    return dataset, model, method


def unprepared(datasets: list[str], place: Place) -> list[Progress]:
    """The data sets that failed to be prepared: every run on them waits for that."""
    failed = []
    for name in datasets:
        log = place.results / f"logs/data/{name}.log"
        if not (place.results / f"data/{name}.safetensors").exists():
            word, cause, _ = last_word(log, place)
            if word == "failed":
                failed.append(Progress(f"data {name}", "failed", cause=cause, log=str(log)))
    return failed


def as_json(status: Status) -> str:
    """Everything, for scripts."""
    about = {"results": str(status.results), "runs": len(status.runs)}
    about |= {name: status.count(name) for name in STATUSES}
    about |= {"diverged": sum(run.diverged for run in status.runs), "left": status.left}
    return json.dumps(
        {
            "grid": about,
            "progress": [asdict(run) for run in status.runs],
            "data": [asdict(one) for one in status.data],
            "others": status.others,
            "notes": status.notes,
        },
        indent=2,
    )


def describe(status: Status) -> str:
    """For people: counts, a line per data set, network and method, then who runs, who stopped and what failed."""
    failed = [*status.data, *(run for run in status.runs if run.status == "failed")]
    blocks = [
        summary(status),
        table(status.runs),
        listed("Running", [f"{run.run}  {how_far(run)}" for run in status.runs if run.status == "running"]),
        listed("Stopped, to be gone on with", [f"{r.run}  {how_far(r)}" for r in status.runs if r.status == "stopped"]),
        listed("Failed", causes(failed)),
        listed("Not of this grid (see --configfile)", status.others, 5),
        listed("Seen besides", status.notes),
    ]
    return "\n\n".join(block for block in blocks if block)


def summary(status: Status) -> str:
    """`205 runs: 40 done (3 diverged), 2 running, ...`, what of it is trained and evaluated, and how long still."""
    runs, diverged = status.runs, sum(run.diverged for run in status.runs)
    counts = [f"{status.count(name)} {name}" for name in STATUSES if status.count(name)]
    if diverged:
        counts[0] += f" ({diverged} diverged, which is a result)" if status.count("done") else ""
    trained = sum(run.stage != "training" for run in runs)
    lines = [f"{len(runs)} runs: {', '.join(counts)}. Trained: {trained} of {len(runs)}."]
    return "\n".join(lines + ([time_left(status)] if status.to_do else []))


def time_left(status: Status) -> str:
    """`About 25 min left with 2 at work.`, and of how much work nobody can tell."""
    at_work, unknown = status.count("running"), Counter(stage for run in status.to_do for stage in run.unknown)
    nobody = " and ".join(f"{n} {stage}s" for stage, n in unknown.items())
    if not status.left:
        return f"How long still is unknown: nothing like these {nobody} is done yet." if nobody else ""
    with_whom = f"with {at_work} at work" if at_work else "one after the other, and nothing runs"
    more = f", and {nobody} unlike any that is done" if nobody else ""
    return f"{'At least' if nobody else 'About'} {duration(status.left)} left {with_whom}{more}."


def table(runs: list[Progress]) -> str:
    """A line per data set, network and method, with the work that is left to it."""
    groups: dict[tuple[str, ...], list[Progress]] = {}
    for run in runs:
        groups.setdefault(group(run), []).append(run)
    rows: list[tuple[str, ...]] = [("data set", "network", "method", "runs", "trained", *STATUSES, "work left")]
    for name in sorted(groups, key=lambda name: (*name[:2], rank(name[2]))):
        members = groups[name]
        counts = Counter(run.status for run in members)
        trained = sum(run.stage != "training" for run in members)
        numbers = [len(members), trained, *(counts[status] for status in STATUSES)]
        rows.append((*name, *(str(number or "") for number in numbers), work(members)))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k < 3 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def work(runs: list[Progress]) -> str:
    """`12 min`, `> 12 min` if only some of it is known, `?` if none is, '' if there is none."""
    to_do = [run for run in runs if run.status in TO_DO]
    seconds, unknown = sum(run.left for run in to_do), any(run.unknown for run in to_do)
    if not seconds:
        return "?" if unknown else ""
    return ("> " if unknown else "") + duration(seconds)


def how_far(run: Progress) -> str:
    """`epoch 12 of 30, 20 s left`: the epochs that are done, or AutoAttack's images."""
    said = {"training": f"{run.done} of {run.of} epochs", "evaluation": f"AutoAttack: {run.done} of {run.of} images"}
    parts = [said[run.stage] if run.of and run.stage in said else run.stage]
    if run.status == "running" and run.left:
        parts.append(f"{'> ' if run.unknown else ''}{duration(run.left)} left")
    if run.status == "running" and not run.held and run.silent is not None:
        parts.append(f"no lock seen here, last written {duration(run.silent)} ago")
    return ", ".join(parts)


def causes(failed: list[Progress]) -> list[str]:
    """Each cause once, with the first of its runs and, in a second line, where it is said."""
    by_cause: dict[str, list[Progress]] = {}
    for run in failed:
        by_cause.setdefault(run.cause.replace(run.run, "NAME"), []).append(run)
    return [
        f"{same[0].run}{f' and {len(same) - 1} more' if same[1:] else ''}: {same[0].cause}\n    see {same[0].log}"
        for same in by_cause.values()
    ]


def listed(title: str, lines: list[str], most: int = SHOWN) -> str:
    """A title and the first lines below it."""
    more = [f"... and {len(lines) - most} more (--json has all)"] if len(lines) > most else []
    return "\n  ".join([f"{title}:", *lines[:most], *more]) if lines else ""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, size, places, below in (("s", 1, 0, 90), ("min", 60, 0, 5400), ("h", 3600, 1, 48 * 3600)):
        if seconds < below:
            return f"{seconds / size:.{places}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def watch(take: Callable[[], Status], show: Callable[[str], None], every: float) -> None:
    """Show what `take` sees, every so many seconds, until nothing runs or is to come, or nothing ran in QUIET looks."""
    quiet = 0
    while True:
        status = take()
        show(describe(status))
        quiet = 0 if status.count("running") else quiet + 1
        if quiet == QUIET or not status.to_do:
            return
        time.sleep(every)
