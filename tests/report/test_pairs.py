"""pairs.csv: every method against ATAS and the best, and what a damaged row costs. Rows are made up."""

import numpy as np
import pandas as pd
import pytest

from fastat.report import pairs
from fastat.report.statistics import holm
from tests import fabricate


def test_pairs_are_against_atas_and_the_best_and_the_same_twice():
    right = fabricate.correct(fabricate.runs(12, 3))
    table = pairs.compared(right)
    assert set(table["attack"]) == {"pgd50", "aa"} and set(table["method_b"]) == {"atas"}
    assert len(table) == 2 * 11
    np.testing.assert_allclose(table["p_adjusted"], holm(table["p"].to_numpy(float)))
    pd.testing.assert_frame_equal(table, pairs.compared(right.sample(frac=1, random_state=0)), check_exact=True)


def with_right(right, images, bits, **who):
    """The rows of the first run, called otherwise, on `images`, of which these are right."""
    rows = right[right["method"] == "atas"].drop_duplicates("attack")
    return rows.assign(**who, images=images, bits=fabricate.bits(bits), n=len(bits))


@pytest.mark.parametrize("name,images", [("theirs_train", "training images"), ("theirs", "the-same-images")])
def test_what_was_trained_elsewhere_is_compared_and_no_reference_and_removes_no_pair(name, images):
    right = fabricate.correct(fabricate.runs(12, 3))
    theirs = with_right(right, images, np.ones(200), method="external", variant=name)
    right = right[right["method"] != "atas"]
    table, alone = pairs.compared(pd.concat([right, theirs])), pairs.compared(right)
    assert len(alone) == 2 * 10 and len(table) == len(alone) + 2 * (name == "theirs")
    assert set(table["method_b"]) == set(alone["method_b"]) and len(set(table["method_b"])) == 1
    assert pairs.compared(theirs).empty


def test_the_best_is_of_those_on_the_images_that_most_were_attacked_on():
    right = fabricate.correct(fabricate.runs(12, 3))
    other = with_right(right, "fewer images", np.ones(50), method="fgsm", variant="fewer")
    table = pairs.compared(pd.concat([right[right["method"] != "atas"], other]))
    assert len(set(table["method_b"])) == 1 and set(table["variant_b"]) == {"paper"}
    assert len(table) == 2 * 10 and (table["n_images"] == 200).all()


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_leaves_an_empty_table_with_its_columns(n):
    table = pairs.compared(fabricate.correct(fabricate.runs(1, 3))[: 5 * n])
    assert table.empty and list(table.columns) == pairs.COLUMNS


@pytest.mark.parametrize(
    "column,value", [("bits", "!!"), ("bits", "AA=="), ("n", float("nan")), ("n", 9000.0), ("images", None)]
)
def test_a_damaged_row_is_left_out_and_never_counted_as_wrong_images(column, value, caplog):
    right = fabricate.correct(fabricate.runs(12, 2)).astype({column: object})
    hit = (right["method"] == "pgd10") & (right["seed"] == "0") & (right["attack"] == "aa")
    right.loc[hit, column] = value
    table = pairs.compared(right)
    seeds = table[(table["method_a"] == "pgd10") & (table["method_b"] == "atas")].set_index("attack")["n_seeds"]
    assert seeds.to_dict() == {"aa": 1, "pgd50": 2} and "pgd10/paper, seed 0, is damaged" in caplog.text


def test_a_method_that_is_worse_has_a_difference_below_zero_and_attacks_by_name_are_a_family_of_their_own():
    right = fabricate.correct(fabricate.runs(12, 3))
    none = right["method"] == "atta"
    right.loc[none, "bits"] = fabricate.bits(np.zeros(200))
    named = right[right["attack"] == "aa"].assign(attack="pgd-20 alpha=0.25eps")
    table = pairs.compared(pd.concat([right, named]))
    worse = table[(table["method_a"] == "atta") & (table["method_b"] == "atas")]
    assert (worse["difference"] < 0).all() and (worse["only_a"] == 0).all() and (worse["only_b"] > 0).all()
    for family in (table["attack"].str.startswith("pgd-"), ~table["attack"].str.startswith("pgd-")):
        np.testing.assert_allclose(table["p_adjusted"][family], holm(table["p"][family].to_numpy(float)))
