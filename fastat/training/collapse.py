"""When did catastrophic overfitting happen? A pure function of the log. Standard library only.

Catastrophic overfitting is a gap between attacks: the network withstands the single step that it was trained on
while many small steps break it (ATAS paper, Sec. I: PGD accuracy drops to nearly 0 while FGSM accuracy rises).

The rule, on the FGSM and PGD10 accuracies of a fixed sample of training images after every epoch. It has hysteresis,
for one epoch is noise: entering a collapse and leaving it each take LASTING successive epochs.

1. The *floor* is twice what guessing gives, and at least 5 %. What a network has *reached* is the highest median of the
   PGD10 accuracies of LASTING successive epochs so far; it is *robust* once that is at least the floor.
2. A collapse begins with the first of LASTING successive epochs in each of which FGSM leaves at least the floor, and
   - robustness is lost: the network was robust, and PGD10 leaves less than LOST of what was reached, and less than GAP
     of what FGSM leaves; or
   - there is none: PGD10 leaves less than NOTHING of what FGSM leaves.
3. It is over with the first of LASTING successive epochs in each of which PGD10 leaves at least GAP of what FGSM
   leaves, and at least REGAINED of what was reached.
4. A network is *collapsed at the end* if the last collapse is not over. It was collapsed *for a while* if all are over.
   A collapse that began before the network was robust counts only if it lasts to the end: then robustness never came,
   which `lost` tells from the collapse of a robust network. One that is over was slow learning.

Fewer than LASTING epochs are no evidence: what begins in the last two epochs is not told from a dip, and a training of
one or two epochs has no collapse. Why these constants: docs/decisions/collapse-rule.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

LASTING = 3  # epochs
GAP = 1 / 3  # of FGSM's accuracy
NOTHING = 1 / 10  # of FGSM's accuracy
LOST = 0.55  # of what was reached
REGAINED = 0.75  # of what was reached


@dataclass(frozen=True)
class Collapse:
    """What the log says. Epochs count from 1."""

    first: int | None  # first epoch of the first collapse; None: there was none
    n_epochs: int  # how many epochs were collapsed
    at_end: bool  # what is reported is a collapsed network
    lost: bool  # the first collapse took robustness that was there; otherwise it never came, or there was no collapse
    lasting: int | None = None  # first epoch of the collapse that lasts to the end, where others came before it

    @property
    def for_a_while(self) -> bool:
        """It collapsed, and had recovered at the end."""
        return self.first is not None and not self.at_end

    @property
    def epoch(self) -> int | None:
        """The epoch that dates it: where the collapse that lasts began, else the first one."""
        return self.lasting or self.first


def detect(fgsm_acc: Sequence[float], pgd_acc: Sequence[float], n_classes: int) -> Collapse:
    """Apply the rule to accuracies in [0, 1], one of each per epoch.

    Raises: ValueError if the two differ in length, or a value is not in [0, 1].
    """
    curves = list(zip(fgsm_acc, pgd_acc, strict=True))
    for epoch, (fgsm, pgd) in enumerate(curves, start=1):
        if not (0 <= fgsm <= 1 and 0 <= pgd <= 1):
            raise ValueError(f"accuracies must be in [0, 1], got {fgsm} (FGSM) and {pgd} (PGD10) in epoch {epoch}")
    floor, end = max(2 / n_classes, 0.05), len(curves)
    counted = [one for one in collapses(curves, floor) if one[2] or one[1] == end]
    if not counted:
        return Collapse(None, 0, at_end=False, lost=False)
    (begin, _, lost), (again, last, _) = counted[0], counted[-1]
    lasting = again + 1 if last == end and again > begin else None
    return Collapse(begin + 1, sum(over - begin for begin, over, _ in counted), last == end, lost, lasting)


def collapses(curves: list[tuple[float, float]], floor: float) -> Iterator[tuple[int, int, bool]]:
    """(begin, over, whether it had been robust) of every collapse: epochs from 0, `over` the first one after it."""
    reached, streak, begin, was_robust = 0.0, 0, None, False
    for epoch, (fgsm, pgd) in enumerate(curves):
        if epoch + 1 >= LASTING:
            reached = max(reached, median(pgd for _, pgd in curves[epoch + 1 - LASTING : epoch + 1]))
        if begin is None:
            lost = reached >= floor and pgd < LOST * reached and pgd < GAP * fgsm
            turns = fgsm >= floor and (lost or pgd < NOTHING * fgsm)
        else:
            turns = pgd >= GAP * fgsm and pgd >= REGAINED * reached
        streak = streak + 1 if turns else 0
        if streak < LASTING:
            continue
        turned, streak = epoch + 1 - LASTING, 0
        if begin is None:
            begin, was_robust = turned, reached >= floor
        else:
            yield begin, turned, was_robust
            begin = None
    if begin is not None:
        yield begin, len(curves), was_robust
