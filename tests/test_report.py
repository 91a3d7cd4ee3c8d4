"""Tables from fabricated rows: means and spreads, and empty cells for what is missing."""

import pandas as pd

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


def test_the_papers_value_stands_beside_ours():
    fabricated = rows(("atas", "0", "aa", 40.0)).assign(dataset="cifar10", model="preact_resnet18", eps="8/255")
    assert tables.summary(fabricated, ["aa"]).loc[0, "paper_aa"] == 45.38
