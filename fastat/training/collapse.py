"""When did catastrophic overfitting happen? A pure function of the log. Standard library only.

The rule. Catastrophic overfitting is a gap between attacks: the network withstands the single step that it was
trained on while many small steps break it (ATAS paper, Sec. I: PGD accuracy drops to nearly 0 while FGSM accuracy
rises). An epoch is *collapsed* when PGD10 leaves less than half of the accuracy that FGSM leaves, and FGSM leaves
at least twice what guessing gives. Both are measured on a fixed sample of training images. The factor of one half
sits far from what is seen without collapse (PGD10 keeps 0.8 to 1 of FGSM's accuracy) and with it (under 0.2).
Under twice chance the network has simply not learnt yet, and nothing is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Collapse:
    """What the log says."""

    first: int | None  # the first collapsed epoch, from 1; None: there was none
    n_epochs: int  # how many epochs were collapsed
    at_end: bool  # the last epoch is collapsed: what is reported is a collapsed network
    recovered: bool  # it collapsed, and at the end it is not collapsed


def detect(fgsm_acc: Sequence[float], pgd_acc: Sequence[float], n_classes: int) -> Collapse:
    """Apply the rule to accuracies in [0, 1], one of each per epoch.

    Raises: ValueError if the two differ in length.
    """
    collapsed = [pgd < fgsm / 2 and fgsm >= 2 / n_classes for fgsm, pgd in zip(fgsm_acc, pgd_acc, strict=True)]
    first = collapsed.index(True) + 1 if any(collapsed) else None
    at_end = bool(collapsed) and collapsed[-1]
    return Collapse(first, sum(collapsed), at_end, first is not None and not at_end)
