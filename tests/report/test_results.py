"""From rows to runs to cells: what damage costs, and that it is said. Rows are made up."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from fastat.errors import BadInput
from fastat.report import claims, figure_data, page, pairs, sanity, statistics, tables, verdicts
from fastat.report import results as reported
from fastat.report.results import cells, of_rows, paper, published, read
from fastat.report.tidy import MEASURED
from tests import fabricate

WHO = fabricate.runs(2, 2)


def written(folder, measured, correct=None, evidence=None):
    """The files of these rows."""
    measured.to_csv(folder / "measured.csv", index=False)
    (fabricate.correct(WHO) if correct is None else correct).to_csv(folder / "correct.csv", index=False)
    lines = fabricate.evidence(WHO) if evidence is None else evidence
    (folder / "evidence.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_a_run_has_its_name_its_numbers_their_n_its_texts_and_its_recipe(tmp_path):
    runs = read(written(tmp_path, fabricate.measured(WHO)), needs=("correct.csv",)).runs
    assert runs["name"].tolist() == sorted(about["run"] for about in fabricate.evidence(WHO))
    first = runs.iloc[0]
    assert (first["eps_255"], first["device"], first["aa_n"], first["pgd50_n"]) == (8, "made-up GPU", 200, 1000)
    assert (first["epochs"], first["n_train"], first["redrawn"]) == (6, 1437, frozenset())
    assert pd.isna(first["collapse_epoch"]) and first["collapsed_at_end"] == 0 and runs["aa"].dtype == float


def test_what_csv_files_hold_is_what_was_written_to_them(tmp_path):
    measured, correct = fabricate.measured(WHO), fabricate.correct(WHO)
    lines = {about["run"]: about for about in fabricate.evidence(WHO)}
    from_files, from_rows = read(written(tmp_path, measured), needs=("correct.csv",)), of_rows(measured, correct, lines)
    pd.testing.assert_frame_equal(from_files.runs, from_rows.runs, check_dtype=False, rtol=1e-12)
    pd.testing.assert_frame_equal(from_files.correct, from_rows.correct, check_dtype=False)
    assert from_files.notes == from_rows.notes == []


def test_by_epoch_has_a_row_for_every_epoch_with_a_number():
    rows = fabricate.measured(WHO[:1], epochs=3).astype({"value": object})
    rows.loc[(rows["metric"] == "train_pgd10_acc") & (rows["epoch"] == 2), "value"] = "nan"
    rows.loc[rows["metric"].str.startswith("train_") & (rows["epoch"] == 3), "value"] = np.inf
    table = of_rows(rows).by_epoch("train_pgd10_acc", "train_loss", "train_alpha_255")
    assert table["epoch"].tolist() == [1, 2] and table.index.tolist() == [0, 0]
    assert np.isnan(table["train_pgd10_acc"].iloc[1]) and table["train_loss"].notna().all()
    assert table["train_alpha_255"].isna().all()


@pytest.fixture
def doubled():
    """Rows that stand there twice, and for the first run an accuracy under AutoAttack and an epoch with two values."""
    rows = fabricate.measured(WHO)
    mine = (rows[fabricate.RUN] == list(WHO[0])).all(axis=1)
    other = rows[mine & ((rows["metric"] == "aa") | ((rows["metric"] == "train_pgd10_acc") & (rows["epoch"] == 2)))]
    return pd.concat([rows, rows[rows["metric"] == "clean"], other.assign(value=99.0)])


def test_a_number_that_stands_there_twice_counts_once_and_one_with_two_values_is_left_empty(doubled):
    found = of_rows(doubled)
    assert found.notes == [
        "measured.csv: 4 rows stood there twice, and count once.",
        "measured.csv: 1 runs have two values of one number (aa, train_pgd10_acc); they are left empty.",
    ]
    assert found.runs["aa"].isna().tolist() == found.runs["aa_n"].isna().tolist() == [False, False, True, False]
    assert found.runs["clean"].notna().all()
    assert found.by_epoch("train_pgd10_acc").groupby(level=0).size().tolist() == [6, 6, 5, 6]


def test_the_rule_is_the_same_in_tables_page_sanity_verdicts_and_figures(doubled, tmp_path):
    found = of_rows(doubled)
    _, _, eps, method, *_ = WHO[0]
    table = tables.summary(tables.suspected(tables.in_order(found.runs)), ["aa"]).set_index("method")
    board = page.leaderboard(found.runs, fabricate.verdicts([]), fabricate.sanity([])).set_index("method")
    single = found.runs[(found.runs["method"] == method) & (found.runs["seed"] == "1")]["aa"].iloc[0]
    assert table.loc[method, "aa"] == board.loc[method, "aa"] == single and board.loc[method, "aa_seeds"] == 1
    assert table.loc[method, ["aa_low", "aa_high"]].tolist() == board.loc[method, ["aa_low", "aa_high"]].tolist()
    panel = sanity.panel(found.runs).query("check == 'aa <= pgd50' and method == @method").set_index("seed")["value"]
    assert panel.isna().to_dict() == {"0": True, "1": False}
    figure_data.write_all(written(tmp_path, doubled), None, {"digits": eps}, tmp_path / "figures")
    drawn = pd.read_csv(tmp_path / "figures/accuracy_by_eps.csv").query("metric == 'aa' and method == @method")
    assert drawn["n_seeds"].tolist() == [1]
    on_cifar = doubled.assign(dataset="cifar10", model="preact_resnet18")
    judged = verdicts.judge(of_rows(on_cifar).runs).query("metric == 'aa' and eps == @eps and method == @method")
    assert judged.query("dataset == 'cifar10' and model == 'preact_resnet18'")["n_seeds"].tolist() == [1]


def test_two_verdicts_on_the_same_images_leave_out_both():
    right = fabricate.correct(WHO)
    other = right[:1].assign(bits=right["bits"].iloc[-1])
    found = of_rows(correct=pd.concat([right, right[5:7], other]))
    assert len(found.correct) == len(right) - 1
    assert found.notes == [
        "correct.csv: 2 rows stood there twice, and count once.",
        "correct.csv: 1 runs have two values of one number (clean); they are left empty.",
    ]


def test_rows_that_no_run_can_have_made_are_left_out_and_counted():
    rows = fabricate.measured(WHO)
    foreign = rows[:5].assign(
        eps=["8", None, "77/255", "77/255", "8/255"], method=["atas", "atas", None, "atas", "atas"],
        seed=["0", "0", "0", "first", "0"], metric=["aa", "aa", "aa", "aa", None],
    )  # fmt: skip
    found = of_rows(pd.concat([rows, foreign]))
    assert len(found.measured) == len(rows) and len(found.runs) == len(WHO)
    assert found.notes[0].startswith("measured.csv: 5 rows without a complete name")


def test_every_note_is_logged_and_stands_on_the_page(doubled, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = read(written(tmp_path, doubled, evidence=[{"no": "run"}]))
    assert len(found.notes) == 3 and all(note in caplog.text for note in found.notes)
    page.write_html(tmp_path, tmp_path, tmp_path / "index.html")
    assert all(note in (tmp_path / "index.html").read_text() for note in found.notes)


def test_runs_that_were_not_asked_for_are_not_there_and_not_in_the_notes(doubled, tmp_path):
    name = fabricate.evidence(WHO)[1]["run"]
    found = read(written(tmp_path, doubled), [name], needs=("correct.csv",))
    assert len(found.correct) == 5 and set(found.correct["seed"]) == {"1"}
    assert found.runs["name"].tolist() == [name]
    assert set(found.measured["run"]) == set(found.runs.index)
    assert found.notes == ["measured.csv: 1 rows stood there twice, and count once."]


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", '"', b"\xff\xfe\x00broken"])
@pytest.mark.parametrize("file", ["measured.csv", "correct.csv"])
def test_a_file_that_is_none_is_refused_with_the_way_out_or_noted_where_it_is_not_needed(file, content, tmp_path):
    path = written(tmp_path, fabricate.measured(WHO)) / file
    path.unlink() if content is None else path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=rf"{file}.*fastat tidy"):
        read(tmp_path, needs=("measured.csv", "correct.csv"))
    found = read(tmp_path)
    if file == "measured.csv":
        assert file in found.notes[0] and "what is made from it is missing here" in found.notes[0] and found.runs.empty
    else:
        assert found.notes == [] and len(found.runs) == len(WHO)


def test_a_file_that_was_cut_keeps_what_is_whole(tmp_path):
    text = fabricate.measured(WHO).to_csv(index=False)
    written(tmp_path, fabricate.measured(WHO))
    (tmp_path / "measured.csv").write_text(text[: text.rindex(",") - 30])
    found = read(tmp_path)
    assert len(found.runs) == len(WHO) and found.runs["aa"].notna().sum() == len(WHO) - 1


@pytest.mark.parametrize("damage", [{"recipe": "sgd"}, {"recipe": {"epochs": "six"}}, {"redrawn": 5}, {"config": [1]}])
def test_a_recipe_that_is_none_is_left_out_and_counted(damage, tmp_path):
    lines = fabricate.evidence(WHO)
    found = read(written(tmp_path, fabricate.measured(WHO), evidence=[{**lines[0], **damage}, *lines[1:]]))
    told = [note for note in found.notes if "by different recipes" not in note]
    assert told == ["evidence.jsonl: 1 runs have a damaged recipe; it was left out."]
    assert found.runs["epochs"].isna().sum() == 1 and (found.runs["n_train"] == 1437).all()


def test_nothing_at_all_is_no_crash(tmp_path):
    found = read(tmp_path)
    assert found.runs.empty and len(found.notes) == 2
    assert cells(found.runs, ["aa", "train_seconds"]).empty and pairs.compared(found.correct).empty
    assert claims.judge(found, tmp_path)["verdict"].eq("not run").all()


def test_a_cell_has_means_spreads_counts_and_the_interval_that_its_images_leave():
    made = fabricate.measured(fabricate.runs(1, 3)).astype({"value": object})
    made.loc[(made["metric"] == "device") & (made["seed"] == "2"), "value"] = "another GPU"
    cell = cells(of_rows(made).runs, ["aa", "train_seconds"]).iloc[0]
    aa = made[made["metric"] == "aa"]["value"].astype(float)
    assert (cell["seeds"], cell["aa"], cell["aa_std"]) == (3, pytest.approx(aa.mean()), pytest.approx(aa.std(ddof=1)))
    assert [cell["aa_low"], cell["aa_high"]] == pytest.approx(statistics.wilson(aa.mean(), 200))
    assert cell["hardware"] == ["another GPU", "made-up GPU"] and pd.isna(cell["train_seconds"])


def test_the_losses_of_atta_and_atas_are_paired_by_seed_in_atas_s_rows():
    made = [("atas", "0", 1.0), ("atta", "0", 1.5), ("atas", "1", 2.0), ("atta", "2", 9.0)]
    place = ("digits", "preact_tiny", "8/255")
    rows = [(*place, method, "paper", seed, "robust_train_loss", None, loss, 5) for method, seed, loss in made]
    runs = of_rows(pd.DataFrame(rows, columns=MEASURED)).runs.set_index(["method", "seed"])
    assert runs.loc[("atas", "0"), ["loss_gap", "loss_quotient"]].tolist() == [0.5, 1.5]
    assert runs["loss_gap"].notna().sum() == runs["loss_quotient"].notna().sum() == 1


def test_a_step_size_is_read_in_eps_as_the_methods_read_it_and_what_is_none_is_left_out():
    assert reported.step_in_eps("1.5 eps", 8) == reported.step_in_eps("1.5*eps", 8) == pytest.approx(1.5)
    assert reported.step_in_eps("4/255", 8) == pytest.approx(0.5)
    assert np.isnan([reported.step_in_eps(length, 8) for length in (None, 4, "4", "eps", "1 eps / 2")]).all()


def test_the_papers_numbers_are_found_by_cell_whichever_table_has_them():
    assert published("aa")["cifar10", "preact_resnet18", "8/255", "atas"] == 45.38
    assert published("aa")["cifar10", "preact_resnet18", "8/255", "atas/gamma12"] == 45.20
    assert published("ratio").index.is_unique and paper() is paper() and paper()["eps_255"].between(1, 127).all()


def test_a_seed_without_a_number_does_not_move_the_interval_of_the_others():
    made = fabricate.measured(fabricate.runs(1, 3)).astype({"value": object})
    made.loc[(made["metric"] == "aa") & (made["seed"] == "1"), "value"] = "nan"
    three, two = (cells(of_rows(rows).runs, ["aa"]).iloc[0] for rows in (made, made[made["seed"] != "1"]))
    for name in ("aa", "aa_low", "aa_high", "aa_seeds"):
        assert three[name] == two[name]


@pytest.mark.parametrize("value,kept", [("101", False), ("-1", False), ("9" * 400, False), ("100", True), ("0", True)])
def test_an_accuracy_beyond_0_to_100_is_none(value, kept):
    rows = fabricate.measured(WHO).astype({"value": object})
    rows.loc[rows["metric"] == "aa", "value"] = value
    found = of_rows(rows)
    assert found.runs["aa"].notna().all() == kept
    assert any("are not from 0 to 100 %" in note for note in found.notes) == (value in ("101", "-1"))


@pytest.mark.parametrize("content", [bytes(range(256)), '{"run": 1}'.encode("utf-16"), b"[" * 100_000, b"\x00", None])
def test_damaged_evidence_is_counted_and_stops_nothing(tmp_path, content):
    written(tmp_path, fabricate.measured(WHO))
    path = tmp_path / "evidence.jsonl"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    found = read(tmp_path, needs=("measured.csv",))
    assert len(found.runs) == len(WHO) and any("evidence.jsonl" in note for note in found.notes)


def test_a_run_that_diverged_is_in_no_mean():
    made = fabricate.measured(fabricate.runs(1, 3))
    away = (made["seed"] == "2") & made["metric"].isin(["diverged"])
    made.loc[away, "value"] = 1
    assert away.any()
    seconds = made[(made["metric"] == "train_seconds") & (made["seed"] != "2")]["value"].astype(float)
    cell = cells(of_rows(made).runs, ["train_seconds"]).iloc[0]
    assert (cell["seeds"], cell["diverged"], cell["train_seconds_seeds"]) == (3, 1, 2)
    assert cell["train_seconds"] == pytest.approx(seconds.mean())


def test_a_run_that_diverged_is_no_collapse():
    made = fabricate.measured(fabricate.runs(1, 10))  # seeds 4 and 9 collapse
    made.loc[(made["seed"] == "9") & (made["metric"] == "diverged"), "value"] = 1
    made.loc[(made["seed"] == "9") & (made["metric"] == "collapsed_for_a_while"), "value"] = 1
    cell = cells(of_rows(made).runs, []).iloc[0]
    assert cell[["diverged", "collapsed_at_end", "collapsed_for_a_while"]].tolist() == [1, 1, 0]


def test_seeds_of_different_recipes_or_protocols_are_averaged_but_not_in_silence():
    who = fabricate.runs(1, 3)
    same = {about["run"]: about for about in fabricate.evidence(who)}
    assert not [note for note in of_rows(fabricate.measured(who), evidence=same).notes if "different recipes" in note]
    cell, changes = next(iter(same)).rpartition("/")[0], ({"recipe": {"epochs": 2}}, {"numerics": "native"})
    for change in (*changes, {"evaluations": {"autoattack": {"protocol": {"n_images": 5}}}}):
        told = {
            name: {"evaluations": {"autoattack": {"protocol": {"n_images": 50}}}, **about}
            for name, about in same.items()
        }
        told[f"{cell}/seed1"] = {**told[f"{cell}/seed1"], **change}
        (note,) = (n for n in of_rows(fabricate.measured(who), evidence=told).notes if "different recipes" in n)
        assert note.startswith("Seeds of 1 cells were trained or attacked by different recipes") and cell in note
