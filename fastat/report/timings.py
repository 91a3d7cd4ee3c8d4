"""How long a training and an evaluation take, by those that are finished: what `plan` and `status` both say. No torch.

What was run on another device is left out, and counted, so that it can be said.
"""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from fastat.report.progress import Progress

Who = tuple[str, ...]


@dataclass(frozen=True)
class Typical:
    """The median of so many; `run` is one of them."""

    seconds: float
    n: int
    run: str


@dataclass(frozen=True)
class Timings:
    """What runs took on one device.

    A median: a run that was interrupted for a night tells nothing. trainings: by data set, network, method and variant,
    and by the first three alone. evaluations: by data set, network and method, and by the first two, each with
    `autoattack` or nothing. others: device -> how many finished runs were left out.
    """

    device: str = ""
    trainings: dict[Who, Typical] = field(default_factory=dict)
    evaluations: dict[Who, Typical] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    def training(self, run: str) -> Typical | None:
        """Of a run of this name: by its variant, else by its method."""
        variant, method = whose(run)
        return self.trainings.get(variant) or self.trainings.get(method)

    def evaluation(self, run: str, autoattack: bool) -> Typical | None:
        """Of a run of this name: by its method, else by its data set and network."""
        method, network = attacked(run, autoattack)
        return self.evaluations.get(method) or self.evaluations.get(network)


def of(runs: list[Progress], device: str | None = None) -> Timings:
    """What the finished runs took on the device; None: the one on which most of them were trained.

    A run that diverged ended early and tells nothing.
    """
    finished = [run for run in runs if (run.trained is not None or run.evaluated is not None) and not run.diverged]
    on = Counter(run.device for run in finished)
    device = min(on, key=lambda name: (-on[name], name), default="") if device is None else device
    trainings: dict[Who, list[tuple[float, str]]] = {}
    evaluations: dict[Who, list[tuple[float, str]]] = {}
    for run in finished:
        if run.device != device:
            continue
        for kinds, took, seconds in (
            (whose(run.run), trainings, run.trained),
            (attacked(run.run, run.autoattack), evaluations, run.evaluated),
        ):
            for who in kinds if seconds is not None else ():
                took.setdefault(who, []).append((seconds or 0.0, run.run))
    others = {name: n for name, n in sorted(on.items()) if name != device}
    return Timings(device, typical(trainings), typical(evaluations), others)


def typical(took: dict[Who, list[tuple[float, str]]]) -> dict[Who, Typical]:
    """The median of each."""
    return {who: Typical(median(s for s, _ in each), len(each), each[0][1]) for who, each in took.items()}


def whose(run: str) -> tuple[Who, Who]:
    """Data set, network, method and variant of a run; and the first three."""
    dataset, model, _, method, variant, *_ = run.split("/")
    return (dataset, model, method, variant), (dataset, model, method)


def attacked(run: str, autoattack: bool) -> tuple[Who, Who]:
    """Data set, network and method of a run, and the first two, each with whether AutoAttack attacks it."""
    dataset, model, _, method, *_ = run.split("/")
    last = "autoattack" if autoattack else ""
    return (dataset, model, method, last), (dataset, model, last)


def in_words(timings: Timings, who: str) -> list[str]:
    """`12 finished runs on a V100 are left out: ...`, a line for every other device."""
    here = timings.device or "a device that is not named"
    return [
        f"{n} finished run{'s' * (n != 1)} on {name or 'a device that is not named'}: not counted in {who}, of {here}."
        for name, n in timings.others.items()
    ]
