"""Tables from fabricated rows: means and spreads, marks beyond the noise, and empty cells for what is missing."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from fastat.report import tables
from fastat.report.contents import TABLES
from fastat.report.results import of_rows
from fastat.report.tidy import MEASURED
from tests import fabricate


def rows(*cells, who=("digits", "preact_tiny", "77/255")) -> pd.DataFrame:
    """(method, seed, metric, value), ..."""
    made = [[*who, *m.partition("/")[::2], s, metric, None, v, 50] for m, s, metric, v in cells]
    return pd.DataFrame(made, columns=MEASURED).replace({"variant": {"": "paper"}})


def summary(seen: pd.DataFrame, metrics=("aa",)) -> pd.DataFrame:
    return tables.summary(runs(seen), list(metrics))


def runs(seen: pd.DataFrame) -> pd.DataFrame:
    """A row per run, as the tables have them."""
    return tables.suspected(tables.in_order(of_rows(seen).runs))


def test_mean_spread_and_number_of_seeds():
    table = summary(rows(("atas", "0", "aa", 40.0), ("atas", "1", "aa", 44.0)))
    assert table.loc[0, ["seeds", "aa"]].tolist() == [2, 42.0]
    assert table.loc[0, "aa_std"] == pytest.approx(8**0.5)


def test_a_missing_number_is_an_empty_cell_and_not_a_zero():
    table = summary(rows(("atas", "0", "diverged", 1)))
    assert table.loc[0, "diverged"] == 1 and tables.show(table.loc[0, "aa"], table.loc[0, "aa_std"]) == ""


def test_a_row_that_stands_there_twice_counts_once():
    seen = rows(("atas", "0", "aa", 40.0), ("atas", "0", "aa", 40.0), ("atas", "1", "aa", 44.0))
    assert summary(seen).loc[0, ["seeds", "aa"]].tolist() == [2, 42.0]


def test_the_collapse_of_every_seed_is_shown_and_whether_it_lasts_was_over_or_robustness_never_came():
    seen = rows(
        ("fgsm_rs", "0", "collapse_epoch", 12), ("fgsm_rs", "0", "collapsed_at_end", 1),
        ("fgsm_rs", "1", "collapse_epoch", None), ("fgsm_rs", "1", "collapsed_at_end", 0),
        ("fgsm_rs", "2", "collapse_epoch", 7), ("fgsm_rs", "2", "collapsed_at_end", 0),
        ("fgsm_rs", "2", "collapsed_for_a_while", 1), ("fgsm_rs", "2", "robustness_lost", 1),
        ("fgsm_rs", "3", "collapse_epoch", 9), ("fgsm_rs", "3", "collapsed_at_end", 1),
        ("fgsm_rs", "3", "robustness_lost", 0), ("fgsm_rs", "0", "robustness_lost", 1),
    )  # fmt: skip
    found = summary(seen).loc[0, ["collapse", "collapsed_at_end", "collapsed_for_a_while"]]
    assert found.tolist() == ["12 end, -, 7 while, 9 never", 2, 1]


def test_of_a_seed_that_was_left_out_no_collapse_is_said_and_what_diverged_is_none():
    seen = rows(
        ("fgsm_rs", "0", "collapse_epoch", 5), ("fgsm_rs", "0", "collapsed_at_end", 1),
        ("fgsm_rs", "1", "left_out", "log.csv is not what run.json names"),
        ("fgsm_rs", "2", "collapsed_at_end", 0), ("fgsm_rs", "3", "diverged", 1),
        ("fgsm_rs", "3", "collapse_epoch", 7), ("fgsm_rs", "3", "collapsed_at_end", 1),
        ("atas", "0", "left_out", "run.json is damaged"),
    )  # fmt: skip
    found = summary(seen).set_index("method")[["seeds", "diverged", "collapse", "collapsed_at_end"]]
    assert found.loc["fgsm_rs"].tolist() == [3, 1, "5 end, -, diverged", 1]
    assert found.loc["atas"].tolist() == [0, 0, "", 0]


def test_a_diverged_run_keeps_its_row_and_says_why():
    seen = rows(("atas", "0", "diverged", 1), ("atas", "0", "cause", "the training loss became nan in epoch 2"))
    pretty = tables.readable(summary(seen), ["aa"], {})
    assert pretty.loc[0, "AA"] == "" and pretty.loc[0, "diverged"] == "1: the training loss became nan in epoch 2"


def test_where_autoattack_was_not_asked_for_is_a_dash_and_of_how_many_seeds_it_is_is_said():
    seen = rows(
        ("atta", "0", "pgd50", 60.0), ("atas", "0", "aa", 40.0), ("atas", "0", "pgd50", 50.0),
        ("atas", "1", "pgd50", 52.0), ("pgd10", "0", "left_out", "eval/autoattack.csv is not there (it was deleted)"),
        ("pgd10", "0", "diverged", 0),
    )  # fmt: skip
    table = summary(seen, ["pgd50", "aa"])
    shown = tables.readable(table, ["pgd50", "aa"], {}).set_index("method")["AA (n = 50)"]
    assert shown.to_dict() == {"atta": "-", "atas": "40.0 [28, 54] (1 seed)", "pgd10": ""}
    assert table.set_index("method")["aa_seeds"].to_dict() == {"atta": 0, "atas": 1, "pgd10": 0}


def test_seconds_of_two_kinds_of_hardware_are_not_averaged_and_say_so():
    seen = rows(
        ("atas", "0", "train_seconds", 10.0), ("atas", "0", "device", "a V100"),
        ("atas", "1", "train_seconds", 2.0), ("atas", "1", "device", "an H100"),
        ("atta", "0", "train_seconds", 11.0), ("atta", "0", "device", "a V100"),
    )  # fmt: skip
    pretty = tables.readable(summary(seen, ["train_seconds"]), ["train_seconds"], {}).set_index("method")
    assert pretty.loc["atas", "train s"] == "a V100 and an H100" and pretty.loc["atta", "train s"] == "11.0"
    assert pretty.loc["atta", "hardware"] == "a V100"


def test_a_suspect_network_is_marked_beside_its_number():
    seen = rows(("atas", "0", "aa", 40.0), ("atas", "0", "gradient", 3.0), ("atas", "0", "pgd50", 50.0))
    pretty = tables.readable(summary(seen), ["aa"], {})
    assert pretty.loc[0, "masking suspected"] == "no gradient" and pretty.loc[0, "AA (n = 50)"].startswith("40.0†")


def test_the_papers_layout_says_what_diverged_and_what_is_suspect(tmp_path):
    seen = rows(
        ("atas", "0", "aa", 40.0), ("atas", "0", "gradient", 3.0), ("atta", "0", "diverged", 1),
        ("ssat", "0", "aa", 30.0), ("ssat", "0", "gradient", 100.0),
    )  # fmt: skip
    tables.write_all(of_rows(seen), {"digits": "77/255"}, tmp_path)
    for name in ("table1", "table2"):
        lines = (tmp_path / f"{name}.tex").read_text().splitlines()
        line = {
            method: next(line for line in lines if line.startswith(f"{method} &"))
            for method in ("atas", "atta", "ssat")
        }
        assert r"40.0$^\dagger$" in line["atas"] and "diverged" in line["atta"] and "dagger" not in line["ssat"]
        assert "masked gradients" in (tmp_path / f"{name}.md").read_text()


def test_an_infinite_number_is_an_empty_cell():
    table = summary(rows(("atas", "0", "aa", float("inf")), ("atas", "1", "aa", 44.0)))
    assert table.loc[0, ["seeds", "aa"]].tolist() == [2, 44.0]


def test_wilson_interval_equals_a_published_example():
    # Newcombe 1998, Table I, method 3: 81 of 263 -> 0.2553 to 0.3662
    assert tables.statistics.wilson(100 * 81 / 263, 263) == pytest.approx((25.53, 36.62), abs=0.01)


def test_methods_stand_in_the_papers_order_and_eps_rises():
    seen = pd.concat(
        [rows((m, "0", "aa", 1.0)).assign(eps=e) for e in ("102/255", "51/255") for m in ("atas", "pgd10")]
    )
    table = summary(seen)
    assert list(zip(table["eps"], table["method"], strict=True)) == [
        ("51/255", "pgd10"), ("51/255", "atas"), ("102/255", "pgd10"), ("102/255", "atas"),
    ]  # fmt: skip


def test_the_papers_value_stands_beside_ours_for_a_method_and_for_a_variant():
    who = ("cifar10", "preact_resnet18", "8/255")
    table = summary(rows(("atas", "0", "aa", 40.0), ("atas/gamma12", "0", "aa", 41.0), who=who))
    assert table["paper_aa"].tolist() == [45.38, 45.20] or table["paper_aa"].tolist() == [45.20, 45.38]


def test_the_best_is_marked_only_where_it_stands_out_from_the_next():
    right = fabricate.correct(fabricate.runs(12, 3), n=1000)
    marks = tables.ranked(right[right["method"].isin(["pgd10", "ssat", "atas"])])
    cell = ("digits", "preact_tiny", "8/255")
    assert marks[(*cell, "atas", "paper", "aa")] == "best" and (*cell, "ssat", "paper", "aa") not in marks  # no next
    assert not any(key[3] == "pgd10" for key in marks)  # a reference
    few = fabricate.correct(fabricate.runs(12, 1), n=20)
    assert not tables.ranked(few[few["method"].isin(["fgsm_pgi", "atas"])])  # 75 and 70 %, on 20 images


def test_table_3_pairs_the_losses_by_seed_and_says_what_is_missing():
    seen = rows(
        ("atas", "0", "ratio", 1.4), ("atas", "0", "robust_train_loss", 1.0), ("atta", "0", "robust_train_loss", 1.1),
        ("atas", "1", "ratio", 1.6), ("atas", "1", "robust_train_loss", 1.0), ("atta", "1", "robust_train_loss", 1.3),
        ("atas", "2", "ratio", 1.5), ("atas", "2", "robust_train_loss", 9.0),
    )  # fmt: skip
    alone = rows(("atas", "0", "ratio", 1.4), who=("fashion_mnist", "preact_tiny", "77/255"))
    table = tables.table3(runs(pd.concat([seen, alone]))).set_index("dataset")
    assert table.loc["digits", ["gap", "quotient", "n gap"]].tolist() == pytest.approx([0.2, 1.2, 2])
    assert table.loc["digits", "ratio"] == pytest.approx(1.5)
    assert "no run of ATTA" in table.loc["fashion_mnist", "why empty"]
    diverged = runs(pd.concat([seen, rows(("atas", "1", "diverged", 1))]))
    assert tables.table3(diverged).loc[0, ["ratio", "n ratio", "gap", "n gap"]].tolist() == pytest.approx(
        [1.45, 2, 0.1, 1]
    )


def table4(*variants, **configs) -> pd.DataFrame:
    """Table IV of runs of ATAS on CIFAR10, 40 % each; `configs`: of variants that fabricate.py does not know."""
    who = ("cifar10", "preact_resnet18", "8/255")
    lines = {about["run"]: about for about in fabricate.evidence([(*who, "atas", name, "0") for name in variants])}
    lines |= {n: {**about, "config": configs.get(n.split("/")[4], about["config"])} for n, about in lines.items()}
    seen = rows(*((f"atas/{name}", "0", "aa", 40.0) for name in variants), who=who)
    return tables.table4(tables.suspected(tables.in_order(of_rows(seen, evidence=lines).runs)))


def test_table_4_has_a_column_for_every_setting_and_the_papers_row():
    table = table4("gamma12", "gamma14", "paper", "gamma20", "c005", "c007", "c02")
    ours, paper = (table[table["whose"] == whose].iloc[0] for whose in ("ours", "paper"))
    assert table.columns[5:].tolist() == list(tables.SETTINGS)
    blank = {name for name in tables.SETTINGS if ours[name] == ""}
    assert blank == {"gamma 18", "c 0.04"} and set(ours[[*tables.SETTINGS.keys() - blank]]) == {"40.0"}
    assert paper["gamma 12"] == "45.2" and paper["16, 0.01"] == "45.4"


def test_table_4_reads_gamma_and_c_from_the_recipes_and_not_from_a_variants_name():
    table = table4(
        "paper", "gamma12", "mine", "both", "released",
        gamma12={"gamma_over_c": "2.25 eps", "c": 1.28}, mine={"gamma_over_c": "2 eps", "c": 1.92},
        both={"gamma_over_c": "1 eps", "c": 0.64}, released={"gamma_over_c": "1.5 eps", "c": 1.28, "warmup_epochs": 5},
    ).set_index("whose")  # fmt: skip
    assert table.columns[4:].tolist() == [*tables.SETTINGS, "c 0.015", "gamma 8, c 0.005"]
    filled = {name for name in table.columns[4:] if table.loc["ours", name]}
    assert filled == {"16, 0.01", "gamma 18", "c 0.015", "gamma 8, c 0.005"}


def test_table_4_has_no_row_where_there_is_nothing_to_be_in_proportion_to():
    assert table4("gamma12", "c005").empty and table4("paper").empty


def test_what_differs_from_paper_in_its_step_size_alone_is_not_in_tables_1_and_2(tmp_path):
    who = [("digits", "m", "77/255", "fgsm_rs", name, "0") for name in ("paper", "mine", "fgsm", "step100")]
    lines = {about["run"]: about for about in fabricate.evidence(who)}
    for name, config in (("mine", {"alpha": "0.9 eps"}), ("fgsm", {"alpha": "1 eps", "random_start": False})):
        lines[f"digits/m/eps77/fgsm_rs/{name}/seed0"]["config"] = config
    del lines["digits/m/eps77/fgsm_rs/step100/seed0"]
    seen = rows(*((f"fgsm_rs/{run[4]}", "0", "aa", 40.0) for run in who), who=who[0][:3])
    tables.write_all(of_rows(seen, evidence=lines), {"digits": "77/255"}, tmp_path)
    table = pd.read_csv(tmp_path / "table1.csv")
    assert set(table["variant"]) == {"paper", "fgsm", "step100"}  # whose recipe nobody knows
    assert set(pd.read_csv(tmp_path / "supplement.csv")["variant"]) == {"paper", "fgsm", "step100", "mine"}


def test_table_5_has_the_lambdas_of_the_recipes_and_they_are_the_papers():
    table = tables.table5()
    assert len(table) == 8 and (table["lambda"] == table["paper"]).all()


@pytest.fixture
def written(tmp_path):
    """All tables of fabricated runs, one of which has a hostile name."""

    def write(who, eps=None):
        found = of_rows(fabricate.measured(who), fabricate.correct(who, n=2000)) if who else of_rows()
        eps = {"digits": "8/255", "fashion": "8/255"} if eps is None else eps
        tables.write_all(found, eps, tmp_path)
        return tmp_path

    return write


@pytest.mark.parametrize("n_cells", [0, 1, 24])
def test_all_tables_are_written_whatever_was_run_and_compile(n_cells, written):
    folder = written(fabricate.runs(n_cells))
    for name in TABLES:
        for ending in ("csv", "md", "tex"):
            assert (folder / f"{name}.{ending}").stat().st_size > 0
    if n_cells == 24:
        assert "**" in (folder / "table1.md").read_text() and "\\textbf" in (folder / "table1.tex").read_text()
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here: the tables' LaTeX was not compiled")
    inputs = "\n".join(f"\\input{{{name}}}" for name in TABLES)
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (folder / "all.tex").write_text(f"{head}{inputs}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_data_set_without_a_run_at_its_eps_of_table_i_is_shown_at_the_middle_one_and_said(written):
    who = [(data, "m", f"{eps}/255", "atas", "paper", "0") for data in ("digits", "fashion") for eps in (4, 8, 12)]
    folder = written(who, {"digits": "51/255", "fashion": "4/255"})
    table = pd.read_csv(folder / "table1.csv")
    assert dict(zip(table["dataset"], table["eps"], strict=True)) == {"digits": "8/255", "fashion": "4/255"}
    told = "At the middle eps, as no run is at that of `table1_eps`: digits. "
    assert told in (folder / "table1.md").read_text()


def test_a_checkpoint_and_a_recipe_that_are_only_called_like_a_subset_are_in_the_tables(tmp_path):
    names = ["external/wrn_d28_10", "fgsm_rs/mine_d16_32", "fgsm_rs/paper_d9_10", "fgsm_rs/paper"]
    seen = rows(*((name, "0", "aa", 40.0) for name in names))
    tables.write_all(of_rows(seen), {"digits": "77/255"}, tmp_path)
    assert set(pd.read_csv(tmp_path / "supplement.csv")["variant"]) == {"wrn_d28_10", "mine_d16_32", "paper"}
    assert set(pd.read_csv(tmp_path / "table1.csv")["variant"]) == {"mine_d16_32", "paper"}


def test_a_text_cannot_break_the_latex():
    assert tables.marked_up("50 % & more_or_less ± 1 $x$ \\end") == r"50 \% \& more\_or\_less $\pm$ 1 \$x\$ /end"
    assert tables.marked_up("{best}1.0 ± 0.1{best} [0, 2]") == r"\textbf{1.0 $\pm$ 0.1} [0, 2]"


def test_a_cause_that_looks_like_a_mark_or_like_latex_stays_text():
    assert tables.marked_up("{best}12.5{best} ± 1") == r"\textbf{12.5} $\pm$ 1"
    assert tables.marked_up("lost {best} and {0} at 5 %") == r"lost \{best\} and \{0\} at 5 \%"
    seen = rows(("atas", "0", "diverged", 1), ("atas", "0", "cause", "{best} weights became {nan}"))
    assert "{best} weights" in tables.readable(summary(seen), ["aa"], {}).loc[0, "diverged"]


def test_the_best_epoch_on_held_out_images_stands_beside_the_last_one_where_there_is_one(tmp_path):
    last = [("atas", "0", "pgd50", 40.0), ("atas", "0", "aa", 30.0), ("atta", "0", "aa", 20.0)]
    held_out = [("atas", "0", "best_aa", 35.0), ("atas", "0", "best_epoch", 7)]
    for seen, has in ((rows(*last), False), (rows(*last, *held_out), True)):
        tables.write_all(of_rows(seen), {"digits": "77/255"}, tmp_path)
        table = pd.read_csv(tmp_path / "table1.csv").set_index("method")
        assert ("best_aa" in table) == has and table.loc["atas", "aa"] == 30.0
        assert ("AA, best" in (tmp_path / "table1.md").read_text()) == has
    assert table.loc["atas", ["best_aa", "best_epoch"]].tolist() == [35.0, 7.0]
    assert pd.isna(table.loc["atta", "best_aa"])


def test_what_a_sweep_made_takes_no_mark_in_tables_that_do_not_show_it(tmp_path):
    who = [("digits", "preact_tiny", "8/255", *rest) for rest in (("atas", "paper", "0"), ("atta", "paper", "0"))]
    swept = ("digits", "preact_tiny", "8/255", "atas", "average_0p9", "0")
    good, fair, bad = (fabricate.bits(np.arange(200) < n) for n in (200, 150, 20))
    right = pd.DataFrame(
        [(*run, "aa", 200, "same", bits) for run, bits in ((swept, good), (who[0], fair), (who[1], bad))],
        columns=[*fabricate.RUN, "attack", "n", "images", "bits"],
    )
    name = "digits/preact_tiny/eps8/atas/average_0p9/seed0"
    about = {name: {"run": name, "recipe": {"average": 0.9, "params": {}}}}
    seen = of_rows(fabricate.measured([*who, swept]), right, about)
    assert seen.runs.set_index("variant")["ablation"].to_dict() == {"paper": False, "average_0p9": True}
    tables.write_all(seen, {"digits": "8/255"}, tmp_path)
    for table, method in (("table1", "atas"), ("supplement", "atas/average_0p9")):
        lines = (tmp_path / f"{table}.md").read_text().splitlines()
        assert [line.split("|")[4].strip() for line in lines if "**" in line] == [method]


def test_seeds_stand_in_the_order_of_their_numbers():
    seen = rows(*(("fgsm_rs", str(seed), "collapse_epoch", seed) for seed in (10, 2, 1)))
    assert summary(seen).loc[0, "collapse"] == "1 while, 2 while, 10 while"


def test_of_every_accuracy_it_is_said_of_how_many_seeds_it_is_also_where_something_was_left_out():
    seen = rows(
        *(("atas", str(seed), "clean", 90.0) for seed in range(5)), *(("atas", str(s), "aa", 40.0) for s in range(3)),
        *(("atas", str(seed), "train_seconds", 9.0) for seed in range(8)),
        ("atas", "9", "left_out", "run.json is not there"),
    )  # fmt: skip
    table = summary(seen, ["clean", "aa"])
    shown = tables.readable(table, ["clean", "aa"], {}).iloc[0]
    assert table.loc[0, "seeds"] == 8 and shown["clean"].endswith("± 0.0† (5 seeds)")
    assert shown["AA (n = 50)"] == "40.0 ± 0.0† [28, 54] (3 seeds)"


def test_where_data_sets_are_attacked_on_other_numbers_of_images_each_row_says_its_own():
    seen = pd.concat([
        rows(("atas", "0", "aa", 40.0)),
        rows(("atas", "0", "aa", 40.0), who=("fashion_mnist", "m", "77/255")).assign(n=500),
    ])  # fmt: skip
    shown = tables.readable(summary(seen), ["aa"], {})["AA"].tolist()
    assert shown == ["40.0 [28, 54], n = 50", "40.0 [36, 44], n = 500"]


def test_table_4_says_of_how_many_attacked_seeds_each_setting_is():
    who = ("cifar10", "preact_resnet18", "8/255")
    names = [("paper", 3), ("gamma12", 2)]
    lines = {a["run"]: a for a in fabricate.evidence([(*who, "atas", n, str(s)) for n, _ in names for s in range(8)])}
    seen = rows(*((f"atas/{n}", str(s), "aa", 40.0) for n, many in names for s in range(many)),
                *((f"atas/{n}", str(s), "clean", 90.0) for n, _ in names for s in range(8)), who=who)  # fmt: skip
    table = tables.table4(tables.suspected(tables.in_order(of_rows(seen, evidence=lines).runs))).set_index("whose")
    assert table.loc["ours", "seeds"] == "3"
    assert table.loc["ours", ["16, 0.01", "gamma 12"]].tolist() == ["40.0 ± 0.0", "40.0 ± 0.0 (2)"]
