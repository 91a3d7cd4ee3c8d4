"""The rule of catastrophic overfitting on synthetic curves."""

import itertools
import math
import random

import pandas as pd
import pytest

from fastat import ROOT
from fastat.training.collapse import LASTING, Collapse, detect

NONE = Collapse(None, 0, at_end=False, lost=False)
LEARNT = [(30, 20), (45, 35), (55, 45), (60, 50), (65, 55)]  # % under FGSM and under PGD10, epochs 1 to 5
FELL = (95, 2)


def said(*epochs, n_classes=10):
    """The verdict on (FGSM, PGD10) in %, a pair per epoch."""
    return detect([fgsm / 100 for fgsm, _ in epochs], [pgd / 100 for _, pgd in epochs], n_classes)


def test_no_collapse_when_pgd_follows_fgsm():
    assert said(*LEARNT) == NONE and not said(*LEARNT).for_a_while


def test_a_lasting_drop_to_the_end_is_dated_by_its_first_epoch():
    found = said(*LEARNT, *[FELL] * 4)
    assert found == Collapse(6, 4, True, True) and not found.for_a_while


@pytest.mark.parametrize("length", [1, 2])
def test_a_dip_of_one_or_two_epochs_is_no_collapse(length):
    assert said(*LEARNT, *[FELL] * length, *LEARNT[2:]) == NONE
    assert said(*LEARNT, *[FELL] * length, LEARNT[-1], *[FELL] * length, *LEARNT) == NONE


def test_the_dip_that_two_machines_did_not_agree_on_is_no_collapse():
    before = [(52, 20), (60, 22)]  # ATAS at 102/255: 22 -> 13 -> 30 %, and 70 % at the end
    assert said((30, 10), (38, 15), *before, (55, 13), (62, 30), (66, 38), (75, 55), (80, 66), (84, 70)) == NONE


def test_a_collapse_that_is_over_was_one_for_a_while():
    found = said(*LEARNT, *[FELL] * 4, *[(70, 50)] * 3)
    assert found == Collapse(6, 4, False, True) and found.for_a_while


def test_robustness_that_comes_back_for_less_than_three_epochs_is_not_back():
    assert said(*LEARNT, *[FELL] * 3, *[(70, 50)] * 2, *[FELL] * 3) == Collapse(6, 8, True, True)
    assert said(*LEARNT, *[FELL] * 3, *[(70, 50)] * 2) == Collapse(6, 5, True, True)


def test_a_part_of_what_was_reached_is_not_robustness_regained():
    assert said(*LEARNT, *[FELL] * 3, *[(60, 30)] * 5) == Collapse(6, 8, True, True)  # no gap, but 30 of 50


def test_a_loss_of_less_than_half_is_none():
    assert said(*LEARNT, *[(95, 30)] * 5) == NONE  # a gap, and 30 of 50
    assert said(*LEARNT, *[(95, 27)] * 5) == Collapse(6, 5, True, True)


def test_two_collapses_are_counted_together_and_dated_by_the_one_that_lasts():
    found = said(*LEARNT, *[FELL] * 3, *LEARNT[2:], *[FELL] * 4)
    assert found == Collapse(6, 7, True, True, lasting=12) and found.epoch == 12
    twice = [(80, 50)] * 4 + [(80, 1)] * 4
    assert said(*twice, *twice).epoch == 13 and said(*twice).epoch == said(*twice, *twice[:4]).epoch == 5
    over = said(*twice, *twice, *twice[:4])
    assert over == Collapse(5, 8, False, True) and over.epoch == 5


def test_what_begins_in_the_last_two_epochs_is_not_told_from_a_dip():
    assert said(*LEARNT, FELL) == said(*LEARNT, FELL, FELL) == NONE
    assert said(*LEARNT, FELL, FELL, FELL) == Collapse(6, 3, True, True)


def test_one_high_epoch_is_not_what_was_reached():
    assert said((30, 20), *[(40, 30)] * 3, (96, 90), *[(90, 25)] * 5) == NONE  # 25 of 30, not of 90


def test_a_gap_without_loss_is_fgsm_outgrowing_pgd():
    assert said((30, 20), (40, 30), (60, 30), *[(92, 29)] * 5) == NONE


def test_a_drop_of_both_accuracies_is_no_gap():
    assert said(*LEARNT, *[(30, 15)] * 5) == NONE


def test_a_slow_learner_is_not_collapsed():
    slow = [(25, 1), (30, 2), (40, 3), (50, 8), (55, 15), (60, 20)]
    assert said(*slow, (60, 25), (60, 30), (60, 35)) == NONE
    assert said(*slow, (60, 25), (60, 30), (60, 35), *[FELL] * 3) == Collapse(
        10, 3, True, True
    )  # what it grew out of is not counted


def test_a_gap_that_stays_half_open_without_robustness_is_slow_learning_too():
    assert (
        said(*[(50, 8), (55, 12), (52, 9), (60, 15)] * 5) == NONE
    )  # between a tenth and a third of FGSM's, and never robust


def test_a_network_that_never_was_robust_while_fgsm_is_withstood_is_collapsed_at_the_end_and_lost_nothing():
    assert said((10, 0), (15, 0), (30, 2), (80, 5), (90, 0), (95, 0)) == Collapse(3, 4, True, False)
    assert said(*[(30, 0)] * 3, *[(60, 8), (90, 18), (95, 12)] * 3) == Collapse(
        1, 12, True, False
    )  # it came to no third


def test_a_network_at_guessing_has_not_learnt_and_is_not_collapsed():
    assert said(*[(10, 0), (12, 5), (19, 1)] * 10) == NONE


def test_the_floor_is_five_percent_with_many_classes_and_twice_guessing_with_few():
    assert said(*[(4, 0)] * 5, n_classes=1000) == NONE
    assert said(*[(6, 0)] * 5, n_classes=1000) == Collapse(1, 5, True, False)
    assert said(*[(19, 0)] * 5) == NONE and said(*[(20, 0)] * 5) == Collapse(1, 5, True, False)
    assert said(*[(99, 0)] * 5, n_classes=2) == NONE  # guessing is 50 %: no accuracy under an attack says anything


def test_noise_around_a_plateau_is_no_collapse():
    rng = random.Random(0)
    for _ in range(200):
        curve = [(min(e * 4, 70) + rng.gauss(0, 5), min(e * 3, 50) + rng.gauss(0, 6)) for e in range(1, 31)]
        assert said(*[(min(max(f, 0), 100), min(max(p, 0), 100)) for f, p in curve]) == NONE


def test_trainings_too_short_for_evidence_have_no_verdict():
    assert said() == said(FELL) == said(FELL, FELL) == NONE
    assert said(*[FELL] * LASTING) == Collapse(1, LASTING, True, False)


@pytest.mark.parametrize("pair", [(math.nan, 10), (50, math.nan), (-1, 0), (50, 101), (math.inf, 0)])
def test_what_is_no_accuracy_is_refused_and_never_a_verdict(pair):
    with pytest.raises(ValueError, match="epoch 6"):
        said(*LEARNT, pair, *[FELL] * 4)


def test_curves_of_unequal_length_are_refused():
    with pytest.raises(ValueError):
        detect([0.1], [], 10)


# The logs that the constants were chosen on, and those that checked them: docs/decisions/collapse-rule.md


@pytest.fixture(scope="module")
def told():
    """(numerics, `chosen on` or `default`, run) -> the verdict on its kept log, in the page's words."""
    rows = pd.read_csv(ROOT / "docs/decisions/collapse-logs.csv.xz")
    default = set(rows.loc[rows["numerics"] == "native", "run"])
    found = {}
    for (numerics, run), log in rows.groupby(["numerics", "run"]):
        one = detect(log["fgsm_acc"].tolist(), log["pgd10_acc"].tolist(), 10)
        word = "at the end" if one.at_end else "for a while" if one.for_a_while else "never"
        found[numerics, "default" if run in default else "chosen on", run] = word, one.first
    return found


def table(heading):
    """The rows of the page's table whose first column is headed so, as lists of texts."""
    lines = (ROOT / "docs/decisions/collapse-rule.md").read_text().splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_decision_page_counts_the_verdicts_on_the_kept_logs(told):
    assert sum(numerics == "portable" for numerics, _, _ in told) == 205
    for name, rule, *cells in table("logs"):
        if rule == "now":
            group = tuple(name.split(", "))
            words = [word for (numerics, part, _), (word, _) in told.items() if (numerics, part) == group]
            counts = [len(words), *(words.count(word) for word in ("at the end", "for a while", "never"))]
            assert list(map(str, counts)) == cells[:4], name


def test_the_decision_page_counts_the_verdicts_that_change_with_the_numerics(told):
    runs = sorted(run for numerics, part, run in told if (numerics, part) == ("native", "default"))
    pairs = [(told["portable", "default", run], told["native", "default", run]) for run in runs]
    words = sum(one[0] != other[0] for one, other in pairs)
    rows = {rule: cells for rule, *cells in table("rule")}
    assert len(runs) == 58 and rows["now"][0] == f"{words} of 58"
