"""What a grid can tell, against exact power, and that no result's sign or size is looked at."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fastat.cli import main
from fastat.config.grid import expand, load_config, overlay
from fastat.report import power
from fastat.report.claims import CLAIMS
from fastat.report.statistics import paired, tells_crossed
from tests import fabricate

BLOCK = {"dataset": "digits", "model": "preact_tiny", "eps": ["51/255", "77/255"], "seed": [0, 1]}
METHODS = ["atas", "atta", "fgsm_rs", "fgsm_ga"]


@pytest.mark.parametrize("n,others", [(11, 11), (30, 180), (36, 36), (60, 60)])
def test_the_least_share_is_found_by_fisher_in_four_cases_of_five(n, others):
    share = power.least_share(n, others)
    found = [
        k
        for k in range(n + 1)
        if 2 * stats.fisher_exact([[k, n - k], [0, others]], alternative="greater").pvalue < 0.05
    ]
    assert stats.binom.pmf(found, n, share).sum() == pytest.approx(0.8, abs=1e-9)
    assert math.isnan(power.least_share(2, 2)) and math.isnan(power.least_share(0, 5))


@pytest.mark.parametrize("n", [5, 10, 60])
def test_the_least_mean_is_found_by_students_test_in_four_cases_of_five(n):
    shift = power.least_mean(2.0, n) / 2.0 * math.sqrt(n)
    assert stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, shift) == pytest.approx(0.8, abs=0.03)
    assert math.isnan(power.least_mean(2.0, 1))


def test_the_least_correlation_is_that_of_published_sample_sizes():
    """Without Spearman's 1.06: 29 and 85 pairs for 0.5 and 0.3 (Cohen 1988, table 3.4.1: 28 and 84)."""
    assert power.needed(power.least_correlation, 0.5) == 31 and power.needed(power.least_correlation, 0.3) == 90
    assert math.isnan(power.least_correlation(3))


def test_the_least_difference_of_verdicts_is_that_of_the_paired_test():
    parts = (0.002, 0.01, 0.12)
    least = power.least_crossed(parts, 6, 50)
    assert tells_crossed(1.001 * least, parts, 6, 50) and not tells_crossed(0.999 * least, parts, 6, 50)
    n = power.needed(lambda n: power.least_crossed(parts, n, 50), 0.05)
    assert power.least_crossed(parts, int(n), 50) <= 0.05 < power.least_crossed(parts, int(n) - 1, 50)
    assert math.isnan(power.needed(lambda n: power.least_crossed(parts, n, 50), 0.01))  # 50 images know no better
    rng = np.random.default_rng(0)  # of networks that scatter by 5 points, on images that all find equally hard
    least = power.least_crossed((0.0025, 0.0, 0.5), 8, 200)
    found = 0
    for _ in range(300):
        shares = np.clip(0.5 + rng.normal(0, 0.05 / math.sqrt(2), (2, 8, 1)) + [[[least / 2]], [[-least / 2]]], 0, 1)
        one, other = rng.random((2, 8, 200)) < shares
        found += paired(one.astype(float) - other).p < 0.05
    assert found / 300 == pytest.approx(0.8, abs=0.12)  # the part of the images that comes out by chance is kept


def test_every_claim_but_that_of_extremes_has_a_design():
    assert {*power.DESIGNS, "instance"} == {claim.name for claim in CLAIMS}


def grid(**more):
    config = overlay(load_config(), {"grid": [{**BLOCK, "method": METHODS, **more}]})
    return expand(config), config


def test_pairs_and_runs_are_counted_and_what_is_not_in_the_grid_is_said():
    found = power.table(*grid(), None).set_index("claim")
    assert found.loc["atas-atta", ["runs", "AA images", "spread from"]].tolist() == [
        "4 pairs",
        "50",
        "arithmetic: coins",
    ]
    assert found.loc["atas-best", "runs"] == "2 pairs" and found.loc["others-avoid", "runs"] == "4 and 4"
    assert found.loc["atas-pgd10", "spread from"] == "not in this grid: no pgd10/paper"
    assert found.loc["eps-collapse", "runs"] == "4 runs" and found.loc["step-collapse", "runs"] == ""
    least = float(found.loc["atas-atta", "tells"].split()[0])
    assert least == pytest.approx(100 * power.least_crossed(power.COIN, 4, 50), rel=0.05)


def test_step_sizes_are_the_recipes_and_runs_without_autoattack_count_where_it_is_not_asked_for():
    swept = ["atas/gamma12", "fgsm_rs/step100", "fgsm_adaptive", "fgsm_rs/paper_d1_2", "fgsm_rs/paper_d9_10"]
    found = power.table(*grid(method=[*METHODS, *swept], autoattack=False), None).set_index("claim")
    assert found.loc["step-collapse", "runs"] == "8 runs" and found.loc["adaptive-prevents", "runs"] == "4 and 4"
    assert found.loc["norm-collapse", "runs"] == "4 and 4" and found.loc["loss", "tells"].endswith(" std")
    missing = "not in this grid: no run that atas/paper and atta/paper both have under AutoAttack"
    assert found.loc["atas-atta", "spread from"] == missing
    assert "both have under AutoAttack" in found.loc["insensitive", "spread from"]


def test_of_finished_results_the_spread_is_taken_and_never_the_sign(tmp_path):
    who = [("digits", "preact_tiny", "77/255", name, "paper", str(seed)) for name in METHODS for seed in range(4)]
    measured = fabricate.measured(who).replace({"n": {200: 50}})
    correct = fabricate.correct(who, n=50)
    tables = []
    for folder, atas, atta in (("one", "atas", "atta"), ("other", "atta", "atas")):
        (tmp_path / folder / "figures").mkdir(parents=True)
        swapped = {"atas": atas, "atta": atta}
        for name, rows in (("measured", measured), ("correct", correct)):
            rows.assign(method=rows["method"].replace(swapped)).to_csv(tmp_path / folder / f"{name}.csv", index=False)
        tables.append(power.table(*grid(), tmp_path / folder).set_index("claim"))
    one, other = (table.loc["atas-atta"] for table in tables)
    assert one["spread from"] == "4 finished pairs" and one.equals(other)
    flipped = measured.assign(value=measured["value"].where(measured["metric"] != "collapsed_at_end", 1))
    flipped.to_csv(tmp_path / "one/measured.csv", index=False)
    pd.testing.assert_frame_equal(tables[0], power.table(*grid(), tmp_path / "one").set_index("claim"))


def test_the_verb_shows_it_with_the_spread_of_the_results_that_are_there(tmp_path, capsys):
    config = tmp_path / "small.yaml"
    config.write_text("grid: [{dataset: digits, model: preact_tiny, eps: 77/255, method: [atas, atta], seed: [0, 1]}]")
    assert main(["plan", "--configfile", str(config), "--results", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("atas-atta"))
    assert "2 pairs" in line and line.endswith("arithmetic: coins")
