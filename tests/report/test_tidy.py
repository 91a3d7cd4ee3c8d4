"""From the files of runs to measured.csv and correct.csv, and back."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from fastat.report import statistics, tidy

NAME = "digits/preact_tiny/eps77/atas/paper/seed0"


@pytest.fixture
def results(tmp_path) -> Path:
    """The files of one run of three images and two epochs, one of which missed an image."""
    folder = tmp_path / "runs" / NAME
    (folder / "eval").mkdir(parents=True)
    about = {
        "run": NAME,
        "status": "finished",
        "cause": "",
        "train_seconds": 3.5,
        "peak_memory_mb": 700.0,
        "device": "a V100",
    }
    about |= {"collapse": {"first": None, "at_end": False}, "recipe": {"monitor_images": 128}}
    (folder / "run.json").write_text(json.dumps(about))
    log = "epoch,loss,clean_acc,fgsm_acc,pgd10_acc,pgd10_loss\n1,2.0,0.5,0.25,0.125,3.0\n2,1.0,0.75,0.5,0.25,2.5\n"
    (folder / "log.csv").write_text(log)
    norms = np.array([[1, 3], [2, np.nan], [2, 2]], np.float16)
    save_file({"grad_norm": norms}, folder / "instances.safetensors")
    white = [("clean", i, 1) for i in range(3)] + [("pgd50", i, int(i != 1)) for i in range(3)]
    rows = "".join(f"{attack},{i},0,{right},\n" for attack, i, right in white)
    (folder / "eval/whitebox.csv").write_text(f"attack,index,label,correct,step\n{rows}")
    aa = "clean,0,0,1,\nclean,2,0,1,\napgd-ce,0,0,1,\napgd-ce,2,0,0,\nsquare,0,0,1,\n"
    (folder / "eval/autoattack.csv").write_text(f"attack,index,label,correct,step\n{aa}")
    (folder / "eval/steps.csv").write_text("start,alpha,loss,pgd10_loss,n\nuniform,1,1.5,1.75,500\n")
    return tmp_path


def gathered(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    tidy.write_all(results, None, results)
    return tuple(pd.read_csv(results / f"{name}.csv") for name in ("measured", "correct"))


def test_every_number_of_a_run_is_gathered_with_its_n(results):
    measured, _ = gathered(results)
    last = measured[measured["epoch"].isna()].set_index("metric")
    value = last["value"]
    assert (float(value["pgd50"]), last.loc["pgd50", "n"]) == (pytest.approx(200 / 3), 3)
    assert (float(value["aa"]), last.loc["aa", "n"]) == (50, 2)
    assert (float(value["broken_apgd-ce"]), last.loc["broken_apgd-ce", "n"]) == (1, 2)
    assert float(value["robust_train_loss"]) == 1.75 and value["device"] == "a V100"
    assert pd.isna(value["collapse_epoch"]) and float(value["collapsed_at_end"]) == 0
    by_epoch = measured[measured["metric"] == "train_pgd10_acc"].set_index("epoch")["value"].astype(float)
    assert by_epoch.to_dict() == {1: 12.5, 2: 25.0}


def test_the_ratio_is_that_of_the_largest_norms_and_of_the_mean_norms(results):
    measured, _ = gathered(results)
    value = measured.set_index("metric")["value"]
    assert float(value["ratio"]) == pytest.approx((9 + 4 + 4) / 3 / (7 / 3) ** 2)
    assert float(value["ratio_mean"]) == pytest.approx(1)  # 2, 2, 2


def test_packed_verdicts_unpack_to_what_was_measured(results):
    _, correct = gathered(results)
    rows = correct.set_index("attack")
    assert statistics.unpacked(rows.loc["pgd50", "bits"], 3).tolist() == [True, False, True]
    assert statistics.unpacked(rows.loc["aa", "bits"], 2).tolist() == [True, False]
    assert rows.loc["clean", "images"] == rows.loc["pgd50", "images"] != rows.loc["aa", "images"]


def test_a_diverged_run_and_one_on_a_subset_have_no_accuracy(results):
    path = results / "runs" / NAME / "run.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "status": "diverged", "cause": "the loss became nan"}))
    measured, correct = gathered(results)
    assert correct.empty and not {"pgd50", "aa"} & set(measured["metric"])
    assert measured.set_index("metric").loc["cause", "value"] == "the loss became nan"
    path.write_text(json.dumps(about))
    path.parent.parent.parent.joinpath("paper").rename(path.parent.parent.parent / "paper_d1_2")
    measured, correct = gathered(results)
    assert set(measured["variant"]) == {"paper_d1_2"} and correct.empty and "pgd50" not in set(measured["metric"])
