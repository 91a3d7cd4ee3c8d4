"""When did catastrophic overfitting happen? A pure function of the log. Standard library only.

Catastrophic overfitting is a gap between attacks: the network withstands the single step that it was trained on
while many small steps break it (ATAS paper, Sec. I: PGD accuracy drops to nearly 0 while FGSM accuracy rises).

The rule, on the FGSM and PGD10 accuracies of a fixed sample of training images after every epoch:

1. An epoch has a *gap* when PGD10 leaves less than a third of the accuracy that FGSM leaves, and FGSM leaves at
   least the *floor*: twice what guessing gives, and 5 %. A network under the floor has not learnt yet.
2. An epoch is *robust* when PGD10 leaves at least the floor and there is no gap.
3. A *collapse* is a row of successive epochs with a gap that begins after a robust epoch (robustness was lost), or
   that lasts to the last epoch (it never came, or never came back). A gap that a network grows out of before it was
   ever robust is slow learning, and is not counted.

One third lies between what is seen without collapse (PGD10 keeps 0.6 to 1 of FGSM's accuracy) and with it (under 0.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Collapse:
    """What the log says. Epochs count from 1."""

    first: int | None  # first epoch of the first collapse; None: there was none
    n_epochs: int  # how many epochs were collapsed
    at_end: bool  # the last epoch is collapsed: what is reported is a collapsed network
    recovered: bool  # it collapsed, and at the end it is not collapsed


def detect(fgsm_acc: Sequence[float], pgd_acc: Sequence[float], n_classes: int) -> Collapse:
    """Apply the rule to accuracies in [0, 1], one of each per epoch.

    Raises: ValueError if the two differ in length.
    """
    floor = max(2 / n_classes, 0.05)
    curves = list(zip(fgsm_acc, pgd_acc, strict=True))
    gap = [fgsm >= floor and pgd < fgsm / 3 for fgsm, pgd in curves]
    robust = [pgd >= floor and not wide for (_, pgd), wide in zip(curves, gap, strict=True)]
    counted = [wide and (any(robust[:e]) or all(gap[e:])) for e, wide in enumerate(gap)]
    first = counted.index(True) + 1 if any(counted) else None
    at_end = bool(gap) and gap[-1]
    return Collapse(first, sum(counted), at_end, first is not None and not at_end)
