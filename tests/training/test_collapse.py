"""The rule of catastrophic overfitting on synthetic curves."""

import pytest

from fastat.training.collapse import Collapse, detect


def test_a_sudden_drop_is_found_at_its_epoch():
    assert detect([0.3, 0.5, 0.9, 0.9], [0.3, 0.45, 0.1, 0.0], 10) == Collapse(3, 2, True, False)


def test_a_collapse_that_recovers_is_told_as_such():
    assert detect([0.4, 0.9, 0.6], [0.3, 0.1, 0.5], 10) == Collapse(2, 1, False, True)


def test_two_collapses_are_counted_together_and_dated_by_the_first():
    assert detect([0.4, 0.9, 0.6, 0.9, 0.9], [0.3, 0.1, 0.5, 0.1, 0.0], 10) == Collapse(2, 3, True, False)


def test_no_collapse_when_pgd_follows_fgsm():
    assert detect([0.3, 0.5, 0.6], [0.25, 0.45, 0.5], 10) == Collapse(None, 0, False, False)


def test_a_network_that_has_not_learnt_is_not_collapsed():
    assert detect([0.1, 0.15], [0.0, 0.05], 10).first is None


def test_a_gap_that_is_grown_out_of_before_robustness_came_is_slow_learning():
    assert detect([0.3, 0.4, 0.5], [0.05, 0.1, 0.4], 10) == Collapse(None, 0, False, False)


def test_a_gap_that_never_closes_is_a_collapse_from_its_beginning():
    assert detect([0.1, 0.3, 0.8, 0.9], [0.0, 0.05, 0.1, 0.0], 10) == Collapse(2, 3, True, False)


def test_with_many_classes_the_floor_is_five_percent():
    assert detect([0.04, 0.04], [0.0, 0.0], 1000).first is None
    assert detect([0.06, 0.06], [0.06, 0.0], 1000).first == 2


def test_no_epoch_no_collapse_and_unequal_curves_are_refused():
    assert detect([], [], 10) == Collapse(None, 0, False, False)
    with pytest.raises(ValueError):
        detect([0.1], [], 10)
