"""What the paper prints where a figure of ours shows the like: numbers of its tables, and sentences of its text."""

import pandas as pd

from fastat.report.figures.style import at
from fastat.report.results import PLACE, paper

MAIN = ("cifar10", "preact_resnet18")
NAMES = {
    "cifar10": "CIFAR10", "cifar100": "CIFAR100", "imagenet": "ImageNet", "preact_resnet18": "ResNet-18",
    "wrn28_10": "WRN-28-10", "resnet18": "ResNet-18", "resnet50": "ResNet-50",
}  # fmt: skip
STEPS = {  # Section III: figure 4's marks, in eps; 10/255 and 14/255 at 8/255
    "fgsm_rs": {1.25: "no collapse", 1.75: "collapse"},
    "atta": {1.25: "no collapse"},
}
SAYS = {
    "fig02": "Paper, CIFAR10, ResNet-18, 8/255, step 14/255: the tenth with the largest norms was distorted first.",
    "fig03": "Paper, CIFAR10, ResNet-18, 8/255: no subset collapsed with a step of 1.25 eps; with larger ones those "
    "with large norms did first.",
    "fig04": "Paper, CIFAR10, ResNet-18, 8/255: no collapse with a step of 1.25 eps, one of FGSM-RS with 1.75 eps.",
    "fig05": "Paper, CIFAR10, WRN-28-10: no collapse with adaptive steps of 10.8/255 (a) and 9.3/255 (b) on average, "
    "against 8/255.",
    "fig08": "Paper, CIFAR10, WRN-28-10, 8 and 16/255: FGSM-RS collapsed in 5 of 5 trainings, ATAS in none.",
    "fig11": "Paper, CIFAR10: nearly all perturbations reach the budget of 8/255 somewhere.",
}


def numbers(metric: str, dataset: str = MAIN[0], model: str = MAIN[1]) -> tuple[pd.DataFrame, str]:
    """The paper's numbers of a metric, and whose they are: of this data set and network, else of MAIN.

    `eps_255`, `method`, `value`, in the order of eps.
    """
    every = at(paper(), metric=metric).drop_duplicates([*PLACE, "method"]).dropna(subset=["value"])
    mine = at(every, dataset=dataset, model=model)
    if mine.empty:
        dataset, model = MAIN
        mine = at(every, dataset=dataset, model=model)
    whose = f"paper, {NAMES.get(dataset, dataset)}, {NAMES.get(model, model)}"
    return mine[["eps_255", "method", "value"]].sort_values("eps_255"), whose


def by_eps(metric: str) -> str:
    """`0.05, 0.10, 0.12 at 8, 12, 16/255`: what Table III says of CIFAR10."""
    rows, _ = numbers(metric)
    return f"{', '.join(f'{v:.2f}' for v in rows['value'])} at {', '.join(map(str, rows['eps_255']))}/255"


def said(figure: str) -> list[str]:
    """What the paper says of the like of a figure, if its text has a number for it."""
    return [SAYS[figure]] if figure in SAYS else []
