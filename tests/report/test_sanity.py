"""The sanity panel on fabricated rows: what must hold, how far the images let it, and what was not measured."""

import pandas as pd
import pytest

from fastat.report import sanity
from fastat.report.results import of_rows
from fastat.report.tidy import MEASURED

HONEST = {
    "clean": 95, "fgsm": 60, "pgd10": 50, "pgd50": 48, "noise": 94, "far": 0, "gradient": 100, "inside": 100, "aa": 40,
    "broken_apgd-ce": 50, "broken_apgd-t": 4, "broken_fab-t": 0, "broken_square": 0, "collapsed_at_end": 0,
    "robust_train_loss": 1.5,
}  # fmt: skip


def panel(n=1000, variant="paper", **changes) -> pd.DataFrame:
    who = ("digits", "preact_tiny", "77/255", "atas", variant, "0")
    metrics = {key.replace("__", "-"): value for key, value in {**HONEST, **changes}.items()}
    made = [(*who, metric, None, value, n) for metric, value in metrics.items() if value is not None]
    return sanity.panel(of_rows(pd.DataFrame(made, columns=MEASURED)).runs)


def failed(**changes) -> set[str]:
    found = panel(**changes)
    wrong = set(found.loc[found["holds"] == 0, "check"])
    assert (found["verdict"] == ("masking suspected" if wrong else "ok")).all()
    return wrong


def test_an_honest_network_stands_all_checks():
    assert failed() == set()
    assert len(panel()) == len(sanity.CHECKS)


def test_a_run_on_a_subset_is_not_asked_and_one_that_is_only_called_so_is():
    assert panel(variant="paper_d9_10").empty
    assert len(panel(variant="wrn_d28_10")) == len(sanity.CHECKS)


@pytest.mark.parametrize(
    "changes,check",
    [
        ({"aa": 60}, "aa <= pgd50"),
        ({"pgd50": 60, "aa": 50}, "pgd50 <= pgd10"),
        ({"pgd10": 75}, "pgd10 <= fgsm"),
        ({"noise": 40}, "fgsm <= noise"),
        ({"far": 30}, "far <= guessing"),
        ({"gradient": 80}, "no gradient"),
        ({"broken_square": 40}, "square's share"),
        ({"inside": 99.9}, "inside"),
        ({"robust_train_loss": None}, "no loss"),
    ],
)
def test_each_check_catches_its_own_fault(changes, check):
    assert check in failed(**changes)


def test_what_the_images_allow_is_no_fault():
    assert failed(pgd50=52) == set()  # 2 points on 1,000 images
    assert failed(n=20, far=15) == set()


def test_fgsm_s_blindness_in_a_collapsed_network_is_not_asked_about():
    assert failed(fgsm=99, noise=80, pgd10=1, pgd50=0, aa=0, collapsed_at_end=1) == set()


def test_what_was_not_measured_is_not_ok():
    for missing in ("aa", "far", "inside"):
        assert set(panel(**{missing: None})["verdict"]) == {"not measured"}
    assert sanity.panel(of_rows().runs).empty


def test_a_hundred_classes_leave_less_to_guessing():
    rows = panel(far=10)
    assert set(rows["verdict"]) == {"ok"}
    who = ("cifar100", "wrn28_10", "8/255", "atas", "paper", "0")
    made = pd.DataFrame([(*who, m, None, v, 1000) for m, v in {**HONEST, "far": 10}.items()], columns=MEASURED)
    assert "far <= guessing" in set(sanity.panel(of_rows(made).runs).query("holds == 0")["check"])
