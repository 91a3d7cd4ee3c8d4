"""The paper's numbers beside ours: each verdict from rows made for it."""

import math

import pandas as pd
import pytest

from fastat import ROOT
from fastat.config.grid import expand, load_config
from fastat.report import verdicts
from fastat.report.results import RIVAL, of_rows, paper, rival
from fastat.report.tidy import MEASURED


def rows(*runs, who=("cifar10", "preact_resnet18", "8/255", "atas", "paper"), n=10_000) -> pd.DataFrame:
    """One dict of metrics per seed."""
    made = [(*who, str(s), metric, None, v, n) for s, run in enumerate(runs) for metric, v in run.items()]
    return pd.DataFrame(made, columns=MEASURED)


def judged(measured: pd.DataFrame, method="atas", metric="aa", eps="8/255") -> pd.Series:
    table = verdicts.judge(of_rows(measured).runs)
    mine = table[(table["method"] == method) & (table["metric"] == metric) & (table["eps"] == eps)]
    return mine[(mine["model"] == "preact_resnet18") & (mine["dataset"] == "cifar10")].iloc[0]


def test_every_result_of_the_paper_has_a_line_and_without_runs_none_was_run():
    table = verdicts.judge(of_rows().runs)
    assert set(table["verdict"]) == {"not run"} and table["ours"].isna().all()
    of_paper, of_rival = table[table["table"] != RIVAL], table[table["table"] == RIVAL]
    assert len(of_paper) == (paper()["value"].notna() & (paper()["metric"] != "lam")).sum() == 483
    assert verdicts.summary(of_paper, "the paper").endswith("483 not run")
    assert len(of_rival) == len(rival()) == 21 * 2 * 3


def test_seeds_that_agree_and_many_images_reproduce_a_number():
    same = [{"aa": 45.38}] * 3
    found = judged(rows(*same, n=10**7))
    assert found["verdict"] == "reproduced"
    assert found["high"] == pytest.approx(-found["low"]) == pytest.approx(0.976, abs=0.001)  # the paper's 10,000 images
    assert judged(rows(*same, n=10_000))["verdict"] == "within noise"  # as many of ours: 1.38 points


@pytest.mark.parametrize(
    "aa,word", [((45.0, 45.6, 45.2), "within noise"), ((30.0, 30.4, 30.2), "not reproduced"), ((45.0,), "within noise")]
)
def test_a_gap_is_judged_with_the_scatter_of_seeds_and_images(aa, word):
    found = judged(rows(*[{"aa": value, "collapsed_at_end": 0} for value in aa]))
    assert found["verdict"] == word and found["n_seeds"] == len(aa)
    assert found["gap"] == pytest.approx(sum(aa) / len(aa) - 45.38)
    assert ("one seed" in found["reason"]) == (len(aa) == 1)


def test_few_test_images_widen_the_interval():
    wide, narrow = (judged(rows({"aa": 45.0}, {"aa": 45.1}, n=n)) for n in (50, 10_000))
    assert wide["high"] - wide["low"] > 5 * (narrow["high"] - narrow["low"])


def test_collapses_are_compared_by_how_often_they_happen():
    runs = [{"aa": a, "collapsed_at_end": int(a < 5)} for a in (0.0, 41.0, 0.1, 0.0)]
    found = judged(
        rows(*runs, who=("cifar10", "preact_resnet18", "12/255", "fgsm_rs", "paper")), "fgsm_rs", eps="12/255"
    )
    assert (
        found["verdict"] == "collapsed at the end in 3 of 4" and "the paper's network collapsed too" in found["reason"]
    )
    assert found["low"] < 30 and found["high"] > 99
    ours_alone = judged(rows({"aa": 0.0, "collapsed_at_end": 1}))
    assert ours_alone["verdict"] == "collapsed at the end in 1 of 1" and "the paper's did not" in ours_alone["reason"]


def test_the_papers_collapses_are_found_also_where_a_larger_eps_does_better():
    cells = verdicts.draws_of_a_collapse(paper())
    for cell in [
        ("cifar100", "wrn28_10", "8/255", "subat"), ("cifar100", "wrn28_10", "8/255", "fgsm_pgi"),
        ("cifar100", "wrn28_10", "4/255", "fgsm_pgi"), ("cifar10", "wrn28_10", "8/255", "fgsm_rs"),
    ]:  # fmt: skip
        assert cell in cells
    assert not any(method in ("atas", "atta", "pgd10", "freeat", "yopo") for *_, method in cells) and len(cells) == 23


def test_diverged_and_unmeasured_runs_were_not_run_and_say_why():
    assert judged(rows({"diverged": 1}))["reason"] == "1 diverged"
    assert judged(rows({"clean": 80.0}))["reason"] == "not measured"
    assert judged(rows({"aa": float("nan")}))["verdict"] == "not run"


def test_hours_are_shown_with_the_hardware_and_not_judged():
    found = judged(rows({"train_seconds": 1080, "device": "an H100"}), metric="train_hours")
    assert (found["verdict"], found["ours"], found["reason"]) == ("other hardware", 0.3, "an H100 and a V100")


def test_hours_of_two_kinds_of_hardware_are_not_averaged_and_say_so():
    mixed = rows({"train_seconds": 3600, "device": "an H100"}, {"train_seconds": 36000, "device": "a CPU"})
    found = judged(mixed, metric="train_hours")
    assert pd.isna(found["ours"]) and pd.isna(found["gap"]) and "a CPU and an H100: no mean" in found["reason"]


def test_a_number_that_cannot_be_judged_is_never_called_not_reproduced():
    found = judged(rows({"aa": 45.3}, {"aa": 45.4}, n=None))
    assert (found["verdict"], found["reason"]) == ("within noise", "on how many images is not known")
    assert judged(rows({"aa": float("inf")}))["verdict"] == "not run"


def test_no_image_of_a_few_still_leaves_an_interval():
    found = judged(rows({"aa": 0.0}, n=50))
    assert found["high"] - found["low"] > 5


def test_only_runs_that_were_watched_say_how_often_it_collapses():
    assert judged(rows({"aa": 0.0, "collapsed_at_end": 1}, {"aa": 44.0}))["verdict"] == "collapsed at the end in 1 of 1"
    unseen = rows({"aa": 0.0}, who=("cifar10", "preact_resnet18", "12/255", "fgsm_rs", "paper"))
    found = judged(unseen, "fgsm_rs", eps="12/255")
    assert found["verdict"] == "not run" and "nobody looked" in found["reason"]


def test_table_3_is_judged_from_the_losses_of_the_same_seeds():
    atta = rows(
        *[{"robust_train_loss": v} for v in (1.11, 1.12)], who=("cifar10", "preact_resnet18", "12/255", "atta", "paper")
    )
    atas = rows(
        *[{"robust_train_loss": 1.0, "ratio": 1.5}] * 2, who=("cifar10", "preact_resnet18", "12/255", "atas", "paper")
    )
    both = pd.concat([atta, atas])
    assert judged(both, metric="loss_quotient", eps="12/255")["ours"] == pytest.approx(1.115)
    assert judged(both, metric="loss_gap", eps="12/255")["verdict"] == "within noise"
    assert judged(both, metric="ratio", eps="12/255")["verdict"] == "reproduced"
    assert judged(atas, metric="loss_gap", eps="12/255")["verdict"] == "not run"


def test_a_variant_of_table_4_is_compared_with_its_own_number():
    found = judged(rows({"aa": 45.0}, who=("cifar10", "preact_resnet18", "8/255", "atas", "gamma20")), "atas/gamma20")
    assert found["paper"] == 45.60 and found["gap"] == pytest.approx(-0.6)


def test_the_report_says_how_many_and_whether_one_failed(tmp_path):
    good, bad = rows({"aa": 45.0}), rows({"aa": 4.0}, {"aa": 4.1})
    line, failed = verdicts.write_report(of_rows(good), tmp_path / "v.csv", tmp_path / "r.md")
    assert line == (
        "483 numbers of the paper: 0 reproduced, 1 within noise, 0 not reproduced, 0 collapsed at the end in some, "
        "0 other hardware, 482 not run"
    )
    assert not failed and "45.38" in (tmp_path / "r.md").read_text()
    assert verdicts.write_report(of_rows(bad), tmp_path / "v.csv", tmp_path / "r.md")[1]


NUAT = ("cifar10", "postact_resnet18", "8/255", "nuat", "fastat_benchmark")  # AutoAttack 50.10, of three seeds 0.18


def of_rival(measured: pd.DataFrame, method="nuat/fastat_benchmark", metric="best_aa") -> pd.Series:
    table = verdicts.judge(of_rows(measured).runs)
    return table[(table["method"] == method) & (table["metric"] == metric) & (table["dataset"] == "cifar10")].iloc[0]


def test_a_number_of_the_rival_s_best_epoch_is_judged_by_ours_with_the_scatter_of_both():
    runs = [{"best_aa": value, "aa": 0.0, "collapsed_at_end": 1} for value in (50.0, 50.2, 50.4)]
    found = of_rival(rows(*runs, who=NUAT))
    assert found["ours"] == pytest.approx(50.2) and found["gap"] == pytest.approx(0.1)
    seeds = 4.302653 * math.hypot(0.2, 0.18) / math.sqrt(3)  # Student's t with two degrees of freedom
    images = 1.959964 * math.sqrt(2 * 0.5 * 0.5 / 10_000) * 100
    assert found["high"] - found["gap"] == pytest.approx(math.hypot(seeds, images), rel=1e-3)
    assert found["verdict"] == "within noise"  # and not how often the last epoch had collapsed


def test_a_number_of_the_rival_s_last_epoch_where_ours_collapsed_says_nothing_of_the_paper(tmp_path):
    measured = rows({"aa": 0.0, "collapsed_at_end": 1}, who=(*NUAT[:3], "pgd10", "fastat_benchmark"))
    reason = of_rival(measured, method="pgd10/fastat_benchmark", metric="aa")["reason"]
    assert reason.endswith("; whether theirs did is not published")


def test_the_report_has_the_rival_s_rows_beside_ours_and_says_what_is_wrong_in_them(tmp_path):
    measured = rows(*[{"best_aa": value} for value in (40.0, 40.2)], who=NUAT)
    line, failed = verdicts.write_report(of_rows(measured), tmp_path / "v.csv", tmp_path / "r.md")
    assert of_rival(measured)["verdict"] == "not reproduced" and "0 not reproduced" in line and not failed
    papers, rivals = (tmp_path / "r.md").read_text().split("# FastAT_Benchmark's numbers and ours")
    assert "126 numbers of FastAT_Benchmark" in rivals and "nu_at" not in papers
    (line,) = (line for line in rivals.splitlines() if "nuat/fastat_benchmark" in line)
    assert "50.10" in line and "attacks in train mode, where its own code attacks in eval mode" in line


def test_every_row_of_the_rival_is_a_run_of_its_config_or_says_who_lacks_it():
    runs = expand(load_config([ROOT / "config/fastat_benchmark.yaml"]))
    ours = {(run.dataset, run.model, run.eps_255, f"{run.method}/{run.variant}") for run in runs}
    theirs = set(rival()[["dataset", "model", "eps_255", "method"]].itertuples(index=False, name=None))
    assert theirs - ours == set()
    assert {method for *_, method in ours - theirs} == {"aaer/fastat_benchmark"}  # a config there, and no row


def test_seeds_that_diverged_are_named_and_in_no_mean():
    found = judged(rows({"aa": 45.0, "diverged": 0}, {"aa": 45.2, "diverged": 0}, {"diverged": 1}))
    assert found["n_seeds"] == 2 and found["reason"] == "1 more diverged"
    assert judged(rows({"diverged": 1}))["reason"] == "1 diverged"
