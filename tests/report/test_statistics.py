"""Intervals and paired comparisons against published examples and by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fastat.report import statistics
from fastat.report.statistics import ranks_agree, shares_differ


def test_binomial_intervals_equal_published_examples():
    # Newcombe 1998, Table I: 15 of 148, Wilson (method 3) and Clopper-Pearson (method 5)
    assert statistics.wilson(100 * 15 / 148, 148) == pytest.approx((6.24, 16.05), abs=1e-2)
    none, every = ([statistics.wilson(percent, n) for n in range(1, 2000)] for percent in (0, 100))
    assert {f"{low:.0f}" for low, _ in none} == {"0"} and 100 - 1e-9 < min(high for _, high in every)
    assert max(high for _, high in every) <= 100
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
    # Clopper and Pearson for 5 of 5: 0.4782 to 1; a share s of 5 images is (2 s - 1) x 5 of 10
    assert found["low"] == pytest.approx(100 * 5 * (2 * 0.025 ** (1 / 5) - 1) / 10) and found["high"] == 50
    assert math.isnan(found["more_seeds"])


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
    assert calm["more_seeds"] == 0 and math.isnan(wild["more_seeds"]) and math.isnan(wild["more_images"])


def test_the_analysis_of_variance_equals_its_steps_by_hand():
    """Seeds' means 0.5 and 0.25, images' 1, 0, 0.5, 0; mean 0.375. Sums of squares 0.125, 1.375, 0.375."""
    difference = np.array([[1.0, 0, 1, 0], [1.0, 0, 0, 0]])
    assert statistics.squares(difference) == pytest.approx((0.125 / 1, 1.375 / 3, 0.375 / 3))
    found = statistics.paired(difference)
    total = 0.125 + 1.375 / 3 - 0.125  # seeds scatter no more than the rest does
    freedom = total**2 / (0.125**2 / 1 + (1.375 / 3) ** 2 / 3)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(total / 8)
    assert (found.mean, found.low, found.high) == pytest.approx((0.375, 0.375 - half, 0.375 + half))


def test_seeds_that_fail_on_the_same_images_do_not_add_images():
    one = np.repeat([1.0, -1.0, 0.0], (30, 20, 50))
    alike, apart = np.stack([one] * 5), np.stack([np.roll(one, 20 * k) for k in range(5)])
    widths = [found.high - found.low for found in map(statistics.paired, (alike, apart))]
    of_images = 2 * stats.t.ppf(0.975, 99) * one.std(ddof=1) / 10
    assert widths[0] == pytest.approx(of_images) and widths[1] < 0.75 * of_images


def test_where_every_verdict_is_the_same_there_is_no_spread():
    for value, p in ((0.0, 1.0), (1.0, 2 * 0.5**10)):
        found = statistics.paired(np.full((3, 10), value))
        assert (found.mean, found.low, found.high, found.p) == (value, value, value, p)


def test_the_interval_and_p_are_one_answer():
    rng = np.random.default_rng(0)
    for n_seeds in (1, 2, 3, 5):
        for shift in np.linspace(0, 0.3, 40):
            a = rng.random((n_seeds, 60)) < 0.5 + shift + rng.normal(0, 0.1, (n_seeds, 1))
            found = statistics.paired(a.astype(float) - (rng.random((n_seeds, 60)) < 0.5))
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_two_methods_that_are_equally_good_are_told_apart_in_one_case_of_twenty_at_most(n_seeds):
    """By McNemar's test over all verdicts it was a third; 600 draws scatter by 0.9 points around 5 %."""
    rng = np.random.default_rng(n_seeds)

    def verdicts(image: np.ndarray) -> np.ndarray:
        logit = image + rng.normal(0, 0.7, 360) + rng.normal(0, 0.3, (n_seeds, 1)) + rng.normal(0, 0.5, (n_seeds, 360))
        return rng.random((n_seeds, 360)) < 1 / (1 + np.exp(-logit))

    images = (rng.normal(0, 2, 360) for _ in range(600))
    assert np.mean([statistics.paired(verdicts(i).astype(float) - verdicts(i)).p < 0.05 for i in images]) < 0.08


def test_as_many_seeds_as_it_says_tell_a_difference_in_four_cases_of_five():
    """5 points; networks scatter by 8, verdicts by 30: by the normal (0.0064 + 0.09 / 200) (2.8016 / 0.05)^2 = 21.5."""
    rng = np.random.default_rng(0)
    parts = 0.08**2, 0.0, 0.3**2
    n = 4 + int(statistics.fewest(4, lambda n: statistics.tells_crossed(0.05, parts, n, 200)))
    assert 22 <= n <= 25
    drawn = (rng.normal(0.05, 0.08, (n, 1)) + rng.normal(0, 0.3, (n, 200)) for _ in range(300))
    assert 0.7 < np.mean([statistics.paired(one).p < 0.05 for one in drawn]) < 0.9
    assert math.isnan(statistics.fewest(50, lambda n: statistics.tells_crossed(0.05, (0.1, 0.1, 0.1), 3, n)))


def test_what_is_undecided_needs_at_least_one_more():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a = rng.random((3, 40)) < 0.6 + rng.normal(0, 0.1, (3, 1))
        found = statistics.paired(a.astype(float) - (rng.random((3, 40)) < 0.5))
        for more in (found.more_seeds, found.more_images):
            assert (more == 0) == (found.p < 0.05) or math.isnan(more)


def test_seeds_attacked_on_other_images_than_most_are_left_out():
    odd = {**cell("11", "10", "01"), "3": (np.array([True, True, True]), "others")}
    found = statistics.compare(odd, {**cell("00", "10", "01"), "3": (np.array([True, False, True]), "others")})
    assert (found["n_seeds"], found["n_images"]) == (3, 2)
    assert statistics.compare(cell("11"), {"0": (np.array([True]), "same")}) is None  # one of them is no such image


@pytest.mark.parametrize("bits", ["\u01f2A==", "A", "AAAA", "", None, float("nan")])
def test_what_are_not_the_bits_of_so_many_images_is_no_verdict(bits):
    assert statistics.unpacked(bits, 3) is None


def test_of_one_stratum_the_shares_are_fisher_s_and_the_smaller_tail_counts_twice():
    for k, n, m, r in ((7, 10, 0, 10), (3, 9, 2, 5), (0, 4, 4, 4), (2, 6, 2, 6)):
        value, p = shares_differ([(k, n, m, r)])
        tails = [stats.fisher_exact([[k, n - k], [m, r - m]], alternative=tail).pvalue for tail in ("less", "greater")]
        assert value == pytest.approx(k / n - m / r) and p == pytest.approx(min(1, 2 * min(tails)))


def test_of_several_strata_the_p_is_that_of_all_ways_to_deal_the_collapses():
    strata = [(3, 3, 1, 4), (1, 2, 0, 3)]
    ways = [
        [sum(dealt[:n]) for dealt in itertools.product((0, 1), repeat=n + r) if sum(dealt) == k + m]
        for k, n, m, r in strata
    ]
    sums = np.add.outer(*map(np.array, ways)).ravel()
    value, p = shares_differ(strata)
    assert p == pytest.approx(2 * (sums >= 4).mean())
    assert value == pytest.approx((0.75 * 12 / 7 + 0.5 * 6 / 5) / (12 / 7 + 6 / 5))
    assert shares_differ([(0, 5, 0, 5), (2, 2, 2, 2)]) == (0, 1)


def test_ranks_are_spearman_s_and_p_counts_the_orders():
    x, y = np.array([1, 2, 3, 4, 5.0]), np.array([2, 1, 3, 5, 4.0])
    value, p = ranks_agree(x, y, [0] * 5)
    assert value == pytest.approx(stats.spearmanr(x, y).statistic)
    orders = [abs(stats.spearmanr(x, order).statistic) for order in itertools.permutations(y)]
    assert p == pytest.approx(np.mean(np.array(orders) >= value - 1e-9))
    assert all(map(math.isnan, ranks_agree(x, np.ones(5), [0] * 5)))


def test_orders_that_do_not_differ_count_once_so_that_p_is_exact():
    """1 of 5 and 5 of 5: of the 210 ways to deal 6 of 10, 5 are as uneven this way and 5 the other."""
    x, y = np.repeat([77.0, 102.0], 5), np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 1.0])
    assert ranks_agree(x, y, [0] * 10)[1] == pytest.approx(10 / 210)
    for values in ([2.0, 1, 2, 3], [1.0, 1, 2, 2, 3, 3], [5.0, 5], [3.0, 1, 2]):
        found = list(map(tuple, statistics.orders(np.array(values))))
        assert len(found) == statistics.n_orders(np.array(values)) and set(found) == set(itertools.permutations(values))


def test_ranks_of_many_are_drawn_always_the_same_and_strata_share_no_difference():
    rng = np.random.default_rng(1)
    x, y = np.repeat([0.0, 1.0], 20), np.r_[rng.random(20), 5 + rng.random(20)]
    value, p = ranks_agree(x, y, [0] * 40)
    assert value > 0.8 and p == 1 / 20_000 and (value, p) == ranks_agree(x, y, [0] * 40)
    u, v, strata = rng.random(30), rng.random(30), np.repeat([0, 1], 15)
    turned = ranks_agree(u[::-1], v[::-1], strata[::-1].tolist())
    assert turned == pytest.approx(ranks_agree(u, v, strata.tolist()))  # in whatever order the rows come
    assert math.isnan(ranks_agree(x, y, x.tolist())[0])  # what differs is the stratum
    noise = [ranks_agree(rng.random(9), rng.random(9), [0] * 4 + [1] * 5)[1] for _ in range(200)]
    assert 0.01 < np.mean(np.array(noise) < 0.05) < 0.1


def test_where_seeds_alone_scatter_more_seeds_would_tell_and_no_images_and_the_other_way_round():
    found = statistics.paired(np.array([[1.0], [-1.0], [1.0], [-1.0], [1.0]]).repeat(200, 1))
    assert math.isfinite(found.more_seeds) and found.more_seeds > 5 and math.isnan(found.more_images)
    images = np.where(np.random.default_rng(0).random(60) < 0.55, 1.0, -1.0)[None].repeat(3, 0)
    found = statistics.paired(images)
    assert math.isfinite(found.more_images) and math.isnan(found.more_seeds)
