"""Intervals and paired comparisons against published examples and by hand."""

import math

import numpy as np
import pytest

from fastat.report import statistics


def test_binomial_intervals_equal_published_examples():
    # Newcombe 1998, Table I: 15 of 148, Wilson (method 3) and Clopper-Pearson (method 5)
    assert statistics.wilson(100 * 15 / 148, 148) == pytest.approx((6.24, 16.05), abs=1e-2)
    assert statistics.exact(15, 148) == pytest.approx((0.0578, 0.1617), abs=1e-4)
    assert statistics.exact(0, 3)[0] == 0


def test_the_interval_of_a_mean_is_students():
    low, high = statistics.mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (high - low) / 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert all(map(math.isnan, statistics.mean_interval(np.array([1.0]))))


def test_holm_equals_its_steps_by_hand():
    adjusted = statistics.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def cell(*rights: str, images="same"):
    return {str(k): (np.array([c == "1" for c in right]), images) for k, right in enumerate(rights)}


def test_mcnemar_counts_the_images_on_which_methods_differ():
    found = statistics.compare(cell("1111110000"), cell("0000010000"))
    assert (found["only_a"], found["only_b"], found["n_seeds"], found["n_images"]) == (5, 0, 1, 10)
    assert found["difference"] == pytest.approx(50) and found["p"] == pytest.approx(2 * 0.5**5)
    assert found["low"] > 0 and math.isnan(found["more_seeds"])


def test_only_seeds_and_images_that_both_have_are_compared():
    assert statistics.compare(cell("11"), cell("11", images="others")) is None
    both = statistics.compare(cell("11", "10", "01"), cell("00", "10"))
    assert both["n_seeds"] == 2 and both["difference"] == pytest.approx(50)
    equal = statistics.compare(cell("10"), cell("10"))
    assert (equal["p"], equal["difference"], equal["low"], equal["high"]) == (1, 0, 0, 0)


def test_seeds_that_scatter_widen_the_interval():
    calm = statistics.compare(cell(*["1" * 60 + "0" * 40] * 4), cell(*["1" * 50 + "0" * 50] * 4))
    wild = statistics.compare(
        cell("1" * 100, "1" * 20 + "0" * 80, "1" * 100, "1" * 20 + "0" * 80), cell(*["1" * 50 + "0" * 50] * 4)
    )
    assert calm["difference"] == pytest.approx(wild["difference"]) == pytest.approx(10)
    assert wild["high"] - wild["low"] > 3 * (calm["high"] - calm["low"]) and calm["low"] > 0 > wild["low"]
    assert calm["more_seeds"] == 0 and wild["more_seeds"] > 50


def test_seeds_that_fail_on_the_same_images_do_not_add_images():
    one = np.repeat([1.0, -1.0, 0.0], (30, 20, 50))
    alike, apart = np.stack([one] * 5), np.stack([np.roll(one, 20 * k) for k in range(5)])
    width = {
        name: np.ptp(statistics.bootstrap(d)) for name, d in (("alike", alike), ("apart", apart), ("one", one[None]))
    }
    assert width["alike"] == pytest.approx(width["one"], rel=0.1)
    assert width["apart"] < 0.8 * width["one"]


def test_seeds_attacked_on_other_images_than_most_are_left_out():
    odd = {**cell("11", "10", "01"), "3": (np.array([True, True, True]), "others")}
    found = statistics.compare(odd, {**cell("00", "10", "01"), "3": (np.array([True, False, True]), "others")})
    assert (found["n_seeds"], found["n_images"]) == (3, 2)
    assert statistics.compare(cell("11"), {"0": (np.array([True]), "same")}) is None  # one of them is no such image


@pytest.mark.parametrize("bits", ["\u01f2A==", "A", "AAAA", "", None, float("nan")])
def test_what_are_not_the_bits_of_so_many_images_is_no_verdict(bits):
    assert statistics.unpacked(bits, 3) is None
