"""The rule of catastrophic overfitting on synthetic curves."""

from fastat.training.collapse import Collapse, detect


def test_a_sudden_drop_is_found_at_its_epoch():
    assert detect([0.3, 0.5, 0.9, 0.9], [0.3, 0.45, 0.1, 0.0], 10) == Collapse(3, 2, True, False)


def test_a_collapse_that_recovers_is_told_as_such():
    assert detect([0.3, 0.9, 0.6], [0.3, 0.1, 0.5], 10) == Collapse(2, 1, False, True)


def test_no_collapse_when_pgd_follows_fgsm():
    assert detect([0.3, 0.5, 0.6], [0.25, 0.45, 0.5], 10) == Collapse(None, 0, False, False)


def test_a_network_that_has_not_learnt_is_not_collapsed():
    assert detect([0.1, 0.15], [0.0, 0.05], 10).first is None
