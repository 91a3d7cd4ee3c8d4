"""From the files of runs to measured.csv and correct.csv, and back."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.machine import seals
from fastat.report import statistics, tidy
from tests import fabricate

NAME = "digits/preact_tiny/eps77/atas/paper/seed0"
N = fabricate.N_TEST


@pytest.fixture
def results(tmp_path) -> Path:
    """The files of one run: 24 test images, of which 12 withstand PGD50; 20 under AutoAttack, of which 9 do."""
    fabricate.finished(tmp_path, NAME)
    return tmp_path


def gathered(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    tidy.write_all(results, results)
    return tuple(pd.read_csv(results / f"{name}.csv") for name in ("measured", "correct"))


def test_every_number_of_a_run_is_gathered_with_its_n(results):
    measured, _ = gathered(results)
    last = measured[measured["epoch"].isna()].set_index("metric")
    value = last["value"]
    assert (float(value["pgd50"]), last.loc["pgd50", "n"]) == (50, N)
    assert (float(value["aa"]), last.loc["aa", "n"]) == (45, 20)
    assert (float(value["broken_apgd-ce"]), last.loc["broken_apgd-ce", "n"]) == (6, 18)
    assert float(value["robust_train_loss"]) == 1.75 and value["device"] == "a V100"
    assert pd.isna(value["collapse_epoch"]) and float(value["collapsed_at_end"]) == 0
    assert "left_out" not in value and float(value["unverified"]) == 0
    assert float(value["collapsed_for_a_while"]) == 0 and pd.isna(value["robustness_lost"])
    by_epoch = measured[measured["metric"] == "train_pgd10_acc"].set_index("epoch")["value"].astype(float)
    assert by_epoch.to_dict() == {1: 12.5, 2: 25.0}


def test_a_number_by_epoch_says_on_how_many_images_it_was_measured(results):
    measured, _ = gathered(results)
    n = measured.dropna(subset=["epoch"]).groupby("metric")["n"].first()
    names = ["train_clean_acc", "train_fgsm_acc", "train_pgd10_acc", "train_pgd10_loss"]
    assert n[names].tolist() == [30] * 4 and pd.isna(n["train_loss"])  # of `monitor_images: 128` there are no more


@pytest.mark.parametrize("recipe, sample", [({}, 27), ({"monitor_images": 12}, 12), ({"n_train": None}, 128)])
def test_the_sample_is_of_images_that_are_not_held_out(recipe, sample):
    about = {"recipe": {"n_train": 30, "monitor_images": 128, "hold_out": 0.1, **recipe}}
    n = tidy.watched(RunSpec.parse(NAME), about)
    assert n["pgd10_acc"] == sample and n["held_out_pgd10_acc"] == (144 if sample == 128 else 3)  # of all 1437 digits


def logged(results: Path, rows: list[tuple[float, float]]) -> None:
    """Give the run a log with these accuracies under FGSM and PGD10, by epoch."""
    log = results / "runs" / NAME / "log.csv"
    text = "".join(f"{epoch},1.0,0.9,{fgsm},{pgd},2.0\n" for epoch, (fgsm, pgd) in enumerate(rows, start=1))
    log.write_text(f"epoch,loss,clean_acc,fgsm_acc,pgd10_acc,pgd10_loss\n{text}")
    n, collapse = len(rows), {"first": None, "at_end": False}
    about = seals.read(log.with_name("run.json")) | {"epochs_done": n, "collapse": collapse}
    about["files"]["log.csv"], about["recipe"]["epochs"] = seals.sha256(log), n
    seals.write(log.with_name("run.json"), {key: value for key, value in about.items() if key != "made_from"})


def test_the_collapse_is_that_of_the_log_whatever_run_json_says(results):
    logged(results, [(0.5, 0.4)] * 3 + [(0.9, 0.0)] * 4 + [(0.6, 0.5)] * 3)
    measured, _ = gathered(results)
    value = measured.set_index("metric")["value"]
    names = ("collapse_epoch", "collapsed_at_end", "collapsed_for_a_while", "robustness_lost")
    assert [float(value[name]) for name in names] == [4, 0, 1, 1]


def test_of_two_collapses_the_one_that_lasts_gives_the_epoch(results):
    logged(results, ([(0.8, 0.5)] * 4 + [(0.8, 0.01)] * 4) * 2)
    measured, _ = gathered(results)
    value = measured.set_index("metric")["value"]
    assert [float(value[name]) for name in ("collapse_epoch", "collapsed_at_end", "robustness_lost")] == [13, 1, 1]


def test_the_ratio_is_that_of_the_largest_norms_and_of_the_mean_norms(results):
    measured, _ = gathered(results)
    value = measured.set_index("metric")["value"]
    assert float(value["ratio"]) == pytest.approx((9 + 4 + 4) / 3 / (7 / 3) ** 2)
    assert float(value["ratio_mean"]) == pytest.approx(1)  # 2, 2, 2


def test_packed_verdicts_unpack_to_what_was_measured(results):
    _, correct = gathered(results)
    rows = correct.set_index("attack")
    assert statistics.unpacked(rows.loc["pgd50", "bits"], N).tolist() == [True] * 12 + [False] * 12
    assert statistics.unpacked(rows.loc["aa", "bits"], 20).tolist() == [True] * 9 + [False] * 11
    assert rows.loc["clean", "images"] == rows.loc["pgd50", "images"] != rows.loc["aa", "images"]


def test_a_diverged_run_has_no_accuracy(results):
    path = results / "runs" / NAME / "run.json"
    seals.write(path, {**seals.read(path), "status": "diverged", "cause": "the loss became nan"})
    measured, correct = gathered(results)
    assert correct.empty and not {"pgd50", "aa"} & set(measured["metric"])
    assert measured.set_index("metric").loc["cause", "value"] == "the loss became nan"


def test_a_run_on_a_subset_has_no_accuracy(tmp_path):
    fabricate.finished(tmp_path, NAME.replace("paper", "paper_d1_2"))
    measured, correct = gathered(tmp_path)
    assert set(measured["variant"]) == {"paper_d1_2"} and correct.empty and "pgd50" not in set(measured["metric"])


def test_what_each_evaluation_was_made_from_is_kept(results):
    gathered(results)
    (told,) = map(json.loads, (results / "evidence.jsonl").read_text().splitlines())
    assert told["run"] == NAME and set(told["evaluations"]) == {"whitebox", "surfaces", "steps", "autoattack"}
    assert told["evaluations"]["autoattack"]["weights"] == told["files"]["weights.safetensors"]


def test_good_tables_are_not_emptied_where_there_is_nothing_to_gather(results, tmp_path):
    gathered(results)
    before = (results / "measured.csv").read_bytes()
    with pytest.raises(BadInput, match="nothing to gather below .*nowhere"):
        tidy.write_all(tmp_path / "nowhere", results)
    (results / "runs" / NAME / "run.json").write_text("")
    with pytest.raises(BadInput, match="nothing to gather below .*run.json is damaged"):
        tidy.write_all(results, results)
    assert (results / "measured.csv").read_bytes() == before
