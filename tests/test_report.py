"""Tables from fabricated rows: means and spreads, and empty cells for what is missing."""

import pandas as pd
import pytest

from fastat.report import tables
from fastat.report.tidy import COLUMNS


def rows(*cells):
    who = ["digits", "preact_tiny", "77/255"]
    return pd.DataFrame([[*who, m, "paper", s, metric, None, v, 50] for m, s, metric, v in cells], columns=COLUMNS)


def test_mean_spread_and_number_of_seeds():
    table = tables.summary(rows(("atas", "0", "aa", 40.0), ("atas", "1", "aa", 44.0)), ["aa"])
    assert table.loc[0, ["seeds", "aa"]].tolist() == [2, 42.0]
    assert abs(table.loc[0, "aa_std"] - 8**0.5) < 1e-9


def test_a_missing_number_is_an_empty_cell_and_not_a_zero():
    table = tables.summary(rows(("atas", "0", "diverged", 1)), ["aa"])
    assert table.loc[0, "diverged"] == 1 and tables.show(table.loc[0, "aa"], table.loc[0, "aa_std"]) == ""


def test_the_collapse_of_every_seed_is_shown_and_whether_it_recovered():
    seen = rows(
        ("fgsm_rs", "0", "collapse_epoch", 12), ("fgsm_rs", "0", "collapsed_at_end", 1),
        ("fgsm_rs", "1", "collapse_epoch", None), ("fgsm_rs", "1", "collapsed_at_end", 0),
        ("fgsm_rs", "2", "collapse_epoch", 7), ("fgsm_rs", "2", "collapsed_at_end", 0),
    )  # fmt: skip
    assert tables.summary(seen, ["aa"]).loc[0, "collapse"] == "12 - 7(r)"


def test_a_diverged_run_keeps_its_row_and_says_why():
    seen = rows(("atas", "0", "diverged", 1), ("atas", "0", "cause", "the training loss became nan in epoch 2"))
    pretty = tables.readable(tables.summary(seen, ["aa"]), ["aa"])
    assert pretty.loc[0, "AA"] == "" and pretty.loc[0, "diverged"] == "1: the training loss became nan in epoch 2"


def test_wilson_interval_equals_a_published_example():
    # Newcombe 1998, Table I, method 3: 81 of 263 -> 0.2553 to 0.3662
    assert tables.wilson(100 * 81 / 263, 263) == pytest.approx((25.53, 36.62), abs=0.01)


def test_methods_stand_in_the_papers_order_and_eps_rises():
    seen = pd.concat(
        [rows((m, "0", "aa", 1.0)).assign(eps=e) for e in ("102/255", "51/255") for m in ("atas", "pgd10")]
    )
    table = tables.summary(seen, ["aa"])
    assert list(zip(table["eps"], table["method"], strict=True)) == [
        ("51/255", "pgd10"), ("51/255", "atas"), ("102/255", "pgd10"), ("102/255", "atas"),
    ]  # fmt: skip


def test_a_run_at_no_eps_of_table_i_leaves_an_empty_table_and_not_an_error(tmp_path):
    measured = tmp_path / "measured.csv"
    rows(("atas", "0", "aa", 40.0)).to_csv(measured, index=False)
    tables.write(1, measured, {"digits": "51/255"}, tmp_path / "table1")
    assert "table1_eps" in (tmp_path / "table1.md").read_text() and (tmp_path / "table1.tex").exists()
    tables.write(1, measured, {"digits": "77/255"}, tmp_path / "table1")
    assert "40.0" in (tmp_path / "table1.md").read_text()


def test_the_papers_value_stands_beside_ours():
    fabricated = rows(("atas", "0", "aa", 40.0)).assign(dataset="cifar10", model="preact_resnet18", eps="8/255")
    assert tables.summary(fabricated, ["aa"]).loc[0, "paper_aa"] == 45.38
